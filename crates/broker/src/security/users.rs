//! The users of the broker: a name, and what is kept of its password for each SCRAM mechanism.
//!
//! Kept in `users.json`, sealed; never a password. A name nobody has gets a decoy: a verifier no
//! password fits, the same at every try and of the shape of the others, so that an exchange tells
//! nobody whether a user exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use rand::Rng;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};

use super::scram::{MAX_ITERATIONS, MAX_SALT_BYTES, MIN_ITERATIONS, Scram, Verifier, base64_bytes};
use super::secret::Secret;
use crate::error::BrokerError;
use crate::log::sealed::{self, Kind};

const KIND: Kind = Kind { name: "users", holds: "the users and what is kept of their passwords" };
/// Bytes of a salt made here.
const SALT_BYTES: usize = 24;
/// Longest name of a user.
const MAX_NAME_BYTES: usize = 1024;

type Verifiers = BTreeMap<Scram, Verifier>;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// What decoys are made of.
    #[serde(with = "base64_bytes")]
    decoy_key: Vec<u8>,
    users: BTreeMap<String, Verifiers>,
}

/// The users, in memory and in `users.json`.
pub(crate) struct Users {
    path: PathBuf,
    max_users: usize,
    /// Iterations of a decoy while there is no user to look like.
    iterations: u32,
    stored: RwLock<Stored>,
    /// Held while the file is written, so that readers never wait for the disk.
    writing: Mutex<()>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("users", &self.stored.read().users.len()).finish_non_exhaustive()
    }
}

/// A change to a user's credential, as the protocol asks for it.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Set { mechanism: Scram, verifier: Verifier },
    Remove { mechanism: Scram },
}

/// Why credentials are not changed.
pub(crate) type Refused = (ResponseError, String);

impl Users {
    pub(crate) fn open(data_dir: &Path, max_users: usize, iterations: u32) -> Result<Self, BrokerError> {
        let path = data_dir.join("users.json");
        // Written with the first user: without users there is nobody to hide.
        let fresh = || Stored { decoy_key: random_bytes(32), users: BTreeMap::new() };
        let stored = sealed::read(&path, KIND)?.unwrap_or_else(fresh);
        Ok(Self { path, max_users, iterations, stored: RwLock::new(stored), writing: Mutex::new(()) })
    }

    /// Gives a user of the settings its password, for every mechanism. Slow.
    pub(crate) fn ensure(&self, name: &str, password: &Secret) -> Result<(), BrokerError> {
        let known = self.stored.read().users.get(name).cloned().unwrap_or_default();
        let mut verifiers = known.clone();
        for mechanism in Scram::ALL {
            let fits = known.get(&mechanism).is_some_and(|verifier| verifier.accepts(mechanism, password.bytes()));
            if !fits {
                let salt = random_salt();
                let verifier = Verifier::of_password(mechanism, password.bytes(), salt, self.iterations);
                verifiers.insert(mechanism, verifier);
            }
        }
        if verifiers == known {
            return Ok(());
        }
        let _writing = self.writing.lock();
        let mut next = self.stored.read().clone();
        next.users.insert(name.to_owned(), verifiers);
        self.replace(next)?;
        tracing::info!(user = name, "password taken from the settings");
        Ok(())
    }

    /// What to check a user's proof against, and whether there is such a user.
    pub(crate) fn verifier(&self, name: &str, mechanism: Scram) -> (Verifier, bool) {
        let stored = self.stored.read();
        match stored.users.get(name).and_then(|verifiers| verifiers.get(&mechanism)) {
            Some(verifier) => (verifier.clone(), true),
            None => (self.decoy(&stored, name, mechanism), false),
        }
    }

    /// Checks a password in the clear. Slow, and takes as long for a user there is not.
    pub(crate) fn accepts(&self, name: &str, password: &[u8]) -> bool {
        let mechanism = {
            let stored = self.stored.read();
            // For a user there is not, what the first one has.
            let of = stored.users.get(name).or_else(|| stored.users.values().next());
            of.and_then(|verifiers| verifiers.keys().next_back()).copied().unwrap_or(Scram::Sha512)
        };
        let (verifier, known) = self.verifier(name, mechanism);
        verifier.accepts(mechanism, password) && known
    }

    /// Of the shape of the first user's, since tools make all salts alike.
    fn decoy(&self, stored: &Stored, name: &str, mechanism: Scram) -> Verifier {
        let model = stored.users.values().find_map(|verifiers| verifiers.get(&mechanism));
        let length = model.map_or(SALT_BYTES, |verifier| verifier.salt.len());
        let is_text = model.is_none_or(|verifier| verifier.salt.iter().all(u8::is_ascii_alphanumeric));
        let mut salt = Vec::with_capacity(length);
        for block in 0u32.. {
            if salt.len() >= length {
                break;
            }
            let seed = [&block.to_be_bytes()[..], &[mechanism.code().unsigned_abs()], name.as_bytes()].concat();
            salt.extend(Scram::Sha256.hmac(&stored.decoy_key, &seed));
        }
        salt.truncate(length);
        if is_text {
            const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
            salt.iter_mut().for_each(|byte| *byte = LETTERS[usize::from(*byte) % LETTERS.len()]);
        }
        let key = |what: &str| mechanism.hmac(&stored.decoy_key, format!("{what} {name}").as_bytes());
        Verifier {
            salt,
            iterations: model.map_or(self.iterations, |verifier| verifier.iterations),
            stored_key: key("stored key"),
            server_key: key("server key"),
        }
    }

    /// Mechanisms and iterations of a user; `None` when there is none.
    pub(crate) fn describe(&self, name: &str) -> Option<Vec<(Scram, u32)>> {
        let stored = self.stored.read();
        let verifiers = stored.users.get(name)?;
        Some(verifiers.iter().map(|(mechanism, verifier)| (*mechanism, verifier.iterations)).collect())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.stored.read().users.keys().cloned().collect()
    }

    /// Changes credentials, durably: those of each user all or none. Blocks on the disk.
    pub(crate) fn change(&self, changes: &BTreeMap<String, Vec<Change>>) -> BTreeMap<String, Result<(), Refused>> {
        let _writing = self.writing.lock();
        let mut next = self.stored.read().clone();
        let mut results = BTreeMap::new();
        for (name, changes) in changes {
            let mut verifiers = next.users.get(name).cloned().unwrap_or_default();
            let checked = changes.iter().try_for_each(|change| apply(&mut verifiers, change));
            let full = !next.users.contains_key(name) && next.users.len() >= self.max_users;
            let result = checked.and_then(|()| check_name(name, full, self.max_users));
            if result.is_ok() && verifiers.is_empty() {
                next.users.remove(name);
            } else if result.is_ok() {
                next.users.insert(name.clone(), verifiers);
            }
            results.insert(name.clone(), result);
        }
        if results.values().any(Result::is_ok)
            && let Err(error) = self.replace(next)
        {
            tracing::error!(%error, "users not changed: check the disk of the data folder");
            let refused = (ResponseError::KafkaStorageError, "the users cannot be stored".to_owned());
            results.values_mut().filter(|result| result.is_ok()).for_each(|result| *result = Err(refused.clone()));
        }
        results
    }

    /// Makes `next` what there is, first on the disk.
    fn replace(&self, next: Stored) -> Result<(), BrokerError> {
        sealed::write_private(&self.path, KIND, &next)?;
        *self.stored.write() = next;
        Ok(())
    }
}

fn check_name(name: &str, full: bool, max_users: usize) -> Result<(), Refused> {
    if full {
        let reason = format!("there are {max_users} users already, which is the broker's limit");
        return Err((ResponseError::PolicyViolation, reason));
    }
    if name.is_empty() {
        return Err((ResponseError::UnacceptableCredential, "Username must not be empty".to_owned()));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err((ResponseError::UnacceptableCredential, format!("Username is longer than {MAX_NAME_BYTES} bytes")));
    }
    Ok(())
}

fn apply(verifiers: &mut Verifiers, change: &Change) -> Result<(), Refused> {
    let unacceptable = |reason: &str| Err((ResponseError::UnacceptableCredential, reason.to_owned()));
    match change {
        Change::Set { verifier, .. } if verifier.iterations < MIN_ITERATIONS => unacceptable("Too few iterations"),
        Change::Set { verifier, .. } if verifier.iterations > MAX_ITERATIONS => unacceptable("Too many iterations"),
        Change::Set { verifier, .. } if verifier.salt.is_empty() => unacceptable("Empty salt"),
        Change::Set { verifier, .. } if verifier.salt.len() > MAX_SALT_BYTES => unacceptable("Salt too long"),
        Change::Set { mechanism, verifier } => {
            verifiers.insert(*mechanism, verifier.clone());
            Ok(())
        }
        Change::Remove { mechanism } => match verifiers.remove(mechanism) {
            Some(_) => Ok(()),
            None => {
                let reason = "Attempt to delete a user credential that does not exist".to_owned();
                Err((ResponseError::ResourceNotFound, reason))
            }
        },
    }
}

/// Random printable bytes: a salt, or a nonce, which may hold no comma.
pub(crate) fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

fn random_salt() -> Vec<u8> {
    random_text(SALT_BYTES).to_ascii_lowercase().into_bytes()
}

fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;

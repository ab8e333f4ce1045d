//! Users: what is stored, what is not, and what strangers can learn.

use super::*;
use crate::security::secret::SecretRef;

fn open(dir: &Path) -> Users {
    Users::open(dir, 3, MIN_ITERATIONS).expect("open")
}

fn secret(dir: &Path, password: &str) -> Secret {
    let path = dir.join("password");
    std::fs::write(&path, password).expect("written");
    SecretRef::File(path).resolve("a test").expect("resolved")
}

fn set(password: &str, salt: &[u8]) -> Change {
    let verifier = Verifier::of_password(Scram::Sha256, password.as_bytes(), salt.to_vec(), MIN_ITERATIONS);
    Change::Set { mechanism: Scram::Sha256, verifier }
}

fn change(users: &Users, name: &str, changes: Vec<Change>) -> Result<(), Refused> {
    users.change(&BTreeMap::from([(name.to_owned(), changes)])).remove(name).expect("answered")
}

#[test]
fn a_user_of_the_settings_survives_and_its_password_is_stored_nowhere() {
    let (dir, elsewhere) = (tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir"));
    open(dir.path()).ensure("alice", &secret(elsewhere.path(), "hunter2")).expect("stored");
    let users = open(dir.path());
    assert!(users.accepts("alice", b"hunter2") && !users.accepts("alice", b"hunter3"));
    assert!(!users.accepts("bob", b"hunter2"));
    let file = dir.path().join("users.json");
    let content = std::fs::read_to_string(&file).expect("read");
    assert!(content.contains("alice") && !content.contains("hunter2"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }
    // The same password changes nothing, a new one replaces the old.
    users.ensure("alice", &secret(elsewhere.path(), "hunter2")).expect("kept");
    assert_eq!(std::fs::read_to_string(&file).expect("read"), content);
    users.ensure("alice", &secret(elsewhere.path(), "other")).expect("replaced");
    assert!(users.accepts("alice", b"other") && !users.accepts("alice", b"hunter2"));
    assert_eq!(format!("{users:?}"), "Users { users: 1, .. }");
}

#[test]
fn a_decoy_is_the_same_at_every_try_and_looks_like_the_others() {
    let dir = tempfile::tempdir().expect("tempdir");
    let users = open(dir.path());
    assert!(!dir.path().join("users.json").exists(), "nobody to hide");
    let salt = &b"24letterslowercase012345"[..];
    change(&users, "zoe", vec![set("x", salt)]).expect("changed");
    let decoy = |users: &Users, name: &str| {
        let (verifier, known) = users.verifier(name, Scram::Sha256);
        assert!(!known);
        verifier
    };
    let first = decoy(&users, "nobody");
    assert_eq!(decoy(&open(dir.path()), "nobody"), first, "also after a restart");
    assert_ne!(decoy(&users, "somebody").salt, first.salt);
    assert_eq!((first.salt.len(), first.iterations), (SALT_BYTES, MIN_ITERATIONS));
    for salt in [&b"26letterslowercase0123456"[..], &[0xff, 0, 1, 2, 0x80, 7, 9, 200]] {
        change(&users, "alice", vec![set("x", salt)]).expect("changed");
        let decoy = decoy(&users, "nobody");
        assert_eq!(decoy.salt.len(), salt.len());
        let is_text = |salt: &[u8]| salt.iter().all(u8::is_ascii_alphanumeric);
        assert_eq!(is_text(&decoy.salt), is_text(salt), "{:?}", decoy.salt);
        assert!(!decoy.accepts(Scram::Sha256, b"x"));
    }
}

#[test]
fn changes_are_checked_all_or_none_of_a_user() {
    let dir = tempfile::tempdir().expect("tempdir");
    let users = open(dir.path());
    let with = |iterations: u32, salt: &[u8]| {
        let verifier = Verifier { iterations, ..Verifier::of_password(Scram::Sha512, b"x", salt.to_vec(), 1) };
        Change::Set { mechanism: Scram::Sha512, verifier }
    };
    let remove = |mechanism| Change::Remove { mechanism };
    use ResponseError::{PolicyViolation, ResourceNotFound, UnacceptableCredential};
    let long = "u".repeat(MAX_NAME_BYTES + 1);
    for (name, changes, expected) in [
        ("a", vec![with(4095, b"salt")], UnacceptableCredential),
        ("a", vec![with(16_385, b"salt")], UnacceptableCredential),
        ("a", vec![with(4096, b"")], UnacceptableCredential),
        ("a", vec![with(4096, &[b's'; MAX_SALT_BYTES + 1])], UnacceptableCredential),
        ("", vec![with(4096, b"salt")], UnacceptableCredential),
        (long.as_str(), vec![with(4096, b"salt")], UnacceptableCredential),
        ("a", vec![remove(Scram::Sha256)], ResourceNotFound),
        ("a", vec![set("x", b"salt"), with(1, b"salt")], UnacceptableCredential),
    ] {
        assert_eq!(change(&users, name, changes).expect_err("refused").0, expected);
        assert_eq!(users.describe(name), None);
    }
    for name in ["a", "b", "c"] {
        change(&users, name, vec![set("x", b"salt"), with(4096, b"salt")]).expect("stored");
    }
    assert_eq!(change(&users, "d", vec![set("x", b"salt")]).expect_err("too many").0, PolicyViolation);
    change(&users, "c", vec![set("y", b"salt")]).expect("a user there is can always be changed");
    change(&users, "a", vec![remove(Scram::Sha256)]).expect("removed");
    assert_eq!(users.describe("a"), Some(vec![(Scram::Sha512, 4096)]));
    change(&users, "a", vec![remove(Scram::Sha512)]).expect("removed");
    assert_eq!(open(dir.path()).names(), ["b", "c"]);
    assert_eq!(open(dir.path()).describe("b"), Some(vec![(Scram::Sha256, 4096), (Scram::Sha512, 4096)]));
}

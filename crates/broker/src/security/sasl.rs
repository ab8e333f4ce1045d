//! One authentication over SASL: which mechanism, and what is said until it is settled.
//!
//! ```text
//! start ──SaslHandshake──> chosen ──first message──> challenged ──proof──> settled     SCRAM
//!                             └────────password──────────────────────────> settled     PLAIN
//! ```
//!
//! Anything out of order is `ILLEGAL_SASL_STATE`. What the client is told of a failure is the same
//! for a user there is not and for a wrong password, as is the work that is done; what went wrong is
//! for the log.

use kafka_protocol::ResponseError;

use super::scram::{Challenge, ClientFirst, Failed, Scram};
use super::settings::SaslMechanism;
use super::users::{Users, random_text};

/// Random letters the server adds to a client's nonce.
const NONCE_LETTERS: usize = 32;

/// Where an authentication stands.
#[derive(Debug, Default)]
pub(crate) enum Exchange {
    #[default]
    Start,
    Chosen(SaslMechanism),
    Challenged {
        mechanism: SaslMechanism,
        challenge: Box<Challenge>,
        is_user: bool,
    },
}

/// What comes of a message.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The client is sent this and goes on.
    Continue(Exchange, String),
    /// The client is this user; it is sent this.
    Authenticated {
        user: String,
        mechanism: SaslMechanism,
        message: String,
    },
    Refused(Refusal),
}

/// A failed authentication.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: ResponseError,
    /// What the client is told.
    pub(crate) message: String,
    /// What the log is told.
    pub(crate) reason: String,
}

impl Exchange {
    /// The client chooses a mechanism, at the start of an authentication or of its repetition.
    pub(crate) fn choose(&self, name: &str, offered: &[SaslMechanism]) -> Result<Self, ResponseError> {
        if !matches!(self, Self::Start) {
            return Err(ResponseError::IllegalSaslState);
        }
        let chosen = offered.iter().find(|mechanism| mechanism.name() == name);
        chosen.map(|mechanism| Self::Chosen(*mechanism)).ok_or(ResponseError::UnsupportedSaslMechanism)
    }

    /// Takes a message of the client. Slow, since passwords are made slow to check.
    pub(crate) fn proceed(self, users: &Users, message: &[u8]) -> Outcome {
        match self {
            Self::Start => Outcome::Refused(Refusal {
                error: ResponseError::IllegalSaslState,
                message: "SaslAuthenticate request received before SaslHandshake".to_owned(),
                reason: "no mechanism was chosen".to_owned(),
            }),
            Self::Chosen(SaslMechanism::Plain) => plain(users, message),
            Self::Chosen(mechanism @ SaslMechanism::ScramSha256) => challenge(users, mechanism, Scram::Sha256, message),
            Self::Chosen(mechanism @ SaslMechanism::ScramSha512) => challenge(users, mechanism, Scram::Sha512, message),
            Self::Challenged { mechanism, challenge, is_user } => settle(mechanism, &challenge, is_user, message),
        }
    }
}

fn plain(users: &Users, message: &[u8]) -> Outcome {
    let refuse = |reason: String| {
        Outcome::Refused(Refusal {
            error: ResponseError::SaslAuthenticationFailed,
            message: "Authentication failed: Invalid username or password".to_owned(),
            reason,
        })
    };
    let fields: Vec<&[u8]> = message.split(|&byte| byte == 0).collect();
    let &[authorization, user, password] = fields.as_slice() else {
        return refuse("the message is not PLAIN's".to_owned());
    };
    let Ok(name) = std::str::from_utf8(user) else { return refuse("the name is not text".to_owned()) };
    if user.is_empty() || password.is_empty() {
        return refuse("the name or the password is empty".to_owned());
    }
    if !authorization.is_empty() && authorization != user {
        return refuse(format!("user {name:?} wants to act for another"));
    }
    if !users.accepts(name, password) {
        return refuse(format!("user {name:?}: wrong password, or no such user"));
    }
    Outcome::Authenticated { user: name.to_owned(), mechanism: SaslMechanism::Plain, message: String::new() }
}

fn challenge(users: &Users, mechanism: SaslMechanism, scram: Scram, message: &[u8]) -> Outcome {
    let first = match ClientFirst::parse(message) {
        Ok(first) => first,
        Err(Failed(reason)) => return scram_refused(mechanism, reason.to_owned()),
    };
    let (verifier, is_user) = users.verifier(&first.user, scram);
    let challenge = Box::new(Challenge::new(scram, first, verifier, &random_text(NONCE_LETTERS)));
    let message = challenge.message().to_owned();
    Outcome::Continue(Exchange::Challenged { mechanism, challenge, is_user }, message)
}

fn settle(mechanism: SaslMechanism, challenge: &Challenge, is_user: bool, message: &[u8]) -> Outcome {
    let user = challenge.user();
    match challenge.finish(message) {
        Ok(message) if is_user => Outcome::Authenticated { user: user.to_owned(), mechanism, message },
        Err(Failed(reason)) if is_user => scram_refused(mechanism, format!("user {user:?}: {reason}")),
        Ok(_) | Err(_) => scram_refused(mechanism, format!("there is no user {user:?}")),
    }
}

fn scram_refused(mechanism: SaslMechanism, reason: String) -> Outcome {
    let message = format!(
        "Authentication failed during authentication due to invalid credentials with SASL mechanism {}",
        mechanism.name()
    );
    Outcome::Refused(Refusal { error: ResponseError::SaslAuthenticationFailed, message, reason })
}

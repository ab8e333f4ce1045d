//! What can go wrong between us and a Kafka broker, sorted by what the caller does: try again, look for another
//! leader, report lost data, or give up.
//!
//! The variants stay inside the connector; what a user sees is the [`EngineError`] each becomes.

use std::io;

use highwater_engine::error::EngineError;
use kafka_protocol::error::ResponseError;

use super::cluster::TopicPartition;

/// The way out when records are gone.
pub const LOST_HELP: &str = "keep records longer (the topic's retention.ms) and start the query with a new checkpoint, \
     or set 'failOnDataLoss' = 'false' to go on with what is left";

/// The result of a call to the client.
pub type ClientResult<T> = Result<T, ClientError>;

/// What went wrong in a call to a broker.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection could be made.
    #[error("Kafka broker {address} cannot be reached")]
    Unreachable {
        /// Host and port, or several of them.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A connection broke while a request was under way.
    #[error("the connection to Kafka broker {address} broke")]
    Disconnected {
        /// Host and port.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A broker and we do not agree on TLS.
    #[error("no TLS with Kafka broker {address}: {reason}")]
    Tls {
        /// Host and port.
        address: String,
        /// What was found.
        reason: String,
    },
    /// A broker does not believe us, or we do not believe it.
    #[error("Kafka broker {address} does not let this client in: {reason}")]
    NotAuthenticated {
        /// Host and port.
        address: String,
        /// What it said.
        reason: String,
    },
    /// A broker answered a request with an error code.
    #[error("Kafka refused {what}: {code:?}")]
    Refused {
        /// The request and its object, e.g. `a fetch of payments-3`.
        what: String,
        /// The broker's answer.
        code: ResponseError,
    },
    /// A topic is not there.
    #[error("Kafka topic '{topic}' does not exist")]
    UnknownTopic {
        /// The topic asked for.
        topic: String,
    },
    /// The bytes of an answer are not what the protocol says.
    #[error("Kafka broker {address} sent an answer that cannot be read: {reason}")]
    Protocol {
        /// Host and port.
        address: String,
        /// What was found.
        reason: String,
    },
    /// Stored records are damaged.
    #[error("Kafka records of {topic}-{partition} at offset {offset} are damaged: {reason}")]
    Corrupt {
        /// Topic of the records.
        topic: String,
        /// Partition of the records.
        partition: i32,
        /// Offset the fetch began at.
        offset: i64,
        /// What was found.
        reason: String,
    },
    /// Records that were asked for are no longer there, or not there yet.
    #[error("offset {wanted} of {partition} is gone: the broker holds offsets {earliest} to {latest}")]
    Lost {
        /// Where.
        partition: TopicPartition,
        /// The first offset that was to be read.
        wanted: i64,
        /// The first offset there is.
        earliest: i64,
        /// The offset behind the last there is.
        latest: i64,
    },
    /// The broker speaks no version of a request that we speak.
    #[error("Kafka broker {address} does not support {api} in a version from {min} to {max}")]
    Unsupported {
        /// Host and port.
        address: String,
        /// Name of the request.
        api: String,
        /// Oldest version we speak.
        min: i16,
        /// Newest version we speak.
        max: i16,
    },
    /// A setting is wrong.
    #[error("{0}")]
    Setting(String),
}

impl ClientError {
    /// Whether the same call may succeed after a pause and a fresh look at the cluster.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Disconnected { .. } => true,
            Self::Refused { code, .. } => code.is_retriable() || matches!(code, ResponseError::FencedLeaderEpoch),
            _ => false,
        }
    }

    /// Whether nobody answers at all.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Disconnected { .. })
    }

    /// The broker's code, if it gave one.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl From<ClientError> for EngineError {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Unreachable { source, .. } => Self::unavailable(message).caused_by(source).help(
                "check the option 'kafka.bootstrap.servers' and that the broker is running; `highwater broker` starts \
                 one on this machine",
            ),
            ClientError::Disconnected { source, .. } => {
                Self::unavailable(message).caused_by(source).help("check the broker's log, then start the query again")
            }
            ClientError::Tls { .. } => Self::config(message).help(
                "check that the address is a listener with TLS, that its certificate is for this host, and that \
                 'kafka.ssl.ca.location' names the authority it comes from",
            ),
            ClientError::NotAuthenticated { .. } => Self::config(message)
                .help("check 'kafka.sasl.mechanism', 'kafka.sasl.username' and 'kafka.sasl.password'"),
            ClientError::Refused { code, .. } => Self::from_code(message, code),
            ClientError::UnknownTopic { topic } => {
                Self::config(message).help(format!("create it: highwater topic create {topic}"))
            }
            ClientError::Protocol { .. } => Self::unavailable(message)
                .help("check that the address is a Kafka listener, and 'kafka.security.protocol' what is spoken there"),
            ClientError::Corrupt { .. } => Self::data(message).help(
                "check the broker's disk and log; start the query behind the damaged records to go on without them",
            ),
            ClientError::Lost { .. } => Self::data(message).help(LOST_HELP),
            ClientError::Unsupported { .. } => Self::config(message).help("upgrade the broker to Kafka 1.0 or newer"),
            ClientError::Setting(_) => Self::config(message),
        }
    }
}

/// Turns a broker's code into the kind of error its reader can act on.
trait FromCode {
    fn from_code(message: String, code: ResponseError) -> Self;
}

impl FromCode for EngineError {
    fn from_code(message: String, code: ResponseError) -> Self {
        use ResponseError as E;
        match code {
            E::TopicAuthorizationFailed | E::GroupAuthorizationFailed | E::ClusterAuthorizationFailed => {
                Self::config(message).help("grant this client the permission on the broker (ACL)")
            }
            E::InvalidTopicException => {
                Self::config(message).help("topic names use letters, digits, '.', '_' and '-', at most 249 of them")
            }
            code if code.is_retriable() => {
                Self::unavailable(message).help("the cluster did not recover in time; check its health, then try again")
            }
            _ => Self::config(message),
        }
    }
}

//! The errors of the broker as a whole: what stops it from starting, running or stopping.
//!
//! What goes wrong in one request is answered in the protocol's own error codes and never shows up
//! here. Each message says the object, what was found, what was expected and the next step;
//! [`BrokerError::kind`] sorts them by what the user does next.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What the user does next about a [`BrokerError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Change a setting or the environment it names, then start again.
    FixConfig,
    /// Data on the disk is damaged: restore it, or give it up knowingly.
    RestoreData,
    /// The machine refused (disk full, permission, ...): remove the cause and try again.
    Retry,
}

/// Why a broker could not start, run or stop.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// A setting has a value that cannot work.
    #[error("broker setting `{name}` is {found}, expected {expected}")]
    InvalidSetting {
        /// The setting's name.
        name: &'static str,
        /// The value found.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// The listening address can be reached from other machines.
    #[error(
        "cannot listen on {address} (listener `{listener}`): other machines reach it and nobody there \
         has to say who they are, so only loopback addresses are accepted; use 127.0.0.1:{} or \
         [::1]:{}, or give the listener authentication: `protocol: sasl_ssl` with certificates, or \
         `protocol: ssl` with `client_auth: required` (docs/operations/broker-security.md)", address.port(), address.port()
    )]
    ListenNotLoopback {
        /// The address asked for.
        address: SocketAddr,
        /// The listener's name.
        listener: String,
    },
    /// A listener cannot work as it is described.
    #[error("listener `{name}` {what}, expected {expected}")]
    InvalidListener {
        /// The listener's name.
        name: String,
        /// What was found.
        what: String,
        /// What would be accepted.
        expected: String,
    },
    /// A certificate or key file cannot be used.
    #[error("listener `{listener}`: {} cannot be used: {reason}", file.display())]
    Certificate {
        /// The listener's name.
        listener: String,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A secret the settings refer to is not there.
    #[error("{of} is {reference}, but {reason}")]
    Secret {
        /// What it is, such as `the password of user bob`.
        of: String,
        /// The reference.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else listens on the address.
    #[error(
        "cannot listen on {address}: the address is already in use; stop the other process or \
         choose another address with `--listen` (for example `--listen {}:{}`, or port 0 for any \
         free one)", address.ip(), address.port().wrapping_add(1).max(1024)
    )]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The listening socket could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Another process owns the data directory.
    #[error(
        "data directory {} is in use by another broker; stop that one, or give this one a \
         directory of its own with `--data`", directory.display()
    )]
    DataDirInUse {
        /// The directory.
        directory: PathBuf,
    },
    /// A log is damaged before its end.
    #[error(
        "topic {topic} partition {partition} is damaged: {} at position {position}: {reason}. \
         Data behind it would be lost, so the broker does not start. Restore the file from a \
         backup; or move the partition's directory away to start it empty; or start once with \
         `--truncate-corrupt-logs` to give up everything from that position on", file.display()
    )]
    CorruptLog {
        /// Topic of the damaged partition.
        topic: String,
        /// Partition number.
        partition: i32,
        /// The damaged file.
        file: PathBuf,
        /// Where in the file the damage starts.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A file the broker keeps about itself is damaged or from another version.
    #[error(
        "file {} cannot be used: {reason}; restore it from a backup, or move it away if what it \
         records ({holds}) may be lost", file.display()
    )]
    CorruptFile {
        /// The damaged file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What is lost without it.
        holds: &'static str,
    },
    /// A file the broker keeps about itself is whole, and this version does not understand it.
    #[error(
        "file {} holds {found}, expected {expected}: another version of Highwater has written it. Start that version, or \
         restore the copy from before the upgrade, of the whole data directory (docs/operations/upgrade.md)", file.display()
    )]
    OtherVersion {
        /// The file.
        file: PathBuf,
        /// What is in it.
        found: String,
        /// What this version understands.
        expected: String,
    },
    /// The system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BrokerError {
    /// What the user does next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidSetting { .. }
            | Self::ListenNotLoopback { .. }
            | Self::InvalidListener { .. }
            | Self::Certificate { .. }
            | Self::Secret { .. }
            | Self::AddressInUse { .. }
            | Self::DataDirInUse { .. } => ErrorKind::FixConfig,
            Self::CorruptLog { .. } | Self::CorruptFile { .. } | Self::OtherVersion { .. } => ErrorKind::RestoreData,
            Self::Bind { .. } | Self::Io { .. } => ErrorKind::Retry,
        }
    }
}

/// Names the action and the path in an I/O error: `.map_err(io_at("open", &path))`.
pub(crate) fn io_at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BrokerError {
    move |source| BrokerError::Io { action, path: path.to_owned(), source }
}

//! Bootstrapping.
mod settings;
mod clock;
mod error;
mod log;
mod protocol;
mod group;
pub use settings::{BrokerSettings, CorruptLogPolicy, FsyncMode};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{BrokerError, ErrorKind};

//! The log: an embedded, single-node broker that speaks Kafka's protocol.
//!
//! ```text
//!   any Kafka client
//!        │ frames
//!        ▼
//!   server ────> protocol ────> handler ────┬──> log     topics, partitions, segments, fsync
//!   connections, sizes, shapes, one file    │
//!   limits,      api table      an API      └──> group   coordinator (pure), committed offsets
//!   order          ╲            ╱                  │
//!                   security: TLS, SASL, ACLs      │
//!                                                  ▼
//!                                  data_dir: topics.json  broker.json  quotas.json  broker.lock
//!                                            offsets.log  transactions.log  consumer-groups.log
//!                                            users.json  acls.json  configs.json  share-groups.log
//!                                            <topic>-<partition>/ segments, indexes, checkpoint
//! ```
//!
//! It is what a project runs on before there is a Kafka cluster, and what tests run on. It is one
//! node on purpose: replication and failover are Kafka's job, reached by changing one address.
//! What a client relies on is all here: batches stored as they arrive and returned whole, offsets
//! that never change, idempotent producers, transactions, consumer and share groups, retention, and a log that
//! comes back from a crash with everything it acknowledged.
//!
//! It refuses what it does not do: an address that other machines can reach without authentication
//! gets an error that says so.
//!
//! ```no_run
//! # async fn run() -> Result<(), highwater_broker::BrokerError> {
//! use highwater_broker::{Broker, BrokerSettings};
//!
//! let broker = Broker::start(BrokerSettings::new("data/broker")).await?;
//! println!("listening on {}", broker.local_addr());
//! broker.shutdown().await
//! # }
//! ```

mod settings;
mod error;
mod clock;
mod broker;
mod lock;
mod server;
mod admission;
mod protocol;
mod handler;
mod fetch_session;
mod budget;
mod buffers;
mod configs;
mod quota;
mod identity;
mod log;
mod group;
mod txn;
mod security;
#[cfg(fuzzing)]
pub mod fuzzing;

pub use broker::Broker;
pub use budget::Used as MemoryUsed;
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{BrokerError, ErrorKind};
pub use security::secret::{Secret, SecretRef};
pub use security::settings::{
    ClientAuth, HostPort, ListenerProtocol, ListenerSettings, SaslMechanism, SecuritySettings, TlsSettings,
    UserSettings,
};
pub use security::tls::Tls;
pub use settings::{BrokerSettings, CorruptLogPolicy, FsyncMode, Sabotage};

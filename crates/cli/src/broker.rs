//! The embedded broker with the runtime it needs, for `highwater broker` and the demo.

use std::net::SocketAddr;

use highwater_broker::{Broker, BrokerError, BrokerSettings, ErrorKind};
use tokio::runtime::{Builder, Runtime};

use crate::error::{Failure, Result};

/// A broker that runs inside this process.
pub(crate) struct EmbeddedBroker {
    runtime: Runtime,
    broker: Broker,
}

impl EmbeddedBroker {
    /// Recovers the data and listens.
    pub(crate) fn start(settings: BrokerSettings) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .thread_name("broker")
            .build()
            .map_err(|error| Failure::runtime(format!("the broker's threads cannot start: {error}")))?;
        let broker = runtime.block_on(Broker::start(settings)).map_err(|error| failure(&error))?;
        Ok(Self { runtime, broker })
    }

    /// Starts on the first free port from the settings' own on.
    pub(crate) fn start_on_free_port(mut settings: BrokerSettings, tries: u16) -> Result<Self> {
        let first = settings.listen.port();
        for port in first..first.saturating_add(tries) {
            settings.listen.set_port(port);
            if !is_taken(settings.listen) {
                return Self::start(settings);
            }
        }
        Err(Failure::runtime(format!("ports {first} to {} are in use", first.saturating_add(tries) - 1))
            .help("choose another with --listen"))
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.local_addr()
    }

    /// Flushes everything and ends.
    pub(crate) fn shutdown(self) -> Result<()> {
        self.runtime.block_on(self.broker.shutdown()).map_err(|error| failure(&error))
    }
}

fn is_taken(address: SocketAddr) -> bool {
    std::net::TcpListener::bind(address).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

fn failure(error: &BrokerError) -> Failure {
    match (error, error.kind()) {
        (
            BrokerError::InvalidSetting { .. }
            | BrokerError::ListenNotLoopback { .. }
            | BrokerError::InvalidListener { .. }
            | BrokerError::Certificate { .. }
            | BrokerError::Secret { .. },
            _,
        ) => Failure::usage(error.to_string()),
        (_, ErrorKind::FixConfig | ErrorKind::RestoreData | ErrorKind::Retry) => Failure::runtime(error.to_string()),
    }
}

//! `highwater broker`: the embedded broker on its own, until Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use highwater_broker::{BrokerSettings, CorruptLogPolicy, FsyncMode};

use crate::broker::EmbeddedBroker;
use crate::error::Result;
use crate::signals::Interrupt;

/// Arguments of `broker`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where clients connect; loopback only, since there is no authentication yet; port 0 takes a free one
    #[arg(long, env = "HIGHWATER_LISTEN", default_value = "127.0.0.1:9092", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where topics are kept
    #[arg(long, env = "HIGHWATER_DATA", default_value = "highwater-broker", value_name = "DIR")]
    data: PathBuf,
    /// Partitions of topics that are created without a number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// When records are forced to disk: always, os (as Kafka does by default), or an interval such as 1000ms
    #[arg(long, value_name = "WHEN")]
    fsync: Option<FsyncMode>,
    /// Do not create topics that clients ask for
    #[arg(long)]
    no_auto_create: bool,
    /// Give up what lies behind damage in a log instead of refusing to start
    #[arg(long)]
    truncate_corrupt_logs: bool,
}

impl Arguments {
    fn settings(&self) -> BrokerSettings {
        let mut settings = BrokerSettings::new(&self.data);
        settings.listen = self.listen;
        if let Some(partitions) = self.partitions {
            settings.default_partitions = partitions;
        }
        if let Some(fsync) = self.fsync {
            settings.fsync = fsync;
        }
        if self.no_auto_create {
            settings.auto_create_topics = false;
        }
        if self.truncate_corrupt_logs {
            settings.corrupt_log = CorruptLogPolicy::Truncate;
        }
        settings
    }
}

/// Serves until the user ends it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let broker = EmbeddedBroker::start(arguments.settings())?;
    tracing::info!("bootstrap address {}; Ctrl-C ends the broker", broker.address());
    while interrupt.sleep(Duration::from_secs(3600)) {}
    broker.shutdown()
}

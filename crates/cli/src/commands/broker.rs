//! `highwater broker`: the embedded broker on its own, until Ctrl-C.
//!
//! A setting comes from its flag, else its environment variable, else the file of `--config`, else the default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use highwater_broker::{BrokerSettings, CorruptLogPolicy, FsyncMode};

use crate::broker::EmbeddedBroker;
use crate::config::broker_yml::BrokerYml;
use crate::error::Result;
use crate::signals::Interrupt;

/// Where topics are kept if nobody says.
const DATA_DIR: &str = "highwater-broker";

const EXAMPLES: &str = "\
Examples:
  highwater broker
  highwater broker --listen 127.0.0.1:0 --data /var/lib/highwater --fsync always
  highwater broker --config broker.yml     # listen, data_dir, fsync, retention_ms, ...: the settings by their names";

/// Arguments of `broker`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A YAML file of settings, over which the flags here win
    #[arg(long, env = "HIGHWATER_BROKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect, 127.0.0.1:9092 if not given; loopback only, since there is no authentication yet; port 0
    /// takes a free one
    #[arg(long, env = "HIGHWATER_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where topics are kept, ./highwater-broker if not given
    #[arg(long, env = "HIGHWATER_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Partitions of topics that are created without a number
    #[arg(long, env = "HIGHWATER_BROKER_PARTITIONS", value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// When records are forced to disk: always, os (as Kafka does by default), or an interval such as 1000ms
    #[arg(long, env = "HIGHWATER_BROKER_FSYNC", value_name = "WHEN")]
    fsync: Option<FsyncMode>,
    /// Do not create topics that clients ask for
    #[arg(long)]
    no_auto_create: bool,
    /// Give up what lies behind damage in a log instead of refusing to start
    #[arg(long)]
    truncate_corrupt_logs: bool,
}

impl Arguments {
    fn settings(&self) -> Result<BrokerSettings> {
        let file = self.config.as_deref().map(BrokerYml::load).transpose()?.unwrap_or_default();
        let mut settings = file.settings.clone();
        match &self.data {
            Some(data) => settings.data_dir.clone_from(data),
            None if !file.names("data_dir") => settings.data_dir = DATA_DIR.into(),
            None => {}
        }
        if let Some(listen) = self.listen {
            settings.listen = listen;
        }
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
        // What the file says wrongly is told with its line; what a flag says is the command line's.
        if settings.check().is_err() {
            file.settings.check().map_err(|error| file.failure(&error))?;
        }
        Ok(settings)
    }
}

/// Serves until the user ends it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let broker = EmbeddedBroker::start(arguments.settings()?)?;
    tracing::info!("bootstrap address {}; Ctrl-C ends the broker", broker.address());
    while interrupt.sleep(Duration::from_secs(3600)) {}
    broker.shutdown()
}

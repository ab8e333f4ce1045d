//! A broker by itself, for trying clients against it:
//! `cargo run -p highwater-broker --example serve -- <data dir> <address> [fsync mode]`, or
//! `... --example serve -- <settings.json>` for everything else there is to set.

use std::error::Error;

use highwater_broker::{Broker, BrokerSettings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut args = std::env::args().skip(1);
    let usage = "usage: serve <data dir> <address> [always|os|<n>ms], or serve <settings.json>";
    let first = args.next().ok_or(usage)?;
    let mut settings = match args.next() {
        None => serde_json::from_str(&std::fs::read_to_string(first)?)?,
        Some(address) => BrokerSettings { listen: address.parse()?, ..BrokerSettings::new(first) },
    };
    if let Some(mode) = args.next() {
        settings.fsync = mode.parse()?;
    }
    let broker = Broker::start(settings).await?;
    tokio::signal::ctrl_c().await?;
    broker.shutdown().await?;
    Ok(())
}

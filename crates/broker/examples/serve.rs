//! A broker by itself, for trying clients against it:
//! `cargo run -p highwater-broker --example serve -- <data dir> <address> [<setting>=<value> ...]`, where the settings
//! are the fields of [`BrokerSettings`], as in `fsync=os auto_create_topics=false`, or `... --example serve --
//! <settings.json>` for all of them at once. `judges/run` starts it this way.

use std::error::Error;

use highwater_broker::{Broker, BrokerSettings};
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut args = std::env::args().skip(1);
    let usage = "usage: serve <data dir> <address> [<setting>=<value> ...], or serve <settings.json>";
    let first = args.next().ok_or(usage)?;
    let settings = match args.next() {
        None => serde_json::from_str(&std::fs::read_to_string(first)?)?,
        Some(address) => {
            let mut settings = serde_json::to_value(BrokerSettings::new(first))?;
            settings["listen"] = address.into();
            for argument in args {
                let (name, value) = argument.split_once('=').ok_or(usage)?;
                settings[name] = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
            }
            serde_json::from_value(settings)?
        }
    };
    let broker = Broker::start(settings).await?;
    tokio::signal::ctrl_c().await?;
    broker.shutdown().await?;
    Ok(())
}

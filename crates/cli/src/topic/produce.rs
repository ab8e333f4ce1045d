//! `topic produce`: each line of stdin or of files becomes a record.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};

use super::client::{Cluster, key_value};
use super::producer::{Compression, TopicProducer};
use crate::error::{Failure, Result};
use crate::progress::counter::Counter;
use crate::rate::Pace;
use crate::signals::Interrupt;

/// Arguments of `topic produce`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The topic; created if it does not exist
    topic: String,
    /// Files to send, a record a line; none or - is stdin
    files: Vec<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// Text between key and value in a line; without it records have no key
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record
    #[arg(long = "header", short = 'H', value_name = "KEY=VALUE", value_parser = key_value)]
    headers: Vec<(String, String)>,
    /// Records a second at most
    #[arg(long, value_name = "N", value_parser = crate::rate::positive)]
    rate: Option<f64>,
    /// Compression of record batches
    #[arg(long, short = 'c', value_enum, default_value_t = Compression::Snappy)]
    compression: Compression,
    /// Partitions of the topic, if it is created
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Fail if the topic does not exist
    #[arg(long)]
    no_create: bool,
}

/// Sends the lines; says on stderr how many were acknowledged.
pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<()> {
    let partitions = (!arguments.no_create).then_some(arguments.partitions);
    let producer = TopicProducer::open(&arguments.cluster, &arguments.topic, arguments.compression, partitions)?
        .with_headers(&arguments.headers);
    let mut sender = Sender {
        producer,
        pace: Pace::new(arguments.rate),
        counter: Counter::new("sent"),
        separator: arguments.key_separator.as_deref().map(unescape),
    };
    let stdin = [PathBuf::from("-")];
    let files = if arguments.files.is_empty() { &stdin[..] } else { &arguments.files };
    for file in files {
        if !sender.send_lines(file, interrupt)? {
            break;
        }
    }
    let acknowledged = sender.producer.finish()?;
    sender.counter.finish();
    tracing::info!(topic = arguments.topic, records = acknowledged, "all records are acknowledged");
    Ok(())
}

struct Sender {
    producer: TopicProducer,
    pace: Pace,
    counter: Counter,
    separator: Option<String>,
}

impl Sender {
    /// Sends the lines of one file; `false` if the user interrupted.
    fn send_lines(&mut self, path: &Path, interrupt: &Interrupt) -> Result<bool> {
        let mut input = open(path)?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = input
                .read_until(b'\n', &mut line)
                .map_err(|error| Failure::runtime(format!("{} cannot be read: {error}", path.display())))?;
            if length == 0 {
                return Ok(true);
            }
            if interrupt.requested() {
                return Ok(false);
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            let (key, value) = self.split(text);
            self.producer.send(key, value)?;
            self.counter.add(1, value.len());
            if !self.pace.wait(interrupt) {
                return Ok(false);
            }
        }
    }

    fn split<'a>(&self, line: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        let Some(separator) = &self.separator else { return (None, line) };
        let at = line.windows(separator.len().max(1)).position(|window| window == separator.as_bytes());
        at.map_or((None, line), |at| (Some(&line[..at]), &line[at + separator.len()..]))
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            tracing::info!("each line is a record; end with Ctrl-D");
        }
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::usage(format!("there is no file {}", path.display())),
        _ => Failure::runtime(format!("{} cannot be read: {error}", path.display())),
    })?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
}

/// `\t` and the like, as people type them on a command line.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\0", "\0").replace("\\x1f", "\u{1f}")
}

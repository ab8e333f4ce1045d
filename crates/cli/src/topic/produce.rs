//! `topic produce`: each line of stdin or of files becomes a record.

use std::path::{Path, PathBuf};

use super::client::{Cluster, key_value};
use super::encoding::Encoding;
use super::format::{self, Separator};
use super::input::{Input, find};
use super::json_line;
use super::producer::{Compression, Record, TopicProducer};
use crate::error::{Failure, Result};
use crate::progress::counter::Counter;
use crate::quantity::{self, Throughput};
use crate::rate::Pace;
use crate::signals::Interrupt;

const EXAMPLES: &str = "\
Examples:
  echo 'a:1' | highwater topic produce shop.order.created -K :
  highwater topic produce shop.order.created orders.json --format json --rate 1000/s
  highwater topic consume shop.order.created -J -e | highwater topic produce copy.order.created --format json --repartition
  printf 'a:\\n' | highwater topic produce shop.customer.changed -K : -Z      # deletes key a";

/// Arguments of `topic produce`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The topic; created if it does not exist
    topic: String,
    /// Files to send, a record a line; none or - is stdin
    files: Vec<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// What a line is
    #[arg(long, short = 'f', value_enum, default_value_t = LineFormat::Text)]
    format: LineFormat,
    /// Text between records; a newline if not given, \t, \0 and \xHH are understood
    #[arg(long, short = 'D', value_name = "TEXT", value_parser = format::separator)]
    delimiter: Option<Separator>,
    /// Text between key and value in a line; without it records have no key
    #[arg(long, short = 'K', value_name = "TEXT", value_parser = format::separator)]
    key_separator: Option<Separator>,
    /// The key of records that bring none
    #[arg(long, short = 'k', value_name = "TEXT")]
    key: Option<String>,
    /// A header of every record
    #[arg(long = "header", short = 'H', value_name = "KEY=VALUE", value_parser = key_value)]
    headers: Vec<(String, String)>,
    /// Keys and values that are this text are null; without a text, empty ones are
    #[arg(long, short = 'Z', value_name = "TEXT", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    null_marker: Option<String>,
    /// How keys stand in a line
    #[arg(long, value_enum, default_value_t = Encoding::Text)]
    key_encoding: Encoding,
    /// How values stand in a line
    #[arg(long, value_enum, default_value_t = Encoding::Text)]
    value_encoding: Encoding,
    /// Send everything to this partition; chosen by the key if not given
    #[arg(long, short = 'p', value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Choose partitions by the key, whatever partitions JSON records name
    #[arg(long, conflicts_with = "partition")]
    repartition: bool,
    /// End after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// At most so much a second: records such as 1000 or 50k/s, or bytes such as 5MB/s
    #[arg(long, value_name = "RATE", value_parser = quantity::throughput)]
    rate: Option<Throughput>,
    /// Compression of record batches
    #[arg(long, short = 'c', short_alias = 'z', value_enum, default_value_t = Compression::Snappy)]
    compression: Compression,
    /// Partitions of the topic, if it is created
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Fail if the topic does not exist
    #[arg(long)]
    no_create: bool,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LineFormat {
    /// A value, or key and value with --key-separator.
    Text,
    /// An object with value, key, headers, partition and timestamp.
    Json,
}

/// Sends the lines; says on stderr how many were acknowledged.
pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<()> {
    let partitions = (!arguments.no_create).then_some(arguments.partitions);
    let producer = TopicProducer::open(&arguments.cluster, &arguments.topic, arguments.compression, partitions)?
        .with_headers(&arguments.headers);
    let stdin = [PathBuf::from("-")];
    let files = if arguments.files.is_empty() { &stdin[..] } else { &arguments.files };
    let mut sender = Sender {
        arguments,
        producer,
        pace: Pace::of(arguments.rate),
        counter: counter(files),
        left: arguments.count.unwrap_or(u64::MAX),
    };
    let mut outcome = Ok(());
    for file in files {
        match sender.send_all(file, interrupt) {
            Ok(true) => {}
            Ok(false) => break,
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        }
    }
    // What is under way is in the topic or counted, however the reading ended.
    let finished = sender.producer.finish_unless(interrupt);
    sender.counter.finish();
    let acknowledged = match (outcome, finished) {
        // The same refusal, counted to its end.
        (_, Err(refused)) => return Err(refused),
        (Err(failure), Ok(acknowledged)) => {
            tracing::info!(topic = arguments.topic, records = acknowledged, "acknowledged before the failure");
            return Err(failure);
        }
        (Ok(()), Ok(acknowledged)) => acknowledged,
    };
    tracing::info!(topic = arguments.topic, records = acknowledged, "all records are acknowledged");
    Ok(())
}

/// A count that knows the size of its files, if they have one.
fn counter(files: &[PathBuf]) -> Counter {
    let size = |path: &PathBuf| std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|file| file.len());
    let total = files.iter().map(size).sum::<Option<u64>>();
    Counter::new("sent").of_total(total)
}

struct Sender<'a> {
    arguments: &'a Arguments,
    producer: TopicProducer,
    pace: Pace,
    counter: Counter,
    left: u64,
}

impl Sender<'_> {
    /// Sends the records of one file; `false` if that was enough, or the user interrupted.
    fn send_all(&mut self, path: &Path, interrupt: &Interrupt) -> Result<bool> {
        let arguments = self.arguments;
        let delimiter = arguments.delimiter.as_ref().map_or(&b"\n"[..], |delimiter| &delimiter.0);
        let mut input = Input::open(path, delimiter)?;
        let mut line_number = 0_u64;
        while self.left > 0 {
            let Some(piece) = input.next(interrupt)? else { break };
            line_number += 1;
            let line = if arguments.delimiter.is_none() { piece.strip_suffix(b"\r").unwrap_or(piece) } else { piece };
            let place =
                |error: String| Failure::runtime(format!("record {line_number} of {}: {error}", path.display()));
            match arguments.format {
                LineFormat::Text if arguments.is_plain() => {
                    let (key, value) = split(line, arguments.key_separator.as_ref());
                    self.producer.send(key, value)?;
                }
                LineFormat::Text => self.producer.send_record(&arguments.text_record(line).map_err(place)?)?,
                // A line of nothing is between objects.
                LineFormat::Json if line.trim_ascii().is_empty() => continue,
                LineFormat::Json => self.producer.send_record(&arguments.json_record(line).map_err(place)?)?,
            }
            self.left -= 1;
            self.counter.add(1, line.len() + delimiter.len());
            if !self.pace.spend(line.len(), interrupt) {
                return Ok(false);
            }
        }
        Ok(self.left > 0 && !interrupt.requested())
    }
}

impl Arguments {
    /// Whether a line needs nothing but to be split.
    fn is_plain(&self) -> bool {
        let text = self.key_encoding == Encoding::Text && self.value_encoding == Encoding::Text;
        text && self.null_marker.is_none() && self.partition.is_none() && self.key.is_none()
    }

    fn text_record(&self, line: &[u8]) -> Result<Record, String> {
        let (key, value) = split(line, self.key_separator.as_ref());
        let is_null = |text: &[u8]| self.null_marker.as_ref().is_some_and(|marker| marker.as_bytes() == text);
        let bytes = |text: &[u8], encoding: Encoding| match is_null(text) {
            true => Ok(None),
            false => encoding.decode(text).map(|bytes| Some(bytes.into_owned())),
        };
        let key = match (key, &self.key) {
            (Some(key), _) => bytes(key, self.key_encoding).map_err(|error| format!("key {error}"))?,
            (None, Some(key)) => Some(self.key_encoding.decode(key.as_bytes())?.into_owned()),
            (None, None) => None,
        };
        let value = bytes(value, self.value_encoding).map_err(|error| format!("value {error}"))?;
        Ok(Record { key, value, partition: self.partition, ..Record::default() })
    }

    fn json_record(&self, line: &[u8]) -> Result<Record, String> {
        let mut record = json_line::parse(line, self.key_encoding, self.value_encoding)?;
        if self.repartition || self.partition.is_some() {
            record.partition = self.partition;
        }
        if let (None, Some(key)) = (&record.key, &self.key) {
            record.key = Some(key.clone().into_bytes());
        }
        Ok(record)
    }
}

fn split<'a>(line: &'a [u8], separator: Option<&Separator>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(Separator(separator)) = separator else { return (None, line) };
    find(line, separator).map_or((None, line), |at| (Some(&line[..at]), &line[at + separator.len()..]))
}

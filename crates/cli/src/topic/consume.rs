//! `topic consume`: records of a topic to stdout.
//!
//! Without `--group` partitions are read from `--offset` on and nothing is remembered; with it the group's committed
//! positions are used and moved, and `--offset` counts only where there is none yet. A position is only stored when the
//! record has been written to stdout, so that a reader that goes away misses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, IsTerminal, StdoutLock, Write};
use std::time::Duration;

use chrono::Utc;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Cluster, Connection};
use super::encoding::Encoding;
use super::format::{self, Layout, Separator, Style};
use super::offsets::{Start, Where};
use crate::error::{Failure, Result};
use crate::output::stdout_failure;
use crate::progress::counter::Counter;
use crate::quantity::{self, Throughput};
use crate::rate::Pace;
use crate::signals::Interrupt;

const POLL: Duration = Duration::from_millis(100);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Records written between two flushes while they come without a pause.
const FLUSH_AFTER: usize = 1000;

const EXAMPLES: &str = "\
Examples:
  highwater topic consume shop.order.created -o -5 -e                  # the last five of each partition
  highwater topic consume shop.order.created -o s@-1h -f '%T %k: %s\\n'  # the last hour, then what comes
  highwater topic consume shop.order.created -o s@2026-01-01 -o e@2026-02-01 -J > january.json
  highwater topic consume shop.order.created --group billing -c 100";

/// Arguments of `topic consume`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The topic
    topic: String,
    #[command(flatten)]
    cluster: Cluster,
    /// Where to begin: beginning (default), end, stored (by --group), N (that offset), -N (the last N of each
    /// partition), s@TIME; and where to end: e@TIME. TIME is milliseconds, 2026-01-31T12:00:00Z, a date, or -15m
    #[arg(long = "offset", short = 'o', value_name = "WHERE", allow_hyphen_values = true)]
    offsets: Vec<Where>,
    /// End after this many records
    #[arg(long, short = 'c', value_name = "N")]
    count: Option<u64>,
    /// End when the newest record was read
    #[arg(long, short = 'e')]
    exit_at_end: bool,
    /// 'json', or text with %s value, %k key, %t topic, %p partition, %o offset, %T timestamp, %h headers, %S and %K
    /// lengths, \n, \t
    #[arg(long, short = 'f', value_name = "FORMAT", value_parser = format::parse)]
    format: Option<Layout>,
    /// The same as -f json: an object a line, which topic produce --format json reads
    #[arg(long, short = 'J', conflicts_with = "format")]
    json: bool,
    /// Print the key and this text before the value
    #[arg(long, short = 'K', value_name = "TEXT", value_parser = format::separator, conflicts_with_all = ["format", "json"])]
    key_separator: Option<Separator>,
    /// Text after each record; a newline if not given
    #[arg(long, short = 'D', value_name = "TEXT", value_parser = format::separator, conflicts_with_all = ["format", "json"])]
    delimiter: Option<Separator>,
    /// Print this for keys and values that are null; without a text, NULL
    #[arg(long, short = 'Z', value_name = "TEXT", num_args = 0..=1, require_equals = true, default_missing_value = "NULL")]
    null_marker: Option<String>,
    /// How keys are printed
    #[arg(long, value_enum, default_value_t = Encoding::Text)]
    key_encoding: Encoding,
    /// How values are printed
    #[arg(long, value_enum, default_value_t = Encoding::Text)]
    value_encoding: Encoding,
    /// Only these partitions
    #[arg(long = "partition", short = 'p', value_name = "N", value_delimiter = ',', conflicts_with = "group")]
    partitions: Vec<i32>,
    /// Read as a member of this consumer group and commit its positions
    #[arg(long, short = 'G', value_name = "NAME")]
    group: Option<String>,
    /// Which records of transactions are read
    #[arg(long, value_enum, default_value_t = Isolation::ReadCommitted)]
    isolation: Isolation,
    /// At most so much a second: records such as 1000 or 50k/s, or bytes such as 5MB/s
    #[arg(long, value_name = "RATE", value_parser = quantity::throughput)]
    rate: Option<Throughput>,
}

/// Which records of transactions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Isolation {
    /// Those of transactions that were committed.
    ReadCommitted,
    /// All of them, also of transactions that were aborted or are open.
    ReadUncommitted,
}

impl Arguments {
    /// Where to begin and, in milliseconds, where to end.
    fn bounds(&self) -> Result<(Start, Option<i64>)> {
        let (mut start, mut until) = (None, None);
        for one in &self.offsets {
            let earlier = match one {
                Where::From(from) => start.replace(*from).map(|_| "begin"),
                Where::Until(time) => until.replace(*time).map(|_| "end"),
            };
            if let Some(what) = earlier {
                return Err(Failure::usage(format!("-o says twice where to {what}")).help("keep one of the two"));
            }
        }
        match (start, &self.group) {
            (Some(Start::Stored), None) => {
                return Err(Failure::usage("-o stored needs a group that has stored offsets").help("add --group NAME"));
            }
            (Some(Start::At(_) | Start::Last(_) | Start::Time(_)), Some(_)) => {
                return Err(Failure::usage("with --group, -o is beginning, end or stored")
                    .help("leave --group out to read from anywhere without moving the group"));
            }
            _ => {}
        }
        if until.is_some() && self.group.is_some() {
            return Err(Failure::usage("-o e@TIME does not go with --group").help("use -c N or -e"));
        }
        Ok((start.unwrap_or(Start::Beginning), until))
    }

    /// The failure of an error that came in a record's place.
    fn failure(&self, error: &KafkaError) -> Failure {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::InvalidMessage) {
            return self.cluster.failure(error);
        }
        Failure::runtime(format!("records of topic '{}' on {} are damaged", self.topic, self.cluster.bootstrap))
            .help("the broker's log says in which file and where; -o N goes on at a later offset")
    }

    fn layout(&self) -> Layout {
        match &self.format {
            Some(layout) => layout.clone(),
            None if self.json => Layout::Json,
            None => Layout::lines(self.key_separator.as_ref(), self.delimiter.as_ref()),
        }
    }
}

/// Prints records until there is a reason to end.
pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<()> {
    let (start, until) = arguments.bounds()?;
    let (consumer, stops) = open(arguments, start, until)?;
    let counter = Counter::new("read");
    // A live line would be drawn between the records.
    let counter = if std::io::stdout().is_terminal() { counter.hidden() } else { counter };
    let mut printer = Printer {
        arguments,
        consumer: &consumer,
        layout: arguments.layout(),
        style: Style {
            null: arguments.null_marker.clone().map(String::into_bytes),
            key: arguments.key_encoding,
            value: arguments.value_encoding,
        },
        out: BufWriter::new(std::io::stdout().lock()),
        unflushed: 0,
        unstored: BTreeMap::new(),
    };
    let ends = Ends { until, stops, at_end: BTreeSet::new(), stopped: BTreeSet::new() };
    let read = read(arguments, &mut printer, ends, counter, interrupt);
    printer.flush()?;
    read?;
    if arguments.group.is_some() {
        commit(&consumer, &arguments.cluster)?;
    }
    Ok(())
}

fn read(
    arguments: &Arguments,
    printer: &mut Printer<'_>,
    mut ends: Ends,
    mut counter: Counter,
    interrupt: &Interrupt,
) -> Result<()> {
    let consumer = printer.consumer;
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut pace = Pace::of(arguments.rate);
    while left > 0 && !interrupt.requested() {
        match consumer.poll(POLL) {
            None => {
                printer.flush()?;
                if ends.all_stopped(consumer, &arguments.cluster)? {
                    break;
                }
            }
            Some(Ok(message)) if ends.is_beyond(&message) => {
                ends.stopped.insert(message.partition());
                if ends.all_stopped(consumer, &arguments.cluster)? {
                    break;
                }
            }
            Some(Ok(message)) => {
                printer.print(&message)?;
                ends.at_end.remove(&message.partition());
                left -= 1;
                let size = message.payload_len() + message.key_len();
                counter.add(1, size);
                if arguments.rate.is_some() {
                    printer.flush()?;
                }
                if !pace.spend(size, interrupt) {
                    break;
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                printer.flush()?;
                ends.reached(partition);
                if ends.all_stopped(consumer, &arguments.cluster)?
                    || arguments.exit_at_end && ends.all_at_end(consumer, &arguments.cluster)?
                {
                    break;
                }
            }
            // One broker of several is away: its partitions are led by others soon. That all are is another error.
            Some(Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve),
            ))) => tracing::debug!(%code, "librdkafka"),
            Some(Err(error)) => return Err(arguments.failure(&error)),
        }
    }
    counter.finish();
    Ok(())
}

/// Writes records, and stores the positions of those that are written.
struct Printer<'a> {
    arguments: &'a Arguments,
    consumer: &'a BaseConsumer<Connection>,
    layout: Layout,
    style: Style,
    out: BufWriter<StdoutLock<'static>>,
    unflushed: usize,
    /// The next offset of each partition, for the group.
    unstored: BTreeMap<i32, i64>,
}

impl Printer<'_> {
    fn print(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        self.layout.write(message, &self.style, &mut self.out).map_err(stdout_failure)?;
        self.unflushed += 1;
        if self.arguments.group.is_some() {
            self.unstored.insert(message.partition(), message.offset() + 1);
        }
        if self.unflushed >= FLUSH_AFTER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(stdout_failure)?;
        self.unflushed = 0;
        for (partition, next) in std::mem::take(&mut self.unstored) {
            // librdkafka stores the offset of the record that was handled.
            match self.consumer.store_offset(&self.arguments.topic, partition, next - 1) {
                // The partition went to another member, which reads these records again.
                Ok(()) | Err(KafkaError::StoreOffset(_)) => {}
                Err(error) => return Err(self.arguments.cluster.failure(&error)),
            }
        }
        Ok(())
    }
}

/// What has been read to its end.
struct Ends {
    /// No record of this time or later is printed.
    until: Option<i64>,
    /// The first offset of that time, where there is one.
    stops: BTreeMap<i32, i64>,
    at_end: BTreeSet<i32>,
    stopped: BTreeSet<i32>,
}

impl Ends {
    fn is_beyond(&self, message: &BorrowedMessage<'_>) -> bool {
        let Some(until) = self.until else { return false };
        let stop = self.stops.get(&message.partition());
        self.stopped.contains(&message.partition())
            || stop.is_some_and(|stop| message.offset() >= *stop)
            || message.timestamp().to_millis().is_some_and(|time| time >= until)
    }

    /// A partition has nothing more for now; if its stop is known, that lies before.
    fn reached(&mut self, partition: i32) {
        self.at_end.insert(partition);
        if self.stops.contains_key(&partition) {
            self.stopped.insert(partition);
        }
    }

    /// Whether nothing before the time to end is left. Once that time is past, the end of a partition is its stop.
    fn all_stopped(&self, consumer: &BaseConsumer<Connection>, cluster: &Cluster) -> Result<bool> {
        let Some(until) = self.until else { return Ok(false) };
        if Utc::now().timestamp_millis() >= until {
            return self.all_at_end(consumer, cluster);
        }
        all_in(consumer, &self.stopped, cluster)
    }

    fn all_at_end(&self, consumer: &BaseConsumer<Connection>, cluster: &Cluster) -> Result<bool> {
        let either: BTreeSet<i32> = self.at_end.union(&self.stopped).copied().collect();
        all_in(consumer, &either, cluster)
    }
}

fn all_in(consumer: &BaseConsumer<Connection>, done: &BTreeSet<i32>, cluster: &Cluster) -> Result<bool> {
    let assigned = consumer.assignment().map_err(|error| cluster.failure(&error))?;
    Ok(assigned.count() > 0 && assigned.elements().iter().all(|element| done.contains(&element.partition())))
}

/// A consumer that stands at the start, and the offsets to stop at.
fn open(
    arguments: &Arguments,
    start: Start,
    until: Option<i64>,
) -> Result<(BaseConsumer<Connection>, BTreeMap<i32, i64>)> {
    let (cluster, topic) = (&arguments.cluster, arguments.topic.as_str());
    let reset = if start == Start::End { "latest" } else { "earliest" };
    let group = arguments.group.as_deref();
    let isolation = match arguments.isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    let consumer = cluster.consumer(&[
        ("group.id", group.unwrap_or("highwater-topic-consume")),
        ("enable.auto.commit", if group.is_some() { "true" } else { "false" }),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", reset),
        ("isolation.level", isolation),
    ])?;
    let partitions = cluster.existing_partitions(&consumer, topic)?;
    if group.is_some() {
        consumer.subscribe(&[topic]).map_err(|error| cluster.failure(&error))?;
        return Ok((consumer, BTreeMap::new()));
    }
    let wanted = wanted(arguments, partitions)?;
    let list = start_list(arguments, &consumer, &wanted, start)?;
    let stops = match until {
        Some(time) => stops(topic, &consumer, &wanted, time).map_err(|error| cluster.failure(&error))?,
        None => BTreeMap::new(),
    };
    consumer.assign(&list).map_err(|error| cluster.failure(&error))?;
    Ok((consumer, stops))
}

/// The partitions to read, which must be there.
fn wanted(arguments: &Arguments, there_are: Vec<i32>) -> Result<Vec<i32>> {
    if let Some(missing) = arguments.partitions.iter().find(|wanted| !there_are.contains(wanted)) {
        let last = there_are.iter().max().copied().unwrap_or_default();
        let expected = if last == 0 { "only 0".to_owned() } else { format!("0 to {last}") };
        return Err(Failure::usage(format!(
            "topic '{}' has no partition {missing}, expected {expected}",
            arguments.topic
        )));
    }
    let is_wanted = |id: &i32| arguments.partitions.is_empty() || arguments.partitions.contains(id);
    Ok(there_are.into_iter().filter(is_wanted).collect())
}

fn start_list(
    arguments: &Arguments,
    consumer: &BaseConsumer<Connection>,
    partitions: &[i32],
    start: Start,
) -> Result<TopicPartitionList> {
    let (cluster, topic) = (&arguments.cluster, arguments.topic.as_str());
    let failure = |error: KafkaError| cluster.failure(&error);
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        let watermarks = || consumer.fetch_watermarks(topic, *partition, LOOKUP_TIMEOUT).map_err(failure);
        let offset = match start {
            Start::Beginning | Start::Stored => Offset::Beginning,
            Start::End => Offset::End,
            Start::Time(time) => Offset::Offset(time),
            Start::Last(count) => {
                let (low, high) = watermarks()?;
                Offset::Offset(high.saturating_sub(count).max(low))
            }
            Start::At(offset) => {
                let (low, high) = watermarks()?;
                if offset > high {
                    return Err(Failure::usage(format!(
                        "partition {partition} of topic '{topic}' has no offset {offset}, expected {low} to {high}"
                    ))
                    .help("use -o end for what comes, or -p to choose a partition"));
                }
                if offset < low {
                    tracing::warn!(partition, "offset {offset} is not there any more; reading begins at {low}");
                }
                Offset::Offset(offset.max(low))
            }
        };
        list.add_partition_offset(topic, *partition, offset).map_err(failure)?;
    }
    match start {
        Start::Time(_) => consumer.offsets_for_times(list, LOOKUP_TIMEOUT).map_err(failure),
        _ => Ok(list),
    }
}

/// The first offset of `time` in each partition that has one.
fn stops(
    topic: &str,
    consumer: &BaseConsumer<Connection>,
    partitions: &[i32],
    time: i64,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, *partition, Offset::Offset(time))?;
    }
    let found = consumer.offsets_for_times(list, LOOKUP_TIMEOUT)?;
    let offset = |offset: Offset| match offset {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    Ok(found.elements().iter().filter_map(|one| Some((one.partition(), offset(one.offset())?))).collect())
}

fn commit(consumer: &BaseConsumer<Connection>, cluster: &Cluster) -> Result<()> {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
        Err(error) => Err(cluster.failure(&error)),
    }
}

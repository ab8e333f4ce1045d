//! `topic consume`: records of a topic to stdout.
//!
//! Without `--group` every partition is read from `--offset` on and nothing is remembered; with it the group's
//! committed positions are used and moved, and `--offset` counts only where there is none yet.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::str::FromStr;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Cluster, Connection};
use super::format::{self, Layout};
use crate::error::{Failure, Result};
use crate::output::stdout_failure;
use crate::signals::Interrupt;

const POLL: Duration = Duration::from_millis(100);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `topic consume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The topic
    topic: String,
    #[command(flatten)]
    cluster: Cluster,
    /// Where to begin: beginning, end, N (that offset), -N (the last N of each partition), s@MS (that time)
    #[arg(long, short = 'o', default_value = "beginning", value_name = "WHERE", allow_hyphen_values = true)]
    offset: Start,
    /// End after this many records
    #[arg(long, short = 'c', value_name = "N")]
    count: Option<u64>,
    /// End when the newest record was read
    #[arg(long, short = 'e')]
    exit_at_end: bool,
    /// 'json', or text with %s value, %k key, %t topic, %p partition, %o offset, %T timestamp, %h headers, \n, \t
    #[arg(long, short = 'f', value_name = "FORMAT", value_parser = format::parse)]
    format: Option<Layout>,
    /// Only this partition
    #[arg(long, short = 'p', value_name = "N", conflicts_with = "group")]
    partition: Option<i32>,
    /// Read as a member of this consumer group and commit its positions
    #[arg(long, short = 'G', value_name = "NAME")]
    group: Option<String>,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The oldest record there is.
    Beginning,
    /// After the newest.
    End,
    /// An offset.
    At(i64),
    /// So many before the end.
    Last(i64),
    /// The first record of that time or later, in milliseconds.
    Time(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse::<i64>().ok().filter(|number| *number >= 0);
        let start = match text {
            "beginning" | "earliest" => Some(Self::Beginning),
            "end" | "latest" => Some(Self::End),
            _ => match (text.strip_prefix("s@"), text.strip_prefix('-')) {
                (Some(time), _) => number(time).map(Self::Time),
                (None, Some(last)) => number(last).map(Self::Last),
                (None, None) => number(text).map(Self::At),
            },
        };
        start.ok_or_else(|| format!("'{text}' is not one of beginning, end, N, -N, s@MILLISECONDS"))
    }
}

impl Arguments {
    /// The failure of an error that came in a record's place.
    fn failure(&self, error: &KafkaError) -> Failure {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::InvalidMessage) {
            return self.cluster.failure(error);
        }
        Failure::runtime(format!("records of topic '{}' on {} are damaged", self.topic, self.cluster.bootstrap))
            .help("the broker's log says in which file and where; -o N goes on at a later offset")
    }
}

/// Prints records until there is a reason to end.
pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<()> {
    let consumer = open(arguments)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let layout = arguments.format.clone().unwrap_or_else(Layout::lines);
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut ended = BTreeSet::new();
    while left > 0 && !interrupt.requested() {
        match consumer.poll(POLL) {
            None => out.flush().map_err(stdout_failure)?,
            Some(Ok(message)) => {
                layout.write(&message, &mut out).map_err(stdout_failure)?;
                ended.remove(&message.partition());
                left -= 1;
                if arguments.group.is_some() {
                    consumer.store_offset_from_message(&message).map_err(|error| arguments.cluster.failure(&error))?;
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
                out.flush().map_err(stdout_failure)?;
                if arguments.exit_at_end && all_ended(&consumer, &ended, &arguments.cluster)? {
                    break;
                }
            }
            Some(Err(error)) => {
                out.flush().map_err(stdout_failure)?;
                return Err(arguments.failure(&error));
            }
        }
    }
    out.flush().map_err(stdout_failure)?;
    if arguments.group.is_some() {
        commit(&consumer, &arguments.cluster)?;
    }
    Ok(())
}

fn open(arguments: &Arguments) -> Result<BaseConsumer<Connection>> {
    let cluster = &arguments.cluster;
    let reset = if arguments.offset == Start::End { "latest" } else { "earliest" };
    let group = arguments.group.as_deref();
    let consumer = cluster.consumer(&[
        ("group.id", group.unwrap_or("highwater-topic-consume")),
        ("enable.auto.commit", if group.is_some() { "true" } else { "false" }),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", reset),
    ])?;
    let partitions = cluster.existing_partitions(&consumer, &arguments.topic)?;
    let opened = match group {
        Some(_) => consumer.subscribe(&[&arguments.topic]),
        None => {
            let wanted: Vec<i32> =
                partitions.into_iter().filter(|id| arguments.partition.is_none_or(|only| only == *id)).collect();
            start_list(&consumer, &arguments.topic, &wanted, arguments.offset).and_then(|list| consumer.assign(&list))
        }
    };
    opened.map_err(|error| cluster.failure(&error))?;
    Ok(consumer)
}

fn start_list(
    consumer: &BaseConsumer<Connection>,
    topic: &str,
    partitions: &[i32],
    start: Start,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        let offset = match start {
            Start::Beginning => Offset::Beginning,
            Start::End => Offset::End,
            Start::At(offset) | Start::Time(offset) => Offset::Offset(offset),
            Start::Last(count) => {
                let (low, high) = consumer.fetch_watermarks(topic, *partition, LOOKUP_TIMEOUT)?;
                Offset::Offset((high - count).max(low))
            }
        };
        list.add_partition_offset(topic, *partition, offset)?;
    }
    match start {
        Start::Time(_) => consumer.offsets_for_times(list, LOOKUP_TIMEOUT),
        _ => Ok(list),
    }
}

fn all_ended(consumer: &BaseConsumer<Connection>, ended: &BTreeSet<i32>, cluster: &Cluster) -> Result<bool> {
    let assigned = consumer.assignment().map_err(|error| cluster.failure(&error))?;
    Ok(assigned.count() > 0 && assigned.elements().iter().all(|element| ended.contains(&element.partition())))
}

fn commit(consumer: &BaseConsumer<Connection>, cluster: &Cluster) -> Result<()> {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
        Err(error) => Err(cluster.failure(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_as_kcat_reads_them() {
        assert_eq!("beginning".parse(), Ok(Start::Beginning));
        assert_eq!("end".parse(), Ok(Start::End));
        assert_eq!("42".parse(), Ok(Start::At(42)));
        assert_eq!("-5".parse(), Ok(Start::Last(5)));
        assert_eq!("s@1700000000000".parse(), Ok(Start::Time(1_700_000_000_000)));
        assert!("--5".parse::<Start>().unwrap_err().starts_with("'--5' is not one of"));
    }
}

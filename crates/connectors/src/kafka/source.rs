//! Topics as a stream: plans ranges of offsets and opens a reader for each partition of a range.
//!
//! Ends are planned under the table's limits; what lies in a range is then fixed for ever by its offsets. The source
//! asks the brokers where the topics end each time and keeps no position. Trouble that passes is waited out in the
//! client; only then does an `Unavailable` error come out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::{Backlog, Offset, OffsetRange, PartitionReader, Source, TailReader, Unread};

use super::client::cluster::{Client, Position, TopicPartition};
use super::client::error::LOST_HELP;
use super::client::fetch::PartitionFetcher;
use super::decode::Decoding;
use super::limits::{records_between, share_limit, split_range};
use super::offsets::{PartitionOffsets, from_offset, to_offset};
use super::options::{KafkaOptions, Selection, StartingPoint};
use super::positions;
use super::reader::KafkaPartitionReader;

/// Topics as a stream.
pub struct KafkaSource {
    client: Client,
    options: Arc<KafkaOptions>,
    selection: Selection,
    decoding: Decoding,
    last_batch_ns: Option<u64>,
}

impl KafkaSource {
    /// A source of the columns `decoding` says. Fails if the topics are not there or nobody answers.
    pub fn open(client: Client, options: Arc<KafkaOptions>, decoding: Decoding) -> Result<Self> {
        let selection = options.selection.clone().ok_or_else(|| positions::not_readable(&options))?;
        client.check()?;
        Ok(Self { client, options, selection, decoding, last_batch_ns: None })
    }

    /// Refuses a position that the stream cannot go on from, and says which topics are new to it: what a change of the
    /// option 'subscribe' makes of a query.
    pub fn changes_since(&self, position: &Offset) -> Result<Option<String>> {
        let (from, latest) = (from_offset(position, &self.options.object)?, self.latest()?);
        if let Some(what) = positions::losses(&from, &latest, &self.selection) {
            self.lost(&what)?;
        }
        self.with_new_partitions(&from, &latest)?;
        let topics = |offsets: &PartitionOffsets| -> BTreeSet<Arc<str>> {
            offsets.keys().map(|partition| Arc::clone(&partition.topic)).collect()
        };
        let (known, now) = (topics(&from), topics(&latest));
        let new: Vec<String> = now.difference(&known).map(|topic| format!("topic {topic}")).collect();
        Ok((!new.is_empty()).then(|| format!("{} new since, read from the first record on", new.join(", "))))
    }

    fn latest(&self) -> Result<PartitionOffsets> {
        let partitions = positions::partitions(&self.client, &self.selection)?;
        Ok(self.client.positions(partitions, Position::Latest)?)
    }

    /// Adds the partitions of `end` that are new: they are read from their first record on.
    fn with_new_partitions(&self, start: &PartitionOffsets, end: &PartitionOffsets) -> Result<PartitionOffsets> {
        let new: Vec<_> = end.keys().filter(|partition| !start.contains_key(partition)).cloned().collect();
        if new.is_empty() {
            return Ok(start.clone());
        }
        let earliest = self.client.positions(new, Position::Earliest)?;
        if let Some((partition, offset)) = earliest.iter().find(|(_, offset)| **offset > 0) {
            self.lost(&format!("new partition {partition} begins at offset {offset}, records before it are gone"))?;
        }
        let mut start = start.clone();
        start.extend(earliest);
        Ok(start)
    }

    /// Ends the query over lost records, or only says so, as the option asks.
    fn lost(&self, what: &str) -> Result<()> {
        if self.options.fail_on_data_loss {
            return Err(EngineError::data(format!("{}: {what}", self.options.object)).help(format!(
                "{LOST_HELP}; if the table is to read other topics than it did, give the query another name"
            )));
        }
        tracing::warn!(table = self.options.object, "{what}; going on, as failOnDataLoss = false asks");
        Ok(())
    }

    /// In real time a batch begins with its first record: what would hold it back cannot be heeded.
    fn refuse_minimum(&self) -> Result<()> {
        let Some(min) = self.options.min_offsets_per_trigger else { return Ok(()) };
        let message = format!(
            "{}: option 'minOffsetsPerTrigger' is {min}, and the trigger real-time holds no batch back",
            self.options.object
        );
        Err(EngineError::config(message)
            .help("take the option out, or use a trigger of micro-batches: --trigger '1 second'"))
    }

    /// Whether too little waits for a batch, and not for too long yet. The first batch is never held back, as in Spark.
    fn holds_back(&self, waiting: u64) -> bool {
        let (Some(min), Some(last_ns)) = (self.options.min_offsets_per_trigger, self.last_batch_ns) else {
            return false;
        };
        let waited_ns = self.client.clock().monotonic_ns().saturating_sub(last_ns);
        waiting < min && Duration::from_nanos(waited_ns) < self.options.max_trigger_delay
    }
}

impl Source for KafkaSource {
    fn description(&self) -> String {
        format!("KafkaV2[{}]", self.selection.description())
    }

    fn initial_offset(&mut self) -> Result<Offset> {
        let partitions = positions::partitions_that_must_exist(&self.client, &self.options)?;
        let starting = self.options.starting.as_ref().unwrap_or(&StartingPoint::Latest);
        positions::resolve(&self.client, &self.options, &partitions, starting, "startingOffsets")
            .map(|offsets| to_offset(&offsets))
    }

    fn latest_offset(&mut self) -> Result<Offset> {
        self.latest().map(|offsets| to_offset(&offsets))
    }

    fn plan_batch(&mut self, start: &Offset, until: Option<&Offset>) -> Result<Offset> {
        let from = from_offset(start, &self.options.object)?;
        let mut latest = self.latest()?;
        let losses = positions::losses(&from, &latest, &self.selection);
        if let Some(what) = &losses {
            self.lost(what)?;
        }
        if let Some(until) = until {
            let until = from_offset(until, &self.options.object)?;
            latest.retain(|partition, _| until.contains_key(partition));
            latest.iter_mut().for_each(|(partition, end)| *end = (*end).min(until[partition]));
        }
        let full_start = self.with_new_partitions(&from, &latest)?;
        let waiting = records_between(&full_start, &latest);
        if losses.is_none() && (waiting == 0 || (until.is_none() && self.holds_back(waiting))) {
            return Ok(start.clone());
        }
        self.last_batch_ns = Some(self.client.clock().monotonic_ns());
        Ok(to_offset(&match self.options.max_offsets_per_trigger {
            Some(max) => share_limit(&full_start, &latest, max),
            None => latest,
        }))
    }

    fn plan_again(&mut self, start: &Offset, until: &Offset, records: u64) -> Result<Offset> {
        let (from, until) = (from_offset(start, &self.options.object)?, from_offset(until, &self.options.object)?);
        let from = self.with_new_partitions(&from, &until)?;
        let unread = from.iter().filter(|(partition, from)| until.get(*partition).is_some_and(|end| end > from));
        let earliest = self.client.positions(unread.map(|(partition, _)| partition.clone()), Position::Earliest)?;
        if let Some((partition, first)) = earliest.iter().find(|(partition, first)| from[*partition] < **first) {
            let read = from[partition];
            self.lost(&format!("partition {partition} begins at offset {first}, it is to be read from {read} on"))?;
        }
        let records = self.options.max_offsets_per_trigger.unwrap_or(records);
        Ok(to_offset(&share_limit(&from, &until, records)))
    }

    fn amount(&mut self, range: &OffsetRange) -> Result<Option<u64>> {
        let mut start = from_offset(&range.start, &self.options.object)?;
        let end = from_offset(&range.end, &self.options.object)?;
        // A partition that is new since was read from its first record on.
        end.keys().for_each(|partition| _ = start.entry(partition.clone()).or_insert(0));
        Ok(Some(records_between(&start, &end)))
    }

    fn read(&mut self, range: &OffsetRange) -> Result<Vec<Box<dyn PartitionReader>>> {
        let start = from_offset(&range.start, &self.options.object)?;
        let end = from_offset(&range.end, &self.options.object)?;
        let start = self.with_new_partitions(&start, &end)?;
        readers(&self.client, &self.options, &self.decoding, &start, &end)
    }

    fn follow(&mut self, start: &Offset, known: &BTreeSet<String>) -> Result<Option<Vec<Box<dyn TailReader>>>> {
        self.refuse_minimum()?;
        let latest = self.latest()?;
        let from = from_offset(start, &self.options.object)?;
        if let Some(what) = positions::losses(&from, &latest, &self.selection) {
            self.lost(&what)?;
        }
        let from = self.with_new_partitions(&from, &latest)?;
        // So much at once that no batch gets more than it may have.
        let share = self.follow_limit().map_or(u64::MAX, |max| max / from.len().max(1) as u64);
        let share = usize::try_from(share.max(1)).unwrap_or(usize::MAX);
        let new = from.into_iter().filter(|(partition, _)| !known.contains(&partition.to_string()));
        let reader = |(partition, offset)| {
            let (client, fails) = (self.client.clone(), self.options.fail_on_data_loss);
            let reader = KafkaPartitionReader::following(client, partition, offset, &self.decoding, fails)?;
            Ok(Box::new(reader.with_batches_of(share)) as Box<dyn TailReader>)
        };
        new.map(reader).collect::<Result<_>>().map(Some)
    }

    fn followed(&mut self, start: &Offset, ends: &BTreeMap<String, i64>) -> Result<Offset> {
        let mut at = from_offset(start, &self.options.object)?;
        for (name, end) in ends {
            let parts = name.rsplit_once('-').and_then(|(topic, number)| Some((topic, number.parse().ok()?)));
            let (topic, number) =
                parts.ok_or_else(|| EngineError::internal(format!("'{name}' is the name of no partition")))?;
            at.insert(TopicPartition::new(topic, number), *end);
        }
        Ok(to_offset(&at))
    }

    fn follow_limit(&self) -> Option<u64> {
        self.options.max_offsets_per_trigger
    }

    fn unread(&mut self, from: &Offset) -> Result<Unread> {
        let latest = self.latest()?;
        let from = self.with_new_partitions(&from_offset(from, &self.options.object)?, &latest)?;
        let has_rows = |(partition, end): &(&_, &i64)| from.get(*partition).is_some_and(|from| from < *end);
        let partitions = latest.iter().filter(has_rows).map(|(partition, _)| partition.to_string()).collect();
        let backlog = Backlog { records: records_between(&from, &latest), latest: to_offset(&latest) };
        Ok(Unread { partitions, backlog: Some(backlog) })
    }
}

/// Readers that together read all of `[start, end)`.
pub fn readers(
    client: &Client,
    options: &KafkaOptions,
    decoding: &Decoding,
    start: &PartitionOffsets,
    end: &PartitionOffsets,
) -> Result<Vec<Box<dyn PartitionReader>>> {
    let total = records_between(start, end);
    let mut readers: Vec<Box<dyn PartitionReader>> = Vec::new();
    for (partition, from) in start {
        let Some(to) = end.get(partition).filter(|to| *to > from) else { continue };
        for (begin, to) in split_range(*from, *to, total, options.part_limits) {
            let fetcher = PartitionFetcher::new(client.clone(), partition.clone(), begin, to);
            let decoder = decoding.decoder()?;
            let layout = decoding.layout().clone();
            let reader = KafkaPartitionReader::new(fetcher, layout, decoder, options.fail_on_data_loss);
            readers.push(Box::new(if begin == *from { reader } else { reader.from_within(begin) }));
        }
    }
    Ok(readers)
}

/// The offsets a static read of the table covers: all there is, unless the options say otherwise.
pub fn static_range(client: &Client, options: &KafkaOptions) -> Result<(PartitionOffsets, PartitionOffsets)> {
    let partitions = positions::partitions_that_must_exist(client, options)?;
    let starting = options.starting.as_ref().unwrap_or(&StartingPoint::Earliest);
    let start = positions::resolve(client, options, &partitions, starting, "startingOffsets")?;
    let end = positions::resolve(client, options, &partitions, &options.ending, "endingOffsets")?;
    Ok((start, end))
}

//! Turns the records of one range of one partition into batches of rows.
//!
//! ```text
//!   PartitionFetcher ──record──> decoder (columns of the value) ──┐
//!                         └────> RecordColumns (Kafka's own) ─────┴─flush──> RecordBatch
//! ```
//!
//! A value that does not parse becomes a row of nulls, or no row, or an error, as `mode` says; in the first two cases
//! its bytes are kept for the dead letters. Nothing is decoded that was not asked for.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::{DeadLetter, PartitionReader, ReadReport, TailReader, TailRows};

use super::client::cluster::{Client, TopicPartition};
use super::client::error::ClientError;
use super::client::fetch::PartitionFetcher;
use super::client::record_batch::{Malformed, Record};
use super::decode::Decoding;
use super::layout::{Layout, RecordColumns};
use crate::format::{Appended, RecordDecoder};

/// A batch is handed on when it has this many rows,
const BATCH_ROWS: usize = 8192;
/// or when its records took this many bytes.
const BATCH_BYTES: usize = 4 << 20;

/// Reads one range of one partition.
pub struct KafkaPartitionReader {
    name: String,
    stretch: String,
    fetcher: PartitionFetcher,
    fail_on_data_loss: bool,
    rows: Rows,
}

/// What a record becomes; apart from the fetcher, which lends the records.
struct Rows {
    partition: TopicPartition,
    decoder: Option<Box<dyn RecordDecoder>>,
    columns: RecordColumns,
    report: ReadReport,
    dead_letters: Vec<DeadLetter>,
    /// Records that could not be read since the last batch was handed on, and their bytes.
    unread: (usize, usize),
    /// How many rows make a batch full.
    batch_rows: usize,
}

/// Why reading stopped.
enum ReadError {
    Client(ClientError),
    Engine(EngineError),
}

impl From<ClientError> for ReadError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl KafkaPartitionReader {
    /// A reader of the fetcher's range into the layout's columns; the decoder fills its decoded columns.
    pub fn new(
        fetcher: PartitionFetcher,
        layout: Layout,
        decoder: Option<Box<dyn RecordDecoder>>,
        fail_on_data_loss: bool,
    ) -> Self {
        let partition = fetcher.partition().clone();
        let rows = Rows {
            partition: partition.clone(),
            decoder,
            columns: RecordColumns::new(layout, partition.clone()),
            report: ReadReport::default(),
            dead_letters: Vec::new(),
            unread: (0, 0),
            batch_rows: BATCH_ROWS,
        };
        let name = partition.to_string();
        Self { stretch: name.clone(), name, fetcher, fail_on_data_loss, rows }
    }

    /// A reader of all that comes from `start` on.
    pub fn following(
        client: Client,
        partition: TopicPartition,
        start: i64,
        decoding: &Decoding,
        fail_on_data_loss: bool,
    ) -> Result<Self> {
        let fetcher = PartitionFetcher::following(client, partition, start);
        Ok(Self::new(fetcher, decoding.layout().clone(), decoding.decoder()?, fail_on_data_loss))
    }

    /// The same, in batches of no more than so many rows.
    pub fn with_batches_of(mut self, rows: usize) -> Self {
        self.rows.batch_rows = rows.min(BATCH_ROWS);
        self
    }

    /// The same, of the part of a batch's range that begins there and not where the range does.
    pub fn from_within(mut self, offset: i64) -> Self {
        self.stretch = format!("{}@{offset}", self.name);
        self
    }

    /// Goes on behind records that are gone, or gives the error back where that is not allowed.
    fn pass_over(&mut self, error: ClientError) -> Result<()> {
        match error {
            ClientError::Lost { wanted, earliest, latest, .. } if !self.fail_on_data_loss => {
                let next = if earliest > wanted { earliest } else { i64::MAX };
                self.fetcher.skip_to(next);
                tracing::warn!(
                    partition = self.name,
                    wanted,
                    earliest,
                    latest,
                    next = self.fetcher.position(),
                    "Kafka records are gone; going on without them, as failOnDataLoss = false asks"
                );
                Ok(())
            }
            other => Err(other.into()),
        }
    }
}

impl PartitionReader for KafkaPartitionReader {
    fn partition(&self) -> &str {
        &self.name
    }

    fn stretch(&self) -> &str {
        &self.stretch
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let before = self.rows.report.records;
        loop {
            let rows = &mut self.rows;
            match self.fetcher.read(|record| rows.append(record)) {
                Ok(()) => break,
                Err(ReadError::Engine(error)) => return Err(error),
                Err(ReadError::Client(error)) => self.pass_over(error)?,
            }
        }
        if self.rows.report.records == before {
            return Ok(None);
        }
        self.rows.flush().map(Some)
    }

    fn report(&self) -> ReadReport {
        self.rows.report
    }

    fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.rows.dead_letters)
    }
}

impl TailReader for KafkaPartitionReader {
    fn partition(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Result<Option<TailRows>> {
        let before = self.fetcher.position();
        let rows = &mut self.rows;
        match self.fetcher.read_ready(|record| rows.append(record)) {
            Ok(()) => {}
            Err(ReadError::Engine(error)) => return Err(error),
            Err(ReadError::Client(error)) => self.pass_over(error)?,
        }
        let end = self.fetcher.position();
        if end == before {
            return Ok(None);
        }
        let rows = self.rows.flush()?;
        let report = std::mem::take(&mut self.rows.report);
        Ok(Some(TailRows { rows, end, report, dead_letters: std::mem::take(&mut self.rows.dead_letters) }))
    }
}

impl Rows {
    #[inline]
    fn append(&mut self, record: &Record<'_>) -> Result<ControlFlow<()>, ReadError> {
        self.report.records += 1;
        self.report.size_bytes += record.size_bytes as u64;
        let gives_row = match (&mut self.decoder, record.value) {
            (None, _) => true,
            (Some(decoder), None) => {
                decoder.append_null();
                true
            }
            (Some(decoder), Some(value)) => match decoder.append(value) {
                Ok(Appended::Null) => decoder.len() > self.columns.rows(),
                Ok(Appended::Malformed { row, reason }) => {
                    self.dead_letters.push(dead_letter(&self.partition, record.offset, value, reason));
                    self.report.malformed += 1;
                    self.unread = (self.unread.0 + 1, self.unread.1 + value.len());
                    row
                }
                Ok(Appended::Row) => true,
                Err(error) => return Err(ReadError::Engine(self.malformed_value(record.offset, error))),
            },
        };
        if gives_row {
            self.columns.append(record).map_err(|malformed| self.corrupt(record.offset, malformed))?;
        } else {
            self.report.dropped += 1;
        }
        let (unread, unread_bytes) = self.unread;
        let full =
            self.columns.rows() + unread >= self.batch_rows || self.columns.size_bytes() + unread_bytes >= BATCH_BYTES;
        Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn flush(&mut self) -> Result<RecordBatch> {
        self.unread = (0, 0);
        let decoded = self.decoder.as_mut().map(|decoder| decoder.flush()).transpose();
        let decoded = decoded.map_err(|error| EngineError::data(format!("values of {}: {error}", self.partition)))?;
        self.columns.flush(decoded.as_ref())
    }

    fn malformed_value(&self, offset: i64, error: impl std::fmt::Display) -> EngineError {
        let TopicPartition { topic, partition } = &self.partition;
        EngineError::data(format!("topic {topic}, partition {partition}, offset {offset}: {error}")).help(
            "set the table's 'mode' to 'PERMISSIVE' or 'DROPMALFORMED', which send such records to the dead letters, \
             and start the query again: it goes on with this record",
        )
    }

    fn corrupt(&self, offset: i64, malformed: Malformed) -> ReadError {
        let TopicPartition { topic, partition } = &self.partition;
        let (topic, reason) = (topic.to_string(), malformed.to_string());
        ReadError::Client(ClientError::Corrupt { topic, partition: *partition, offset, reason })
    }
}

fn dead_letter(partition: &TopicPartition, offset: i64, value: &[u8], reason: impl Into<String>) -> DeadLetter {
    DeadLetter {
        origin: Arc::clone(&partition.topic).to_string(),
        partition: Some(partition.partition),
        offset,
        reason: reason.into(),
        value: value.to_vec(),
    }
}

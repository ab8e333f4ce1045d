//! The two rate sources and the reader they share.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::{Schema, SchemaRef};
use highwater_engine::clock::Clock;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::{
    Backlog, Offset, OffsetRange, PartitionReader, ReadReport, Source, SourceMetadata, SourceRequest, Unread,
};
use serde_json::json;

use super::{Speed, Steps};

const BATCH_ROWS: i64 = 8192;
/// The one file the source keeps.
const START: &str = "start";

impl Speed {
    /// The first value of second `seconds`: the number of values before it. Spark's `valueAtSecond`.
    fn first(self, seconds: i64) -> i64 {
        let ramp = seconds.min(self.ramp_up_seconds);
        let step = (self.rows_per_second / (self.ramp_up_seconds + 1)).max(1);
        let ramped = step.saturating_mul(ramp).saturating_mul(ramp + 1) / 2;
        ramped.saturating_add((seconds - ramp).saturating_mul(self.rows_per_second))
    }
}

/// `timestamp` of a value, in microseconds.
#[derive(Debug, Clone, Copy)]
enum Times {
    Seconds { speed: Speed, start_ms: i64 },
    Batches(Steps),
}

/// Rows by the clock.
pub(super) struct RateSource {
    speed: Speed,
    partitions: i64,
    clock: Arc<dyn Clock>,
    start_ms: i64,
    projection: Vec<usize>,
    schema: SchemaRef,
}

impl RateSource {
    pub(super) fn open(
        speed: Speed,
        partitions: i64,
        clock: Arc<dyn Clock>,
        schema: &Schema,
        request: SourceRequest,
    ) -> Result<Self> {
        let start_ms = start_ms(&request.metadata, clock.as_ref())?;
        let schema = Arc::new(schema.project(&request.projection)?);
        Ok(Self { speed, partitions, clock, start_ms, projection: request.projection, schema })
    }

    fn seconds_now(&self) -> i64 {
        // A clock that went back must not take offsets back below the start.
        ((self.clock.now_ms() - self.start_ms) / 1000).max(0)
    }
}

/// When the stream first began; written once.
fn start_ms(files: &SourceMetadata, clock: &dyn Clock) -> Result<i64> {
    let bytes = match files.read(START)? {
        Some(bytes) => bytes,
        None => {
            files.create(START, format!("v1\n{}\n", clock.now_ms()).as_bytes())?;
            files.read(START)?.unwrap_or_default()
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let number =
        text.strip_prefix("v1\n").and_then(|rest| rest.strip_suffix('\n')).and_then(|number| number.parse().ok());
    number.ok_or_else(|| {
        EngineError::data(format!(
            "the rate source's start time '{}' is damaged, expected 'v1' and milliseconds",
            files.address(START)
        ))
        .help("restore it from a backup, or start with a new checkpoint")
    })
}

impl Source for RateSource {
    fn description(&self) -> String {
        format!(
            "RateStream[rowsPerSecond={}, rampUpTimeSeconds={}]",
            self.speed.rows_per_second, self.speed.ramp_up_seconds
        )
    }

    fn initial_offset(&mut self) -> Result<Offset> {
        Ok(Offset(json!(0)))
    }

    fn latest_offset(&mut self) -> Result<Offset> {
        Ok(Offset(json!(self.seconds_now())))
    }

    fn plan_batch(&mut self, start: &Offset, until: Option<&Offset>) -> Result<Offset> {
        let from = seconds(start)?;
        let end = match until {
            Some(until) => seconds(until)?.min(self.seconds_now()),
            None => self.seconds_now(),
        };
        Ok(Offset(json!(end.max(from))))
    }

    fn read(&mut self, range: &OffsetRange) -> Result<Vec<Box<dyn PartitionReader>>> {
        let (first, end) = (self.speed.first(seconds(&range.start)?), self.speed.first(seconds(&range.end)?));
        let times = Times::Seconds { speed: self.speed, start_ms: self.start_ms };
        Ok(readers(first, end, self.partitions, times, &self.projection, &self.schema))
    }

    fn unread(&mut self, from: &Offset) -> Result<Unread> {
        let now = self.seconds_now();
        let behind = self.speed.first(now) - self.speed.first(seconds(from)?);
        let backlog = u64::try_from(behind).ok().map(|records| Backlog { latest: Offset(json!(now)), records });
        Ok(Unread { backlog, ..Unread::default() })
    }
}

fn seconds(offset: &Offset) -> Result<i64> {
    offset.0.as_i64().ok_or_else(|| foreign("rate", offset, "a number of seconds"))
}

fn foreign(source: &str, offset: &Offset, expected: &str) -> EngineError {
    EngineError::data(format!("the {source} source was given the offset {offset}, expected {expected}"))
        .help("the checkpoint belongs to another source: start with a new checkpoint")
}

/// A fixed number of rows each batch.
pub(super) struct MicroBatchSource {
    steps: Steps,
    partitions: i64,
    projection: Vec<usize>,
    schema: SchemaRef,
    /// Values planned so far.
    planned: i64,
}

impl MicroBatchSource {
    pub(super) fn new(steps: Steps, partitions: i64, schema: &Schema, request: SourceRequest) -> Result<Self> {
        let schema = Arc::new(schema.project(&request.projection)?);
        Ok(Self { steps, partitions, projection: request.projection, schema, planned: 0 })
    }

    fn offset(&self, values: i64) -> Offset {
        let batches = values / self.steps.rows_per_batch;
        Offset(json!({ "offset": values, "timestamp": self.steps.start_ms + batches * self.steps.advance_ms }))
    }
}

impl Source for MicroBatchSource {
    fn description(&self) -> String {
        format!(
            "RatePerMicroBatchStream[rowsPerBatch={}, startTimestamp={}, advanceMsPerBatch={}]",
            self.steps.rows_per_batch, self.steps.start_ms, self.steps.advance_ms
        )
    }

    fn initial_offset(&mut self) -> Result<Offset> {
        Ok(self.offset(0))
    }

    fn begin_at(&mut self, position: &Offset) -> Result<()> {
        self.planned = values(position)?;
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Offset> {
        Ok(self.offset(self.planned + self.steps.rows_per_batch))
    }

    fn plan_batch(&mut self, start: &Offset, until: Option<&Offset>) -> Result<Offset> {
        let from = values(start)?;
        let until = until.map(values).transpose()?.unwrap_or(i64::MAX);
        let end = (from + self.steps.rows_per_batch).min(until).max(from);
        self.planned = self.planned.max(end);
        Ok(self.offset(end))
    }

    fn read(&mut self, range: &OffsetRange) -> Result<Vec<Box<dyn PartitionReader>>> {
        let (first, end) = (values(&range.start)?, values(&range.end)?);
        self.planned = self.planned.max(end);
        Ok(readers(first, end, self.partitions, Times::Batches(self.steps), &self.projection, &self.schema))
    }
}

fn values(offset: &Offset) -> Result<i64> {
    let expected = "{\"offset\":N,\"timestamp\":ms}";
    offset
        .0
        .get("offset")
        .and_then(serde_json::Value::as_i64)
        .ok_or_else(|| foreign("rate-micro-batch", offset, expected))
}

fn readers(
    first: i64,
    end: i64,
    partitions: i64,
    times: Times,
    projection: &[usize],
    schema: &SchemaRef,
) -> Vec<Box<dyn PartitionReader>> {
    (0..partitions)
        .filter(|partition| first + partition < end)
        .map(|partition| {
            let reader = RateReader {
                // One name: a partition without rows in a batch must not hold back the watermark.
                partition: "rate".to_owned(),
                stretch: partition.to_string(),
                next: first + partition,
                end,
                step: partitions,
                times,
                projection: projection.to_vec(),
                schema: Arc::clone(schema),
                report: ReadReport::default(),
            };
            Box::new(reader) as Box<dyn PartitionReader>
        })
        .collect()
}

struct RateReader {
    partition: String,
    /// The number of the partition.
    stretch: String,
    next: i64,
    end: i64,
    step: i64,
    times: Times,
    projection: Vec<usize>,
    schema: SchemaRef,
    report: ReadReport,
}

impl PartitionReader for RateReader {
    fn partition(&self) -> &str {
        &self.partition
    }

    fn stretch(&self) -> &str {
        &self.stretch
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut values = Vec::new();
        while self.next < self.end && (values.len() as i64) < BATCH_ROWS {
            values.push(self.next);
            self.next += self.step;
        }
        if values.is_empty() {
            return Ok(None);
        }
        let rows = values.len();
        self.report.records += rows as u64;
        self.report.size_bytes += 16 * rows as u64;
        let columns = self.projection.iter().map(|column| match column {
            0 => Arc::new(TimestampMicrosecondArray::from(self.times.of(&values)).with_timezone("UTC")) as ArrayRef,
            _ => Arc::new(Int64Array::from(values.clone())),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect(), &options)?))
    }

    fn report(&self) -> ReadReport {
        self.report
    }
}

impl Times {
    /// Timestamps of rising values, in microseconds.
    fn of(self, values: &[i64]) -> Vec<i64> {
        match self {
            Self::Batches(steps) => {
                let time = |value: &i64| (steps.start_ms + value / steps.rows_per_batch * steps.advance_ms) * 1000;
                values.iter().map(time).collect()
            }
            Self::Seconds { speed, start_ms } => {
                let mut second = values.first().map_or(0, |value| second_of(speed, *value));
                let time = |value: &i64| {
                    while speed.first(second + 1) <= *value {
                        second += 1;
                    }
                    let (first, next) = (speed.first(second), speed.first(second + 1));
                    // Spark's timestamps are whole milliseconds.
                    (start_ms + second * 1000 + (value - first) * 1000 / (next - first)) * 1000
                };
                values.iter().map(time).collect()
            }
        }
    }
}

/// The last second that begins at or before `value`.
fn second_of(speed: Speed, value: i64) -> i64 {
    let (mut low, mut high) = (0, value.saturating_add(speed.ramp_up_seconds).saturating_add(2));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if speed.first(middle) <= value {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

    use super::*;
    use crate::contract::metadata_in;
    use crate::rate::rate_schema;

    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now_ms(&self) -> i64 {
            self.0.load(Ordering::SeqCst)
        }

        fn monotonic_ns(&self) -> u64 {
            0
        }

        fn sleep(&self, _duration: Duration) {}
    }

    fn rows(source: &mut dyn Source, start: Offset, end: Offset) -> Vec<(i64, i64)> {
        let mut rows = Vec::new();
        for mut reader in source.read(&OffsetRange { start, end }).expect("readers") {
            while let Some(batch) = reader.next_batch().expect("read") {
                let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
                let values = batch.column(1).as_primitive::<Int64Type>();
                rows.extend(values.values().iter().copied().zip(times.values().iter().copied()));
            }
        }
        rows.sort_unstable();
        rows
    }

    #[test]
    fn the_ramp_is_sparks() {
        let speed = Speed { rows_per_second: 10, ramp_up_seconds: 4 };
        let ends: Vec<i64> = (0..7).map(|second| speed.first(second)).collect();
        assert_eq!(ends, [0, 2, 6, 12, 20, 30, 40]);
    }

    #[test]
    fn a_row_is_the_same_however_batches_are_cut_and_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(Hand(AtomicI64::new(1_000_000)));
        let open = || {
            let request = SourceRequest {
                projection: vec![0, 1],
                members: Vec::new(),
                metadata: metadata_in(folder.path()),
                may_be_missing: false,
            };
            let speed = Speed { rows_per_second: 7, ramp_up_seconds: 2 };
            RateSource::open(speed, 3, Arc::clone(&clock) as Arc<dyn Clock>, &rate_schema(), request).expect("opened")
        };
        let mut source = open();
        let start = source.initial_offset().expect("initial");
        assert_eq!(source.plan_batch(&start, None).expect("planned"), start);
        clock.0.store(1_009_500, Ordering::SeqCst);
        let end = source.plan_batch(&start, None).expect("planned");
        assert_eq!(end, Offset(json!(9)));
        let whole = rows(&mut source, start.clone(), end.clone());
        assert_eq!(whole.len(), 6 + 7 * 7);
        let mut again = open();
        let mut parts = Vec::new();
        for second in 0..9 {
            parts.extend(rows(&mut again, Offset(json!(second)), Offset(json!(second + 1))));
        }
        assert_eq!(parts, whole);
        assert_eq!(again.unread(&start).expect("behind").backlog.map(|backlog| backlog.records), Some(55));
    }

    #[test]
    fn a_micro_batch_has_its_rows_and_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let request = SourceRequest {
            projection: vec![0, 1],
            members: Vec::new(),
            metadata: metadata_in(folder.path()),
            may_be_missing: false,
        };
        let steps = Steps { rows_per_batch: 3, start_ms: 1000, advance_ms: 50 };
        let mut source = MicroBatchSource::new(steps, 2, &rate_schema(), request).expect("a source");
        let first = source.initial_offset().expect("initial");
        let second = source.plan_batch(&first, None).expect("planned");
        let third = source.plan_batch(&second, None).expect("planned");
        assert_eq!(third, Offset(json!({"offset": 6, "timestamp": 1100})));
        assert_eq!(rows(&mut source, second, third), [(3, 1_050_000), (4, 1_050_000), (5, 1_050_000)]);
    }
}

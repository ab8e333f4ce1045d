//! `USING rate` and `USING rate-micro-batch`: rows made of a clock and a counter, for trying and measuring.
//!
//! ```text
//!   rate               offset = seconds since the stream first began (kept in the checkpoint: start)
//!                      second s holds the values first(s) .. first(s+1), spread evenly over it
//!   rate-micro-batch   offset = {"offset":values so far,"timestamp":ms}, rowsPerBatch more each batch
//! ```
//!
//! A value always has the same timestamp, however the batches are cut. Options, with Spark's names: rowsPerSecond (1),
//! rampUpTime (0s), numPartitions; rowsPerBatch (required), startTimestamp (0), advanceMillisPerBatch (1000).

mod source;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use highwater_engine::clock::{Clock, SystemClock};
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{Connector, Table, TableDefinition};
use highwater_engine::sink::{OutputMode, Sink, SinkRequest};
use highwater_engine::source::{Source, SourceRequest};

use self::source::{MicroBatchSource, RateSource};
use crate::file::options::parse_duration;

/// The connector of `USING rate`.
pub struct RateConnector {
    clock: Arc<dyn Clock>,
}

impl RateConnector {
    /// A connector that goes by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

impl Default for RateConnector {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

/// The connector of `USING rate-micro-batch`.
#[derive(Debug)]
pub struct RateMicroBatchConnector;

/// How fast values come.
#[derive(Debug, Clone, Copy)]
struct Speed {
    rows_per_second: i64,
    ramp_up_seconds: i64,
}

/// How many values a batch has.
#[derive(Debug, Clone, Copy)]
struct Steps {
    rows_per_batch: i64,
    start_ms: i64,
    advance_ms: i64,
}

impl Connector for RateConnector {
    fn format(&self) -> &str {
        "rate"
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let object = format!("table {} (USING rate)", definition.name);
        let mut options = definition.options.reader(&object);
        let rows_per_second = options.parsed("rowsPerSecond", "a whole number above 0")?.unwrap_or(1);
        let ramp_up = options.text("rampUpTime").unwrap_or("0s");
        let whole = parse_duration(ramp_up).filter(|time| time.subsec_nanos() == 0);
        let ramp_up_seconds = whole.and_then(|time| i64::try_from(time.as_secs()).ok()).ok_or_else(|| {
            let found = format!("{object}: option 'rampUpTime' is '{ramp_up}'");
            EngineError::config(format!("{found}, expected a time of whole seconds such as 5s"))
        })?;
        let partitions = partitions(&object, options.parsed("numPartitions", "a whole number above 0")?)?;
        options.finish()?;
        above_zero(&object, "rowsPerSecond", rows_per_second)?;
        let kind = Kind::Rate(Speed { rows_per_second, ramp_up_seconds }, Arc::clone(&self.clock));
        RateTable::open(definition, kind, partitions)
    }
}

impl Connector for RateMicroBatchConnector {
    fn format(&self) -> &str {
        "rate-micro-batch"
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let object = format!("table {} (USING rate-micro-batch)", definition.name);
        let mut options = definition.options.reader(&object);
        options.required("rowsPerBatch", "100")?;
        let rows_per_batch = options.parsed("rowsPerBatch", "a whole number above 0")?.unwrap_or_default();
        let start_ms = options.parsed("startTimestamp", "milliseconds since 1970")?.unwrap_or(0);
        let advance_ms = options.parsed("advanceMillisPerBatch", "milliseconds")?.unwrap_or(1000);
        let partitions = partitions(&object, options.parsed("numPartitions", "a whole number above 0")?)?;
        options.finish()?;
        above_zero(&object, "rowsPerBatch", rows_per_batch)?;
        if advance_ms < 0 {
            let found = format!("{object}: option 'advanceMillisPerBatch' is '{advance_ms}'");
            return Err(EngineError::config(format!("{found}, expected 0 or more: time does not go back")));
        }
        RateTable::open(definition, Kind::MicroBatch(Steps { rows_per_batch, start_ms, advance_ms }), partitions)
    }
}

fn above_zero(object: &str, key: &str, value: i64) -> Result<()> {
    if value > 0 {
        return Ok(());
    }
    Err(EngineError::config(format!("{object}: option '{key}' is '{value}', expected a whole number above 0")))
}

fn partitions(object: &str, given: Option<i64>) -> Result<i64> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let partitions = given.unwrap_or(i64::try_from(cores).unwrap_or(1));
    above_zero(object, "numPartitions", partitions)?;
    Ok(partitions)
}

/// `timestamp TIMESTAMP, value BIGINT`.
fn rate_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("value", DataType::Int64, true),
    ]))
}

enum Kind {
    Rate(Speed, Arc<dyn Clock>),
    MicroBatch(Steps),
}

struct RateTable {
    name: String,
    kind: Kind,
    partitions: i64,
    schema: SchemaRef,
}

impl RateTable {
    fn open(definition: &TableDefinition, kind: Kind, partitions: i64) -> Result<Arc<dyn Table>> {
        let schema = rate_schema();
        if definition.schema.as_ref().is_some_and(|given| given.fields() != schema.fields()) {
            return Err(EngineError::config(format!(
                "table {} (USING {}) has columns of its own",
                definition.name, definition.format
            ))
            .help("leave the columns out: they are timestamp TIMESTAMP, value BIGINT"));
        }
        Ok(Arc::new(Self { name: definition.name.clone(), kind, partitions, schema }))
    }

    fn stream_only(&self, verb: &str) -> EngineError {
        EngineError::query(format!(
            "table {} (USING rate) can only be read as a stream, but the query {verb} it",
            self.name
        ))
        .help(format!("use FROM STREAM {}", self.name))
    }
}

impl Table for RateTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn source(&self, request: SourceRequest) -> Result<Box<dyn Source>> {
        Ok(match &self.kind {
            Kind::Rate(speed, clock) => {
                Box::new(RateSource::open(*speed, self.partitions, Arc::clone(clock), &self.schema, request)?)
            }
            Kind::MicroBatch(steps) => Box::new(MicroBatchSource::new(*steps, self.partitions, &self.schema, request)?),
        })
    }

    fn sink(&self, _request: SinkRequest) -> Result<Box<dyn Sink>> {
        Err(self.stream_only("writes"))
    }

    fn output_modes(&self) -> &[OutputMode] {
        &[]
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        Err(self.stream_only("reads all of"))
    }
}

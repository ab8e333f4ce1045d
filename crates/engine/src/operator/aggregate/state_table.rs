//! Groups and sessions as people read them: grouping columns and what the functions show, from the checkpoint alone.
//!
//! The functions are written down by name, with the types of their arguments and the constants among them: the
//! accumulators are made anew from that, and asked as the operator itself asks them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};

use super::accumulator::Accumulator;
use super::output::{GroupLayout, GroupRows};
use super::session::value;
use super::states::results_of;
use super::{AggregateSpec, FunctionSpec};
use crate::error::{EngineError, Result};
use crate::operator::NO_EXPIRY;
use crate::operator::layout::History;
use crate::operator::layout::codec::{KeyCodec, ValueCodec};
use crate::operator::state_table::{Page, ipc, shards, shown_name, time_column};
use crate::plan::functions::aggregates::{self, Call};

/// A table of groups.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupTable {
    layout: GroupLayout,
    functions: Vec<StoredFunction>,
    /// From the bucket of a group to the moment the watermark has to reach for it to go; never without one.
    expiry_us: Option<i64>,
}

/// An aggregate function without its query.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredFunction {
    name: String,
    is_distinct: bool,
    /// A field for each argument, called by its place.
    #[serde(with = "ipc::schema")]
    arguments: SchemaRef,
    /// One row: the arguments that are constant, called by their places.
    #[serde(with = "ipc::row")]
    constants: RecordBatch,
    /// How many arguments are no constants, if rows may be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    takes_back: Option<usize>,
}

impl GroupTable {
    pub(super) fn of(spec: &AggregateSpec) -> Result<Self> {
        Ok(Self {
            layout: spec.output_layout(),
            functions: spec.functions.iter().map(StoredFunction::of).collect::<Result<_>>()?,
            expiry_us: spec.expires_at(0),
        })
    }

    /// Grouping columns in the query's order, then the functions' results.
    pub(crate) fn columns(&self) -> Vec<FieldRef> {
        let window = self
            .layout
            .window
            .map(|(at, _)| at)
            .filter(|at| matches!(self.layout.schema.field(*at).data_type(), DataType::Struct(_)));
        let name = |at: usize, name: &str| match at {
            at if Some(at) == window => "window".to_owned(),
            at if Some(at) == self.layout.session => "session_window".to_owned(),
            _ => shown_name(name),
        };
        let fields = self.layout.schema.fields().iter().enumerate();
        fields.map(|(at, field)| Arc::new(field.as_ref().clone().with_name(name(at, field.name())))).collect()
    }

    /// Those columns, when the groups go, and their shards.
    pub(crate) fn read(&self, page: &Page, history: Option<&History>) -> Result<Vec<ArrayRef>> {
        let keys = history.map_or_else(|| KeyCodec::plain(&self.layout.key_types()), KeyCodec::new)?;
        let rows = GroupRows::new(self.layout.clone(), keys);
        if self.layout.session.is_some() {
            return self.read_sessions(page, &rows, history);
        }
        let results = self.results(&page.values, history)?;
        let times = TimestampMicrosecondArray::from(page.buckets.clone());
        let groups = rows.of_groups(times, page.keys.iter().map(Vec::as_slice), results)?;
        let expiry = |bucket: &i64| Some(bucket.saturating_add(self.expiry_us?)).filter(|_| *bucket != NO_EXPIRY);
        let expiry = time_column(page.buckets.iter().map(expiry).collect());
        Ok(groups.columns().iter().cloned().chain([expiry, shards(&page.shards)]).collect())
    }

    fn read_sessions(&self, page: &Page, rows: &GroupRows, history: Option<&History>) -> Result<Vec<ArrayRef>> {
        let (mut keys, mut times, mut states, mut of_shard) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((key, stored), shard) in page.keys.iter().zip(&page.values).zip(&page.shards) {
            for session in value::sessions(stored) {
                let session = session?;
                keys.push(key.as_slice());
                times.push((session.start_us, session.end_us));
                states.push(session.state);
                of_shard.push(*shard);
            }
        }
        let results = self.results(&states, history)?;
        let sessions = rows.of_sessions(keys.into_iter(), &times, results)?;
        let expiry = time_column(times.iter().map(|(_, end_us)| self.expiry_us.map(|_| *end_us)).collect());
        Ok(sessions.columns().iter().cloned().chain([expiry, shards(&of_shard)]).collect())
    }

    fn results(&self, stored: &[impl AsRef<[u8]>], history: Option<&History>) -> Result<Vec<ArrayRef>> {
        let accumulators = self.accumulators()?;
        let types = || accumulators.iter().map(|accumulator| accumulator.state_types()).collect();
        let codec = history.map_or_else(|| ValueCodec::plain(types()), |history| ValueCodec::new(history, 0))?;
        results_of(accumulators, &codec, stored)
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn Accumulator>>> {
        let first = self.layout.schema.fields().len() - self.functions.len();
        let results = self.layout.schema.fields().iter().skip(first);
        self.functions.iter().zip(results).map(|(function, result)| function.accumulator(result.data_type())).collect()
    }
}

impl StoredFunction {
    fn of(spec: &FunctionSpec) -> Result<Self> {
        let call = Call::planned(&spec.function, &spec.arg_types);
        let argument = |(at, kind): (usize, &DataType)| Field::new(at.to_string(), kind.clone(), true);
        let arguments: Vec<Field> = spec.arg_types.iter().enumerate().map(argument).collect();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (at, value) in call.constants() {
            fields.push(Field::new(at.to_string(), value.data_type(), true));
            columns.push(value.to_array_of_size(1)?);
        }
        let schema = Arc::new(Schema::new(fields));
        let constants = match columns.is_empty() {
            true => RecordBatch::new_empty(schema),
            false => RecordBatch::try_new(schema, columns)?,
        };
        let (name, is_distinct) = (spec.function.fun().name().to_owned(), call.is_distinct);
        let takes_back = spec.takes_back.then_some(spec.args.len());
        Ok(Self { name, is_distinct, arguments: Arc::new(Schema::new(arguments)), constants, takes_back })
    }

    fn accumulator(&self, returns: &DataType) -> Result<Box<dyn Accumulator>> {
        let types: Vec<DataType> = self.arguments.fields().iter().map(|field| field.data_type().clone()).collect();
        let constant = |at: usize| {
            let column = self.constants.column_by_name(&at.to_string())?;
            Some(ScalarValue::try_from_array(column, 0))
        };
        let places = types.len().max(self.constants.num_columns());
        let constants = (0..places).map(|at| constant(at).transpose()).collect::<Result<Vec<_>, _>>()?;
        let call = Call::stored(types, constants, self.is_distinct);
        let made = match self.takes_back {
            Some(inputs) => aggregates::accumulator_that_takes_back_by_name(&self.name, call, returns, inputs)?,
            None => aggregates::accumulator_by_name(&self.name, &call, returns)?,
        };
        made.ok_or_else(|| {
            EngineError::data(format!("the state of function {} cannot be shown: this version has none", self.name))
                .help("use the version of highwater that wrote the checkpoint, or a newer one")
        })
    }
}

//! `GROUP BY`: groups kept from batch to batch, emitted when they are final, when they change, or all of them.
//!
//! ```text
//!   KeyedBatch ──> AggregateOperator ──update──> groups ──finish_batch──> RecordBatch
//!                                                  └── changes ──> changelog, state store
//! ```
//!
//! Groups by [`session`] are kept by their end, which moves; all others by a bucket of time that is part of their key.
//!
//! With a watermark, a row whose window ended at or before the watermark of the batch before is late and left out;
//! groups whose window ended at or before this batch's watermark are final: they are emitted in append mode and
//! forgotten in append and update mode. This is Spark's rule; see the SQL reference on event time.

pub(crate) mod accumulator;
mod aging;
mod changing;
mod filter;
mod operator;
mod order;
mod output;
mod session;
pub(crate) mod state_table;
mod states;
mod table;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::changes::Tells;
use super::keyed::{Bucketing, InputSpec};
use super::layout::{Layout, Part};
use super::state_table::{StateLayout, StateTable, shown_name};
use super::{Operator, OperatorSpec, Place, StateBound, listed};
use crate::error::{EngineError, Result};
use crate::plan::functions::aggregates;
use crate::plan::window::TimeWindow;
use crate::sink::OutputMode;
use accumulator::Accumulator;
use operator::AggregateOperator;
use output::GroupLayout;
use session::SessionOperator;
use state_table::GroupTable;

/// What one `GROUP BY` does, as the planner found it.
#[derive(Debug)]
pub(crate) struct AggregateSpec {
    /// Its lasting name in the checkpoint.
    pub(crate) id: String,
    /// The grouping expressions, and as columns the arguments and filters of all functions, each once.
    pub(crate) input: Arc<InputSpec>,
    /// The window or event time among the grouping expressions.
    pub(crate) window: Option<WindowKey>,
    /// Where the session stands among the grouping columns; then there is no window.
    pub(crate) session: Option<usize>,
    /// The aggregate functions.
    pub(crate) functions: Vec<FunctionSpec>,
    /// Grouping columns in the query's order, then the functions' results.
    pub(crate) output_schema: SchemaRef,
    /// What is emitted, and when.
    pub(crate) output_mode: OutputMode,
    /// Whether its rows may be taken back, which only output mode update has.
    pub(crate) takes_back: bool,
    /// The function that counts the rows of a group, if a group can lose all of them.
    pub(crate) rows_counted_by: Option<usize>,
    /// What of its rows is told.
    pub(crate) tells: Tells,
}

/// Time as part of the key.
#[derive(Debug)]
pub(crate) struct WindowKey {
    /// Where it stands among the grouping columns.
    pub(crate) position: usize,
    /// The window.
    pub(crate) window: TimeWindow,
}

/// One aggregate function.
#[derive(Debug)]
pub(crate) struct FunctionSpec {
    /// The function, from which accumulators are made.
    pub(crate) function: Arc<AggregateFunctionExpr>,
    /// Its arguments, as indices into [`InputSpec::columns`].
    pub(crate) args: Vec<usize>,
    /// The types of the arguments.
    pub(crate) arg_types: Vec<DataType>,
    /// Those types before the planner hashed what only hashes are kept of.
    pub(crate) given_types: Vec<DataType>,
    /// Its `FILTER (WHERE ...)`, as an index into [`InputSpec::columns`].
    pub(crate) filter: Option<usize>,
    /// Whether rows may be taken back.
    pub(crate) takes_back: bool,
}

/// Functions whose states are values of their arguments' types, and sums of them: a wider type holds them as they are.
/// Those of the others depend on the bits of their arguments (what is distinct, sketches) or on doubles alone.
const KEEP_VALUES: &[&str] = &[
    "sum",
    "try_sum",
    "avg",
    "try_avg",
    "min",
    "max",
    "bit_and",
    "bit_or",
    "bit_xor",
    "first",
    "last",
    "min_by",
    "max_by",
    "collect_list",
];

impl OperatorSpec for AggregateSpec {
    fn id(&self) -> &str {
        &self.id
    }

    fn spark_name(&self) -> &'static str {
        if self.session.is_some() { "sessionWindowStateStoreSaveExec" } else { "stateStoreSave" }
    }

    fn fingerprint(&self) -> String {
        let functions: Vec<String> = self
            .functions
            .iter()
            .map(|FunctionSpec { function, arg_types, .. }| {
                let more = aggregates::fingerprint(function, arg_types);
                let taken_back = if self.takes_back { " taken back" } else { "" };
                format!("{}{arg_types:?}{more}{taken_back}", function.fun().name())
            })
            .collect();
        let window = self.window.as_ref().map(|window| (window.position, window.window));
        let keys = &self.input.key_types;
        match self.session {
            // The gap is no part of it: it is for new rows, and sessions that were joined stay joined.
            Some(at) => format!("v1 keys {keys:?} session {at} functions [{}]", functions.join(", ")),
            None => format!("v1 keys {keys:?} window {window:?} functions [{}]", functions.join(", ")),
        }
    }

    fn layout(&self) -> Result<Option<Layout>> {
        let made = self.session.or(self.window.as_ref().map(|window| window.position));
        let names = self.input.key_names.iter().enumerate().filter(|(at, _)| Some(*at) != made);
        // Sets of grouping columns have a key more, which says of which set a row is.
        let names = names.map(|(_, name)| shown_name(name)).chain(std::iter::repeat("grouping set".to_owned()));
        let keys = names.zip(self.input.key_types.iter().cloned()).collect();
        let kind = match (self.session, &self.window) {
            (Some(_), _) => "sessions".to_owned(),
            (None, Some(window)) => format!("groups by {:?}", window.window),
            (None, None) => "groups".to_owned(),
        };
        let first = self.output_schema.fields().len() - self.functions.len();
        let results = self.output_schema.fields().iter().skip(first);
        let part = |(function, result): (&FunctionSpec, &FieldRef)| function.part(result.name(), &self.input);
        let parts = self.functions.iter().zip(results).map(part);
        Ok(Some(Layout::new(kind, keys, vec![parts.collect::<Result<_>>()?])))
    }

    fn stores(&self) -> Vec<String> {
        match self.session {
            Some(_) => vec![self.id.clone(), format!("{}-due", self.id)],
            None => vec![self.id.clone()],
        }
    }

    fn inputs(&self) -> Vec<Arc<InputSpec>> {
        vec![Arc::clone(&self.input)]
    }

    fn bound(&self) -> StateBound {
        match &self.window {
            _ if self.output_mode == OutputMode::Complete => StateBound::None,
            Some(window) if self.input.has_watermark && window.window.size_us > 0 => {
                StateBound::Watermark(format!("the end of its window of {} ms", window.window.size_us / 1000))
            }
            _ if self.input.has_watermark && self.session.is_some() => {
                StateBound::Watermark("the end of its session".to_owned())
            }
            _ if self.input.has_watermark => StateBound::Watermark("the event time it is grouped by".to_owned()),
            None if self.input.keys.is_empty() && self.session.is_none() => StateBound::Rows(1),
            _ => StateBound::None,
        }
    }

    fn takes_ttl(&self) -> bool {
        // Windows and event time are what their groups are kept by; one group for all rows is no growing state.
        let is_plain = matches!(self.input.bucket, Bucketing::None) && !self.input.keys.is_empty();
        let forgets = is_plain || (self.session.is_some() && self.output_mode == OutputMode::Complete);
        // What is forgotten cannot be taken back, nor have rows taken from it.
        forgets && !self.takes_back && self.tells == Tells::Rows
    }

    fn revises(&self) -> bool {
        true
    }

    fn takes_back(&self) -> bool {
        self.takes_back
    }

    fn tells(&self) -> Tells {
        self.tells
    }

    fn state_tables(&self) -> Result<Vec<StateTable>> {
        Ok(vec![StateTable::new(&self.id, StateLayout::Groups(GroupTable::of(self)?))])
    }

    fn open(self: Arc<Self>, place: Place) -> Result<Box<dyn Operator>> {
        Ok(match self.session {
            Some(_) => Box::new(SessionOperator::open(self, place)?),
            None => Box::new(AggregateOperator::open(self, place)?),
        })
    }
}

impl AggregateSpec {
    fn output_layout(&self) -> GroupLayout {
        GroupLayout {
            schema: Arc::clone(&self.output_schema),
            keys: self.input.keys.len(),
            window: self.window.as_ref().map(|window| (window.position, window.window.size_us)),
            session: self.session,
        }
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn Accumulator>>> {
        self.functions.iter().map(FunctionSpec::accumulator).collect()
    }

    /// Whether a changed group is told when it leaves memory, and not at the end of the batch.
    fn is_told_early(&self) -> bool {
        self.rows_counted_by.is_some() || self.tells.has_mark()
    }

    /// The moment the groups of a bucket are final; never for groups without a watermark.
    fn expires_at(&self, bucket: i64) -> Option<i64> {
        self.input.has_watermark.then(|| bucket.saturating_add(self.input.bucket.size_us()))
    }
}

impl FunctionSpec {
    /// An accumulator without groups; fails where the call's constants are none, or out of range.
    pub(crate) fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        let made = if self.takes_back {
            aggregates::accumulator_that_takes_back(&self.function, &self.arg_types, self.args.len())?
        } else {
            aggregates::accumulator(&self.function, &self.arg_types)?
        };
        made.ok_or_else(|| {
            let name = self.function.fun().name();
            EngineError::query(format!("{name} of {:?} cannot be kept from batch to batch", self.arg_types))
                .help("docs/sql/aggregates.md lists what can")
        })
    }

    /// Its part of a state row; `name` is that of its result.
    fn part(&self, name: &str, input: &InputSpec) -> Result<Part> {
        let function = self.function.fun().name();
        // What is taken out of it must be what went in.
        let taken_back =
            if self.takes_back { format!(" taken back of {}", self.shown_arguments(input)) } else { String::new() };
        let call = format!("{function}{}{taken_back}", aggregates::fingerprint(&self.function, &self.arg_types));
        let keeps_values = !self.takes_back && !self.function.is_distinct() && KEEP_VALUES.contains(&function);
        // What is counted is not kept.
        let given = if function == "count" && !self.function.is_distinct() { &[] } else { self.given_types.as_slice() };
        let state = self.accumulator()?.state_types();
        Ok(Part::function(shown_name(name), call, keeps_values, given, &state))
    }

    fn shown_arguments(&self, input: &InputSpec) -> String {
        let filter = self.filter.map(|at| format!(" WHERE {}", input.columns[at])).unwrap_or_default();
        format!("({}){filter}", listed(&self.function.expressions()))
    }

    /// Gives the rows of a keyed batch to this function's accumulator.
    fn update(&self, accumulator: &mut dyn Accumulator, columns: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let (args, slots) = self.arguments(columns, slots)?;
        accumulator.update(&args, &slots)
    }

    /// Takes such rows back.
    fn retract(&self, accumulator: &mut dyn Accumulator, columns: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let (args, slots) = self.arguments(columns, slots)?;
        accumulator.retract(&args, &slots)
    }

    /// The arguments of those rows that the filter lets through, and their slots.
    fn arguments<'a>(&self, columns: &[ArrayRef], slots: &'a [u32]) -> Result<(Vec<ArrayRef>, Cow<'a, [u32]>)> {
        let args: Vec<_> = self.args.iter().map(|at| Arc::clone(&columns[*at])).collect();
        let Some(filter) = self.filter else { return Ok((args, Cow::Borrowed(slots))) };
        let filter: &BooleanArray = arrow::array::AsArray::as_boolean(&columns[filter]);
        let (args, slots) = accumulator::filtered(filter, &args, slots)?;
        Ok((args, Cow::Owned(slots)))
    }
}

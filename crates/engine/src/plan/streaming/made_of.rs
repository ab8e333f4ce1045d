//! What the keys of stateful operators are made of: a change there gives rows the state of others.
//!
//! ```text
//!   SELECT upper(a) AS k ... GROUP BY k      source ev, column a ─> SELECT upper(a) AS k ─> key k
//!                                            k is made of "upper(a) of ev"
//! ```
//!
//! Keys are followed down to what their stage begins with, through everything that computes or passes columns; conditions
//! may come and go on the way. What changes no key is left out: a cast to a wider type, which a column that gets one loses
//! or gains (the types of keys are compared by themselves), the gap of sessions, and of a document that is decoded all
//! but the document, because its other fields follow what else the query reads. The names are those of DataFusion's
//! functions and operators; a version that calls them otherwise has to translate what it finds.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};

use super::{StageOutput, StreamingPlan};
use crate::checkpoint::metadata::MadeOf;
use crate::operator::PhysicalExprRef;
use crate::operator::expand::Expand;
use crate::operator::keyed::{Bucketing, InputSpec};
use crate::operator::layout::widens;
use crate::operator::stateless::Step;
use crate::plan::session_window::SessionWindowFunction;
use crate::plan::window::WindowFunction;

/// Functions whose other arguments say which parts of the first are read, or for how long.
const BY_FIRST_ARGUMENT: [&str; 3] = ["from_json", "from_avro", SessionWindowFunction::NAME];

/// Functions of instants that are the same in all time zones.
const BY_INSTANTS: [&str; 6] =
    [WindowFunction::NAME, SessionWindowFunction::NAME, "window_time", "get_field", "named_struct", "coalesce"];

/// Of longer texts a hash stands for the rest: what is computed from itself many times doubles each time.
const TEXT_LENGTH: usize = 400;

impl StreamingPlan {
    /// What the keys of an operator are made of, time included, those of one input after those of another; and what else
    /// it decides by.
    pub(crate) fn keys_of(&self, at: usize) -> MadeOf {
        let mut made_of = MadeOf::new();
        let operator = &self.operators[at].spec;
        for (input, spec) in operator.inputs().iter().enumerate() {
            let mut keys = keys(spec);
            keys.append(&mut operator.decides_by());
            let mut ways: MadeOf = vec![BTreeSet::new(); keys.len()];
            for way in self.ways_to(at, input) {
                for (key, made_by) in keys.iter().zip(&mut ways) {
                    made_by.insert(format!("{} of {}", way.text(key), way.from));
                }
            }
            made_of.append(&mut ways);
        }
        made_of
    }

    fn ways_to(&self, at: usize, input: usize) -> Vec<Way<'_>> {
        let to = StageOutput::Operator { at, input };
        let of_sources = self.source_stages.iter().filter(|stage| stage.output == to).map(|stage| {
            let source = &self.sources[stage.source];
            let schema = source.table.schema().project(&stage.projection).ok().map(Arc::new);
            Way { from: &source.name, schema, steps: &stage.steps, known: Rc::default() }
        });
        let of_operators = self.operators.iter().filter(|stage| stage.output == to);
        let of_operators = of_operators.map(|stage| {
            let (from, steps) = (stage.spec.id(), stage.steps.as_slice());
            Way { from, schema: None, steps, known: Rc::default() }
        });
        of_sources.chain(of_operators).collect()
    }
}

fn keys(spec: &InputSpec) -> Vec<PhysicalExprRef> {
    let time = match &spec.bucket {
        Bucketing::None => None,
        Bucketing::Window { time, .. } | Bucketing::Instant { time } => Some(time),
        Bucketing::Session { session } => Some(session),
    };
    spec.keys.iter().chain(time).cloned().collect()
}

/// How rows come to an operator: what their stage begins with, and the steps from there.
#[derive(Clone)]
struct Way<'a> {
    from: &'a str,
    /// The columns it begins with, where they are known.
    schema: Option<SchemaRef>,
    steps: &'a [Step],
    /// What columns are made of, by the number of steps and their places: one may be read many times by the next step, and
    /// that by the next.
    known: Rc<RefCell<BTreeMap<(usize, usize), String>>>,
}

impl Way<'_> {
    /// An expression over the columns that come out of the steps, as it is made of those that go in.
    fn text(&self, expr: &PhysicalExprRef) -> String {
        let text = if let Some(column) = expr.downcast_ref::<Column>() {
            return self.column(column.index(), column.name());
        } else if let Some(literal) = expr.downcast_ref::<Literal>() {
            constant(literal.value())
        } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            let from = self.data_type(cast.expr());
            let value = self.text(cast.expr());
            if from.is_some_and(|from| is_wider(&from, cast.cast_type())) {
                value
            } else {
                format!("CAST({value} AS {})", cast.cast_type())
            }
        } else if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
            self.call(call)
        } else {
            self.other(expr)
        };
        shortened(text)
    }

    fn call(&self, call: &ScalarFunctionExpr) -> String {
        let args = call.args();
        if let ("cast", [value, ..]) = (call.name(), args)
            && self.data_type(value).is_some_and(|from| is_wider(&from, call.return_type()))
        {
            return self.text(value);
        }
        let read = if BY_FIRST_ARGUMENT.contains(&call.name()) { 1 } else { args.len() };
        let mut parts: Vec<String> = args.iter().take(read).map(|arg| self.text(arg)).collect();
        parts.extend(self.zone_of(call).map(|zone| format!("in {zone}")));
        format!("{}({})", call.name(), parts.join(", "))
    }

    /// The session's time zone, if the function may go by it.
    fn zone_of(&self, call: &ScalarFunctionExpr) -> Option<String> {
        let is_instant = |data_type: &DataType| matches!(data_type, DataType::Timestamp(_, Some(_)));
        let goes_by_it = !BY_INSTANTS.contains(&call.name())
            && (is_instant(call.return_type())
                || call.args().iter().any(|arg| self.data_type(arg).as_ref().is_some_and(is_instant)));
        call.config_options().execution.time_zone.clone().filter(|_| goes_by_it)
    }

    /// Any other expression as DataFusion writes it, over columns that are called what its parts are made of.
    fn other(&self, expr: &PhysicalExprRef) -> String {
        let parts = expr.children().into_iter();
        let parts = parts.map(|part| Arc::new(Column::new(&self.text(part), usize::MAX)) as PhysicalExprRef);
        let over_parts = Arc::clone(expr).with_new_children(parts.collect());
        over_parts.map_or_else(|_| expr.to_string(), |expr| expr.to_string()).replace(&format!("@{}", usize::MAX), "")
    }

    /// A column that comes out of the steps; `name` is what it is called there.
    fn column(&self, index: usize, name: &str) -> String {
        let place = (self.steps.len(), index);
        if let Some(text) = self.known.borrow().get(&place) {
            return text.clone();
        }
        let text = self.computed(index, name);
        self.known.borrow_mut().insert(place, text.clone());
        text
    }

    fn computed(&self, index: usize, name: &str) -> String {
        let Some((before, step)) = self.before() else {
            let known = self.schema.as_ref().and_then(|schema| schema.fields().get(index));
            return known.map_or(name, |field| field.name()).to_owned();
        };
        match step {
            Step::Project { exprs, .. } => exprs.get(index).map_or_else(|| name.to_owned(), |expr| before.text(expr)),
            Step::Rename { .. } | Step::Filter(_) | Step::Watermark { .. } => before.column(index, name),
            Step::RowIds { schema, .. } if index + 1 == schema.fields().len() => "the row".to_owned(),
            Step::RowIds { .. } => before.column(index, name),
            Step::Unnest { column, .. } if *column == index => {
                shortened(format!("explode({})", before.column(index, name)))
            }
            Step::Unnest { .. } => before.column(index, name),
            Step::Expand(expand) => before.expanded(expand, index, name),
            Step::Join(join) => {
                let width = join.stream.schema().fields().len();
                match join.output.get(index) {
                    Some(of_stream) if *of_stream < width => before.column(*of_stream, name),
                    _ => format!("{name} of a static table"),
                }
            }
        }
    }

    fn expanded(&self, expand: &Expand, index: usize, name: &str) -> String {
        let columns = expand.schema.fields().len() - expand.keys.len() - 1;
        match index.checked_sub(columns) {
            None => self.column(index, name),
            Some(key) => expand.keys.get(key).map_or_else(
                || {
                    let keys: Vec<String> = expand.keys.iter().map(|key| self.text(key)).collect();
                    let sets: Vec<&Vec<bool>> = expand.sets.iter().map(|set| &set.has).collect();
                    shortened(format!("GROUPING SETS {sets:?} ({})", keys.join(", ")))
                },
                |key| self.text(key),
            ),
        }
    }

    fn before(&self) -> Option<(Self, &Step)> {
        let (step, steps) = self.steps.split_last()?;
        Some((Self { steps, ..self.clone() }, step))
    }

    fn data_type(&self, expr: &PhysicalExprRef) -> Option<DataType> {
        expr.data_type(self.columns()?).ok()
    }

    /// The columns that come out of the steps.
    fn columns(&self) -> Option<&Schema> {
        let of_step = self.steps.iter().rev().find_map(|step| match step {
            Step::Project { schema, .. }
            | Step::Rename { schema }
            | Step::Unnest { schema, .. }
            | Step::RowIds { schema, .. } => Some(schema),
            Step::Join(join) => Some(&join.schema),
            Step::Expand(expand) => Some(&expand.schema),
            Step::Filter(_) | Step::Watermark { .. } => None,
        });
        of_step.or(self.schema.as_ref()).map(Arc::as_ref)
    }
}

/// Whether a cast changes no value, or does what a column that gets such a type would do.
fn is_wider(from: &DataType, to: &DataType) -> bool {
    // An integer that does not fit into a shorter type is an error.
    widens(from, to) || (from.is_integer() && to.is_numeric()) || *from == DataType::Null
}

fn constant(value: &ScalarValue) -> String {
    match value.try_as_str().flatten() {
        Some(text) => format!("'{text}'"),
        None => value.to_string(),
    }
}

fn shortened(text: String) -> String {
    if text.len() <= TEXT_LENGTH {
        return text;
    }
    let mut end = TEXT_LENGTH / 2;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}... ({:016x})", &text[..end], xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}

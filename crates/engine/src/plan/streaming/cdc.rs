//! `AUTO CDC`: what its clauses mean for the columns of its stream, and the operator they become.
//!
//! ```text
//!   the stream's columns, sequence, deletes ──Projection──> the selected columns, sequence, deletes
//!       ──AutoCdc──> the selected columns, [__START_AT, __END_AT,] __spark_autocdc_metadata      (and: gone or not)
//! ```
//!
//! The columns that come out are Spark 4.3's, with their names. The node is the root of its plan: what it gives are rows
//! that replace others, which nothing but a sink can take.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result as DfResult};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, cast, lit,
};

use super::StageOutput;
use super::compiler::Compiler;
use super::nodes::only;
use crate::error::{EngineError, Result, Span, nearest};
use crate::operator::cdc::CdcSpec;
use crate::operator::keyed::{Bucketing, InputSpec};
use crate::operator::stateless::Step;
use crate::plan::auto_cdc::{AutoCdc, DELETES, Name, SEQUENCE, ScdType, Selection};
use crate::plan::ddl::type_name;
use crate::sink::DELETED;

/// Columns that begin so are Spark's own.
const RESERVED: &str = "__spark_autocdc_";

/// What Spark needs to know of a row to put others in their order.
const METADATA: &str = "__spark_autocdc_metadata";

/// When a row of a history begins and ends to be true.
const START_AT: &str = "__START_AT";
const END_AT: &str = "__END_AT";

/// Rows of a table that follows a stream of changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CdcNode {
    /// The selected columns, the sequence, and whether the row deletes.
    input: LogicalPlan,
    /// The columns, by place.
    keys: Vec<usize>,
    /// The columns that make a new row of the history, by place.
    tracked: Vec<usize>,
    scd_type: ScdType,
    schema: DFSchemaRef,
}

impl CdcNode {
    /// The node at the root of a plan, if it is one.
    pub(super) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// What identifies a row of the target: of a history, the key and the moment it begins.
    pub(super) fn key_columns(&self) -> Vec<String> {
        let mut names: Vec<String> = self.keys.iter().map(|at| self.schema.field(*at).name().clone()).collect();
        if self.scd_type == ScdType::Two {
            names.push(START_AT.to_owned());
        }
        names
    }

    /// How many columns are selected: before the sequence and whether the row deletes.
    fn selected(&self) -> usize {
        self.input.schema().fields().len() - 2
    }
}

impl PartialOrd for CdcNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.keys.partial_cmp(&other.keys)
    }
}

impl UserDefinedLogicalNodeCore for CdcNode {
    fn name(&self) -> &str {
        "AutoCdc"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |places: &[usize]| {
            places.iter().map(|at| self.schema.field(*at).name().as_str()).collect::<Vec<_>>().join(", ")
        };
        match self.scd_type {
            ScdType::One => write!(f, "AutoCdc: keys {}, SCD type 1", names(&self.keys)),
            ScdType::Two => {
                write!(f, "AutoCdc: keys {}, SCD type 2, history of {}", names(&self.keys), names(&self.tracked))
            }
        }
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        Ok(Self { input: only(inputs)?, ..self.clone() })
    }

    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }
}

/// The rows of the target from a plan of the stream's columns and two more ([`SEQUENCE`] and perhaps [`DELETES`]);
/// `declared` are the columns that the target was given.
pub(crate) fn cdc_plan(plan: LogicalPlan, cdc: &AutoCdc, declared: Option<&SchemaRef>) -> Result<LogicalPlan> {
    let source: Vec<Field> = plan.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let find = |name: &str| source.iter().position(|field| field.name() == name);
    let sequence_at = find(SEQUENCE).ok_or_else(|| EngineError::internal("the source has no sequence"))?;
    let columns = &source[..sequence_at];
    refuse_reserved(columns, cdc)?;
    let selected = select(columns, cdc.columns.as_ref(), "the columns of the stream")?;
    let names: Vec<Field> = selected.iter().map(|at| columns[*at].clone()).collect();
    let keys = keys(columns, &names, cdc)?;
    let data: Vec<usize> = (0..names.len()).filter(|at| !keys.contains(at)).collect();
    let trackable: Vec<Field> = data.iter().map(|at| names[*at].clone()).collect();
    let tracked = select(&trackable, cdc.track_history.as_ref(), "the selected columns that are no keys")?;
    let tracked = tracked.into_iter().map(|at| data[at]).collect();
    check_types(&source, sequence_at, find(DELETES), cdc.span)?;
    let column = |at: usize| Expr::Column(plan.schema().qualified_field(at).into());
    let mut exprs = Vec::new();
    let mut fields = Vec::new();
    for (at, field) in selected.iter().zip(&names) {
        let data_type = declared_type(field, declared, cdc.span)?;
        let expr = if data_type == *field.data_type() { column(*at) } else { cast(column(*at), data_type.clone()) };
        exprs.push(expr.alias(field.name()));
        fields.push(Field::new(field.name(), data_type, true));
    }
    let added = added_fields(cdc.scd_type, source[sequence_at].data_type());
    refuse_empty(declared, &fields, &added, cdc.span)?;
    exprs.push(column(sequence_at).alias(SEQUENCE));
    exprs.push(find(DELETES).map_or_else(|| lit(false), column).alias(DELETES));
    fields.extend(added);
    let schema = DFSchema::try_from(Schema::new(fields))?;
    let input = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
    let node = CdcNode { input, keys, tracked, scd_type: cdc.scd_type, schema: Arc::new(schema) };
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The columns that the target has beside the selected ones.
fn added_fields(scd_type: ScdType, sequence: &DataType) -> Vec<Field> {
    let of_sequence = |name: &str| Field::new(name, sequence.clone(), true);
    let metadata = |names: &[&str]| {
        let fields: Fields = names.iter().map(|name| of_sequence(name)).collect();
        Field::new(METADATA, DataType::Struct(fields), true)
    };
    match scd_type {
        ScdType::One => vec![metadata(&["deleteSequence", "upsertSequence"])],
        ScdType::Two => vec![of_sequence(START_AT), of_sequence(END_AT), metadata(&["__RECORD_START_AT"])],
    }
}

fn refuse_reserved(columns: &[Field], cdc: &AutoCdc) -> Result<()> {
    let is_reserved = |field: &&Field| {
        let name = field.name().to_ascii_lowercase();
        let of_history = [START_AT, END_AT].iter().any(|own| own.eq_ignore_ascii_case(&name));
        name.starts_with(RESERVED) || (of_history && cdc.scd_type == ScdType::Two)
    };
    let Some(field) = columns.iter().find(is_reserved) else { return Ok(()) };
    let message = format!("the stream has a column '{}', a name that AUTO CDC keeps for its own", field.name());
    Err(EngineError::query_at(cdc.span, message)
        .help("give it another name: FROM (SELECT column AS other_name, ... FROM STREAM t)"))
}

/// The places of the selected columns, in the order of the columns.
fn select(columns: &[Field], selection: Option<&Selection>, of: &str) -> Result<Vec<usize>> {
    let (names, is_chosen) = match selection {
        None => return Ok((0..columns.len()).collect()),
        Some(Selection::Only(names)) => (names, true),
        Some(Selection::Except(names)) => (names, false),
    };
    let named = names.iter().map(|name| place(columns, name, of)).collect::<Result<HashSet<_>>>()?;
    Ok((0..columns.len()).filter(|at| named.contains(at) == is_chosen).collect())
}

fn place(columns: &[Field], name: &Name, of: &str) -> Result<usize> {
    columns.iter().position(|field| field.name().eq_ignore_ascii_case(&name.text)).ok_or_else(|| {
        let known = columns.iter().map(|field| field.name().as_str());
        let error = EngineError::query_at(
            name.span,
            format!("[AUTOCDC_COLUMNS_NOT_FOUND_IN_SCHEMA] column '{}' is not among {of}", name.text),
        );
        match nearest(&name.text, known.clone()) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None => error.help(format!("there are: {}", known.collect::<Vec<_>>().join(", "))),
        }
    })
}

/// The places of the keys among the selected columns.
fn keys(columns: &[Field], selected: &[Field], cdc: &AutoCdc) -> Result<Vec<usize>> {
    let mut keys: Vec<usize> = Vec::new();
    for name in &cdc.keys {
        let field = &columns[place(columns, name, "the columns of the stream")?];
        let Some(at) = selected.iter().position(|selected| selected.name() == field.name()) else {
            let message = format!("[AUTOCDC_KEY_NOT_IN_SELECTED_SCHEMA] COLUMNS leaves out the key '{}'", field.name());
            return Err(EngineError::query_at(name.span, message)
                .help("the target needs its keys: add the column to COLUMNS, or take it out of EXCEPT"));
        };
        if keys.contains(&at) {
            return Err(EngineError::query_at(name.span, format!("the key '{}' is named twice", field.name()))
                .help("name each key once"));
        }
        if has_map(field.data_type()) {
            return Err(EngineError::query_at(
                name.span,
                format!("the key '{}' is a MAP, which has no order", field.name()),
            )
            .help("use a column of another type, such as the map's text: to_json(column)"));
        }
        keys.push(at);
    }
    Ok(keys)
}

fn check_types(source: &[Field], sequence: usize, deletes: Option<usize>, span: Span) -> Result<()> {
    let sequence = source[sequence].data_type();
    if has_map(sequence) || *sequence == DataType::Null {
        return Err(EngineError::query_at(
            span,
            format!("SEQUENCE BY gives {}, which has no order", type_name(sequence)),
        )
        .help("use a number, a time, a string, or a struct of them"));
    }
    let deletes = deletes.map(|at| source[at].data_type());
    match deletes.filter(|deletes| **deletes != DataType::Boolean) {
        Some(other) => Err(EngineError::query_at(
            span,
            format!("APPLY AS DELETE WHEN gives {}, expected BOOLEAN", type_name(other)),
        )
        .help("write a condition, such as operation = 'DELETE'")),
        None => Ok(()),
    }
}

fn has_map(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_map(field.data_type())),
        DataType::List(item) => has_map(item.data_type()),
        _ => false,
    }
}

/// The type the target declares for a column.
fn declared_type(field: &Field, declared: Option<&SchemaRef>, span: Span) -> Result<DataType> {
    let Some(declared) = declared else { return Ok(field.data_type().clone()) };
    let known = declared.fields().iter().find(|known| known.name().eq_ignore_ascii_case(field.name()));
    known.map(|known| known.data_type().clone()).ok_or_else(|| {
        let columns: Vec<&str> = declared.fields().iter().map(|field| field.name().as_str()).collect();
        EngineError::query_at(
            span,
            format!("the changes have a column '{}', which the target does not have", field.name()),
        )
        .help(format!("the target has: {}; select those with COLUMNS (...)", columns.join(", ")))
    })
}

/// Refuses a column of the target that nothing fills.
fn refuse_empty(declared: Option<&SchemaRef>, selected: &[Field], added: &[Field], span: Span) -> Result<()> {
    let fills = |name: &str| selected.iter().chain(added).any(|field| field.name().eq_ignore_ascii_case(name));
    let empty = declared.and_then(|declared| declared.fields().iter().find(|field| !fills(field.name())));
    let Some(empty) = empty else { return Ok(()) };
    let message = format!("the changes have no column '{}', which the target declares", empty.name());
    Err(EngineError::query_at(span, message).help("leave it out of the target's columns, or select it in the stream"))
}

impl Compiler {
    pub(super) fn auto_cdc(&mut self, node: &CdcNode, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        if output != StageOutput::Sink || !steps.is_empty() {
            return Err(EngineError::internal("rows of AUTO CDC go through something else before their sink"));
        }
        let columns = self.columns(node.input.schema())?;
        let types: Vec<DataType> = node.input.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let selected = node.selected();
        let data: Vec<usize> = (0..selected).filter(|at| !node.keys.contains(at)).collect();
        // Keys, data, sequence, deletes: how the operator reads them.
        let order: Vec<usize> = node.keys.iter().chain(&data).copied().chain([selected, selected + 1]).collect();
        let of = |places: &[usize]| places.iter().map(|at| types[*at].clone()).collect::<Vec<_>>();
        let names = |places: &[usize]| places.iter().map(|at| node.schema.field(*at).name().clone()).collect();
        let among = |at: &usize, places: &[usize]| places.iter().position(|place| place == at);
        let input = InputSpec {
            keys: node.keys.iter().map(|at| Arc::clone(&columns[*at])).collect(),
            key_types: of(&node.keys),
            key_names: names(&node.keys),
            bucket: Bucketing::None,
            columns: order.iter().map(|at| Arc::clone(&columns[*at])).collect(),
            has_watermark: false,
        };
        let mut fields: Vec<Field> = node.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new(DELETED, DataType::Boolean, false));
        let spec = CdcSpec {
            id: self.name("cdc"),
            input: Arc::new(input),
            scd_type: node.scd_type,
            data_types: of(&data),
            data_names: names(&data),
            tracked: node.tracked.iter().filter_map(|at| among(at, &data)).collect(),
            sequence_type: types[selected].clone(),
            layout: (0..selected).filter_map(|at| among(&at, &order)).collect(),
            schema: Arc::new(Schema::new(fields)),
        };
        self.operator(Arc::new(spec), steps, output, &[&node.input])
    }
}

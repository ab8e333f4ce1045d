//! `ExecutePlan`: rows of a relation, and commands.
//!
//! Rows go to the client as Arrow in parts of a few megabytes, in Spark's own types: a client knows no others.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::ipc::writer::StreamWriter;
use highwater_engine::plan::ScriptFile;
use highwater_engine::plan::outline::{OutlineKind, outline};
use highwater_engine::query::SessionStatement;

use super::operations::Operation;
use super::problem::{Problem, Result};
use super::session::Session;
use super::show::Show;
use super::types::schema_type;
use super::{sql, streams};
use crate::spark_connect::messages::{
    Answer, ArrowBatch, Command, CommandKind, Count, Plan, PlanKind, Relation, RelationKind, ShowString, Sql,
    SqlCommand, SqlResult,
};

/// The rows of one answer: far below what a message may hold, whatever their columns.
const ROWS_OF_AN_ANSWER: usize = 10_000;

/// About how large an answer may become.
const BYTES_OF_AN_ANSWER: usize = 4 << 20;

/// Runs a plan; its answers go to `operation`.
pub(crate) fn run(session: &Arc<Session>, operation: &Operation, plan: Option<Plan>) -> Result<()> {
    match plan.and_then(|plan| plan.kind) {
        Some(PlanKind::Root(relation)) => {
            let (schema, batches) = rows(session, operation, &relation)?;
            send(operation, &schema, &batches)
        }
        Some(PlanKind::Command(command)) => run_command(session, operation, *command),
        Some(PlanKind::Compressed(_)) => {
            Err(Problem::handle("CONNECT_INVALID_PLAN.CANNOT_PARSE", "compressed plans are not read here"))
        }
        None => Err(Problem::argument("a plan is neither a relation nor a command")),
    }
}

/// The columns of a relation as the client will see them.
pub(crate) fn columns(session: &Session, relation: &Relation) -> Result<SchemaRef> {
    match &relation.kind {
        Some(RelationKind::ShowString(_) | RelationKind::HtmlString(_)) => Ok(shown_schema()),
        Some(RelationKind::Tail(tail)) => columns(session, input(tail.input.as_deref())?),
        _ => {
            let query = sql::shown_query(relation, session)?;
            Ok(client_schema(&query.columns(&session.plan(&query.text)?.columns())))
        }
    }
}

fn rows(session: &Session, operation: &Operation, relation: &Relation) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    match &relation.kind {
        Some(RelationKind::ShowString(show)) => shown(session, operation, show),
        Some(RelationKind::HtmlString(_)) => {
            Err(Problem::unsupported("a DataFrame as HTML", "show it with show(), or take it with toPandas()"))
        }
        Some(RelationKind::Tail(tail)) => {
            let (schema, batches) = rows(session, operation, input(tail.input.as_deref())?)?;
            let total: usize = batches.iter().map(RecordBatch::num_rows).sum();
            let mut before = total.saturating_sub(usize::try_from(tail.rows).unwrap_or(0));
            let last = batches.into_iter().map(|batch| {
                let skipped = before.min(batch.num_rows());
                before -= skipped;
                batch.slice(skipped, batch.num_rows() - skipped)
            });
            Ok((schema, last.collect()))
        }
        _ => collected(session, operation, &sql::shown_query(relation, session)?),
    }
}

fn collected(session: &Session, operation: &Operation, query: &sql::Query) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    tracing::debug!("runs {}", query.text);
    let planned = session.plan(&query.text)?;
    let schema = client_schema(&query.columns(&planned.columns()));
    let rows = planned.collect(&operation.cancellation)?.ok_or_else(|| operation.cancelled())?;
    let batches = rows.iter().map(|batch| client_rows(&schema, batch)).collect::<Result<_>>()?;
    Ok((schema, batches))
}

fn shown(session: &Session, operation: &Operation, show: &ShowString) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let asked = usize::try_from(show.rows).unwrap_or(0);
    // One more, to know whether there are more.
    let rows = show.rows.saturating_add(1);
    let limit = RelationKind::Limit(Box::new(Count { input: show.input.clone(), rows }));
    let query = sql::shown_query(&Relation { common: None, kind: Some(limit) }, session)?;
    let (schema, batches) = collected(session, operation, &query)?;
    let truncate = usize::try_from(show.truncate).unwrap_or(0);
    let zone = session.config.lock().zone()?;
    let text = Show { rows: asked, truncate, vertical: show.vertical, zone }.text(&schema, &batches);
    let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let schema = shown_schema();
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).map_err(|error| broken(&error))?;
    Ok((schema, vec![batch]))
}

fn shown_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("show_string", DataType::Utf8, false)]))
}

fn input(relation: Option<&Relation>) -> Result<&Relation> {
    relation.ok_or_else(|| Problem::argument("a part of the plan is missing"))
}

fn send(operation: &Operation, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<()> {
    operation.push(None, Some(schema_type(schema)?))?;
    let mut sent = 0;
    for batch in batches {
        let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1) + 1;
        let step = (BYTES_OF_AN_ANSWER / row_bytes).clamp(1, ROWS_OF_AN_ANSWER);
        for start in (0..batch.num_rows()).step_by(step) {
            let part = batch.slice(start, step.min(batch.num_rows() - start));
            push_rows(operation, schema, Some(&part), &mut sent)?;
        }
    }
    // Columns are told also where there are no rows.
    if sent == 0 { push_rows(operation, schema, None, &mut sent) } else { Ok(()) }
}

fn push_rows(operation: &Operation, schema: &SchemaRef, rows: Option<&RecordBatch>, sent: &mut i64) -> Result<()> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(|error| broken(&error))?;
    if let Some(rows) = rows {
        writer.write(rows).map_err(|error| broken(&error))?;
    }
    let data = writer.into_inner().map_err(|error| broken(&error))?;
    let row_count = rows.map_or(0, |rows| i64::try_from(rows.num_rows()).unwrap_or(i64::MAX));
    let batch = ArrowBatch { row_count, data, start_offset: Some(*sent) };
    *sent += row_count;
    operation.push(Some(Answer::ArrowBatch(batch)), None)
}

fn broken(error: &arrow::error::ArrowError) -> Problem {
    Problem::runtime(format!("rows cannot be sent: {error}"))
}

/// The columns in the types that clients of Spark know.
fn client_schema(schema: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| client_field(field).with_metadata(Default::default());
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn client_field(field: &FieldRef) -> Field {
    field.as_ref().clone().with_data_type(client_type(field.data_type()))
}

fn client_type(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| Arc::new(client_field(field));
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into())),
        DataType::Dictionary(_, value) => client_type(value),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(inner(item))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        other => other.clone(),
    }
}

fn client_rows(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        if column.data_type() == field.data_type() { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| broken(&error))?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| broken(&error))
}

fn run_command(session: &Arc<Session>, operation: &Operation, command: Command) -> Result<()> {
    match command.kind {
        Some(CommandKind::Sql(command)) => {
            let relation = run_sql(session, command)?;
            operation.push(Some(Answer::Sql(SqlResult { relation: Some(relation) })), None)
        }
        Some(CommandKind::CreateView(view)) => {
            if view.is_global {
                return Err(Problem::unsupported("a global view", "use createOrReplaceTempView"));
            }
            if !view.replace && session.defines(&view.name) {
                return Err(Problem::analysis(format!(
                    "[TEMP_TABLE_OR_VIEW_ALREADY_EXISTS] the view '{}' exists already\nreplace it with createOrReplaceTempView",
                    view.name
                )));
            }
            let query = sql::view_query(input(view.input.as_ref())?, session.as_ref())?;
            session.define_view(&view.name, &query)
        }
        Some(CommandKind::StartStream(start)) => streams::start(session, operation, &start),
        Some(CommandKind::Query(query)) => streams::query_command(session, operation, query),
        Some(CommandKind::Queries(queries)) => streams::queries_command(session, operation, queries),
        Some(CommandKind::ListenerBus(command)) => streams::listener_command(session, operation, &command),
        Some(other) => Err(refused(&other)),
        None => Err(Problem::unsupported("a command of this kind", "run this program on Spark itself")),
    }
}

fn run_sql(session: &Session, command: SqlCommand) -> Result<Relation> {
    let relation = command.input.unwrap_or_else(|| text_relation(&command.sql));
    let text = match &relation.kind {
        Some(RelationKind::Sql(sql)) => sql.query.clone(),
        _ => return session.plan(&sql::query(&relation, session)?).map(|_| relation),
    };
    match SessionStatement::parse(&text)? {
        SessionStatement::Query => {
            // A wrong query is told where it is written, not where its rows are asked for.
            session.plan(&sql::query(&relation, session)?)?;
            Ok(relation)
        }
        SessionStatement::Definition(name) => {
            define(session, &name, text.trim().trim_end_matches(';'))?;
            Ok(nothing())
        }
        SessionStatement::Set(key, value) => {
            session.config.lock().set(&key, &value)?;
            let (key, value) = (sql::quoted_text(&key), sql::quoted_text(&value));
            Ok(text_relation(&format!("SELECT {key} AS key, {value} AS value")))
        }
        SessionStatement::Nothing => Ok(nothing()),
    }
}

/// Defines a table or view, if it can be read.
fn define(session: &Session, name: &str, statement: &str) -> Result<()> {
    let earlier = session.define_named(name, statement)?;
    let planned = session.plan(&format!("SELECT * FROM {}", sql::quoted(name)));
    if planned.is_err() {
        session.restore(name, earlier);
    }
    planned?;
    match query_of_view(name, statement) {
        Some(query) => session.define_view(name, query),
        None => Ok(()),
    }
}

/// The query of a view that gives its columns no names of its own.
fn query_of_view<'a>(name: &str, statement: &'a str) -> Option<&'a str> {
    let file = ScriptFile { name: "view".to_owned(), text: statement.to_owned() };
    let outlined = outline(std::slice::from_ref(&file)).ok()?.pop()?;
    matches!(outlined.kind, OutlineKind::View { .. }).then_some(())?;
    let named = outlined.words.iter().position(|word| word.text.eq_ignore_ascii_case(name))?;
    let after = outlined.words.get(named + 1).filter(|word| word.text == "AS")?;
    statement.get(after.bytes.end..)
}

/// The rows of a statement that has none.
fn nothing() -> Relation {
    text_relation("SELECT 1 AS done WHERE false")
}

fn text_relation(query: &str) -> Relation {
    let sql = Sql { query: query.to_owned(), ..Sql::default() };
    Relation { common: None, kind: Some(RelationKind::Sql(sql)) }
}

fn refused(command: &CommandKind) -> Problem {
    let (what, way_out) = match command {
        CommandKind::RegisterFunction(_) | CommandKind::RegisterTableFunction(_) => {
            ("a Python function (UDF)", "use the functions of pyspark.sql.functions")
        }
        CommandKind::Write(_) | CommandKind::WriteTo(_) => (
            "df.write, a table written once,",
            "write a stream with writeStream.trigger(availableNow=True), or use highwater run",
        ),
        CommandKind::RegisterDataSource(_) => ("a data source in Python", "use a format that Highwater has"),
        CommandKind::Checkpoint(_) | CommandKind::RemoveCached(_) => {
            ("checkpoint and localCheckpoint of a DataFrame", "leave it out")
        }
        CommandKind::Merge(_) => ("mergeInto", "use AUTO CDC in a project: highwater run"),
        CommandKind::Ml(_) => ("pyspark.ml", "run this program on Spark itself"),
        CommandKind::Pipeline(_) => {
            ("a declarative pipeline over Spark Connect", "run the project itself: highwater run")
        }
        _ => ("a command of this kind", "run this program on Spark itself"),
    };
    Problem::unsupported(what, way_out)
}

//! Reads a relation: a task follows one `SELECT` and hands over batches, never more than a few of them ahead.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, SchemaRef};
use datafusion::logical_expr::Expr;
use futures::TryStreamExt;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::{PartitionReader, ReadReport};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::columns::{Kind, ServerColumn, Values};
use super::connection::{Database, runtime};
use super::filter::{Param, ServerFilter};
use crate::condition::where_clause;

const BATCH_ROWS: usize = 8192;

/// A reader of the columns of `schema` in the rows that filters want, and maybe more.
pub(super) fn reader(database: Arc<Database>, schema: SchemaRef, filters: Vec<Expr>) -> Box<dyn PartitionReader> {
    Box::new(PostgresReader { start: Some((database, schema, filters)), batches: None, report: ReadReport::default() })
}

struct PostgresReader {
    /// What to read, until somebody asks for the first rows.
    start: Option<(Arc<Database>, SchemaRef, Vec<Expr>)>,
    batches: Option<Receiver<Result<RecordBatch>>>,
    report: ReadReport,
}

impl PartitionReader for PostgresReader {
    fn partition(&self) -> &str {
        "postgres"
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        if let Some((database, schema, filters)) = self.start.take() {
            let (sender, batches) = channel(2);
            runtime()?.spawn(async move {
                if let Err(error) = follow(&database, &schema, &filters, &sender).await {
                    // A reader that is gone does not want the error either.
                    let _ = sender.send(Err(error)).await;
                }
            });
            self.batches = Some(batches);
        }
        let Some(batches) = &mut self.batches else { return Ok(None) };
        let batch = batches.blocking_recv().transpose()?;
        self.report.records += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        Ok(batch)
    }

    fn report(&self) -> ReadReport {
        self.report
    }
}

/// Sends all rows; a connection whose rows nobody wants any more is closed.
async fn follow(
    database: &Arc<Database>,
    schema: &SchemaRef,
    filters: &[Expr],
    output: &Sender<Result<RecordBatch>>,
) -> Result<()> {
    let client = database.client().await?;
    let read = rows(database, &client, schema, filters, output).await;
    match &read {
        Ok(true) => database.give_back(client),
        Ok(false) => {}
        Err(_) => database.forget_columns(),
    }
    read.map(drop)
}

/// Whether all rows were taken.
async fn rows(
    database: &Arc<Database>,
    client: &Client,
    schema: &SchemaRef,
    filters: &[Expr],
    output: &Sender<Result<RecordBatch>>,
) -> Result<bool> {
    let known = database.columns_by(client).await?;
    let columns = wanted(database, &known, schema)?;
    let list: Vec<String> = columns.iter().map(ServerColumn::selected).collect();
    let list = if list.is_empty() { "NULL".to_owned() } else { list.join(", ") };
    let (condition, params) = where_clause(filters, &mut ServerFilter::new(&known));
    let query = format!("SELECT {list} FROM {}{condition}", database.relation());
    let failed = |error: tokio_postgres::Error| database.failed(&error);
    let params: Vec<Box<dyn ToSql + Sync + Send>> = params.into_iter().map(parameter).collect();
    let params = params.iter().map(|param| param.as_ref() as &(dyn ToSql + Sync));
    let statement = client.prepare(&query).await.map_err(failed)?;
    let stream = client.query_raw(&statement, params.collect::<Vec<_>>()).await.map_err(failed)?;
    let mut stream = std::pin::pin!(stream);
    let mut values: Vec<Values> = columns.iter().map(|column| Values::new(&column.kind)).collect();
    let mut count = 0;
    loop {
        let row = stream.try_next().await.map_err(failed)?;
        if let Some(row) = &row {
            for (at, (values, column)) in values.iter_mut().zip(&columns).enumerate() {
                if !values.push(row, at) {
                    return Err(unreadable(database, column));
                }
            }
            count += 1;
        }
        if count == BATCH_ROWS || (row.is_none() && count > 0) {
            if output.send(batch(database, schema, &mut values, count)).await.is_err() {
                return Ok(false);
            }
            count = 0;
        }
        if row.is_none() {
            return Ok(true);
        }
    }
}

fn parameter(param: Param) -> Box<dyn ToSql + Sync + Send> {
    match param {
        Param::One(text) => Box::new(text),
        Param::Many(texts) => Box::new(texts),
    }
}

/// The server's columns of a schema, in its order.
fn wanted(database: &Database, known: &[ServerColumn], schema: &SchemaRef) -> Result<Vec<ServerColumn>> {
    let find = |field: &Arc<Field>| {
        let same = |column: &&ServerColumn| column.name == *field.name();
        let like = |column: &&ServerColumn| column.name.eq_ignore_ascii_case(field.name());
        let Some(column) = known.iter().find(same).or_else(|| known.iter().find(like)) else {
            let names: Vec<&str> = known.iter().map(|column| column.name.as_str()).collect();
            let message = format!("{database} has no column '{}' (USING postgres)", field.name());
            return Err(EngineError::config(message).help(format!("it has: {}", names.join(", "))));
        };
        match &column.kind {
            Kind::Unknown(name) => Err(EngineError::config(format!(
                "column '{}' of {database} has PostgreSQL's type {name}, which cannot be read",
                column.name
            ))
            .help(format!("read it as text: 'query' = 'SELECT ..., {}::text FROM ...'", column.name))),
            _ => Ok(column.clone()),
        }
    };
    schema.fields().iter().map(find).collect()
}

fn unreadable(database: &Database, column: &ServerColumn) -> EngineError {
    let expected = super::columns::shown_type(&column.kind);
    EngineError::data(format!("column '{}' of {database} has a value that is no {expected}", column.name))
        .help("read it as text: cast it in the option 'query'")
}

fn batch(database: &Database, schema: &SchemaRef, values: &mut [Values], rows: usize) -> Result<RecordBatch> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |(values, field): (&mut Values, &Arc<Field>)| -> Result<ArrayRef> {
        cast_with_options(&values.finish(), field.data_type(), &options).map_err(|error| {
            let (name, data_type) = (field.name(), field.data_type());
            EngineError::data(format!("column '{name}' of {database} has a value that is no {data_type}"))
                .caused_by(error)
                .help("declare the column as STRING, or cast it in the option 'query'")
        })
    };
    let columns = values.iter_mut().zip(schema.fields()).map(column).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

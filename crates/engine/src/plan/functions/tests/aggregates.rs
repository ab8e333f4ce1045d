//! The aggregates of `tests/oracle/aggregates.tsv` in a streaming query: half of the rows, a restart, the other half.

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use datafusion::prelude::SessionContext;

use super::{Answer, Case, SessionSettings, Tally, cases, cast, collect, condition, session_state, types, udf};
use crate::plan::ddl;
use crate::testing::StreamScript;

/// The rows an expression is selected from.
async fn rows(context: &SessionContext, relation: &str) -> RecordBatch {
    let (schema, batches) = collect(context, &format!("SELECT * FROM {relation}")).await.unwrap();
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    concat_batches(&schema, &batches).unwrap()
}

/// The columns a stream of the rows gives in the end, by name, or what it says.
fn streamed(expressions: &[&str], rows: &RecordBatch) -> Result<RecordBatch, String> {
    let columns: Vec<String> = rows
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), ddl::type_name(field.data_type())))
        .collect();
    let sql = format!(
        "CREATE TABLE t ({}) USING test OPTIONS (batchesPerTrigger '1');
         CREATE SINK out USING test OPTIONS (outputMode 'update');
         CREATE FLOW f AS INSERT INTO out SELECT {} FROM STREAM t",
        columns.join(", "),
        expressions.join(", ")
    );
    if let Some(refusal) = StreamScript::refusal(&sql) {
        return Err(refusal);
    }
    let half = rows.num_rows() / 2;
    let mut script = StreamScript::new(&sql);
    for part in [rows.slice(0, half), rows.slice(half, rows.num_rows() - half)] {
        script = script.add_rows("t", part);
        script.try_process()?;
    }
    let written = script.written("out");
    written.into_iter().rfind(|batch| batch.num_rows() > 0).ok_or_else(|| "no rows".to_owned())
}

/// The answer in a column of the last row.
fn answer(result: &Result<RecordBatch, String>, at: usize) -> Answer {
    let row = match result {
        Ok(row) => row,
        Err(error) => return Answer { data_type: String::new(), value: condition(error), name: String::new() },
    };
    assert_eq!(row.num_rows(), 1, "{}", row.schema());
    let text = cast::text::strings(row.column(at), udf::session_zone(Some("UTC")).unwrap()).unwrap();
    let value = if text.is_null(0) { "NULL".to_owned() } else { text.value(0).to_owned() };
    let data_type = types::simple_string(row.column(at).data_type());
    Answer { data_type, value, name: row.schema().field(at).name().clone() }
}

/// Cases that one query can have together: none that fails, no name twice.
fn together<'a>(cases: &[&'a Case], tally: &Tally) -> Vec<Vec<&'a Case>> {
    let mut queries: Vec<Vec<&Case>> = Vec::new();
    for case in cases {
        let alone = case.value.starts_with("ERROR") || tally.known.contains_key(&case.expression);
        let fits =
            |query: &&mut Vec<&Case>| !query[0].value.starts_with("ERROR") && query.iter().all(|c| c.name != case.name);
        match queries.iter_mut().find(fits).filter(|_| !alone) {
            Some(query) => query.push(case),
            None => queries.push(vec![case]),
        }
    }
    queries
}

#[test]
fn a_stream_that_restarts_gives_what_spark_gives() {
    let context = SessionContext::new_with_state(session_state(&SessionSettings::default()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut tally = Tally::new("aggregates", "stream");
    let cases = cases("aggregates");
    let mut relations: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    cases.iter().for_each(|case| relations.entry(&case.relation).or_default().push(case));
    for (relation, cases) in relations {
        let rows = runtime.block_on(rows(&context, relation));
        // A stream has no columns of intervals.
        if rows.columns().iter().any(|column| matches!(column.data_type(), DataType::Interval(_))) {
            continue;
        }
        for query in together(&cases, &tally) {
            let expressions: Vec<&str> = query.iter().map(|case| case.expression.as_str()).collect();
            let result = streamed(&expressions, &rows);
            for (at, case) in query.iter().enumerate() {
                let found = match &result {
                    Err(_) if query.len() > 1 => answer(&streamed(&[&case.expression], &rows), 0),
                    result => answer(result, at),
                };
                tally.count(case, &found);
            }
        }
    }
    tally.finish();
}

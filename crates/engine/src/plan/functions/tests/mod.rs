//! Every expression of `tests/oracle/functions.tsv` and `aggregates.tsv` gives here what real Spark 4.3 gave; the
//! aggregates in a stream too.

mod aggregates;
mod documented;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::parser::Parser;

use super::{SessionSettings, cast, prepare, session_state, types, udf};
use crate::plan::dialect::{SparkDialect, join_number_suffixes};
use crate::plan::raw_strings;

/// One line of the golden file.
struct Case {
    zone: String,
    relation: String,
    expression: String,
    data_type: String,
    value: String,
    name: String,
}

/// What an expression gave.
#[derive(Debug, PartialEq)]
struct Answer {
    data_type: String,
    value: String,
    name: String,
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            (c, false) => out.push(c),
        }
    }
    out
}

fn oracle(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn cases(file: &str) -> Vec<Case> {
    let case = |line: &str| {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let [zone, relation, expression, data_type, value, name] = fields.try_into().unwrap();
        Case { zone, relation, expression, data_type, value, name }
    };
    oracle(&format!("{file}.tsv")).lines().map(case).collect()
}

/// Expressions known to differ where they are run, a `batch` or a `stream`; a line may name one of the two.
fn known_differences(file: &str, run_as: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| match line.split('\t').collect::<Vec<_>>().as_slice() {
        [expression, reason] => Some((unescape(expression), (*reason).to_owned())),
        [expression, reason, only] if *only == run_as => Some((unescape(expression), (*reason).to_owned())),
        _ => None,
    };
    oracle(&format!("{file}.known")).lines().filter(|line| !line.starts_with('#')).filter_map(pair).collect()
}

fn condition(error: &str) -> String {
    if error.contains("Invalid function") {
        return "ERROR UNRESOLVED_ROUTINE".to_owned();
    }
    let named = error.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(name, _)| name);
    match named.filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_.".contains(c))) {
        Some(name) => format!("ERROR {name}"),
        None => format!("ERROR {}", error.chars().take(200).collect::<String>().replace('\n', " ")),
    }
}

/// Schema and rows of a query, or the type of its column if that was known, and the error.
async fn collect(context: &SessionContext, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), (String, String)> {
    let failed = |error: String| (String::new(), error);
    let tokens = raw_strings::tokenize(sql, &SparkDialect).map_err(|e| failed(e.to_string()))?;
    let mut parser = Parser::new(&SparkDialect).with_tokens_with_locations(join_number_suffixes(tokens));
    let mut statements = parser.parse_statements().map_err(|e| failed(e.to_string()))?;
    let Some(Statement::Query(query)) = statements.first_mut() else { return Err(failed("not a query".to_owned())) };
    prepare(query, &|_| None).map_err(|e| failed(e.to_string()))?;
    let statement = DFStatement::Statement(Box::new(statements.remove(0)));
    let state = context.state();
    let plan = state.statement_to_plan(statement).await.map_err(|e| failed(e.strip_backtrace()))?;
    let schema = Arc::new(plan.schema().as_arrow().clone());
    let data_type = types::simple_string(schema.field(0).data_type());
    let frame = context.execute_logical_plan(plan).await.map_err(|e| (data_type.clone(), e.strip_backtrace()))?;
    let batches = frame.collect().await.map_err(|e| (data_type.clone(), e.strip_backtrace()))?;
    Ok((schema, batches))
}

async fn answer(context: &SessionContext, case: &Case) -> Answer {
    let from = if case.relation.is_empty() { String::new() } else { format!(" FROM {}", case.relation) };
    match collect(context, &format!("SELECT {}{from}", case.expression)).await {
        Ok((schema, batches)) => {
            let (name, data_type) = (schema.field(0).name().clone(), types::simple_string(schema.field(0).data_type()));
            let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else {
                return Answer { data_type, value: "no rows".to_owned(), name };
            };
            let column = batch.column(0);
            let found = types::simple_string(column.data_type());
            let data_type =
                if found == data_type { data_type } else { format!("{data_type} planned, {found} computed") };
            let text = cast::text::strings(column, udf::session_zone(Some(&case.zone)).unwrap()).unwrap();
            let value = if text.is_null(0) { "NULL".to_owned() } else { text.value(0).to_owned() };
            Answer { data_type, value, name }
        }
        Err((data_type, error)) => Answer { data_type, value: condition(&error), name: String::new() },
    }
}

fn agrees(found: &Answer, case: &Case) -> bool {
    let failed = case.value.starts_with("ERROR");
    if failed {
        return found.value == case.value;
    }
    found.value == case.value && found.data_type == case.data_type && found.name == case.name
}

#[tokio::test]
async fn expressions_give_what_spark_gives() {
    check("functions").await;
}

#[tokio::test]
async fn aggregates_give_what_spark_gives() {
    check("aggregates").await;
}

async fn check(file: &str) {
    let session = |zone: &str| {
        let settings = SessionSettings { time_zone: zone.to_owned() };
        let mut state = session_state(&settings).unwrap();
        // As Spark was asked: rows are taken in the order in which they are written.
        state.config_mut().options_mut().execution.target_partitions = 1;
        (zone.to_owned(), SessionContext::new_with_state(state))
    };
    let sessions: BTreeMap<String, SessionContext> = ["UTC", "America/New_York", "+05:30"].map(session).into();
    let mut tally = Tally::new(file, "batch");
    for case in cases(file) {
        let found = answer(&sessions[&case.zone], &case).await;
        tally.count(&case, &found);
    }
    tally.finish();
}

/// What agreed with Spark and what did not.
struct Tally {
    file: String,
    known: BTreeMap<String, String>,
    /// Known differences that were met.
    met: BTreeSet<String>,
    differ: Vec<String>,
    agreed: usize,
}

impl Tally {
    fn new(file: &str, run_as: &str) -> Self {
        let known = known_differences(file, run_as);
        Self { file: file.to_owned(), known, met: BTreeSet::new(), differ: Vec::new(), agreed: 0 }
    }

    fn count(&mut self, case: &Case, found: &Answer) {
        if agrees(found, case) {
            self.agreed += 1;
        } else if self.known.contains_key(&case.expression) {
            self.met.insert(case.expression.clone());
        } else {
            self.differ.push(format!(
                "{}\n   Spark {} {} `{}`\n   here  {} {} `{}`",
                case.expression, case.data_type, case.value, case.name, found.data_type, found.value, found.name
            ));
        }
    }

    fn finish(self) {
        let Self { file, known, met, differ, agreed } = self;
        assert!(differ.is_empty(), "{agreed} agree, {} differ:\n{}", differ.len(), differ.join("\n"));
        let mended: Vec<&String> = known.keys().filter(|expression| !met.contains(*expression)).collect();
        assert!(mended.is_empty(), "no longer different, take them out of {file}.known: {mended:#?}");
    }
}

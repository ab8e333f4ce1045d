//! Every expression of `tests/oracle/functions.tsv` gives here what real Spark 4.3 gave.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, RecordBatch};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Tokenizer;

use super::{SessionSettings, cast, prepare, session_state, types, udf};
use crate::plan::dialect::{SparkDialect, join_number_suffixes};

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

fn cases() -> Vec<Case> {
    let case = |line: &str| {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let [zone, relation, expression, data_type, value, name] = fields.try_into().unwrap();
        Case { zone, relation, expression, data_type, value, name }
    };
    oracle("functions.tsv").lines().map(case).collect()
}

/// Expressions known to differ, with the reason.
fn known_differences() -> BTreeMap<String, String> {
    let pair = |line: &str| line.split_once('\t').map(|(e, reason)| (unescape(e), reason.to_owned()));
    oracle("functions.known").lines().filter(|line| !line.starts_with('#')).filter_map(pair).collect()
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

async fn collect(context: &SessionContext, sql: &str) -> Result<(String, String, Vec<RecordBatch>), (String, String)> {
    let failed = |error: String| (String::new(), error);
    let tokens = Tokenizer::new(&SparkDialect, sql).tokenize_with_location().map_err(|e| failed(e.to_string()))?;
    let mut parser = Parser::new(&SparkDialect).with_tokens_with_locations(join_number_suffixes(tokens));
    let mut statements = parser.parse_statements().map_err(|e| failed(e.to_string()))?;
    let Some(Statement::Query(query)) = statements.first_mut() else { return Err(failed("not a query".to_owned())) };
    prepare(query, &|_| None).map_err(|e| failed(e.to_string()))?;
    let statement = DFStatement::Statement(Box::new(statements.remove(0)));
    let state = context.state();
    let plan = state.statement_to_plan(statement).await.map_err(|e| failed(e.strip_backtrace()))?;
    let field = plan.schema().field(0).clone();
    let data_type = types::simple_string(field.data_type());
    let frame = context.execute_logical_plan(plan).await.map_err(|e| (data_type.clone(), e.strip_backtrace()))?;
    let batches = frame.collect().await.map_err(|e| (data_type.clone(), e.strip_backtrace()))?;
    Ok((field.name().clone(), data_type, batches))
}

async fn answer(context: &SessionContext, case: &Case) -> Answer {
    let from = if case.relation.is_empty() { String::new() } else { format!(" FROM {}", case.relation) };
    match collect(context, &format!("SELECT {}{from}", case.expression)).await {
        Ok((name, data_type, batches)) => {
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
    let session = |zone: &str| {
        let settings = SessionSettings { time_zone: zone.to_owned() };
        (zone.to_owned(), SessionContext::new_with_state(session_state(&settings).unwrap()))
    };
    let sessions: BTreeMap<String, SessionContext> = ["UTC", "America/New_York", "+05:30"].map(session).into();
    let known = known_differences();
    let (mut differ, mut mended, mut agreed) = (Vec::new(), Vec::new(), 0);
    for case in cases() {
        let found = answer(&sessions[&case.zone], &case).await;
        match (agrees(&found, &case), known.contains_key(&case.expression)) {
            (true, true) => mended.push(case.expression),
            (true, false) => agreed += 1,
            (false, true) => {}
            (false, false) => differ.push(format!(
                "{}\n   Spark {} {} `{}`\n   here  {} {} `{}`",
                case.expression, case.data_type, case.value, case.name, found.data_type, found.value, found.name
            )),
        }
    }
    assert!(differ.is_empty(), "{agreed} agree, {} differ:\n{}", differ.len(), differ.join("\n"));
    assert!(mended.is_empty(), "no longer different, take them out of functions.known: {mended:#?}");
}

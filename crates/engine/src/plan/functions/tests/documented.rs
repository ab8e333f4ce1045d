//! `docs/sql/functions.md` lists what is here and what is not, and leaves out none of Spark's functions.

use std::collections::BTreeSet;
use std::path::Path;

use datafusion::sql::sqlparser::ast::Expr;

use super::super::lower::{call, lower_expr, text_literal};
use super::super::{absent, session_state};
use super::{SessionSettings, oracle};

/// What is read by its form, not found by its name, and what connectors bring.
const BY_FORM: &[&str] = &[
    "case",
    "cast",
    "exists",
    "filter",
    "forall",
    "from_csv",
    "from_json",
    "map",
    "schema_of_csv",
    "schema_of_json",
    "session_window",
    "struct",
    "to_csv",
    "to_json",
    "transform",
    "try_cast",
    "window",
    "window_time",
];

/// Operators and tables that Spark lists as functions, what is about its own catalog and processes, and functions that
/// other pages tell of: with lambdas, of Avro.
const ELSEWHERE: &[&str] = &[
    "aggregate",
    "and",
    "between",
    "current_path",
    "extract",
    "from_avro",
    "ilike",
    "in",
    "like",
    "map_filter",
    "map_zip_with",
    "measure",
    "not",
    "or",
    "python_worker_logs",
    "range",
    "reduce",
    "schema_of_avro",
    "sql_keywords",
    "time",
    "to_avro",
    "transform_keys",
    "transform_values",
    "when",
    "zip_with",
];

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql").join(name);
    std::fs::read_to_string(&path).unwrap()
}

/// The names in back-ticks in the first column with some, line by line, of a section of the page.
fn listed(section: &str) -> BTreeSet<String> {
    let page = page("functions.md");
    let text = page.split(&format!("## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    let column = |line: &str| line.split('|').find(|cell| cell.contains('`')).unwrap_or_default().to_owned();
    let names = text.lines().filter(|line| line.starts_with("| ")).map(column);
    names.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Whether a call by that name becomes another expression, or is of a function there is.
fn is_here(name: &str, registered: &BTreeSet<String>) -> bool {
    let becomes_another = |arguments: usize| {
        let arguments = (0..arguments).map(|i| text_literal(i.to_string()));
        let mut lowered = call(name, arguments);
        lower_expr(&mut lowered).is_ok()
            && match &lowered {
                Expr::Function(function) => registered.contains(&function.name.to_string()),
                _ => true,
            }
    };
    BY_FORM.contains(&name)
        || registered.contains(name)
        || registered.contains(&format!("rows of {}", name.trim_end_matches("_outer")))
        || (0..4).any(becomes_another)
}

#[test]
fn the_page_says_what_is_here_and_what_is_not() {
    let state = session_state(&SessionSettings::default()).unwrap();
    let scalars: BTreeSet<String> = state.scalar_functions().keys().cloned().collect();
    let (here, missing) = (listed("Here"), listed("Not here"));
    let not_here: Vec<&String> = here.iter().filter(|name| !is_here(name, &scalars)).collect();
    assert!(not_here.is_empty(), "listed as here, and are not: {not_here:?}");
    let absent: BTreeSet<String> =
        absent::FAMILIES.iter().flat_map(|family| family.names).map(|name| (*name).to_owned()).collect();
    assert_eq!(missing, absent, "the families of absent.rs");
    let names = oracle("names.txt");
    let aggregates = page("aggregates.md");
    let known = |name: &str| {
        let others = state.window_functions().contains_key(name) || aggregates.contains(&format!("`{name}"));
        here.contains(name) || missing.contains(name) || others || ELSEWHERE.contains(&name)
    };
    let words = names.lines().filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    let unknown: Vec<&str> =
        words.filter(|name| !known(name) && super::super::lower::type_of_function(name).is_none()).collect();
    assert!(unknown.is_empty(), "of Spark's functions the page leaves out: {unknown:?}");
}

#[test]
fn a_function_that_only_spark_has_is_refused_with_a_way_out() {
    let error = lower_expr(&mut call("parse_json", [text_literal("{}".to_owned())])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "[UNSUPPORTED_FEATURE] Spark has the function parse_json, Highwater has not: there is no type VARIANT"
    );
    assert_eq!(
        error.next_step(),
        Some("keep the document as STRING, and read it with get_json_object, json_tuple or from_json")
    );
}

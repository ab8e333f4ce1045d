//! `CREATE SINK` as a sink of Spark's pipeline, and the queries that write to one.
//!
//! Rows get the names and types that the sink declares, as they do here, whichever names the query gives them.
//!
//! A sink of Kafka takes the columns of a record there: where whole rows are written as JSON here, the query is put into
//! `SELECT to_json(struct(*)) AS value FROM (...)`; as Avro, into one with `to_avro` (avro.rs).

use std::collections::BTreeMap;

use arrow::datatypes::FieldRef;
use highwater_connectors::kafka::avro::AVRO_OPTIONS;
use highwater_engine::plan::outline::OutlineTable;

use super::super::route::Route;
use super::options::{self, is_in};
use super::sources::{VALUE_OPTIONS, option_map, quoted};
use super::{FlowMode, Problem, absolute_path, avro};

/// A sink as Spark knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SparkSink {
    /// Spark's name of the format.
    pub(crate) format: String,
    /// Its options.
    pub(crate) options: BTreeMap<String, String>,
    /// What is put before and behind the query of a flow that writes to it.
    pub(crate) around: (String, String),
    /// What is other than here, to be told before a run.
    pub(crate) notes: Vec<String>,
    /// The topic that stands for it, if Spark has no such sink.
    pub(crate) routed_through: Option<String>,
}

/// Options of ours that Spark's Kafka sink has no use for.
const KAFKA_OURS: [&str; 5] = ["value.format", "key.columns", "key.column", "transactional", "visibility"];

/// The sink as Spark writes it; one that it does not have as a topic, if there is a route. `flow` is one into it.
pub(super) fn sink(
    table: &OutlineTable,
    route: Option<&Route>,
    flow: Option<&FlowMode>,
) -> Result<SparkSink, Vec<Problem>> {
    let format = table.format.as_deref().unwrap_or_default();
    match format {
        "kafka" => kafka(table, flow),
        "json" | "csv" | "text" | "parquet" | "delta" | "console" | "noop" => plain(table, format, flow),
        "sqlite" | "postgres" if let Some(route) = route => Ok(routed(table, route)),
        _ => {
            let help = match format {
                "sqlite" | "postgres" => {
                    "let Spark write its rows to a topic and Highwater drain that into it: --route-through HOST:PORT"
                }
                _ => "write to kafka, json, csv, text, parquet, delta, console or noop",
            };
            Err(vec![Problem::at_format(table, format, help)])
        }
    }
}

/// Times keep their microseconds on their way through a topic.
const TIMES: &str = "map('timestampFormat', \"yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX\", 'timestampNTZFormat', \
                     \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS\")";

/// A topic that this process drains into the sink.
fn routed(table: &OutlineTable, route: &Route) -> SparkSink {
    let topic = route.topic(&table.name);
    let options = [("kafka.bootstrap.servers", route.bootstrap.as_str()), ("topic", topic.as_str())];
    SparkSink {
        format: "kafka".to_owned(),
        options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        around: routed_rows("*", ""),
        notes: vec![format!(
            "sink '{}': Spark writes its rows to the topic {topic}, at least once, and Highwater drains that exactly once",
            table.name
        )],
        routed_through: Some(topic),
    }
}

fn routed_rows(columns: &str, names: &str) -> (String, String) {
    (format!("SELECT to_json(struct({columns}), {TIMES}) AS value FROM ("), format!("\n){names}"))
}

/// What is put around a query whose rows go through a topic: they get the names and types there that they have in the
/// sink, as the flow gives them to it here.
pub(super) fn routed_around(flow: &FlowMode) -> (String, String) {
    let field = |name: &String| flow.columns.field_with_name(name).ok();
    let column = |name: &String| match field(name).filter(|field| !field.data_type().is_null()) {
        None => quoted(name),
        Some(field) => avro::cast(&quoted(name), field),
    };
    let columns: Vec<String> = flow.given_columns.iter().map(column).collect();
    routed_rows(&columns.join(", "), &format!(" AS `routed`({})", names(flow)))
}

fn names(flow: &FlowMode) -> String {
    let names: Vec<String> = flow.given_columns.iter().map(|name| quoted(name)).collect();
    names.join(", ")
}

/// What is put around a query whose rows go into a sink with columns: it is given them by place or by name, and those that
/// it does not give are null.
fn aligned_around(table: &OutlineTable, flow: &FlowMode) -> Option<(String, String)> {
    table.columns.as_ref()?;
    let column = |field: &FieldRef| {
        let is_given = flow.given_columns.contains(field.name());
        let value = if is_given { quoted(field.name()) } else { "NULL".to_owned() };
        avro::cast(&value, field)
    };
    let columns: Vec<String> = flow.columns.fields().iter().map(column).collect();
    Some((format!("SELECT {} FROM (", columns.join(", ")), format!("\n) AS `given`({})", names(flow))))
}

fn options_of(table: &OutlineTable, format: &str, ours: &[&str]) -> Result<BTreeMap<String, String>, Vec<Problem>> {
    let resolved = table.options.resolved(&format!("sink '{}'", table.name));
    let resolved =
        resolved.map_err(|error| vec![Problem::of(&table.name, error.to_string(), "set it, then try again")])?;
    let known = options::known(format);
    let (mut given, mut problems) = (BTreeMap::new(), Vec::new());
    for (key, value) in resolved.iter().filter(|(key, _)| !is_in(key, ours)) {
        let is_known = known.as_ref().is_none_or(|known| is_in(key, known)) || is_in(key, &["path"]);
        if is_known || (format == "kafka" && key.starts_with("kafka.")) {
            given.insert(key.to_owned(), value.to_owned());
        } else {
            let message = format!("sink '{}': Spark's {format} has no option '{key}'", table.name);
            problems.push(Problem::at_option(key, message, "leave it out, or write this sink with Highwater"));
        }
    }
    if problems.is_empty() { Ok(given) } else { Err(problems) }
}

fn plain(table: &OutlineTable, format: &str, flow: Option<&FlowMode>) -> Result<SparkSink, Vec<Problem>> {
    let mut options = options_of(table, format, &[])?;
    for (_, path) in options.iter_mut().filter(|(key, _)| key.eq_ignore_ascii_case("path")) {
        *path = absolute_path(path);
    }
    let around = flow.and_then(|flow| aligned_around(table, flow)).unwrap_or_default();
    Ok(SparkSink { format: format.to_owned(), options, around, ..SparkSink::default() })
}

fn kafka(table: &OutlineTable, flow: Option<&FlowMode>) -> Result<SparkSink, Vec<Problem>> {
    let format = table.options.get("value.format").map(str::to_ascii_lowercase);
    let is_avro = format.as_deref() == Some("avro");
    let ours: Vec<&str> = KAFKA_OURS.iter().chain(AVRO_OPTIONS.iter().filter(|_| is_avro)).copied().collect();
    let ours: Vec<&str> = ours.into_iter().chain(VALUE_OPTIONS).collect();
    let options = options_of(table, "kafka", &ours)?;
    // Those before are for reading.
    let how = option_map(table, &VALUE_OPTIONS[2..]);
    let written = |function: &str, columns: &str| format!("{function}(struct({columns}){how})");
    let value = match (format.as_deref(), flow) {
        (Some("avro"), Some(flow)) => Some(avro::written(table, &flow.columns)?),
        // Nothing is written to it.
        (Some("raw" | "avro"), _) => None,
        (Some("csv"), _) => Some(written("to_csv", "*")),
        (Some(_), _) => Some(written("to_json", "*")),
        (None, _) => table.columns.as_ref().map(|_| written("to_json", "*")),
    };
    let keys: Vec<String> = table
        .options
        .get("key.columns")
        .or_else(|| table.options.get("key.column"))
        .map(|keys| keys.split(',').map(|key| quoted(key.trim())).collect())
        .unwrap_or_default();
    let key = match keys.as_slice() {
        [] => String::new(),
        [one] => format!(", CAST({one} AS STRING) AS key"),
        several => format!(", {} AS key", written("to_json", &several.join(", "))),
    };
    let aligned = flow.and_then(|flow| aligned_around(table, flow));
    let around = match (value, aligned) {
        (Some(value), Some((before, behind))) => {
            (format!("SELECT {value} AS value{key} FROM ({before}"), format!("{behind})"))
        }
        (Some(value), None) => (format!("SELECT {value} AS value{key} FROM ("), "\n)".to_owned()),
        (None, aligned) => aligned.unwrap_or_default(),
    };
    let notes = vec![format!(
        "sink '{}': Spark writes to Kafka at least once, not exactly once: a batch that is repeated after a failure is \
         written twice",
        table.name
    )];
    Ok(SparkSink { format: "kafka".to_owned(), options, around, notes, routed_through: None })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use highwater_engine::plan::ScriptFile;
    use highwater_engine::plan::outline::{OutlineKind, outline};
    use highwater_engine::sink::OutputMode;

    use super::*;

    fn flow(columns: Schema, given: &[&str]) -> FlowMode {
        FlowMode {
            name: "f".to_owned(),
            mode: OutputMode::Append,
            has_watermark: false,
            target: Some("s".to_owned()),
            columns: Arc::new(columns),
            given_columns: given.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// What a query `q` is sent as whose rows go into a sink of these columns.
    fn check_around(columns: &str, using: &str, given: &[&str], expected: &str) {
        let text = format!("CREATE SINK s ({columns}) {using}");
        let files = [ScriptFile { name: "a.sql".to_owned(), text }];
        let Ok(mut statements) = outline(&files) else { panic!("{columns} are no columns") };
        let OutlineKind::Sink(table) = statements.remove(0).kind else { panic!("no sink") };
        let flow = flow(table.columns.as_ref().unwrap().as_ref().clone(), given);
        let (before, behind) = sink(&table, None, Some(&flow)).unwrap().around;
        assert_eq!(format!("{before}q{behind}"), expected);
    }

    #[test]
    fn rows_have_the_names_and_types_of_the_sink() {
        let kafka = |more: &str| format!("USING kafka OPTIONS ('kafka.bootstrap.servers' 'k:1', topic 't'{more})");
        let aligned = "SELECT CAST(`a` AS STRING) AS `a`, CAST(`b` AS BIGINT) AS `b` FROM (q\n) AS `given`(`a`, `b`)";
        let columns = "a STRING, b BIGINT";
        let json = format!("SELECT to_json(struct(*)) AS value FROM ({aligned})");
        check_around(columns, &kafka(""), &["a", "b"], &json);
        check_around(columns, &kafka(", 'value.format' 'json'"), &["a", "b"], &json);
        for format in ["parquet", "json", "delta"] {
            check_around(columns, &format!("USING {format} OPTIONS (path '/x')"), &["a", "b"], aligned);
        }
        check_around(
            "value STRING",
            &kafka(", 'value.format' 'raw'"),
            &["value"],
            "SELECT CAST(`value` AS STRING) AS `value` FROM (q\n) AS `given`(`value`)",
        );
        // What the query does not give is null, the record's own columns are not in the value, and the key may be of both.
        check_around(
            "_key STRING, a STRING NOT NULL, b BIGINT",
            &kafka(", 'value.format' 'avro', 'key.columns' '_key'"),
            &["a", "_key"],
            r#"SELECT to_avro(struct(CAST(`a` AS STRING) AS `a`, CAST(`b` AS BIGINT) AS `b`), '{"type":"record","name":"topLevelRecord","fields":[{"name":"a","type":"string"},{"name":"b","type":["long","null"]}]}') AS value, CAST(`_key` AS STRING) AS key FROM (SELECT CAST(`_key` AS STRING) AS `_key`, CAST(`a` AS STRING) AS `a`, CAST(NULL AS BIGINT) AS `b` FROM (q
) AS `given`(`a`, `_key`))"#,
        );
    }

    fn check(text: &str, expected: &str) {
        let files = [ScriptFile { name: "a.sql".to_owned(), text: text.to_owned() }];
        let Ok(mut statements) = outline(&files) else { panic!("{text} is no statement") };
        let OutlineKind::Sink(table) = statements.remove(0).kind else { panic!("{text} is no sink") };
        let rows = Schema::new(vec![Field::new("a", DataType::Int32, false), Field::new("b", DataType::Utf8, true)]);
        let shown = match sink(&table, None, Some(&flow(rows, &["a", "b"]))) {
            Ok(sink) => {
                let options: Vec<String> = sink.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("{} {} | {}", sink.format, options.join(" "), sink.around.0)
            }
            Err(problems) => problems.iter().map(|problem| format!("{} | {}", problem.message, problem.help)).collect(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn sinks_are_sparks_sinks() {
        let kafka = "USING kafka OPTIONS ('kafka.bootstrap.servers' 'k:1', topic 't'";
        check(&format!("CREATE SINK s {kafka})"), "kafka kafka.bootstrap.servers=k:1 topic=t | ");
        check(
            &format!("CREATE SINK s {kafka}, 'value.format' 'json')"),
            "kafka kafka.bootstrap.servers=k:1 topic=t | SELECT to_json(struct(*)) AS value FROM (",
        );
        check(
            &format!("CREATE SINK s {kafka}, 'value.format' 'csv', mode 'FAILFAST', dateFormat 'yyyy', sep ';')"),
            "kafka kafka.bootstrap.servers=k:1 topic=t | SELECT to_csv(struct(*), map('dateFormat', 'yyyy', 'sep', ';')) AS \
             value FROM (",
        );
        check(
            &format!("CREATE SINK s {kafka}, 'value.format' 'json', 'key.columns' 'a')"),
            "kafka kafka.bootstrap.servers=k:1 topic=t | SELECT to_json(struct(*)) AS value, CAST(`a` AS STRING) AS key FROM (",
        );
        check(
            &format!("CREATE SINK s {kafka}, 'value.format' 'json', 'key.columns' 'a, b')"),
            "kafka kafka.bootstrap.servers=k:1 topic=t | SELECT to_json(struct(*)) AS value, to_json(struct(`a`, `b`)) AS \
             key FROM (",
        );
        check(
            &format!(
                "CREATE SINK s {kafka}, 'value.format' 'avro', 'key.columns' 'a', 'avro.confluent' 'true', 'avro.schema.id' '7')"
            ),
            r#"kafka kafka.bootstrap.servers=k:1 topic=t | SELECT concat(X'0000000007', to_avro(struct(CAST(`a` AS INT) AS `a`, CAST(`b` AS STRING) AS `b`), '{"type":"record","name":"topLevelRecord","fields":[{"name":"a","type":["int","null"]},{"name":"b","type":["string","null"]}]}')) AS value, CAST(`a` AS STRING) AS key FROM ("#,
        );
        check("CREATE SINK s USING parquet OPTIONS (path '/x')", "parquet path=/x | ");
        check("CREATE SINK s USING noop", "noop  | ");
    }

    #[test]
    fn sinks_of_ours_alone_have_a_way_out() {
        check(
            "CREATE SINK s USING sqlite OPTIONS (path 'x.db', table 't')",
            "Spark has no format 'sqlite', which table 's' is of | let Spark write its rows to a topic and Highwater drain \
             that into it: --route-through HOST:PORT",
        );
        check(
            "CREATE SINK s USING noop OPTIONS (x 'y')",
            "sink 's': Spark's noop has no option 'x' | leave it out, or write this sink with Highwater",
        );
    }

    #[test]
    fn with_a_route_they_are_topics() {
        let text = "CREATE SINK s USING sqlite OPTIONS (path 'x.db', table 't')".to_owned();
        let Ok(mut statements) = outline(&[ScriptFile { name: "a.sql".to_owned(), text }]) else {
            panic!("no statement")
        };
        let OutlineKind::Sink(table) = statements.remove(0).kind else { panic!("no sink") };
        let route = Route { bootstrap: "k:1".to_owned(), project: "p".to_owned() };
        let sink = sink(&table, Some(&route), None).unwrap();
        assert_eq!((sink.format.as_str(), sink.routed_through.as_deref()), ("kafka", Some("p.s.routed")));
        assert_eq!(sink.options.get("kafka.bootstrap.servers").map(String::as_str), Some("k:1"));
        let times = "map('timestampFormat', \"yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX\", 'timestampNTZFormat', \
                     \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS\")";
        assert_eq!(sink.around.0, format!("SELECT to_json(struct(*), {times}) AS value FROM ("));
    }
}

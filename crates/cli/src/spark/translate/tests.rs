//! Whole projects as Spark gets them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use highwater_engine::plan::outline::outline;

use super::*;

fn files(text: &str) -> Vec<ScriptFile> {
    vec![ScriptFile { name: "a.sql".to_owned(), text: text.to_owned() }]
}

fn flow(name: &str, mode: OutputMode, columns: &[(&str, DataType)], given: &[&str]) -> FlowMode {
    let fields: Vec<Field> = columns.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect();
    let given_columns = given.iter().map(|name| (*name).to_owned()).collect();
    let columns = Arc::new(Schema::new(fields));
    FlowMode { name: name.to_owned(), mode, has_watermark: true, target: None, columns, given_columns }
}

/// The modes of flows: those named here, all others append with a watermark.
fn translated(text: &str, modes: &[(&str, OutputMode)]) -> Translation {
    let files = files(text);
    let Ok(statements) = outline(&files) else { panic!("{text} does not parse") };
    let flows: Vec<FlowMode> = modes.iter().map(|(name, mode)| flow(name, *mode, &[], &[])).collect();
    translate(&files, &statements, &flows, None)
}

fn check(text: &str, modes: &[(&str, OutputMode)], expected: &[&str]) {
    let translation = translated(text, modes);
    assert_eq!(translation.findings, [], "{text}");
    let shown: Vec<String> = translation
        .elements
        .iter()
        .map(|element| match &element.kind {
            ElementKind::Source { name, relation, is_streaming } => {
                format!("{} view {name} of {}", if *is_streaming { "stream" } else { "batch" }, relation.format)
            }
            ElementKind::Sink { name, sink } => format!("sink {name} of {}", sink.format),
            ElementKind::SinkFlow { name, target, query } => format!("{name} into {target}: {}", query.text),
            ElementKind::Sql { text, .. } => text.text.clone(),
        })
        .collect();
    assert_eq!(shown, expected, "{text}");
}

fn check_findings(text: &str, modes: &[(&str, OutputMode)], expected: &[&str]) {
    let translation = translated(text, modes);
    let shown: Vec<String> = translation
        .findings
        .iter()
        .map(|finding| format!("{}:{} {} | {}", finding.span.line, finding.span.column, finding.message, finding.help))
        .collect();
    assert_eq!(shown, expected, "{text}");
}

const SOURCE: &str = "CREATE TABLE s (k STRING, ts TIMESTAMP) USING json OPTIONS (path '/x');";

#[test]
fn what_spark_takes_is_sent_as_it_stands() {
    check(
        &format!(
            "{SOURCE}\nCREATE STREAMING TABLE t AS\n  SELECT * FROM STREAM s; SET a.b = 1;\nCREATE FLOW f AS INSERT INTO t BY NAME SELECT * FROM STREAM s"
        ),
        &[],
        &[
            "stream view s of json",
            "CREATE STREAMING TABLE t AS\n  SELECT * FROM STREAM s",
            "SET a.b = 1",
            "CREATE FLOW f AS INSERT INTO t BY NAME SELECT * FROM STREAM s",
        ],
    );
    let cdc = "CREATE STREAMING TABLE u FLOW AUTO CDC FROM STREAM s KEYS (k) SEQUENCE BY ts STORED AS SCD TYPE 1";
    let flow = "CREATE FLOW f AS AUTO CDC INTO v FROM STREAM s KEYS (k) SEQUENCE BY ts STORED AS SCD TYPE 2";
    let expected = ["stream view s of json", cdc, "CREATE STREAMING TABLE v", flow];
    // Rows that changes replace are updates, which such tables take.
    let modes = [("u", OutputMode::Update), ("f", OutputMode::Update)];
    check(&format!("{SOURCE}{cdc};CREATE STREAMING TABLE v;{flow}"), &modes, &expected);
}

#[test]
fn what_is_only_looked_up_is_read_as_it_is() {
    check(
        "CREATE TABLE d (k STRING) USING csv OPTIONS (path '/d'); CREATE TABLE s USING rate;\
         CREATE STREAMING TABLE t AS SELECT * FROM STREAM s JOIN d ON s.value = d.k",
        &[],
        &[
            "batch view d of csv",
            "stream view s of rate",
            "CREATE STREAMING TABLE t AS SELECT * FROM STREAM s JOIN d ON s.value = d.k",
        ],
    );
}

#[test]
fn a_table_that_is_replaced_is_computed_whole_with_all_it_reads() {
    check(
        &format!(
            "{SOURCE} CREATE VIEW v AS SELECT * FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE;\
             CREATE STREAMING TABLE all_of_it AS SELECT k, count(*) FROM STREAM(v) GROUP BY k;\
             CREATE STREAMING TABLE rows AS SELECT k FROM STREAM v"
        ),
        &[("all_of_it", OutputMode::Complete), ("rows", OutputMode::Append)],
        &[
            "stream view s of json",
            "batch view s__batch of json",
            "CREATE TEMPORARY VIEW v AS SELECT * FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE",
            "CREATE TEMPORARY VIEW `v__batch` AS SELECT * FROM  `s__batch` WATERMARK ts DELAY OF INTERVAL 1 MINUTE",
            "CREATE MATERIALIZED VIEW all_of_it AS SELECT k, count(*) FROM (`v__batch` AS `v`) GROUP BY k",
            "CREATE STREAMING TABLE rows AS SELECT k FROM STREAM v",
        ],
    );
    // With dots in its name an outside table is still the one that the project says.
    check(
        &format!("{SOURCE} CREATE STREAMING TABLE t AS SELECT k FROM STREAM spark_catalog.default.s WHERE k > ''"),
        &[],
        &["stream view s of json", "CREATE STREAMING TABLE t AS SELECT k FROM STREAM `s` WHERE k > ''"],
    );
    // Where nothing reads the stream, names stay.
    check(
        &format!("{SOURCE} CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM STREAM s"),
        &[("m", OutputMode::Complete)],
        &["batch view s of json", "CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM  s"],
    );
}

#[test]
fn sinks_are_written_by_flows_of_their_own() {
    check(
        &format!(
            "{SOURCE}\nCREATE SINK o USING kafka OPTIONS ('kafka.bootstrap.servers' 'k:1', topic 't', 'value.format' 'json');\
             CREATE FLOW f AS INSERT INTO o BY NAME SELECT k FROM STREAM s; INSERT INTO o SELECT k FROM STREAM s"
        ),
        &[],
        &[
            "stream view s of json",
            "sink o of kafka",
            "f into o: SELECT to_json(struct(*)) AS value FROM (SELECT k FROM STREAM s\n)",
            "o_1 into o: SELECT to_json(struct(*)) AS value FROM (SELECT k FROM STREAM s\n)",
        ],
    );
    check(
        &format!("{SOURCE} CREATE STREAMING TABLE t; INSERT INTO t SELECT k FROM STREAM s"),
        &[],
        &[
            "stream view s of json",
            "CREATE STREAMING TABLE t",
            "CREATE FLOW `t_1` AS INSERT INTO t SELECT k FROM STREAM s",
        ],
    );
}

#[test]
fn what_cannot_run_is_found_where_it_stands() {
    check_findings(
        &format!(
            "{SOURCE}\nCREATE SINK o USING sqlite\n  OPTIONS (path 'x.db');\nCREATE FLOW f AS INSERT INTO o BY NAME SELECT k FROM STREAM s;"
        ),
        &[("f", OutputMode::Append)],
        &[
            "2:21 Spark has no format 'sqlite', which table 'o' is of | let Spark write its rows to a topic and Highwater \
           drain that into it: --route-through HOST:PORT",
        ],
    );
    check_findings(
        &format!("{SOURCE}\nCREATE STREAMING TABLE t AS SELECT k, count(*) AS n FROM STREAM s GROUP BY k"),
        &[("t", OutputMode::Update)],
        &[
            "2:24 flow 't' has output mode update, and flows of Spark's pipelines append | aggregate over windows of a stream \
           with a WATERMARK, or write CREATE MATERIALIZED VIEW name AS ... without STREAM",
        ],
    );
    check_findings(
        "USE x;\nSELECT 1;\nCREATE STREAMING TABLE t USING json LOCATION '/x';\nCREATE TABLE s USING kafka OPTIONS (subscribe 't',\n 'kafka.bootstrap.servers' 'k:1', startingOffset 'latest');",
        &[],
        &[
            "1:1 Spark's pipelines take no USE | leave it out, and name catalog and database in spark-pipeline.yml",
            "2:1 a query on its own shows its rows in a terminal, which Spark's pipelines do not have | write CREATE \
             MATERIALIZED VIEW name AS ..., or a flow into a sink USING console",
            "3:37 table 't' says where it lies, which Spark's pipelines choose themselves | leave the path out, or write to \
             a sink: CREATE SINK ... USING, CREATE FLOW ... AS INSERT INTO",
            "5:35 table 's': Spark's kafka has no option 'startingOffset' | leave it out, or run this table on Highwater \
             alone",
        ],
    );
}

/// What is sent for the flows into a sink that is drained here, or what is found.
fn routed(flows: &[FlowMode]) -> Vec<String> {
    let text = format!(
        "{SOURCE} CREATE SINK o (page STRING, n BIGINT, at TIMESTAMP_NTZ) USING sqlite OPTIONS (path 'x.db');\
         CREATE FLOW f AS INSERT INTO o SELECT k, 1, ts FROM STREAM s;\
         CREATE FLOW g AS INSERT INTO o BY NAME SELECT ts AS AT, k AS page FROM STREAM s"
    );
    let files = files(&text);
    let Ok(statements) = outline(&files) else { panic!("it does not parse") };
    let route = Route { bootstrap: "k:1".to_owned(), project: "p".to_owned() };
    let translation = translate(&files, &statements, flows, Some(&route));
    let sent = translation.elements.iter().filter_map(|element| match &element.kind {
        ElementKind::SinkFlow { query, .. } => Some(query.text.clone()),
        _ => None,
    });
    sent.chain(translation.findings.into_iter().map(|finding| finding.message)).collect()
}

#[test]
fn rows_that_are_drained_have_the_names_and_types_of_the_sink() {
    let local = DataType::Timestamp(TimeUnit::Microsecond, None);
    let columns = [("page", DataType::Utf8), ("n", DataType::Int64), ("at", local)];
    let by_place = flow("f", OutputMode::Append, &columns, &["page", "n", "at"]);
    let by_name = flow("g", OutputMode::Append, &columns, &["at", "page"]);
    let times = "map('timestampFormat', \"yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX\", 'timestampNTZFormat', \
                 \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS\")";
    let (page, n, at) =
        ("CAST(`page` AS STRING) AS `page`", "CAST(`n` AS BIGINT) AS `n`", "CAST(`at` AS TIMESTAMP_NTZ) AS `at`");
    let expected = [
        format!(
            "SELECT to_json(struct({page}, {n}, {at}), {times}) AS value FROM (SELECT k, 1, ts FROM STREAM s\n) AS \
             `routed`(`page`, `n`, `at`)"
        ),
        format!(
            "SELECT to_json(struct({at}, {page}), {times}) AS value FROM (SELECT ts AS AT, k AS page FROM STREAM s\n) AS \
             `routed`(`at`, `page`)"
        ),
    ];
    assert_eq!(routed(&[by_place.clone(), by_name]), expected);
    // Where the sink declares no columns each flow has its own.
    let other = flow("g", OutputMode::Append, &[("at", DataType::Utf8)], &["at"]);
    let found = routed(&[by_place, other]).pop();
    let expected = "flow 'g' gives sink 'o' the columns at STRING, and flow 'f' gives it page STRING,n BIGINT,at \
                    TIMESTAMP_NTZ: what goes through one topic has the same columns";
    assert_eq!(found.as_deref(), Some(expected));
}

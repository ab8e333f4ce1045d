//! Avro in topics: written by one query and read by another, evolved, malformed, and refused.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::broker::TestBroker;
use crate::program::{run, succeed};

const ROWS: &str = r#"{"id":1,"at":"2024-01-02T03:04:05.678901Z","price":12.34,"tags":["a","b"],"place":{"x":1.5,"y":"z"}}
{"id":2}
"#;

const COLUMNS: &str =
    "id BIGINT, at TIMESTAMP, price DECIMAL(10,2), tags ARRAY<STRING>, place STRUCT<x: DOUBLE, y: STRING>";

fn topic(broker: &TestBroker, options: &str) -> String {
    format!("USING kafka OPTIONS (kafka.bootstrap.servers '{}', startingOffsets 'earliest', {options})", broker.address)
}

/// Writes the rows into the topic `vals` as Avro, and behind them a record that is none.
fn prepare(folder: &Path) -> TestBroker {
    let broker = TestBroker::start(folder);
    broker.produce("rows", ROWS);
    let sql = format!(
        "CREATE TABLE rows ({COLUMNS}) {};
         CREATE SINK vals ({COLUMNS}) USING kafka OPTIONS (kafka.bootstrap.servers '{}', topic 'vals', 'value.format' 'avro', 'key.column' 'id');
         CREATE FLOW copy AS INSERT INTO vals BY NAME SELECT * FROM STREAM rows;",
        topic(&broker, "subscribe 'rows', 'value.format' 'json'"),
        broker.address
    );
    fs::write(folder.join("write.sql"), sql).unwrap();
    succeed(folder, &["run", "write.sql", "--storage", "written", "--trigger", "available-now"]);
    broker.produce("vals", "no Avro\n");
    broker
}

fn read(folder: &Path, broker: &TestBroker, columns: &str, options: &str) -> crate::program::Finished {
    let sql = format!(
        "CREATE TABLE vals {columns} {};
         CREATE STREAMING TABLE t AS SELECT * FROM STREAM vals;",
        topic(broker, &format!("subscribe 'vals', 'value.format' 'avro'{options}"))
    );
    fs::write(folder.join("read.sql"), sql).unwrap();
    run(folder, &["run", "read.sql", "--storage", "st", "--trigger", "available-now"])
}

fn rows(folder: &Path) -> Vec<String> {
    let found =
        succeed(folder, &["sql", "SELECT * FROM t ORDER BY id NULLS LAST", "--storage", "st", "--output", "json"]);
    found.lines().map(str::to_owned).collect()
}

#[test]
fn rows_come_back_and_what_is_malformed_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let broker = prepare(folder.path());
    let finished = read(folder.path(), &broker, &format!("({COLUMNS}, _key STRING)"), "");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let rows: Vec<Value> = rows(folder.path()).iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(rows[0]["at"], "2024-01-02T03:04:05.678901Z", "{rows:?}");
    assert_eq!((&rows[0]["tags"][1], &rows[0]["place"]["y"]), (&"b".into(), &"z".into()), "{rows:?}");
    assert_eq!((&rows[0]["_key"], &rows[1]["_key"]), (&"1".into(), &"2".into()), "{rows:?}");
    let letters = fs::read_dir(folder.path().join("st/checkpoints/t/dead_letters")).unwrap();
    let letters: String = letters.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    for expected in
        ["field `id` is type 55 of a union, expected one of 2", "\"text\":\"no Avro\"", "\"origin\":\"vals\""]
    {
        assert!(letters.contains(expected), "'{expected}' is not in {letters}");
    }
}

#[test]
fn a_table_may_have_its_columns_from_a_schema_and_drop_what_is_malformed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = prepare(folder.path());
    let schema = r#"{"type": "record", "name": "r", "fields": [
        {"name": "id", "type": ["long", "null"]},
        {"name": "at", "type": [{"type": "long", "logicalType": "timestamp-micros"}, "null"]}]}"#;
    fs::write(folder.path().join("r.avsc"), schema).unwrap();
    let finished = read(folder.path(), &broker, "", ", mode 'DROPMALFORMED', 'avro.schema' 'r.avsc'");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(rows(folder.path()), [r#"{"id":1,"at":"2024-01-02T03:04:05.678901Z"}"#, r#"{"id":2,"at":null}"#]);
    // With FAILFAST the query ends at it, and says how it goes on.
    let other = tempfile::tempdir().unwrap();
    let finished = read(other.path(), &broker, &format!("({COLUMNS})"), ", mode 'FAILFAST'");
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    let expected = "malformed record in FAILFAST mode: field `id` is type 55 of a union, expected one of 2";
    assert!(finished.stderr.contains(expected), "{}", finished.stderr);
}

#[test]
fn validate_finds_what_is_wrong_with_a_schema() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.avsc"), "{\"type\": \"record\"}").unwrap();
    let check = |columns: &str, options: &str, expected: &str| {
        let sql = format!(
            "CREATE TABLE v {columns} USING kafka OPTIONS (kafka.bootstrap.servers 'k:1', subscribe 'v', {options});
             CREATE STREAMING TABLE t AS SELECT * FROM STREAM v;"
        );
        fs::write(folder.path().join("q.sql"), sql).unwrap();
        let finished = run(folder.path(), &["validate", "q.sql"]);
        assert_ne!(finished.code, 0, "{options}");
        assert!(finished.stderr.contains(expected), "'{expected}' is not in\n{}", finished.stderr);
    };
    let avro = "'value.format' 'avro'";
    check(
        "(a INT)",
        &format!("{avro}, 'avro.schema' 'none.avsc'"),
        "option 'avro.schema': the file 'none.avsc' cannot be read",
    );
    check(
        "(a INT)",
        &format!("{avro}, 'avro.schema' 'bad.avsc'"),
        "in the file 'bad.avsc': the Avro schema: found the name ''",
    );
    check(
        "(a INT)",
        &format!(
            "{avro}, 'avro.schema' '{{\"type\":\"record\",\"name\":\"r\",\"fields\":[{{\"name\":\"a\",\"type\":\"string\"}}]}}'"
        ),
        "the Avro schema, at `a`: found string, expected a type that a column of INT can be read from",
    );
    check("(`it''s` INT)", avro, "found the name 'it''s', expected a name of letters, digits and _");
    check("", avro, "has 'value.format' = 'avro' but no columns");
    check("(a INT)", "'avro.confluent' 'true'", "options of Avro are given, but 'value.format' is not 'avro'");
    check(
        "(a INT)",
        &format!("{avro}, 'avro.schema.id' '1'"),
        "is for values with the number of their schema in front",
    );
    check("(m MAP<INT, INT>)", avro, "which this format cannot carry");
}

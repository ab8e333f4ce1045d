//! Records that are no JSON, in every parse mode: what becomes a row, what is kept aside, and what ends the query.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::broker::TestBroker;
use crate::program::{Finished, run, succeed};

/// Offsets 0 to 5: good, no JSON, a string for a number, good, cut off, good.
const RECORDS: &str = r#"{"id":"a","n":1}
not json
{"id":"b","n":"x"}
{"id":"c","n":3}
{"id":"d","n":4
{"id":"e","n":5}
"#;

const RUN: [&str; 6] = ["run", "q.sql", "--storage", "st", "--trigger", "available-now"];
const ROWS: [&str; 6] = ["sql", "SELECT * FROM t ORDER BY id, corrupt", "--storage", "st", "--output", "csv"];

/// What DROPMALFORMED leaves.
const GOOD_ROWS: &str = "id,n,corrupt\na,1,\nc,3,\ne,5,\n";

fn prepare(folder: &Path) -> TestBroker {
    let broker = TestBroker::start(folder);
    broker.produce("ev", RECORDS);
    broker
}

fn write_query(folder: &Path, broker: &TestBroker, mode: &str) {
    let sql = format!(
        "CREATE TABLE ev (id STRING, n BIGINT, broken STRING) USING kafka OPTIONS (
            kafka.bootstrap.servers '{}', subscribe 'ev', startingOffsets 'earliest', 'value.format' = 'json',
            mode '{mode}', columnNameOfCorruptRecord 'broken');
         CREATE STREAMING TABLE t AS SELECT id, n, broken AS corrupt FROM STREAM ev;",
        broker.address
    );
    fs::write(folder.join("q.sql"), sql).unwrap();
}

/// Offset and bytes of each dead letter.
fn dead_letters(folder: &Path) -> Vec<(i64, String)> {
    let letters = folder.join("st/checkpoints/t/dead_letters");
    let mut found = Vec::new();
    for file in fs::read_dir(letters).into_iter().flatten() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        for letter in lines.filter(|line| line.get("end").is_none()) {
            assert_eq!((letter["origin"].as_str(), letter["partition"].as_i64()), (Some("ev"), Some(0)));
            assert!(!letter["reason"].as_str().unwrap().is_empty());
            found.push((letter["offset"].as_i64().unwrap(), letter["text"].as_str().unwrap().to_owned()));
        }
    }
    found.sort();
    found
}

fn all_letters() -> Vec<(i64, String)> {
    let lines: Vec<&str> = RECORDS.lines().collect();
    [1, 2, 4].into_iter().map(|offset: i64| (offset, lines[usize::try_from(offset).unwrap()].to_owned())).collect()
}

fn counts(finished: &Finished, expected: &str) {
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(finished.stderr.contains(expected), "'{expected}' is not in\n{}", finished.stderr);
}

#[test]
fn permissive_keeps_a_row_for_each_and_the_record_in_its_column() {
    let folder = tempfile::tempdir().unwrap();
    let broker = prepare(folder.path());
    write_query(folder.path(), &broker, "PERMISSIVE");
    counts(&run(folder.path(), &RUN), "rows_in=6 rows_out=6 late=0 malformed=3");
    let rows = succeed(folder.path(), &ROWS);
    // What could be read of a record is in its row: the name of b.
    let mut expected = vec!["id,n,corrupt", ",,not json", r#",,"{""id"":""d"",""n"":4""#, "a,1,", "c,3,", "e,5,"];
    expected.push(r#"b,,"{""id"":""b"",""n"":""x""}""#);
    let (mut found, mut expected) = (rows.lines().collect::<Vec<_>>(), expected);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(dead_letters(folder.path()), all_letters());
}

#[test]
fn dropmalformed_keeps_the_bytes_and_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let broker = prepare(folder.path());
    write_query(folder.path(), &broker, "DROPMALFORMED");
    counts(&run(folder.path(), &RUN), "rows_in=6 rows_out=3 late=0 malformed=3");
    assert_eq!(succeed(folder.path(), &ROWS), GOOD_ROWS);
    assert_eq!(dead_letters(folder.path()), all_letters());
}

#[test]
fn failfast_names_the_record_and_goes_on_when_the_mode_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = prepare(folder.path());
    write_query(folder.path(), &broker, "FAILFAST");
    let expected = "error: query 't': topic ev, partition 0, offset 1: malformed record in FAILFAST mode: at byte 0 the \
         record has `not json`, expected a value; the record begins with `not json`\nhelp: set the table's 'mode' to \
         'PERMISSIVE' or 'DROPMALFORMED', which send such records to the dead letters, and start the query again: it \
         goes on with this record\n";
    // As often as it is tried: nothing of the batch gets out.
    for _ in 0..2 {
        let failed = run(folder.path(), &RUN);
        let error: String =
            failed.stderr.lines().skip_while(|line| !line.starts_with("error")).map(|l| format!("{l}\n")).collect();
        assert_eq!((failed.code, error.as_str()), (1, expected));
        assert_eq!(dead_letters(folder.path()), []);
    }
    write_query(folder.path(), &broker, "DROPMALFORMED");
    counts(&run(folder.path(), &RUN), "rows_in=6 rows_out=3 late=0 malformed=3");
    assert_eq!(succeed(folder.path(), &ROWS), GOOD_ROWS);
    assert_eq!(dead_letters(folder.path()), all_letters());
}

#[test]
fn a_mode_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = prepare(folder.path());
    write_query(folder.path(), &broker, "permisive");
    let refused = run(folder.path(), &RUN);
    let expected = "error: table ev (USING kafka): option `mode` is `permisive`, expected PERMISSIVE, FAILFAST or \
         DROPMALFORMED\n  --> q.sql\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (3, expected));
}

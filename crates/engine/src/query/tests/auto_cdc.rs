//! `AUTO CDC` flows: against the answers of real Spark, against a naive model, and what is refused.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use proptest::prelude::*;
use serde_json::Value;

use crate::testing::StreamScript;

/// A script over a stream `s` of changes and a table `t` that follows them.
fn follow(columns: &str, clauses: &str) -> StreamScript {
    StreamScript::new(&format!(
        "CREATE TABLE s ({columns}) USING test; CREATE STREAMING TABLE t FLOW AUTO CDC FROM STREAM s {clauses}"
    ))
}

/// The rows of a table that follows changes, as text.
fn rows_of(script: &StreamScript, table: &str) -> Vec<String> {
    let request = script.table(table).request();
    assert!(request.is_none_or(|request| request.deletes && !request.key_columns.is_empty()));
    super::kept(script, table)
}

/// One case of `tests/oracle/auto_cdc`.
struct Case {
    name: String,
    columns: String,
    clauses: String,
    /// The changes of each batch as JSON objects, and the rows after it.
    steps: Vec<(Vec<String>, Vec<String>)>,
}

fn oracle_file(name: &str) -> Vec<String> {
    let path = format!("{}/../../tests/oracle/auto_cdc/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.split("=== ").skip(1).map(str::to_owned).collect()
}

fn cases() -> Vec<Case> {
    let answers = oracle_file("answers.txt");
    let parse = |(text, answer): (&String, &String)| {
        let mut lines = text.lines();
        let mut next = || lines.next().unwrap().to_owned();
        let (name, columns, clauses) = (next(), next(), next());
        assert_eq!(answer.lines().next(), Some(name.as_str()));
        let names: Vec<&str> = columns.split(", ").map(|column| column.split(' ').next().unwrap()).collect();
        let object = |row: &Value| {
            let cells = row.as_array().unwrap().iter().cloned();
            Value::Object(names.iter().map(|name| (*name).to_owned()).zip(cells).collect()).to_string()
        };
        let batches = lines.filter_map(|line| line.strip_prefix("> "));
        let batches = batches.map(|line| {
            let rows: Vec<Value> = serde_json::from_str(line).unwrap();
            rows.iter().map(object).collect::<Vec<_>>()
        });
        let results = answer.split("> ").skip(1);
        let results =
            results.map(|step| step.lines().skip(1).filter(|line| !line.is_empty()).map(str::to_owned).collect());
        let steps: Vec<(Vec<String>, Vec<String>)> = batches.zip(results).collect();
        assert_eq!(steps.len(), answer.matches("> ").count());
        Case { name, columns, clauses, steps }
    };
    oracle_file("cases.txt").iter().zip(&answers).map(parse).collect()
}

#[test]
fn the_rows_are_sparks_after_each_batch() {
    let cases = cases();
    assert!(cases.len() > 15);
    for case in &cases {
        let mut script = follow(&case.columns, &case.clauses);
        for (at, (changes, expected)) in case.steps.iter().enumerate() {
            script.settings.query.parallelism = 1 + at % 3;
            // Each `process` is a restart.
            script = script.add("s", &changes.join("\n")).process();
            assert_eq!(&rows_of(&script, "t"), expected, "{}, batch {}", case.name, at + 1);
        }
    }
}

#[test]
fn batches_and_order_of_arrival_change_nothing() {
    for case in cases() {
        let expected = &case.steps.last().unwrap().1;
        let changes: Vec<&String> = case.steps.iter().flat_map(|(changes, _)| changes).collect();
        let run = |batches: Vec<Vec<&String>>, what: &str| {
            let mut script = follow(&case.columns, &case.clauses);
            for batch in batches {
                let lines: Vec<&str> = batch.into_iter().map(String::as_str).collect();
                script = script.add("s", &lines.join("\n")).process();
            }
            assert_eq!(&rows_of(&script, "t"), expected, "{}, {what}", case.name);
        };
        run(vec![changes.clone()], "all at once");
        run(vec![changes.iter().rev().copied().collect()], "backwards");
        run(changes.iter().rev().map(|change| vec![*change]).collect(), "backwards one by one");
        run(vec![changes.clone(), changes], "twice");
    }
}

/// A change: key, value, whether it deletes; its place in the list is its sequence.
type Change = (u8, u8, bool);

/// What is true at the end, from all changes in order.
fn model(changes: &[Change], history: bool) -> Vec<String> {
    let mut rows = Vec::new();
    let mut open: BTreeMap<u8, (u8, usize, usize)> = BTreeMap::new();
    for (sequence, (key, value, deletes)) in changes.iter().enumerate() {
        let row = |(value, start, sequence): (u8, usize, usize), end: &str| {
            let times = format!("{start} {end} {{__RECORD_START_AT: {sequence}}}");
            format!("{key} {value} {sequence} {times}")
        };
        match open.get_mut(key) {
            Some(known) if !deletes && known.0 == *value => known.2 = sequence,
            Some(known) => {
                rows.push(row(*known, &sequence.to_string()));
                open.remove(key);
            }
            None => {}
        }
        if !deletes && !open.contains_key(key) {
            open.insert(*key, (*value, sequence, sequence));
        }
    }
    for (key, (value, start, sequence)) in open {
        rows.push(match history {
            true => format!("{key} {value} {sequence} {start} null {{__RECORD_START_AT: {sequence}}}"),
            false => format!("{key} {value} {sequence} {{deleteSequence: null, upsertSequence: {sequence}}}"),
        });
    }
    let is_now = |row: &String| history || row.contains("upsertSequence");
    rows.retain(is_now);
    rows.sort();
    rows
}

fn check_model(changes: &[Change], order: &[usize], batches: &[usize], history: bool) {
    let clauses = "KEYS (k) APPLY AS DELETE WHEN gone SEQUENCE BY seq COLUMNS * EXCEPT (gone)";
    let history_clauses = if history { " STORED AS SCD TYPE 2 TRACK HISTORY ON (v)" } else { "" };
    let mut script = follow("k INT, v INT, gone BOOLEAN, seq INT", &format!("{clauses}{history_clauses}"));
    let mut left = order.to_vec();
    for (at, size) in batches.iter().chain(&[usize::MAX]).enumerate() {
        let batch: Vec<usize> = left.drain(..left.len().min(*size)).collect();
        if batch.is_empty() {
            continue;
        }
        // Several partitions, so that several threads send their rows at once.
        for (partition, rows) in batch.chunks(3).enumerate() {
            let line = |sequence: &usize| {
                let (k, v, gone) = changes[*sequence];
                serde_json::json!({"k": k, "v": v, "gone": gone, "seq": sequence}).to_string()
            };
            let lines: Vec<String> = rows.iter().map(line).collect();
            script = script.add_to("s", &(partition % 2).to_string(), &lines.join("\n"));
        }
        script.settings.query.parallelism = 1 + at % 3;
        script.settings.query.state.snapshot_every_batches = 1 + at as u64 % 2;
        script.settings.query.state.snapshot_min_bytes = 0;
        script = script.process();
    }
    assert_eq!(rows_of(&script, "t"), model(changes, history), "history {history}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_order_in_any_batches_is_what_the_changes_say_in_their_order(
        changes in prop::collection::vec((0_u8..3, 0_u8..3, prop::bool::weighted(0.25)), 1..40),
        seed in prop::collection::vec(any::<u32>(), 40),
        batches in prop::collection::vec(1_usize..12, 0..6),
        history: bool,
    ) {
        let mut order: Vec<usize> = (0..changes.len()).collect();
        order.sort_by_key(|at| seed[*at]);
        check_model(&changes, &order, &batches, history);
    }
}

#[test]
fn a_flow_of_its_own_and_declared_columns() {
    let script = StreamScript::new(
        "CREATE TABLE s (id INT, v STRING, op STRING, seq INT) USING test;
         CREATE STREAMING TABLE t (seq BIGINT, id BIGINT, v STRING);
         CREATE FLOW f COMMENT 'x' AS AUTO CDC INTO t
         FROM (SELECT id, upper(v) AS v, seq, op FROM STREAM s WHERE seq > 0) AS c
         KEYS (ID) COLUMNS * EXCEPT (op) STORED AS SCD TYPE 1 SEQUENCE BY c.seq APPLY AS DELETE WHEN c.op = 'D'",
    )
    .add("s", r#"{"id": 1, "v": "a", "seq": 1} {"id": 2, "v": "b", "seq": -1} {"id": 3, "v": "c", "seq": 2}"#)
    .process()
    .add("s", r#"{"id": 3, "op": "D", "seq": 3}"#)
    .process();
    assert_eq!(rows_of(&script, "t"), ["1 A 1 {deleteSequence: null, upsertSequence: 1}"]);
    let types: Vec<String> =
        script.table("t").columns().fields().iter().take(3).map(|field| field.data_type().to_string()).collect();
    assert_eq!(types, ["Int64", "Utf8", "Int64"]);
    let operators = &script.progress().last().unwrap().state_operators.clone();
    assert_eq!((operators[0].operator_name.as_str(), operators[0].num_rows_total), ("autoCdc", 2));
}

#[test]
fn what_has_not_changed_is_not_written_again() {
    let script =
        follow("id INT, v INT, seq INT", "KEYS (id) SEQUENCE BY seq STORED AS SCD TYPE 2 TRACK HISTORY ON (v)")
            .add("s", r#"{"id": 1, "v": 1, "seq": 10} {"id": 1, "v": 2, "seq": 20} {"id": 1, "v": 3, "seq": 30}"#)
            .process();
    let before = script.written("t").len();
    // Between the first and the second: the first ends earlier, the new one is there, the others stay as they are.
    let script = script.add("s", r#"{"id": 1, "v": 9, "seq": 15}"#).process();
    let written: usize = script.written("t")[before..].iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(written, 2);
    let before = script.written("t").len();
    let script = script.add("s", r#"{"id": 1, "v": 9, "seq": 15} {"id": 1, "v": 3, "seq": 30}"#).process();
    assert_eq!(script.written("t").len(), before, "the same changes again");
    // A delete of what was never there is remembered and not shown.
    let gone = |batch: &arrow::array::RecordBatch| batch.columns().last().unwrap().as_boolean().true_count();
    assert_eq!(script.written("t").iter().map(gone).sum::<usize>(), 0);
}

#[test]
fn changes_without_key_or_sequence_fail_the_batch() {
    let script = || follow("id INT, v INT, seq INT", "KEYS (id, v) SEQUENCE BY seq");
    script()
        .add("s", r#"{"id": 1, "v": null, "seq": 1}"#)
        .process_fails("[AUTOCDC_MICROBATCH_VALIDATION.NULL_KEY] 1 changes have no key: their column 'v' is null");
    script().add("s", r#"{"id": 1, "v": 1}"#).process_fails("[AUTOCDC_MICROBATCH_VALIDATION.NULL_SEQUENCE] 1 changes");
}

const STREAM: &str = "CREATE TABLE s (id INT, v STRING, op STRING, seq INT, m MAP<STRING, INT>) USING test;";

/// What is said of `CREATE STREAMING TABLE t FLOW AUTO CDC ...`, or of whole statements.
fn check(sql: &str, expected: &str) {
    let sql = if sql.starts_with("CREATE") {
        sql.to_owned()
    } else {
        format!("CREATE STREAMING TABLE t FLOW AUTO CDC {sql}")
    };
    let found = StreamScript::refusal(&format!("{STREAM}\n{sql}")).unwrap_or_else(|| "accepted".to_owned());
    assert_eq!(found, expected, "{sql}");
}

#[test]
fn clauses_come_in_any_order_after_the_keys() {
    for accepted in [
        "FROM STREAM s KEYS (id) SEQUENCE BY seq",
        "FROM STREAM(s) AS x KEYS (id) SEQUENCE BY x.seq",
        "FROM STREAM s KEYS (id, v) APPLY AS DELETE WHEN op = 'D' SEQUENCE BY seq COLUMNS (id, v) STORED AS SCD TYPE 2",
        "FROM STREAM s KEYS (id) TRACK HISTORY ON * EXCEPT (op) STORED AS SCD TYPE 2 COLUMNS * EXCEPT (seq) SEQUENCE BY seq",
        "FROM STREAM s KEYS (id) SEQUENCE BY struct(seq, v) APPLY AS DELETE WHEN op = 'D' OR v IS NULL",
        "FROM (SELECT * FROM STREAM s WHERE seq > 1) KEYS (id) SEQUENCE BY seq STORED AS SCD TYPE 1",
        "FROM (SELECT id, v, seq FROM STREAM s UNION ALL SELECT id, v, seq FROM STREAM s) KEYS (id) SEQUENCE BY seq",
        "CREATE STREAMING TABLE t COMMENT 'x' TBLPROPERTIES ('outputMode' = 'update') FLOW AUTO CDC FROM STREAM s KEYS (id) \
         SEQUENCE BY seq",
    ] {
        check(accepted, "accepted");
    }
}

#[test]
fn clauses_that_are_wrong_are_named() {
    for (sql, expected) in [
        (
            "FROM s KEYS (id) SEQUENCE BY seq",
            "2:45: the source of AUTO CDC is not a stream; help: write FROM STREAM t, or a query that reads one in parentheses",
        ),
        (
            "FROM STREAM s JOIN STREAM s ON true KEYS (id) SEQUENCE BY seq",
            "2:54: expected KEYS after the stream of AUTO CDC, found 'JOIN'; help: put what is more than one stream into a query in parentheses: FROM (SELECT ... FROM STREAM a WHERE ...) KEYS (...)",
        ),
        (
            "FROM STREAM s SEQUENCE BY seq",
            "2:69: expected KEYS and the key columns in parentheses after the stream of AUTO CDC, found the end of the statement",
        ),
        ("FROM STREAM s KEYS id SEQUENCE BY seq", "2:59: expected ( before the key columns after KEYS, found 'id'"),
        (
            "FROM STREAM s KEYS (a.id) SEQUENCE BY seq",
            "2:61: expected a comma: columns stand here by their own name, without a table or a struct, found '.'",
        ),
        ("FROM STREAM s KEYS () SEQUENCE BY seq", "2:59: expected the key columns after KEYS, found '()'"),
        (
            "FROM STREAM s KEYS (id)",
            "2:63: expected SEQUENCE BY and what orders the changes of a key, found the end of the statement; help: add it: SEQUENCE BY a column that grows with each change of a key, such as its time or version",
        ),
        (
            "FROM STREAM s KEYS (id) SEQUENCE BY seq COLUMNS v",
            "2:88: expected ( before the columns after COLUMNS, found 'v'",
        ),
        (
            "FROM STREAM s KEYS (id) SEQUENCE BY seq COLUMNS *",
            "2:89: expected EXCEPT and columns in parentheses after COLUMNS *, found the end of the statement",
        ),
        (
            "FROM STREAM s KEYS (id) SEQUENCE BY seq STORED AS SCD TYPE 3",
            "2:99: expected 1 or 2 after STORED AS SCD TYPE, found '3'",
        ),
        (
            "FROM STREAM s KEYS (id) SEQUENCE BY seq STORED AS SCD TYPE 2 STORED AS SCD TYPE 2",
            "2:101: a clause of AUTO CDC stands twice; help: keep one of the two",
        ),
        (
            "FROM STREAM s KEYS (id) SEQUENCE BY seq TRACK HISTORY ON (v)",
            "2:80: TRACK HISTORY ON is for STORED AS SCD TYPE 2: type 1 has no history; help: add STORED AS SCD TYPE 2, or leave TRACK HISTORY ON out",
        ),
        (
            "FROM STREAM s KEYS (id) IGNORE NULL UPDATES SEQUENCE BY seq",
            "2:64: expected one of SEQUENCE BY, APPLY AS DELETE WHEN, COLUMNS, STORED AS SCD TYPE, TRACK HISTORY ON, found 'IGNORE'",
        ),
        (
            "FROM STREAM s KEYS (id) APPLY AS TRUNCATE WHEN op = 'T' SEQUENCE BY seq",
            "2:73: expected DELETE WHEN and a condition after APPLY AS, found 'TRUNCATE'",
        ),
        (
            "CREATE MATERIALIZED VIEW t FLOW AUTO CDC FROM STREAM s KEYS (id) SEQUENCE BY seq",
            "2:28: only a STREAMING TABLE can follow a stream of changes; help: write CREATE STREAMING TABLE t FLOW AUTO CDC FROM STREAM ...",
        ),
    ] {
        check(sql, expected);
    }
}

#[test]
fn columns_that_do_not_fit_are_named() {
    for (sql, expected) in [
        (
            "FROM STREAM s KEYS (nope) SEQUENCE BY seq",
            "2:60: [AUTOCDC_COLUMNS_NOT_FOUND_IN_SCHEMA] column 'nope' is not among the columns of the stream; help: did you mean 'op'?",
        ),
        ("FROM STREAM s KEYS (id) SEQUENCE BY sq", "2:76: column 'sq' cannot be resolved; help: did you mean 'seq'?"),
        (
            "FROM STREAM s KEYS (id) SEQUENCE BY seq COLUMNS (v, seq)",
            "2:60: [AUTOCDC_KEY_NOT_IN_SELECTED_SCHEMA] COLUMNS leaves out the key 'id'; help: the target needs its keys: add the column to COLUMNS, or take it out of EXCEPT",
        ),
        ("FROM STREAM s KEYS (id, ID) SEQUENCE BY seq", "2:64: the key 'id' is named twice; help: name each key once"),
        (
            "FROM STREAM s KEYS (m) SEQUENCE BY seq",
            "2:60: the key 'm' is a MAP, which has no order; help: use a column of another type, such as the map's text: to_json(column)",
        ),
        (
            "FROM STREAM s KEYS (id) SEQUENCE BY m",
            "2:26: SEQUENCE BY gives MAP<STRING, INT>, which has no order; help: use a number, a time, a string, or a struct of them",
        ),
        (
            "FROM STREAM s KEYS (id) SEQUENCE BY seq APPLY AS DELETE WHEN seq",
            "2:26: APPLY AS DELETE WHEN gives INT, expected BOOLEAN; help: write a condition, such as operation = 'DELETE'",
        ),
        (
            "FROM STREAM s KEYS (id) SEQUENCE BY seq STORED AS SCD TYPE 2 TRACK HISTORY ON (id)",
            "2:119: [AUTOCDC_COLUMNS_NOT_FOUND_IN_SCHEMA] column 'id' is not among the selected columns that are no keys; help: there are: v, op, seq, m",
        ),
        (
            "FROM (SELECT *, 1 AS __end_at FROM STREAM s) KEYS (id) SEQUENCE BY seq STORED AS SCD TYPE 2",
            "2:26: the stream has a column '__end_at', a name that AUTO CDC keeps for its own; help: give it another name: FROM (SELECT column AS other_name, ... FROM STREAM t)",
        ),
        ("FROM (SELECT *, 1 AS __end_at FROM STREAM s) KEYS (id) SEQUENCE BY seq", "accepted"),
        (
            "FROM (SELECT id, count(*) AS n FROM STREAM s GROUP BY id) KEYS (id) SEQUENCE BY n",
            "append output mode is not possible for a GROUP BY without a watermark on its window or event time: no group is ever final; help: add a watermark (FROM STREAM t WATERMARK ts DELAY OF INTERVAL 10 SECONDS, GROUP BY window(ts, ...)), or use output mode update or complete",
        ),
        (
            "CREATE STREAMING TABLE t (id INT); CREATE FLOW f AS AUTO CDC INTO t FROM STREAM s KEYS (id) SEQUENCE BY seq",
            "2:53: the changes have a column 'v', which the target does not have; help: the target has: id; select those with COLUMNS (...)",
        ),
        (
            "CREATE STREAMING TABLE t TBLPROPERTIES ('outputMode' = 'append') FLOW AUTO CDC FROM STREAM s KEYS (id) SEQUENCE BY seq",
            "flow 't' replaces rows of its target (AUTO CDC), found output mode append; help: leave the output mode out: it is update",
        ),
        (
            "CREATE STREAMING TABLE t; CREATE FLOW f AS AUTO CDC INTO t FROM STREAM s KEYS (id) SEQUENCE BY seq; CREATE FLOW g AS INSERT INTO t BY NAME SELECT * FROM STREAM s",
            "2:58: table 't' follows changes (AUTO CDC), and flows 'g' and 'f' write to it; help: let one AUTO CDC flow write to it: FROM (SELECT ... FROM STREAM a UNION ALL SELECT ... FROM STREAM b)",
        ),
    ] {
        check(sql, expected);
    }
}

//! Output mode update over rows that are replaced: aggregates over groups and over the first rows of partitions, against a
//! naive model that computes everything anew from all rows so far.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{kept, rows, update, update_sql};
use crate::testing::StreamScript;

const LAST_TWO: &str = "SELECT k, v FROM (
     SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts DESC, v) AS rn FROM STREAM ev) WHERE rn <= 2";

#[test]
fn the_mean_of_the_last_rows_of_each_key() {
    let script = update(&format!("SELECT k, avg(v) AS a, sum(v) AS s, count(*) AS n FROM ({LAST_TWO}) GROUP BY k"))
        .add("ev", &rows(&[("a", 1, 1), ("a", 3, 2), ("b", 10, 1)]))
        .process()
        .check("out", &["a 2.0 4 2", "b 10.0 10 1"])
        .add("ev", &rows(&[("a", 9, 3)]))
        .process()
        .check("out", &["a 2.0 4 2", "a 6.0 12 2", "b 10.0 10 1"])
        // Older than both: nothing is replaced, and nothing is told.
        .add("ev", &rows(&[("a", 100, 0)]))
        .process()
        .check("out", &["a 2.0 4 2", "a 6.0 12 2", "b 10.0 10 1"]);
    let request = script.table("out").request().unwrap();
    assert_eq!((request.key_columns, request.deletes), (vec!["k".to_owned()], false));
    let operators = script.progress().last().unwrap().state_operators.clone();
    assert_eq!(operators.iter().map(|operator| operator.num_rows_total).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_group_that_loses_its_rows_is_deleted() {
    let script =
        update("SELECT n, count(*) AS keys FROM (SELECT k, count(*) AS n FROM STREAM ev GROUP BY k) GROUP BY n")
            .add("ev", &rows(&[("a", 1, 0), ("b", 1, 0)]))
            .process();
    assert_eq!(kept(&script, "out"), ["1 2"]);
    let script = script.add("ev", &rows(&[("a", 1, 0)])).process();
    assert_eq!(kept(&script, "out"), ["1 1", "2 1"]);
    let script = script.add("ev", &rows(&[("b", 1, 0)])).process();
    assert_eq!(kept(&script, "out"), ["2 2"]);
    let operators = script.progress().last().unwrap().state_operators.clone();
    assert_eq!(operators.iter().map(|operator| operator.num_rows_total).collect::<Vec<_>>(), [1, 2]);
    // It comes again as any other.
    let script = script.add("ev", &rows(&[("c", 1, 0)])).process();
    assert_eq!(kept(&script, "out"), ["1 1", "2 2"]);
    let request = script.table("out").request().unwrap();
    assert_eq!((request.key_columns, request.deletes), (vec!["n".to_owned()], true));
}

/// A batch writes a group to the disk, and the group goes before the batch ends: whoever restores the state from the
/// changelog must not find it.
#[test]
fn a_group_that_went_after_it_was_on_the_disk_does_not_come_back() {
    let sizes = "SELECT n, count(*) AS keys FROM (SELECT k, count(*) AS n FROM STREAM ev GROUP BY k) GROUP BY n";
    let mut script = StreamScript::new(&update_sql(sizes).replace("OPTIONS (batchesPerTrigger '1')", ""));
    script.settings.query.state_memory_bytes = 1;
    // One batch, row after row: `a` is among the keys with one row until its second comes.
    let script = script.add("ev", &rows(&[("a", 1, 0)])).add("ev", &rows(&[("a", 1, 0)])).process();
    assert_eq!(kept(&script, "out"), ["2 1"]);
    let script = script.add("ev", &rows(&[("b", 1, 0)])).process();
    assert_eq!(kept(&script, "out"), ["1 1", "2 1"]);
    let script = script.add("ev", &rows(&[("b", 1, 0)])).process();
    assert_eq!(kept(&script, "out"), ["2 2"]);
    let operators = script.progress().last().unwrap().state_operators.clone();
    assert_eq!(operators.iter().map(|operator| operator.num_rows_total).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn values_that_cannot_be_subtracted_are_taken_back() {
    let values = ["1e308", "1e308", "\"Infinity\"", "\"NaN\"", "null", "0.1", "0.2"];
    let mut script = StreamScript::new(
        "CREATE TABLE ev (k STRING, d DOUBLE, n INT) USING test OPTIONS (batchesPerTrigger '1');
         CREATE SINK out USING test OPTIONS (outputMode 'update');
         CREATE FLOW f AS INSERT INTO out SELECT k, sum(d) AS s, max(d) AS m FROM (
           SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY n DESC) AS rn FROM STREAM ev) WHERE rn <= 2)
         GROUP BY k",
    );
    let mut found = Vec::new();
    for (n, value) in values.into_iter().enumerate() {
        script = script.add("ev", &format!(r#"{{"k": "a", "d": {value}, "n": {n}}}"#)).process();
        found.extend(kept(&script, "out"));
    }
    assert_eq!(
        found,
        [
            "a 1e308 1e308",
            "a inf 1e308",
            "a inf inf",
            "a NaN NaN",
            "a NaN NaN",
            "a 0.1 0.1",
            "a 0.30000000000000004 0.2"
        ]
    );
}

#[test]
fn what_could_not_be_taken_back_is_refused() {
    let check = |query: &str, expected: &str| {
        let sql = format!(
            "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test; CREATE TABLE names (k STRING, name STRING) USING test;
             CREATE SINK out USING test OPTIONS (outputMode 'update');
             CREATE FLOW f AS INSERT INTO out {query}"
        );
        let found = StreamScript::refusal(&sql).unwrap_or_else(|| "accepted".to_owned());
        assert!(found.contains(expected), "{query}: {found}");
    };
    let counts = "SELECT k, count(*) AS n, max(ts) AS ts FROM STREAM ev GROUP BY k";
    check(
        &format!("SELECT k, first(v) AS f FROM ({LAST_TWO}) GROUP BY k"),
        "first is not possible over groups, or over the first rows of partitions, in output mode update",
    );
    check(&format!("SELECT k, collect_list(v) AS l FROM ({LAST_TWO}) GROUP BY k"), "collect_list is not possible");
    check(&format!("SELECT n, count(*) AS c, max(now()) AS t FROM ({counts}) GROUP BY n"), "current_timestamp");
    let numbered = "SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM STREAM ev";
    for condition in
        ["rn <= 10 AND ts > now() - INTERVAL 1 HOUR", "rn <= 10 AND ts < now()", "rn <= 1 AND v > 10 * rand()"]
    {
        let function = if condition.contains("now") { "current_timestamp" } else { "random" };
        check(&format!("SELECT k, avg(v) AS a FROM ({numbered}) WHERE {condition} GROUP BY k"), function);
    }
    check(
        &format!(
            "SELECT k, sum(v) AS s FROM (SELECT k, v * rand() AS v, rn FROM ({numbered})) WHERE rn <= 2 GROUP BY k"
        ),
        "random",
    );
    check(
        &format!(
            "SELECT n, count(*) AS c FROM (SELECT n, name FROM ({counts}) c JOIN names ON c.k = names.k) GROUP BY n"
        ),
        "over a join with groups",
    );
    check(
        &format!("SELECT count(*) AS c FROM ({counts}) GROUP BY n"),
        "only possible here if the target can be told that a group is gone",
    );
    check(
        &format!("SELECT n, count(*) AS c FROM ({counts}) GROUP BY n HAVING count(*) > 1"),
        "only possible here if the target can be told that a group is gone",
    );
    check(
        &format!("SELECT * FROM (SELECT *, row_number() OVER (ORDER BY n DESC) AS rn FROM ({counts})) WHERE rn <= 3"),
        "other than GROUP BY that reads the groups of another (top-0 reads aggregate-0)",
    );
    check(
        "SELECT window(window_time(w), '2 minutes') AS w2, sum(n) AS n FROM (
           SELECT window(ts, '1 minute') AS w, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS GROUP BY 1)
         GROUP BY 1",
        "the watermark forgets groups whose rows may still be replaced",
    );
}

/// A row: key, what it is ordered by, value.
type Row = (u8, u8, Option<u8>);

/// A query, how its rows are made of all rows so far, and whether its groups may go.
struct Case {
    query: &'static str,
    model: fn(&[Row]) -> Vec<String>,
    deletes: bool,
}

/// The first two rows of each key, the largest first.
fn first_two(all: &[Row]) -> Vec<Row> {
    let mut keys: BTreeMap<u8, Vec<Row>> = BTreeMap::new();
    all.iter().for_each(|row| keys.entry(row.0).or_default().push(*row));
    let largest_first = |mut rows: Vec<Row>| {
        rows.sort_by(|a, b| b.1.cmp(&a.1).then(a.2.cmp(&b.2)));
        rows.truncate(2);
        rows
    };
    keys.into_values().flat_map(largest_first).collect()
}

/// Count of rows, count, sum and the smallest of the values, by a key.
fn folded(rows: &[Row], key: impl Fn(&Row) -> String) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<Option<u8>>> = BTreeMap::new();
    rows.iter().for_each(|row| groups.entry(key(row)).or_default().push(row.2));
    let text = |(key, values): (String, Vec<Option<u8>>)| {
        let there: Vec<u64> = values.iter().flatten().map(|value| u64::from(*value)).collect();
        let or_null = |value: Option<u64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
        let sum = (!there.is_empty()).then(|| there.iter().sum());
        let smallest = or_null(there.iter().min().copied());
        let mut different = there.clone();
        different.sort_unstable();
        different.dedup();
        format!("{key} {} {} {} {smallest} {}", values.len(), there.len(), or_null(sum), different.len())
    };
    let mut out: Vec<String> = groups.into_iter().map(text).collect();
    out.sort();
    out
}

/// How many rows each key has.
fn counts(all: &[Row]) -> BTreeMap<u8, u64> {
    let mut counts = BTreeMap::new();
    all.iter().for_each(|row| *counts.entry(row.0).or_default() += 1);
    counts
}

/// How many keys have so many rows.
fn histogram(all: &[Row]) -> BTreeMap<u64, u64> {
    let mut histogram = BTreeMap::new();
    counts(all).values().for_each(|n| *histogram.entry(*n).or_default() += 1);
    histogram
}

const FUNCTIONS: &str = "count(*) AS r, count(v) AS c, sum(v) AS s, min(v) AS m, count(DISTINCT v) AS d";
const FIRST: &str = "(SELECT k, x, v FROM (
    SELECT *, row_number() OVER (PARTITION BY k ORDER BY x DESC, v NULLS FIRST) AS rn FROM STREAM ev) WHERE rn <= 2)";
const COUNTS: &str = "(SELECT k, count(*) AS n FROM STREAM ev GROUP BY k)";

const CASES: [Case; 6] = [
    Case {
        query: "SELECT k, {f} FROM {first} GROUP BY k",
        model: |all| folded(&first_two(all), |row| row.0.to_string()),
        deletes: false,
    },
    Case {
        query: "SELECT x, {f} FROM {first} GROUP BY x",
        model: |all| folded(&first_two(all), |row| row.1.to_string()),
        deletes: true,
    },
    Case {
        query: "SELECT k, {f} FROM {first} WHERE x < 3 GROUP BY k",
        model: |all| {
            let rows: Vec<Row> = first_two(all).into_iter().filter(|row| row.1 < 3).collect();
            folded(&rows, |row| row.0.to_string())
        },
        deletes: true,
    },
    Case {
        query: "SELECT n, count(*) AS c FROM {counts} GROUP BY n",
        model: |all| histogram(all).iter().map(|(n, keys)| format!("{n} {keys}")).collect(),
        deletes: true,
    },
    Case {
        query: "SELECT max(n) AS m, sum(n) AS s FROM {counts}",
        model: |all| {
            let counts = counts(all);
            let sum: u64 = counts.values().sum();
            vec![format!("{} {sum}", counts.values().max().unwrap())]
        },
        deletes: false,
    },
    Case {
        query: "SELECT c, count(*) AS d FROM (SELECT n, count(*) AS c FROM {counts} GROUP BY n) GROUP BY c",
        model: |all| {
            let mut of_counts: BTreeMap<u64, u64> = BTreeMap::new();
            histogram(all).values().for_each(|keys| *of_counts.entry(*keys).or_default() += 1);
            of_counts.iter().map(|(c, d)| format!("{c} {d}")).collect()
        },
        deletes: true,
    },
];

/// One batch of a case: how many rows, on how many threads, whether memory is short, how often there are snapshots.
type Batch = (usize, usize, bool, u64);

/// All rows that are left.
const LAST: Batch = (usize::MAX, 2, true, 2);

fn check_model(case: &Case, all: &[Row], batches: &[Batch]) {
    let query = case.query.replace("{f}", FUNCTIONS).replace("{first}", FIRST).replace("{counts}", COUNTS);
    let mut script = StreamScript::new(&format!(
        "CREATE TABLE ev (k INT, x INT, v BIGINT) USING test;
         CREATE SINK out USING test OPTIONS (outputMode 'update');
         CREATE FLOW f AS INSERT INTO out {query}"
    ));
    let (mut left, mut seen) = (all.to_vec(), Vec::new());
    for (at, (size, parallelism, is_short, snapshot_every)) in batches.iter().chain(&[LAST]).enumerate() {
        let batch: Vec<Row> = left.drain(..left.len().min(*size)).collect();
        if batch.is_empty() {
            continue;
        }
        seen.extend_from_slice(&batch);
        // Several partitions, so that several threads send their rows at once, each of them bit by bit.
        for (partition, rows) in batch.chunks(3).enumerate() {
            let lines = rows.iter().map(|(k, x, v)| serde_json::json!({"k": k, "x": x, "v": v}).to_string());
            script = script.add_to("ev", &(partition % 2).to_string(), &lines.collect::<Vec<_>>().join("\n"));
        }
        script.settings.query.parallelism = *parallelism;
        script.settings.query.state_memory_bytes = if *is_short { 1 } else { 1 << 30 };
        script.settings.query.state.snapshot_every_batches = *snapshot_every;
        script = script.process();
        let mut expected = (case.model)(&seen);
        expected.sort();
        assert_eq!(kept(&script, "out"), expected, "{query}, after batch {at}");
    }
    assert_eq!(script.table("out").request().unwrap().deletes, case.deletes, "{query}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, ..ProptestConfig::default() })]

    #[test]
    fn the_rows_are_those_of_a_batch_query_after_each_batch(
        all in prop::collection::vec((0_u8..5, 0_u8..6, prop::option::weighted(0.8, 0_u8..4)), 1..50),
        batches in prop::collection::vec((1_usize..12, 1_usize..4, any::<bool>(), 1_u64..4), 0..7),
    ) {
        for case in &CASES {
            check_model(case, &all, &batches);
        }
    }
}

//! A query is changed between two runs: told, refused, rebuilt.

use std::fs;
use std::path::Path;

use crate::broker::TestBroker;
use crate::program::{run, succeed};

const RUN: [&str; 6] = ["run", "q.sql", "--storage", "st", "--trigger", "available-now"];

fn write_query(folder: &Path, functions: &str) {
    write_query_over(folder, "k STRING, v BIGINT", functions);
}

fn write_query_over(folder: &Path, columns: &str, functions: &str) {
    let sql = format!(
        "CREATE TABLE ev ({columns}) USING json OPTIONS (path 'in', maxFilesPerTrigger '1');
         CREATE SINK totals USING sqlite OPTIONS (path 'out.db', table 'totals', outputMode 'update');
         CREATE FLOW totals_flow AS INSERT INTO totals SELECT k, {functions} FROM STREAM ev GROUP BY k;"
    );
    fs::write(folder.join("q.sql"), sql).unwrap();
}

fn totals(folder: &Path) -> String {
    succeed(folder, &["sql", "SELECT * FROM totals ORDER BY k", "--storage", "st", "--output", "csv"])
}

#[test]
fn a_query_over_files_is_rebuilt_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("in")).unwrap();
    // More batches than the log of files keeps apart.
    for n in 0..25 {
        fs::write(folder.join(format!("in/{n:02}.json")), format!("{{\"k\":\"k{}\",\"v\":{n}}}\n", n % 2)).unwrap();
    }
    write_query(folder, "count(*) AS n");
    succeed(folder, &RUN);
    assert_eq!(totals(folder), "k,n\nk0,13\nk1,12\n");

    // Its functions may be others, but not its keys.
    let sql = fs::read_to_string(folder.join("q.sql")).unwrap();
    let sql = sql.replace("count(*)", "min(v)").replace("GROUP BY k", "GROUP BY k, v < 100");
    fs::write(folder.join("q.sql"), sql).unwrap();
    let misfit = "the state of operator 'aggregate-0' does not fit: its keys were k, and are k, v <";
    let refused = run(folder, &RUN);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains(misfit) && refused.stderr.contains("--rebuild"), "{}", refused.stderr);
    let told = run(folder, &["dry-run", "q.sql", "--storage", "st"]);
    assert!(told.code == 3 && told.stdout.contains("its state does not fit"), "{}{}", told.stdout, told.stderr);
    let unknown = run(folder, &[&RUN[..], &["--rebuild", "totals"]].concat());
    assert!(unknown.code == 2 && unknown.stderr.contains("its queries are totals_flow"), "{}", unknown.stderr);
    assert_eq!(totals(folder), "k,n\nk0,13\nk1,12\n");

    let told = succeed(folder, &["dry-run", "q.sql", "--storage", "st", "--rebuild", "totals_flow"]);
    assert!(told.contains("computed anew from the query's start"), "{told}");
    succeed(folder, &[&RUN[..], &["--rebuild", "totals_flow"]].concat());
    assert_eq!(totals(folder), "k,n\nk0,0\nk1,1\n");
    fs::write(folder.join("in/25.json"), "{\"k\":\"k1\",\"v\":-5}\n").unwrap();
    succeed(folder, &RUN);
    assert_eq!(totals(folder), "k,n\nk0,0\nk1,-5\n");
}

#[test]
fn a_source_gets_columns_and_wider_types_and_the_query_functions() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("in")).unwrap();
    fs::write(folder.join("in/0.json"), "{\"k\":\"a\",\"v\":3}\n{\"k\":\"b\",\"v\":4}\n").unwrap();
    write_query_over(folder, "k STRING, v INT", "max(v) AS m, CAST(0 AS BIGINT) AS n");
    succeed(folder, &RUN);
    assert_eq!(totals(folder), "k,m,n\na,3,0\nb,4,0\n");

    let functions = "max(v) AS m, count(w) AS n";
    fs::write(folder.join("in/1.json"), "{\"k\":\"a\",\"v\":5000000000,\"w\":1}\n").unwrap();
    write_query_over(folder, "k STRING, v BIGINT, w INT", functions);
    let told = succeed(folder, &["dry-run", "q.sql", "--storage", "st"]);
    let migrated = "its state is migrated: max(v) INT to BIGINT; max(v) keeps its state; count(w) begins with batch 1";
    assert!(told.contains(migrated), "{told}");
    succeed(folder, &RUN);
    assert_eq!(totals(folder), "k,m,n\na,5000000000,1\nb,4,0\n");
    fs::write(folder.join("in/2.json"), "{\"k\":\"b\",\"v\":1,\"w\":2}\n").unwrap();
    succeed(folder, &RUN);
    assert_eq!(totals(folder), "k,m,n\na,5000000000,1\nb,4,1\n");
    let state = ["state", "read", "--storage", "st", "--query", "totals_flow", "--operator", "0", "--output", "csv"];
    assert!(succeed(folder, &state).contains("a,5000000000,1,"), "{}", succeed(folder, &state));

    write_query_over(folder, "k STRING, v INT, w INT", functions);
    let refused = run(folder, &RUN);
    let narrower = "max(v) was of BIGINT and is of INT, which is not wider";
    assert!(refused.code == 3 && refused.stderr.contains(narrower), "{}", refused.stderr);
}

#[test]
fn state_has_a_time_to_live_where_the_settings_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir_all(folder.join("p/transformations")).unwrap();
    fs::create_dir(folder.join("p/in")).unwrap();
    write_query(folder, "count(*) AS n");
    fs::rename(folder.join("q.sql"), folder.join("p/transformations/q.sql")).unwrap();
    fs::write(
        folder.join("p/spark-pipeline.yml"),
        "name: p\nstorage: st\nlibraries:\n  - glob:\n      include: transformations/**\n",
    )
    .unwrap();
    let explained = |yml: &str| {
        fs::write(folder.join("p/highwater.yml"), yml).unwrap();
        run(folder, &["explain", "p"])
    };
    let check = |yml: &str, expected: &str| {
        let told = explained(yml);
        assert!(told.code == 0 && told.stdout.contains(expected), "{yml}{}{}", told.stdout, told.stderr);
    };
    check("", "not bounded: it keeps a row for every key there ever was");
    check("state:\n  ttl: 7 days\n", "bounded: a row is kept until 7 days after its last row");
    let own = "flows:\n  totals_flow:\n    state:\n      operators:\n        aggregate-0:\n          ttl: 36 hours\n";
    check(&format!("state:\n  ttl: 7 days\n{own}"), "bounded: a row is kept until 36 hours after its last row");
    let refused = explained(&own.replace("aggregate-0", "aggregate-1"));
    let help = "did you mean 'aggregate-0'?";
    assert!(refused.code != 0 && refused.stderr.contains(help), "{}{}", refused.stdout, refused.stderr);
}

/// What a dry run says no to, and how the message begins that a run gives, too.
#[test]
fn a_dry_run_says_no_where_a_run_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("in")).unwrap();
    fs::write(folder.join("in/1.json"), "{\"k\":\"a\",\"v\":1}\n").unwrap();
    write_query(folder, "count(*) AS n");
    succeed(folder, &RUN);
    // A column that the target has not: found before the run, which is then refused for it.
    write_query(folder, "count(*) AS n, sum(v) AS s");
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let found = run(folder, arguments);
        let told = found.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().to_owned();
        assert!(found.code == code && told.contains(expected), "{arguments:?}: {} {}", found.code, found.stderr);
    };
    let no_column = "query 'totals_flow': table 'totals' of '";
    check(&["dry-run", "q.sql", "--storage", "st"], 3, no_column);
    check(&[&RUN[..], &["--dry-run"]].concat(), 3, no_column);
    check(&RUN, 3, no_column);
    assert_eq!(totals(folder), "k,n\na,1\n");
    // A storage that cannot be made.
    write_query(folder, "count(*) AS n");
    check(&["dry-run", "q.sql", "--storage", "q.sql/st"], 1, "storage folder 'q.sql/st/tables' cannot be made: '");
    check(&["run", "q.sql", "--storage", "q.sql/st"], 1, "storage folder 'q.sql/st/tables' cannot be made");
    // What no look outside is needed for is known to `validate`.
    let refused = [
        ("CREATE TABLE e USING json OPTIONS (path 'in')", "noop", "the schema must be specified"),
        ("CREATE TABLE e (k STRING) USING sqlite OPTIONS (path 'out.db')", "noop", "cannot be read as a stream"),
        (
            "CREATE TABLE e (k STRING) USING json OPTIONS (path 'in')",
            "kafka OPTIONS ('kafka.bootstrap.servers' '127.0.0.1:1', topic 't', 'value.format' 'raw')",
            "the rows have no column 'value'",
        ),
        (
            "CREATE TABLE e (k STRING) USING json OPTIONS (path 'in')",
            "json OPTIONS (path 'x') PARTITIONED BY (z)",
            "(z) names no",
        ),
    ];
    for (table, sink, expected) in refused {
        let sql =
            format!("{table}; CREATE SINK s USING {sink}; CREATE FLOW f AS INSERT INTO s SELECT k FROM STREAM e;");
        check(&["validate", "-e", &sql], 3, expected);
        check(&["dry-run", "-e", &sql, "--storage", "st2"], 3, expected);
        check(&["run", "-e", &sql, "--storage", "st2", "--trigger", "available-now"], 3, expected);
    }
    assert!(!folder.join("x").exists());
}

#[test]
fn a_dry_run_says_what_other_topics_mean() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let (folder, address) = (folder.path(), &broker.address);
    for topic in ["shop.order.created", "shop.order.paid"] {
        succeed(folder, &["topic", "create", topic, "--bootstrap", address, "--partitions", "1"]);
    }
    let write = |topics: &str| {
        let sql = format!(
            "CREATE TABLE ev (k STRING) USING kafka OPTIONS ('kafka.bootstrap.servers' '{address}', subscribe '{topics}',
                startingOffsets 'earliest');
             CREATE SINK s USING noop;
             CREATE FLOW copied AS INSERT INTO s SELECT k FROM STREAM ev;"
        );
        fs::write(folder.join("q.sql"), sql).unwrap();
    };
    write("shop.order.created");
    fs::write(folder.join("rows"), "{\"k\":\"a\"}\n").unwrap();
    succeed(folder, &["topic", "produce", "shop.order.created", "rows", "--bootstrap", address]);
    succeed(folder, &RUN);
    let dry_run = || run(folder, &["dry-run", "q.sql", "--storage", "st"]);
    write("shop.order.created,shop.order.paid");
    let more = dry_run();
    let expected = "topic shop.order.paid new since, read from the first record on";
    assert!(more.code == 0 && more.stdout.contains(expected), "{}{}", more.stdout, more.stderr);
    write("shop.order.paid");
    let other = dry_run();
    let expected = "partition shop.order.created-0 was read up to offset 1, and option 'subscribe' no longer names it";
    assert!(other.code == 1 && other.stderr.contains(expected), "{} {}", other.code, other.stderr);
    assert!(other.stderr.contains("give the query another name"), "{}", other.stderr);
    assert!(run(folder, &RUN).stderr.contains(expected));
}

//! Pipelines from SQL text to tables, through the binary.

use std::fs;
use std::path::Path;

use crate::broker::TestBroker;
use crate::program::{Running, eventually, run, succeed};

const EVENTS: &str = r#"{"id":"a","kind":"click","amount":1.5,"ts":"2024-01-01T00:00:05Z"}
{"id":"b","kind":"buy","amount":20.0,"ts":"2024-01-01T00:00:15Z"}
not json at all
{"id":"c","kind":"click","amount":3,"ts":"2024-01-01T00:02:15Z"}
"#;

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

#[test]
fn from_a_topic_to_a_delta_table_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let address = broker.address.clone();
    write(folder.path(), "events.json", EVENTS);
    succeed(folder.path(), &["topic", "create", "shop.events.raw", "--bootstrap", &address, "--partitions", "2"]);
    succeed(folder.path(), &["topic", "produce", "shop.events.raw", "events.json", "--bootstrap", &address]);
    let sql = format!(
        "CREATE TABLE ev (id STRING, kind STRING, amount DOUBLE, ts TIMESTAMP) USING kafka OPTIONS (
            kafka.bootstrap.servers '{address}', subscribe 'shop.events.raw', startingOffsets 'earliest',
            'value.format' = 'json', mode 'DROPMALFORMED');
         CREATE STREAMING TABLE per_minute AS
            SELECT window.start AS w, kind, count(*) AS n, sum(amount) AS amount
            FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS GROUP BY window(ts, '1 minute'), kind;"
    );
    write(folder.path(), "q.sql", &sql);
    let run = ["run", "q.sql", "--storage", "st", "--trigger", "available-now"];
    succeed(folder.path(), &run);
    let query = ["sql", "SELECT kind, n, amount FROM per_minute ORDER BY kind", "--storage", "st", "--output", "csv"];
    let expected = "kind,n,amount\nbuy,1,20.0\nclick,1,1.5\n";
    assert_eq!(succeed(folder.path(), &query), expected);
    // Nothing new: nothing changes.
    succeed(folder.path(), &run);
    assert_eq!(succeed(folder.path(), &query), expected);
    // The record that is no JSON was dropped, and kept with its reason.
    let letters = folder.path().join("st/checkpoints/per_minute/dead_letters");
    let kept = fs::read_to_string(fs::read_dir(letters).unwrap().next().unwrap().unwrap().path()).unwrap();
    assert!(kept.contains("not json at all"), "{kept}");
}

/// Two topics are read side by side in small batches, one of them ten hours behind the other in event time: nothing of
/// it may be late only because the other one was read first.
#[test]
fn a_backlog_is_not_late() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let address = broker.address.clone();
    for (topic, hour) in [("fast", 10), ("slow", 0)] {
        let events: String =
            (0..20).map(|minute| format!("{{\"ts\":\"2024-01-01T{hour:02}:{minute:02}:30Z\"}}\n")).collect();
        write(folder.path(), topic, &events);
        succeed(folder.path(), &["topic", "create", topic, "--bootstrap", &address, "--partitions", "1"]);
        succeed(folder.path(), &["topic", "produce", topic, topic, "--bootstrap", &address]);
    }
    let sql = format!(
        "CREATE TABLE ev (ts TIMESTAMP) USING kafka OPTIONS (kafka.bootstrap.servers '{address}', subscribe 'fast,slow',
            startingOffsets 'earliest', 'value.format' = 'json', maxOffsetsPerTrigger '4');
         CREATE STREAMING TABLE per_minute AS SELECT window.start AS w, count(*) AS n
            FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS GROUP BY window(ts, '1 minute');"
    );
    write(folder.path(), "q.sql", &sql);
    succeed(folder.path(), &["run", "q.sql", "--storage", "st", "--trigger", "available-now"]);
    let query =
        ["sql", "SELECT count(*) AS windows, sum(n) AS n FROM per_minute", "--storage", "st", "--output", "csv"];
    // The last minute is still open.
    assert_eq!(succeed(folder.path(), &query), "windows,n\n39,39\n");
}

#[test]
fn a_query_without_a_table_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "events.json", EVENTS);
    let sql = "CREATE TABLE ev (id STRING, kind STRING) USING json OPTIONS (path 'events.json', mode 'DROPMALFORMED');
        SELECT kind, count(*) AS n FROM STREAM ev GROUP BY kind";
    let shown = succeed(folder.path(), &["run", "-e", sql, "--storage", "st", "--trigger", "once"]);
    assert!(shown.contains("click") && shown.contains('2'), "{shown}");
}

#[test]
fn once_is_one_batch_of_a_source_that_never_ends() {
    let folder = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE ev (timestamp TIMESTAMP, value BIGINT) USING `rate-micro-batch` OPTIONS (rowsPerBatch '5');
        CREATE STREAMING TABLE t AS SELECT value FROM STREAM ev";
    write(folder.path(), "q.sql", sql);
    for (trigger, values) in [("once", "5,4"), ("once", "10,9"), ("available-now", "15,14")] {
        succeed(folder.path(), &["run", "q.sql", "--storage", "st", "--trigger", trigger]);
        let query = ["sql", "SELECT count(*) AS n, max(value) AS last FROM t", "--storage", "st", "--output", "csv"];
        assert_eq!(succeed(folder.path(), &query), format!("n,last\n{values}\n"));
    }
}

#[test]
fn broken_sql_is_shown_with_a_caret() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "q.sql",
        "CREATE TABLE ev (id STRING) USING json OPTIONS (path 'x');\nCREATE STREAMING TABLE t AS SELECT idd FROM STREAM ev;\n",
    );
    let finished = run(folder.path(), &["run", "q.sql"]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    for part in ["q.sql:2:36", "column 'idd' cannot be resolved", "^^^", "did you mean 'id'?"] {
        assert!(finished.stderr.contains(part), "'{part}' is not in\n{}", finished.stderr);
    }
}

#[test]
fn an_unknown_option_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sql =
        "CREATE TABLE ev (id STRING) USING json OPTIONS (path 'x', maxFilesPerTriger '1'); SELECT * FROM STREAM ev";
    let finished = run(folder.path(), &["run", "-e", sql]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert!(finished.stderr.contains("maxFilesPerTrigger"), "{}", finished.stderr);
}

#[test]
fn a_checkpoint_of_another_query_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "events.json", EVENTS);
    let sql = |query: &str| {
        format!(
            "CREATE TABLE ev (id STRING, kind STRING) USING json OPTIONS (path 'events.json', mode 'DROPMALFORMED');
             CREATE SINK out USING sqlite OPTIONS (path 'out.db', table 't', outputMode 'update');
             CREATE FLOW f AS INSERT INTO out {query}"
        )
    };
    write(folder.path(), "q.sql", &sql("SELECT kind, count(*) AS n FROM STREAM ev GROUP BY kind"));
    let arguments = ["run", "q.sql", "--storage", "st", "--trigger", "available-now"];
    succeed(folder.path(), &arguments);
    write(folder.path(), "q.sql", &sql("SELECT id, kind, count(*) AS n FROM STREAM ev GROUP BY id, kind"));
    let finished = run(folder.path(), &arguments);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("was changed: the state of operator 'aggregate-0' does not fit"),
        "{}",
        finished.stderr
    );
}

#[test]
fn from_json_takes_values_apart() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "lines.txt", EVENTS);
    let sql = "CREATE TABLE lines (value STRING) USING text OPTIONS (path 'lines.txt');
        CREATE STREAMING TABLE t AS SELECT j.kind AS kind, j.amount AS amount
        FROM (SELECT from_json(CAST(value AS STRING), 'kind STRING, amount DOUBLE') AS j FROM STREAM lines);";
    write(folder.path(), "q.sql", sql);
    succeed(folder.path(), &["run", "q.sql", "--storage", "st", "--trigger", "available-now"]);
    let query = ["sql", "SELECT * FROM t ORDER BY amount", "--storage", "st", "--output", "csv"];
    assert_eq!(succeed(folder.path(), &query), "kind,amount\n,\nclick,1.5\nclick,3.0\nbuy,20.0\n");
}

/// Tables that read each other as streams, all started at once over nothing.
fn check_chain(format: &str) {
    let folder = tempfile::tempdir().unwrap();
    let sql = format!(
        "CREATE TABLE ev (id STRING, kind STRING, amount DOUBLE, ts TIMESTAMP) USING json
            OPTIONS (path 'in', mode 'DROPMALFORMED');
         CREATE STREAMING TABLE bought USING {format} PARTITIONED BY (kind) AS SELECT id, amount, ts, kind FROM STREAM ev;
         CREATE STREAMING TABLE doubled USING {format} AS SELECT id, amount * 2 AS amount, kind FROM STREAM bought;
         CREATE SINK totals USING sqlite OPTIONS (path 'out.db', table 'totals', outputMode 'update');
         CREATE FLOW totals_flow AS INSERT INTO totals
            SELECT kind, count(*) AS n, sum(amount) AS amount FROM STREAM doubled GROUP BY kind;"
    );
    write(folder.path(), "q.sql", &sql);
    fs::create_dir(folder.path().join("in")).unwrap();
    let run = ["run", "q.sql", "--storage", "st", "--trigger", "100 milliseconds"];
    let query = ["sql", "SELECT kind, n, amount FROM totals ORDER BY kind", "--storage", "st", "--output", "csv"];
    let wait_for = |expected: &str| {
        eventually(expected, || (crate::program::run(folder.path(), &query).stdout == expected).then_some(()));
    };
    let started = |running: &mut Running| {
        let list = ["query", "list", "--storage", "st", "--output", "csv"];
        eventually("three running queries", || {
            let listed = crate::program::run(folder.path(), &list).stdout;
            (listed.matches("running").count() == 3).then_some(())
        });
        assert!(running.is_running(), "a query that waits for its table has not failed");
    };
    let mut running = Running::start(folder.path(), &run);
    started(&mut running);
    write(&folder.path().join("in"), "1.json", EVENTS);
    wait_for("kind,n,amount\nbuy,1,40.0\nclick,2,9.0\n");
    assert_eq!(running.interrupt().code, 0);
    let mut running = Running::start(folder.path(), &run);
    started(&mut running);
    write(&folder.path().join("in"), "2.json", EVENTS);
    wait_for("kind,n,amount\nbuy,2,80.0\nclick,4,18.0\n");
    assert_eq!(running.interrupt().code, 0);
}

#[test]
fn a_chain_of_delta_tables_starts_over_nothing() {
    check_chain("delta");
}

#[test]
fn a_chain_of_parquet_tables_starts_over_nothing() {
    check_chain("parquet");
}

/// Views over a table that grows, each in another way: after each file and each restart they are what SELECT gives.
#[test]
fn materialized_views_follow_their_tables_while_the_pipeline_runs() {
    let folder = tempfile::tempdir().unwrap();
    let queries = [
        ("whole", "SELECT kind, count(*) AS n, sum(amount) AS amount FROM bought GROUP BY kind"),
        ("of_view", "SELECT max(n) AS most FROM whole"),
        ("by_key", "SELECT kind, count(*) AS n, sum(amount) AS amount FROM STREAM bought GROUP BY kind"),
        ("often", "SELECT kind, count(*) AS n FROM STREAM bought GROUP BY kind HAVING count(*) > 1"),
        (
            "first",
            "SELECT * FROM STREAM bought QUALIFY row_number() OVER (PARTITION BY kind ORDER BY amount DESC, id) = 1",
        ),
        ("rows", "SELECT upper(kind) AS kind, amount FROM STREAM bought"),
    ];
    let mut sql = "CREATE TABLE ev (id STRING, kind STRING, amount DOUBLE) USING json OPTIONS (path 'in');
        CREATE STREAMING TABLE bought AS SELECT id, kind, amount FROM STREAM ev;\n"
        .to_owned();
    for (name, query) in queries {
        sql += &format!("CREATE MATERIALIZED VIEW {name} AS {query};\n");
    }
    write(folder.path(), "q.sql", &sql);
    fs::create_dir(folder.path().join("in")).unwrap();
    let run = ["run", "q.sql", "--storage", "st", "--trigger", "50 milliseconds"];
    let explained = succeed(folder.path(), &["explain", "q.sql", "--storage", "st"]);
    for (name, expected) in [
        (
            "whole",
            "complete, as soon as possible\n  reads      bought\n  view       computed whole after batches of bought, at most every \
                   1000 ms, because it does not read STREAM\n",
        ),
        (
            "by_key",
            "update, as soon as possible\n  reads      bought (stream)\n  view       incrementally, because it reads STREAM\n",
        ),
        ("often", "complete, as soon as possible\n"),
        ("first", "update, as soon as possible\n"),
        ("rows", "append, as soon as possible\n"),
    ] {
        let expected = format!("{name} -> table {name} (USING delta), {expected}");
        assert!(explained.contains(&expected), "{expected}: {explained}");
    }
    let sorted = |query: &str| {
        let found = crate::program::run(folder.path(), &["sql", query, "--storage", "st", "--output", "json"]).stdout;
        let mut rows: Vec<String> = found.lines().map(str::to_owned).collect();
        rows.sort();
        rows
    };
    for file in 0..4 {
        let events: Vec<String> = (0..5 + file)
            .map(|n| format!("{{\"id\":\"{file}-{n}\",\"kind\":\"k{}\",\"amount\":{}.5}}\n", n * file % 4, n + file))
            .collect();
        let running = Running::start(folder.path(), &run);
        write(&folder.path().join("in"), &format!("{file}.json"), &events.concat());
        if file < 3 {
            let total: usize = (0..=file).map(|file| 5 + file).sum();
            eventually("the table", || (sorted("SELECT id FROM bought").len() == total).then_some(()));
            for (name, query) in queries {
                let batch = query.replace("STREAM ", "");
                eventually(name, || (sorted(&format!("SELECT * FROM {name}")) == sorted(&batch)).then_some(()));
            }
            assert_eq!(running.interrupt().code, 0);
        } else {
            // Stopped as soon as rows are there: whatever the table has, the view that is computed whole has it too.
            eventually("new rows", || (sorted("SELECT id FROM bought").len() > 18).then_some(()));
            assert_eq!(running.interrupt().code, 0);
            let (_, query) = queries[0];
            assert_eq!(sorted("SELECT * FROM whole"), sorted(query));
        }
    }
}

#[test]
fn a_chain_without_any_row_ends() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    let sql = "CREATE TABLE ev (id STRING) USING json OPTIONS (path 'in');
        CREATE STREAMING TABLE a AS SELECT id FROM STREAM ev;
        CREATE STREAMING TABLE b AS SELECT id FROM STREAM a;";
    write(folder.path(), "q.sql", sql);
    let run = ["run", "q.sql", "--storage", "st", "--trigger", "available-now"];
    succeed(folder.path(), &run);
    write(&folder.path().join("in"), "1.json", "{\"id\":\"x\"}\n");
    succeed(folder.path(), &run);
    assert_eq!(succeed(folder.path(), &["sql", "SELECT * FROM b", "--storage", "st", "--output", "csv"]), "id\nx\n");
}

#[test]
fn a_query_that_fails_beside_others_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::create_dir(folder.path().join("bad")).unwrap();
    let root = folder.path().display();
    let sql = format!(
        "CREATE TABLE ev (id STRING) USING json OPTIONS (path '{root}/in');
         CREATE TABLE bad (id STRING) USING json OPTIONS (path '{root}/bad', mode 'FAILFAST');
         CREATE STREAMING TABLE a AS SELECT id FROM STREAM ev;
         CREATE STREAMING TABLE b AS SELECT id FROM STREAM bad;"
    );
    write(folder.path(), "q.sql", &sql);
    write(&folder.path().join("bad"), "1.json", "no json\n");
    let run = ["run", "q.sql", "--storage", "st", "--trigger", "100 milliseconds"];
    let check = |names: &[&str]| {
        let checked = crate::program::run(folder.path(), &[&["query", "check", "--storage", "st"], names].concat());
        (checked.code, checked.stderr.replace('\n', " "))
    };
    let mut running = Running::start(folder.path(), &run);
    let told = running.wait_for("failed, the other queries go on: ");
    assert!(told.contains("ERROR") && told.contains("query=\"b\"") && told.contains("bad/1.json"), "{told}");
    assert_eq!(check(&["a"]), (0, String::new()));
    let (code, alarm) = check(&[]);
    assert!(code == 4 && alarm.starts_with("error: query 'b' has failed: ") && !alarm.contains("'a'"), "{alarm}");
    assert_eq!(check(&["c"]).0, 2);
    let ended = running.interrupt();
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("error: query 'b': "), "{}", ended.stderr);
    assert_eq!(check(&["a"]), (4, "error: query 'a' is stopped ".to_owned()));

    // Where the others are not to go on without it: the run ends by itself, and its exit code tells.
    let project = folder.path().join("p");
    fs::create_dir_all(project.join("sql")).unwrap();
    write(&project, "highwater.yml", "on_failure: stop\n");
    write(&project, "spark-pipeline.yml", "name: p\nstorage: st\nlibraries:\n  - glob:\n      include: sql/**\n");
    write(&project.join("sql"), "q.sql", &sql);
    for (target, more) in [("q.sql", &["--on-failure", "stop"][..]), ("p", &[])] {
        let run = [&["run", target, "--storage", "st", "--trigger", "100 milliseconds"], more].concat();
        let mut running = Running::start(folder.path(), &run);
        running.wait_for("failed, the other queries finish their batch and stop: ");
        let ended = running.wait();
        assert!(ended.code == 1 && ended.stderr.contains("error: query 'b': "), "{}", ended.stderr);
        assert!(!ended.stderr.contains("error: query 'a'"), "{}", ended.stderr);
    }
}

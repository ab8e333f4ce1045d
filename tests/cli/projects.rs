//! Projects as folders: what of Spark's format is taken, and what `validate`, `dry-run`, `explain` and `graph` tell.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::broker::TestBroker;
use crate::program::{Finished, run, succeed};

/// Writes files into a new folder.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

const YML: &str = "name: p\nstorage: STORAGE\ncatalog: spark_catalog\nschema: default\nlibraries:\n  - glob:\n      include: \
                   transformations/**\n";

const CATALOG: &str = "CREATE TABLE ev (user_id BIGINT, kind STRING, amount DOUBLE, ts TIMESTAMP) USING json OPTIONS (path \
                       '${project.dir}/in');";

/// A project as Spark has it, with what stands in Spark's catalog beside it.
fn spark_project(sql: &str) -> tempfile::TempDir {
    let made = folder(&[
        ("p/transformations/deep/tables.sql", sql),
        (
            "p/transformations/a.sql",
            "SET spark.sql.session.timeZone = UTC;\nSET CATALOG spark_catalog;\nUSE SCHEMA default;\nUSE default;",
        ),
        ("p/highwater.yml", "catalog: [catalog.sql]\ntrigger: available-now\ndefault_format: delta\n"),
        ("p/catalog.sql", CATALOG),
        ("p/in/1.json", "{\"user_id\":1,\"kind\":\"buy\",\"amount\":150,\"ts\":\"2024-01-01T00:00:05Z\"}\n"),
    ]);
    let storage = format!("file://{}", made.path().join("st").display());
    fs::write(made.path().join("p/spark-pipeline.yml"), YML.replace("STORAGE", &storage)).unwrap();
    made
}

const TABLES: &str = "CREATE STREAMING TABLE raw COMMENT 'all' AS SELECT * FROM STREAM default.ev;
CREATE STREAMING TABLE per_minute (w STRUCT<start: TIMESTAMP, end: TIMESTAMP>, kind STRING, n BIGINT);
CREATE FLOW per_minute_flow AS INSERT INTO spark_catalog.default.per_minute BY NAME
SELECT window(ts, '1 minute') AS w, kind, count(*) AS n
FROM STREAM raw WATERMARK ts DELAY OF INTERVAL 10 SECONDS GROUP BY window(ts, '1 minute'), kind;
CREATE TEMPORARY VIEW big AS SELECT * FROM spark_catalog.default.raw WHERE amount > 100;
CREATE MATERIALIZED VIEW top AS SELECT kind, count(*) AS n FROM big GROUP BY kind;
";

#[test]
fn a_project_of_sparks_runs_with_its_catalog_beside_it() {
    let project = spark_project(TABLES);
    succeed(project.path(), &["run", "p", "--quiet"]);
    let sql = |query: &str| succeed(project.path(), &["sql", query, "--storage", "st", "--output", "csv"]);
    assert_eq!(sql("SELECT * FROM top"), "kind,n\nbuy,1\n", "the view is computed after the table it reads");
    assert_eq!(sql("SELECT user_id FROM raw"), "user_id\n1\n");
    // From a folder inside the project, as Spark finds it.
    let inside = run(&project.path().join("p/transformations"), &["validate", "--output", "csv"]);
    assert_eq!(inside.code, 0, "{}", inside.stderr);
    assert!(inside.stdout.contains("\ntop,table top (USING delta),"), "{}", inside.stdout);
}

fn check_refused(sql: &str, stderr: &str) {
    let project = spark_project(sql);
    let finished = run(&project.path().join("p"), &["validate"]);
    assert_eq!((finished.code, finished.stderr.as_str()), (3, stderr), "{sql}");
    assert_eq!(finished.stdout, "");
}

/// What Spark's project for change data capture does, on files that come one after another.
const CHANGES: &str = "CREATE STREAMING TABLE raw AS SELECT * FROM STREAM default.ev;
CREATE STREAMING TABLE users_now FLOW AUTO CDC FROM STREAM raw KEYS (user_id)
  APPLY AS DELETE WHEN kind = 'logout' SEQUENCE BY ts COLUMNS * EXCEPT (amount) STORED AS SCD TYPE 1;
CREATE STREAMING TABLE users_history;
CREATE FLOW users_history_flow AS AUTO CDC INTO users_history FROM STREAM raw KEYS (user_id)
  APPLY AS DELETE WHEN kind = 'logout' SEQUENCE BY ts STORED AS SCD TYPE 2 TRACK HISTORY ON (kind);
CREATE STREAMING TABLE copy USING sqlite TBLPROPERTIES ('path' = '${project.dir}/app.db')
  FLOW AUTO CDC FROM STREAM raw KEYS (user_id) APPLY AS DELETE WHEN kind = 'logout' SEQUENCE BY ts;
CREATE MATERIALIZED VIEW now AS SELECT count(*) AS n FROM users_now;
";

#[test]
fn tables_follow_changes_over_several_runs() {
    let project = spark_project(CHANGES);
    let event = |user: u8, kind: &str, minute: u8| {
        format!(
            "{{\"user_id\":{user},\"kind\":\"{kind}\",\"amount\":{minute},\"ts\":\"2024-01-01T00:{minute:02}:00Z\"}}\n"
        )
    };
    let run_on = |file: &str, events: &[String]| {
        fs::write(project.path().join("p/in").join(file), events.concat()).unwrap();
        succeed(project.path(), &["run", "p", "--quiet"]);
    };
    let sql = |query: &str| succeed(project.path(), &["sql", query, "--storage", "st", "--output", "csv"]);
    let now = || sql("SELECT user_id, kind, minute(ts) AS at FROM users_now ORDER BY user_id");
    let history = || {
        sql(
            "SELECT user_id, kind, minute(__START_AT) AS s, minute(__END_AT) AS e, CAST(amount AS INT) AS amount FROM users_history \
             ORDER BY user_id, __START_AT",
        )
    };
    // The file that every such project has: 1 buys at five seconds past.
    run_on("2.json", &[event(2, "buy", 10), event(2, "buy", 12), event(3, "look", 10)]);
    assert_eq!(now(), "user_id,kind,at\n1,buy,0\n2,buy,12\n3,look,10\n");
    assert_eq!(history(), "user_id,kind,s,e,amount\n1,buy,0,,150\n2,buy,10,,12\n3,look,10,,10\n");
    // A change before what is known, two deletes, and one that comes before what it deletes.
    run_on("3.json", &[event(2, "look", 11), event(3, "logout", 20), event(1, "logout", 30), event(4, "logout", 40)]);
    assert_eq!(now(), "user_id,kind,at\n2,buy,12\n");
    let expected =
        "user_id,kind,s,e,amount\n1,buy,0,30,150\n2,buy,10,11,10\n2,look,11,12,11\n2,buy,12,,12\n3,look,10,20,10\n";
    assert_eq!(history(), expected);
    run_on("4.json", &[event(4, "buy", 35), event(3, "buy", 25), event(3, "buy", 15)]);
    assert_eq!(now(), "user_id,kind,at\n2,buy,12\n3,buy,25\n");
    assert_eq!(
        sql("SELECT user_id, minute(to_timestamp(ts)) AS at FROM copy ORDER BY user_id"),
        "user_id,at\n2,12\n3,25\n"
    );
    assert_eq!(sql("SELECT n FROM now"), "n\n2\n");
    let tail = "3,look,10,15,10\n3,buy,15,20,15\n3,buy,25,,25\n4,buy,35,40,35\n";
    assert_eq!(history(), expected.replace("3,look,10,20,10\n", tail));
    // Nothing new: nothing changes.
    succeed(project.path(), &["run", "p", "--quiet"]);
    assert_eq!(history(), expected.replace("3,look,10,20,10\n", tail));
}

#[test]
fn a_test_of_a_project_sees_what_changes_make_of_its_tables() {
    let project = spark_project(CHANGES);
    let tests = "tests:
  - name: a change that comes late
    steps:
      - input:
          ev:
            - {user_id: 1, kind: look, ts: 2024-01-01 00:00:01}
            - {user_id: 1, kind: buy, ts: 2024-01-01 00:00:09}
        expect:
          users_now: [{user_id: 1, kind: buy}]
          users_history:
            - {kind: look, __START_AT: 2024-01-01 00:00:01, __END_AT: 2024-01-01 00:00:09}
            - {kind: buy, __START_AT: 2024-01-01 00:00:09, __END_AT: null}
      - input: {ev: [{user_id: 1, kind: logout, ts: 2024-01-01 00:00:05}]}
        emits: {users_now: []}
    expect:
      users_now: [{user_id: 1, kind: buy}]
      users_history:
        - {kind: look, __START_AT: 2024-01-01 00:00:01, __END_AT: 2024-01-01 00:00:05}
        - {kind: buy, __START_AT: 2024-01-01 00:00:09, __END_AT: null}
";
    fs::create_dir(project.path().join("p/tests")).unwrap();
    fs::write(project.path().join("p/tests/changes.yml"), tests).unwrap();
    let finished = run(project.path(), &["test", "p"]);
    assert_eq!(finished.code, 0, "{}{}", finished.stdout, finished.stderr);
}

#[test]
fn verbs_know_flows_that_follow_changes() {
    let project = spark_project(CHANGES);
    let explained = succeed(project.path(), &["explain", "p", "users_history_flow"]);
    for part in [
        "users_history_flow -> table users_history (USING delta), update, available-now",
        "state      cdc-0 (autoCdc) by user_id",
        "grows with its target: it keeps every change of the history",
        "AutoCdc: keys user_id, SCD type 2, history of kind",
    ] {
        assert!(explained.contains(part), "{part} is not in {explained}");
    }
    let graph = succeed(project.path(), &["graph", "p"]);
    assert!(
        graph.contains("users_history (delta, streaming table) [update, keeps state] by users_history_flow"),
        "{graph}"
    );
    succeed(project.path(), &["run", "p", "--quiet"]);
    let outlook = succeed(project.path(), &["dry-run", "p", "--output", "csv"]);
    assert!(outlook.contains("users_now,operator,cdc-0,its state is kept"), "{outlook}");
    // Another history is other state.
    let sql = project.path().join("p/transformations/deep/tables.sql");
    fs::write(&sql, CHANGES.replace("TRACK HISTORY ON (kind)", "TRACK HISTORY ON (amount)")).unwrap();
    let changed = run(&project.path().join("p"), &["run", "--quiet"]);
    assert!(changed.stderr.contains("query 'users_history_flow' was changed: the state"), "{}", changed.stderr);
}

#[test]
fn what_of_spark_is_not_supported_is_named() {
    let at = |line: &str, column: usize, length: usize| {
        let caret = format!("{}{}", " ".repeat(column - 1), "^".repeat(length));
        format!("  --> transformations/deep/tables.sql:1:{column}\n   |\n 1 | {line}\n   | {caret}\n")
    };
    let cdc = "CREATE STREAMING TABLE u USING parquet FLOW AUTO CDC FROM STREAM ev KEYS (user_id) SEQUENCE BY ts;";
    check_refused(
        cdc,
        &format!(
            "error: [AUTOCDC_TARGET_DOES_NOT_SUPPORT_MERGE] table u (USING parquet) cannot take the rows of an AUTO CDC flow: it \
             keeps what was written, and they replace and delete rows\n{}help: use USING delta (the default of a streaming \
             table), sqlite, memory or kafka\n",
            at(cdc, 1, 6)
        ),
    );
    let clustered = "CREATE STREAMING TABLE u CLUSTER BY (a) AS SELECT kind FROM STREAM ev;";
    check_refused(
        clustered,
        &format!(
            "error: expected one of USING, OPTIONS, TBLPROPERTIES, PARTITIONED, LOCATION, COMMENT, AS, FLOW, found \
             'CLUSTER'\n{}",
            at(clustered, 26, 7)
        ),
    );
    let unknown = "CREATE STREAMING TABLE u AS SELECT * FROM STREAM other.orders;";
    check_refused(
        unknown,
        &format!(
            "error: table or view 'orders' is not defined\n{}help: defined are: ev, u; a table that stands in Spark's \
             catalog needs its CREATE TABLE in a file that highwater.yml names under 'catalog'\n",
            at(unknown, 50, 5)
        ),
    );
    let used = "USE CATALOG spark_catalog;";
    check_refused(
        used,
        &format!("error: expected the end of the statement, found 'spark_catalog'\n{}", at(used, 13, 13)),
    );
    let merged = "MERGE INTO ev USING x ON true WHEN MATCHED THEN DELETE;";
    check_refused(
        merged,
        &format!(
            "error: expected a statement, found 'MERGE'\n{}help: statements begin with one of CREATE, INSERT, SET, USE, \
             SELECT, WITH, FROM, VALUES, TABLE\n",
            at(merged, 1, 5)
        ),
    );
}

#[test]
fn a_materialized_view_needs_a_table_that_can_be_replaced() {
    let project = spark_project("CREATE MATERIALIZED VIEW v USING parquet AS SELECT kind FROM ev;");
    let finished = run(project.path(), &["validate", "p"]);
    let expected = "error: table v (USING parquet) does not take output mode complete\n  --> \
                    p/transformations/deep/tables.sql\nhelp: it takes append\n";
    assert_eq!((finished.code, finished.stderr.as_str()), (3, expected));
}

#[test]
fn circles_are_refused() {
    let project = spark_project(
        "CREATE STREAMING TABLE a (kind STRING); CREATE STREAMING TABLE b (kind STRING);
         CREATE FLOW f AS INSERT INTO a BY NAME SELECT kind FROM STREAM b;
         CREATE FLOW g AS INSERT INTO b BY NAME SELECT kind FROM STREAM a;",
    );
    let finished = run(project.path(), &["validate", "p"]);
    let expected = "error: flows read in a circle what they write: 'f' -> 'g' -> 'f'\nhelp: let one of them read another \
                    table, so that rows have somewhere to begin\n";
    assert_eq!((finished.code, finished.stderr.as_str()), (3, expected));
}

#[test]
fn keys_of_the_project_file_are_sparks() {
    let check = |yml: &str, expected: &str| {
        let project = folder(&[("p/spark-pipeline.yml", yml), ("p/transformations/a.sql", "SET a = b;")]);
        let finished = run(project.path(), &["validate", "p"]);
        assert_eq!(finished.code, 3, "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "'{expected}' is not in\n{}", finished.stderr);
    };
    check("name: p\nstorge: x\n", "unknown key 'storge'\n  --> p/spark-pipeline.yml:2:1");
    check("name: p\n", "the key 'storage' is missing");
    check("name: p\nstorage: x\n", "'libraries' names no SQL files");
    let libraries = "libraries: [{glob: {include: transformations/**}}]";
    check(
        &format!("name: p\nstorage: file:x\n{libraries}\n"),
        "storage 'file:x' is not absolute, expected file:///FOLDER",
    );
    check("name: p\nstorage: x\ndatabase: a\nschema: b\n", "'database' and 'schema' mean the same and both are given");
    let both = folder(&[("p/spark-pipeline.yml", ""), ("p/spark-pipeline.yaml", "")]);
    let finished = run(both.path(), &["validate", "p"]);
    let expected = "error: p/spark-pipeline.yml and p/spark-pipeline.yaml are both there\nhelp: keep one of the two\n";
    assert_eq!((finished.code, finished.stderr.as_str()), (3, expected));
}

/// Rows of `dry-run`: what and found.
fn outlook(finished: &Finished) -> Vec<(String, String)> {
    let rows = finished.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.map(|row| (text(&row, "what"), text(&row, "found"))).collect()
}

const COUNTS: &str = "CREATE TABLE ev (kind STRING, id STRING) USING json OPTIONS (path 'in');
    CREATE SINK out USING sqlite OPTIONS (path 'out.db', table 't', outputMode 'update');
    CREATE FLOW counts AS INSERT INTO out SELECT kind, count(*) AS n FROM STREAM ev GROUP BY kind;";

#[test]
fn a_dry_run_tells_what_a_run_would_do_and_writes_nothing() {
    let folder = folder(&[("q.sql", COUNTS), ("in/1.json", "{\"kind\":\"a\"}\n")]);
    let dry_run = |sql: &str| {
        fs::write(folder.path().join("q.sql"), sql).unwrap();
        run(folder.path(), &["dry-run", "q.sql", "--storage", "st", "--output", "json"])
    };
    let row = |what: &str, found: &str| (what.to_owned(), found.to_owned());
    let first = dry_run(COUNTS);
    let expected = [
        row("storage", "will be made"),
        row("source", "1 file, 13 bytes"),
        row("target", "table t will be created"),
        row("checkpoint", "starts over with batch 0"),
        row("operator", "begins without state"),
    ];
    assert_eq!((first.code, outlook(&first)), (0, expected.to_vec()), "{}", first.stderr);
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["in", "q.sql"], "nothing is written");
    succeed(folder.path(), &["run", "q.sql", "--storage", "st", "--trigger", "available-now"]);
    let kept = dry_run(COUNTS);
    let expected = [
        row("storage", "can be written to"),
        row("source", "1 file, 13 bytes"),
        row("target", "table t with 2 columns"),
        row("checkpoint", "batch 0 is done: runs batch 1, from the state after batch 0"),
        row("operator", "its state is kept"),
    ];
    assert_eq!((kept.code, outlook(&kept)), (0, expected.to_vec()), "{}", kept.stderr);
    let changed = dry_run(&COUNTS.replace("GROUP BY kind", "GROUP BY kind, id"));
    assert_eq!(changed.code, 3);
    let found = outlook(&changed);
    let why = "its keys were kind, and are kind, id";
    assert_eq!(found[3].1, format!("refused: the state of operator 'aggregate-0' does not fit: {why}"));
    assert_eq!(found[4], row("operator", &format!("its state does not fit: {why}")));
    let help = "run with --rebuild QUERY, which computes all its state anew from the input since its start, or give the \
                query another name or another --storage, so that it starts over";
    assert_eq!(
        changed.stderr,
        format!("error: query 'counts': the state of operator 'aggregate-0' does not fit: {why}\nhelp: {help}\n")
    );
    let other_source = dry_run(&COUNTS.replace("TABLE ev", "TABLE eve").replace("STREAM ev", "STREAM eve"));
    assert!(other_source.stderr.contains("source 0 is 'eve', but its checkpoint was written with 'ev'"));
}

#[test]
fn a_dry_run_finds_every_system_that_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let sql = |address: &str| {
        format!(
            "CREATE TABLE ev (id STRING) USING kafka OPTIONS (kafka.bootstrap.servers '{address}', subscribe 'shop.order.created',
                'value.format' = 'json');
             CREATE TABLE d (id STRING) USING delta OPTIONS (path 'nowhere');
             CREATE SINK s USING kafka OPTIONS (kafka.bootstrap.servers '{address}', topic 'shop.order.copied', 'value.format' = 'json');
             CREATE FLOW a AS INSERT INTO s SELECT id FROM STREAM ev;
             CREATE FLOW b AS INSERT INTO s SELECT id FROM STREAM d;"
        )
    };
    succeed(
        folder.path(),
        &["topic", "create", "shop.order.created", "--partitions", "2", "--bootstrap", &broker.address],
    );
    let check = |address: &str, code: i32, expected: &[&str]| {
        let text = sql(address);
        let finished = run(folder.path(), &["dry-run", "-e", &text, "--storage", "st", "--output", "json"]);
        assert_eq!(finished.code, code, "{}", finished.stderr);
        let found: Vec<String> = outlook(&finished).into_iter().map(|(_, found)| found).collect();
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
        finished.stderr
    };
    let is_missing = "error: table d (USING delta): '";
    let stderr = check(
        &broker.address,
        1,
        &[
            "will be made",
            "2 partitions, 0 records",
            "topic shop.order.copied will be created",
            "starts over",
            is_missing,
        ],
    );
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    let stderr = check("127.0.0.1:1", 1, &["will be made", "error: Kafka broker 127.0.0.1:1 cannot be reached"]);
    assert_eq!(stderr.matches("error: quer").count(), 2, "every problem is told once: {stderr}");
    assert!(stderr.contains("error: queries 'a', 'b': Kafka broker 127.0.0.1:1 "), "{stderr}");
    assert!(!folder.path().join("st").exists());
}

#[test]
fn an_explanation_names_keys_and_bounds_and_warns() {
    let project = spark_project(TABLES);
    let explain = |arguments: &[&str]| run(project.path(), &[&["explain", "p"], arguments].concat());
    let text = explain(&["per_minute_flow"]);
    assert_eq!((text.code, text.stderr.as_str()), (0, ""));
    for part in [
        "per_minute_flow -> table per_minute (USING delta), append, available-now\n  reads      raw (stream)\n",
        "  watermark  ts, 10 seconds behind its newest\n  state      aggregate-0 (stateStoreSave) by window(raw.ts, '1 minute'), \
         kind\n             bounded: a row goes when the watermark of ts passes the end of its window of 60000 ms\n  plan\n    ",
    ] {
        assert!(text.stdout.contains(part), "'{part}' is not in\n{}", text.stdout);
    }
    let json = explain(&["per_minute_flow", "--output", "json"]);
    let told: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(told["operators"][0]["bound"]["by"], "watermark");
    assert_eq!(told["operators"][0]["bound"]["until"], "the end of its window of 60000 ms");
    assert_eq!(told["watermarks"][0]["delay_ms"], 10_000);
    let wrong = explain(&["per_minute"]);
    let expected = "error: the project has no flow 'per_minute'\nhelp: did you mean 'per_minute_flow'?\n";
    assert_eq!((wrong.code, wrong.stderr.as_str()), (2, expected));
    let unbounded = run(project.path(), &["explain", "-e", COUNTS, "--output", "csv"]);
    let warning = "nothing bounds the state of operator aggregate-0 (kind): it keeps a row for every key there ever was; a \
                   watermark and a window of event time let old ones go";
    assert!(unbounded.stderr.contains(warning), "{}", unbounded.stderr);
    assert_eq!(unbounded.code, 0);
}

#[test]
fn the_partition_that_holds_the_watermark_back_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let address = &broker.address;
    for (topic, second) in [("fast.a.b", 50), ("slow.a.b", 20)] {
        fs::write(folder.path().join(topic), format!("{{\"ts\":\"2024-01-01T00:00:{second}Z\"}}\n")).unwrap();
        succeed(folder.path(), &["topic", "create", topic, "--bootstrap", address, "--partitions", "1"]);
        succeed(folder.path(), &["topic", "produce", topic, topic, "--bootstrap", address]);
    }
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (ts TIMESTAMP) USING kafka OPTIONS (kafka.bootstrap.servers '{address}', subscribe '{name}.a.b',
                startingOffsets 'earliest', 'value.format' = 'json');"
        )
    };
    let sql = format!(
        "{}{}CREATE STREAMING TABLE n AS SELECT window(ts, '1 minute') AS w, count(*) AS n FROM (
            SELECT ts FROM STREAM fast WATERMARK ts DELAY OF INTERVAL 10 SECONDS UNION ALL
            SELECT ts FROM STREAM slow WATERMARK ts DELAY OF INTERVAL 10 SECONDS) GROUP BY 1",
        table("fast"),
        table("slow")
    );
    fs::write(folder.path().join("q.sql"), &sql).unwrap();
    let explain = |output: &str| {
        run(folder.path(), &["explain", "q.sql", "n", "--watermark", "--storage", "st", "--output", output])
    };
    let before = explain("csv");
    assert!(before.stderr.contains("has not committed a batch yet"), "{}", before.stderr);
    succeed(folder.path(), &["run", "q.sql", "--storage", "st", "--trigger", "available-now"]);
    let told = explain("json");
    let rows: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let row = |row: &Value| format!("{} {} {} {}", row["source"], row["partition"], row["newest"], row["effect"]);
    let expected = [
        r#""fast" "fast.a.b-0" "2024-01-01T00:00:50.000Z" "is ahead""#,
        r#""slow" "slow.a.b-0" "2024-01-01T00:00:20.000Z" "holds it back""#,
    ];
    assert_eq!(rows.iter().map(row).collect::<Vec<_>>(), expected);
    assert_eq!(rows[0]["watermark"], "2024-01-01T00:00:10.000Z");
}

#[test]
fn the_flow_of_tables_is_drawn() {
    let project = spark_project(TABLES);
    let graph = |format: &str| succeed(project.path(), &["graph", "p", "--format", format]);
    let expected = "\
ev (json)
└─> raw (delta, streaming table) [append]
    ├─> per_minute (delta, streaming table) [append, keeps state] by per_minute_flow
    └┄> top (delta, materialized view) [complete]
";
    assert_eq!(graph("text"), expected);
    let json: Value = serde_json::from_str(&graph("json")).unwrap();
    assert_eq!(json["flows"][2]["statics"], serde_json::json!(["raw"]));
    assert!(graph("dot").starts_with("digraph tables {"));
    assert!(graph("mermaid").starts_with("flowchart LR\n"));
}

#[test]
fn every_verb_has_examples_and_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let completions = succeed(folder.path(), &["completions", "bash"]);
    let verbs: [&[&str]; 9] = [
        &["validate"],
        &["test"],
        &["dry-run"],
        &["explain"],
        &["graph"],
        &["checkpoint", "list"],
        &["checkpoint", "inspect"],
        &["checkpoint", "verify"],
        &["checkpoint", "prune"],
    ];
    for verb in verbs {
        let help = succeed(folder.path(), &[verb, &["--help"]].concat());
        assert!(help.contains(&format!("Examples:\n  highwater {}", verb.join(" "))), "{help}");
        assert!(completions.contains(verb.last().unwrap()), "{verb:?}");
    }
    assert!(Path::new(folder.path()).exists());
}

//! What `validate --engine spark` says before anything starts; needs no Spark.

use std::fs;

use crate::examples::examples;
use crate::program::{Finished, highwater, run, succeed};

#[test]
fn every_example_is_looked_at() {
    let folder = examples();
    for example in ["fraud", "iot", "sensor-readings", "access-log"] {
        succeed(
            folder.path(),
            &["validate", &format!("examples/{example}"), "--engine", "spark", "--param", "path=/x"],
        );
    }
    let finished = run(folder.path(), &["validate", "examples/user-behaviour", "--engine", "spark"]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    let routed = ["validate", "examples/user-behaviour", "--engine", "spark", "--route-through", "127.0.0.1:1"];
    succeed(folder.path(), &routed);
    let expected = "\
error: Spark has no format 'sqlite', which table 'page_traffic' is of
  --> examples/user-behaviour/transformations/1_tables.sql:23:32
   |
23 | CREATE SINK page_traffic USING sqlite OPTIONS (path = 'user-behaviour.db', table = 'page_traffic');
   |                                ^^^^^^
";
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(squeezed(&finished.stderr).contains(&squeezed(expected)), "{}", finished.stderr);
}

#[test]
fn several_problems_are_told_at_once_and_differences_too() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("p");
    fs::create_dir_all(project.join("transformations")).unwrap();
    let yml = "name: p\nstorage: data\nlibraries: [{glob: {include: transformations/**}}]\n";
    fs::write(project.join("spark-pipeline.yml"), yml).unwrap();
    fs::write(
        project.join("highwater.yml"),
        "parallelism: 2\nstate:\n  ttl: 1 day\nflows: {totals: {output_mode: update}}\n",
    )
    .unwrap();
    let sql = "CREATE TABLE s (k STRING, v INT, ts TIMESTAMP) USING json OPTIONS (path = '/tmp');\n\
               CREATE STREAMING TABLE totals USING delta AS SELECT k, count(DISTINCT v) AS n FROM STREAM s GROUP BY k;\n\
               CREATE SINK out USING memory;\n";
    fs::write(project.join("transformations/a.sql"), sql).unwrap();
    let finished = run(folder.path(), &["validate", "p", "--engine", "spark"]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    for expected in [
        "a.sql:2:62",
        "Spark has no DISTINCT in aggregates over streams",
        "a.sql:2:24",
        "output mode",
        "a.sql:3:23",
        "'memory'",
    ] {
        assert!(finished.stderr.contains(expected), "'{expected}' in:\n{}", finished.stderr);
    }
    fs::write(project.join("highwater.yml"), "parallelism: 2\nstate:\n  ttl: 1 day\n").unwrap();
    fs::write(project.join("transformations/a.sql"), "CREATE TABLE s (k STRING) USING json OPTIONS (path = '/tmp');\nCREATE STREAMING TABLE t AS SELECT k FROM STREAM s;").unwrap();
    let finished = run(folder.path(), &["validate", "p", "--engine", "spark"]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    for expected in ["parallelism has no effect on Spark", "time to live"] {
        assert!(finished.stderr.contains(expected), "'{expected}' in:\n{}", finished.stderr);
    }
}

#[test]
fn the_server_must_be_named_and_reachable() {
    let folder = examples();
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let finished = run(folder.path(), &[&["run", "examples/iot"], arguments].concat());
        assert_eq!(finished.code, code, "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
    };
    check(&["--engine", "spark"], 2, "--engine spark does not say which Spark");
    check(&["--engine", "flink"], 2, "expected highwater, spark or sc://HOST:PORT");
    check(&["--engine", "sc://127.0.0.1:1"], 1, "the Spark Connect server sc://127.0.0.1:1 cannot be reached");
    check(&["--engine", "sc://127.0.0.1:1", "--parallelism", "2"], 2, "--parallelism is for Highwater's own engine");
    check(&["--engine", "sc://127.0.0.1:1", "--drop-state", "all"], 2, "--drop-state is for Highwater's own engine");
    // What a unit or an image says to all runs is no mistake of this one.
    let mut command = highwater(folder.path(), &["run", "examples/iot", "--engine", "sc://127.0.0.1:1"]);
    for name in ["STORAGE", "CHECKPOINTS", "RETRIES", "PARALLELISM", "ON_FAILURE"] {
        let value = match name {
            "RETRIES" => "unlimited",
            "PARALLELISM" => "2",
            "ON_FAILURE" => "stop",
            _ => "elsewhere",
        };
        command.env(format!("HIGHWATER_{name}"), value);
    }
    let finished = Finished::from(command.output().unwrap());
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("sc://127.0.0.1:1 cannot be reached"), "{}", finished.stderr);
    assert!(!folder.path().join("elsewhere").exists());
}

//! `highwater checkpoint` over a checkpoint in an object store: what it reads there, and what it refuses to do.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::server::{Fault, S3Server};
use crate::program::{Finished, highwater};

const SQL: &str = "CREATE TABLE ev (kind STRING) USING json OPTIONS (path 'in', maxFilesPerTrigger '1');
    CREATE SINK out USING sqlite OPTIONS (path 'out.db', table 't', outputMode 'update');
    CREATE FLOW counts AS INSERT INTO out SELECT kind, count(*) AS n FROM STREAM ev GROUP BY kind;";

fn run(folder: &Path, server: &S3Server, arguments: &[&str]) -> Finished {
    let mut command = highwater(folder, arguments);
    command.envs(server.environment()).output().unwrap().into()
}

fn json(finished: &Finished) -> Value {
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// Runs the query over so many files, a batch each.
fn counted(server: &S3Server, folder: &Path, files: usize) {
    fs::create_dir(folder.join("in")).unwrap();
    for number in 0..files {
        fs::write(folder.join(format!("in/{number}.json")), format!("{{\"kind\":\"k{}\"}}\n", number % 3)).unwrap();
    }
    fs::write(folder.join("q.sql"), SQL).unwrap();
    let ran = run(folder, server, &["run", "q.sql", "--storage", "st", "--trigger", "available-now", "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn state_on_s3_is_read_as_tables() {
    let server = S3Server::start();
    let folder = tempfile::tempdir().unwrap();
    counted(&server, folder.path(), 5);
    // Calls that fail now and then are tried again by whoever only reads, too.
    server.fail_every(7, Fault::Unavailable);
    let runs = server.objects("pipelines/counts/run");
    let shown = |arguments: &[&str]| {
        let read = run(folder.path(), &server, arguments);
        assert_eq!(read.code, 0, "{arguments:?}: {}", read.stderr);
        read.stdout
    };
    let checkpoint = ["state", "read", "--checkpoint", "s3://bucket/pipelines/counts"];
    let list: Value = serde_json::from_str(&shown(&[&checkpoint[..], &["-o", "json"]].concat())).unwrap();
    let told = ["operator", "rows", "minBatchId", "maxBatchId"].map(|key| list[key].to_string());
    assert_eq!(told, ["\"aggregate-0\"", "3", "0", "4"], "{list}");
    let rows = |more: &[&str]| -> Vec<String> {
        let text = shown(&[&checkpoint[..], &["--operator", "aggregate-0", "-o", "csv"], more].concat());
        let mut lines: Vec<String> =
            text.lines().map(|line| line.split(',').take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines.remove(0), "kind count(1)");
        lines.sort();
        lines
    };
    assert_eq!(rows(&[]), ["k0 2", "k1 2", "k2 1"]);
    assert_eq!(rows(&["--batch", "1"]), ["k0 1", "k1 1"]);
    assert_eq!(rows(&["--limit", "2"]).len(), 2);
    // By the query's name, where the environment says that checkpoints are.
    let sql = "SELECT kind, `count(1)` AS n FROM state('counts', 'aggregate-0') WHERE `count(1)` > 1 ORDER BY kind";
    assert_eq!(shown(&["sql", sql, "--storage", "st", "-o", "csv"]), "kind,n\nk0,2\nk1,2\n");
    let gone = run(folder.path(), &server, &[&checkpoint[..], &["--operator", "aggregate-0", "--batch", "9"]].concat());
    assert!(gone.code != 0 && gone.stderr.contains("there is that of batches 0 to 4"), "{}", gone.stderr);
    assert_eq!(server.objects("pipelines/counts/run"), runs, "no run was begun");
    assert!(server.faults() > 0);
}

#[test]
fn a_checkpoint_on_s3_is_inspected_and_verified_but_not_pruned() {
    let server = S3Server::start();
    let folder = tempfile::tempdir().unwrap();
    counted(&server, folder.path(), 3);
    let ask = |verb: &str, more: &[&str]| {
        let location = ["checkpoint", verb, "--location", "s3://bucket/pipelines/counts", "-o", "json"];
        run(folder.path(), &server, &[&location[..], more].concat())
    };

    let inspected = json(&ask("inspect", &[]));
    assert_eq!((&inspected["query"], &inspected["last_commit"]), (&"counts".into(), &2.into()), "{inspected}");
    assert!(inspected["sizes"]["logs_bytes"].as_u64().unwrap() > 300, "{inspected}");
    let verified = json(&ask("verify", &[]));
    assert_eq!((&verified["findings"], &verified["restorable"]), (&Value::Array(vec![]), &[0, 1, 2][..].into()));
    let plan = json(&ask("prune", &["--keep", "1", "--dry-run"]));
    assert_eq!(plan["offsets"], Value::from(&[0, 1][..]), "{plan}");

    let before = server.objects("pipelines/counts/run");
    let refused = ask("prune", &["--keep", "1"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("'s3://bucket/pipelines/counts' cannot be pruned from here"), "{}", refused.stderr);
    assert_eq!(server.objects("pipelines/counts/run"), before, "no run was begun");

    let dry = run(folder.path(), &server, &["dry-run", "q.sql", "--storage", "st"]);
    assert!(dry.stdout.contains("s3://bucket/pipelines/counts"), "{}\n{}", dry.stdout, dry.stderr);
}

//! `highwater checkpoint` over a checkpoint in an object store: what it reads there, and what it refuses to do.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::server::S3Server;
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

#[test]
fn a_checkpoint_on_s3_is_inspected_and_verified_but_not_pruned() {
    let server = S3Server::start();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    for number in 0..3 {
        fs::write(folder.path().join(format!("in/{number}.json")), format!("{{\"kind\":\"k{number}\"}}\n")).unwrap();
    }
    fs::write(folder.path().join("q.sql"), SQL).unwrap();
    let ran = run(folder.path(), &server, &["run", "q.sql", "--storage", "st", "--trigger", "available-now", "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
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

//! `highwater migrate` over a checkpoint that Spark 4.3 wrote (`checkpoint/`: three batches of a thousand records of a topic),
//! as it is and as it would be after other ends; needs no Spark.

use std::fs;
use std::path::Path;

use crate::program::{root, run};

/// The recorded checkpoint in `folder`, for the test to change.
fn recorded(folder: &Path) {
    let from = root().join("tests/spark/checkpoint");
    for part in ["offsets", "commits"] {
        fs::create_dir_all(folder.join(part)).unwrap();
        for entry in fs::read_dir(from.join(part)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.join(part).join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// What `change` makes of it, and what is then printed, or said in the error.
#[track_caller]
fn check(change: impl Fn(&Path), arguments: &[&str], code: i32, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("query");
    recorded(&checkpoint);
    change(&checkpoint);
    let finished = run(folder.path(), &[&["migrate", "from-spark", "query"], arguments].concat());
    assert_eq!(finished.code, code, "{}", finished.stderr);
    let said = if code == 0 { &finished.stdout } else { &finished.stderr };
    assert!(said.contains(expected), "'{expected}' in:\n{said}");
}

fn nothing(_: &Path) {}

fn cut_off(checkpoint: &Path) {
    fs::remove_file(checkpoint.join("commits/2")).unwrap();
}

fn with_state(checkpoint: &Path) {
    fs::create_dir_all(checkpoint.join("state/0/_metadata")).unwrap();
}

#[test]
fn a_committed_query_goes_on_at_its_last_batch() {
    check(nothing, &[], 0, "startingOffsets = '{\"web.page.viewed\":{\"0\":3000}}'\n");
    check(nothing, &["--after-batch", "0"], 0, "startingOffsets = '{\"web.page.viewed\":{\"0\":1000}}'\n");
    let json = "{\"afterBatch\":2,\"sources\":[{\"startingOffsets\":{\"web.page.viewed\":{\"0\":3000}}}]}\n";
    check(nothing, &["--output", "json"], 0, json);
    check(nothing, &["--after-batch", "9"], 2, "batch 9 is not committed; the last one that is: 2");
}

#[test]
fn a_batch_without_its_commit_is_asked_about() {
    check(cut_off, &[], 4, "batch 2 was begun and not committed: its rows may be in the target, or not");
    check(cut_off, &["--uncommitted", "skip"], 0, "{\"0\":3000}");
    check(cut_off, &["--uncommitted", "repeat"], 0, "{\"0\":2000}");
    let first_only = |checkpoint: &Path| {
        for file in ["offsets/1", "offsets/2", "commits/0", "commits/1", "commits/2"] {
            fs::remove_file(checkpoint.join(file)).unwrap();
        }
    };
    check(first_only, &["--uncommitted", "repeat"], 4, "no batch is committed");
}

#[test]
fn state_is_left_behind_only_when_that_is_said() {
    check(with_state, &[], 4, "keeps state (1 stateful operators)");
    check(with_state, &["--without-state", "--after-batch", "1"], 0, "{\"0\":2000}");
}

#[test]
fn what_is_no_query_over_kafka_is_refused() {
    let of_files = |checkpoint: &Path| {
        let path = checkpoint.join("offsets/2");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("{\"web.page.viewed\":{\"0\":3000}}", "{\"logOffset\":7}")).unwrap();
    };
    check(of_files, &[], 4, "source 0 stands at {\"logOffset\":7}, which are no offsets of Kafka topics");
    let of_another_time = |checkpoint: &Path| fs::write(checkpoint.join("offsets/2"), "v9\n{}\n").unwrap();
    check(of_another_time, &[], 4, "it begins with 'v9', expected 'v1'");
    let damaged = |checkpoint: &Path| fs::remove_file(checkpoint.join("offsets/2")).unwrap();
    check(damaged, &[], 4, "commits/2 is there, but no offsets/2");
    let empty = |checkpoint: &Path| fs::remove_dir_all(checkpoint.join("offsets")).unwrap();
    check(empty, &[], 2, "is no checkpoint of a Spark query");
}

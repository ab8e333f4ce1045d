//! A checkpoint as batches leave it, looked at, damaged and pruned.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::inspect::{inspect, inspect_batch, plan_prune, prune, summarize, verify};
use super::testing::{open, reader};
use super::*;
use crate::error::EngineError;
use crate::sink::BatchId;
use crate::source::Offset;
use crate::state::{ChangeSet, StateSettings, StateStore};

/// A checkpoint of a stateful query with batches 0 to `last`, a snapshot after each of `snapshots`.
fn written(last: BatchId, snapshots: &[BatchId]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = open(dir.path());
    let operators = [("count".to_owned(), "v1".to_owned())].into();
    let identity =
        QueryIdentity { query_name: "q".to_owned(), target: "table t".to_owned(), operators, ..Default::default() };
    Metadata::create_or_read(&checkpoint, &identity).unwrap();
    let (offsets, commits) = (OffsetLog::open(&checkpoint).unwrap(), CommitLog::open(&checkpoint).unwrap());
    let local = tempfile::tempdir().unwrap();
    let operators = ["count".to_owned()];
    let settings = StateSettings::default();
    let (store, _) = StateStore::open(&settings, &checkpoint, local.path(), &operators, None).unwrap();
    for batch in 0..=last {
        let time = i64::try_from(batch).unwrap() * 1000;
        let at = |n: BatchId| vec![Some(Offset(json!(n)))];
        let conf = [("source 0".to_owned(), "ev".to_owned())].into();
        let (starts, ends) = (at(batch), at(batch + 1));
        let watermarks = serde_json::Map::new();
        let (batch_watermark_ms, batch_timestamp_ms) = (time, 1_700_000_000_000 + time);
        let entry = OffsetLogEntry { batch_watermark_ms, batch_timestamp_ms, conf, watermarks, starts, ends };
        offsets.add(batch, &entry).unwrap();
        let mut changes = ChangeSet::new();
        changes.push_put(&batch.to_be_bytes(), b"one");
        changes.push_put(b"total", &batch.to_be_bytes());
        store.commit(batch, std::slice::from_ref(&changes), json!({ "nextBatchWatermarkMs": time })).unwrap();
        store.apply(0, &changes).unwrap();
        if snapshots.contains(&batch) {
            store.snapshot(batch).unwrap();
        }
        commits.add(batch, &CommitLogEntry { next_batch_watermark_ms: time + 5, ..Default::default() }).unwrap();
    }
    dir
}

/// Verifies and gives what was found, the folder taken out, with the restorable batches and the next start.
fn verified(dir: &Path) -> (Vec<String>, Vec<BatchId>, String) {
    let found = verify(&reader(dir)).unwrap();
    let prefix = format!("{}/", dir.display());
    let findings = found.findings.iter().map(|finding| finding.found.replace(&prefix, "")).collect();
    assert!(found.findings.iter().all(|finding| !finding.help.is_empty()));
    (findings, found.restorable, found.next_start)
}

#[test]
fn a_whole_checkpoint_is_told_as_it_is() {
    let dir = written(3, &[1]);
    let checkpoint = reader(dir.path());
    let summary = summarize(&checkpoint).unwrap();
    assert_eq!((summary.query.as_str(), summary.target.as_str()), ("q", "table t"));
    assert_eq!((summary.first_batch, summary.last_batch, summary.last_commit), (Some(0), Some(3), Some(3)));
    assert_eq!((summary.watermark_ms, summary.last_batch_ms), (Some(3005), Some(1_700_000_003_000)));
    let on_disk: u64 = ["", "run", "offsets", "commits", "state", "state/sst", "dead_letters"]
        .iter()
        .flat_map(|folder| fs::read_dir(dir.path().join(folder)).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum();
    assert_eq!(summary.sizes.total_bytes(), on_disk);
    let inspection = inspect(&checkpoint).unwrap();
    assert_eq!(inspection.operators["count"], "v1");
    let rows: Vec<_> = inspection.batches.iter().map(|row| (row.batch, row.has_snapshot, row.is_restorable)).collect();
    assert_eq!(rows, [(0, false, Some(true)), (1, true, Some(true)), (2, false, Some(true)), (3, false, Some(true))]);
    assert_eq!(inspection.snapshots.iter().map(|snapshot| snapshot.batch).collect::<Vec<_>>(), [1]);
    assert_eq!(inspection.runs.iter().map(|run| run.number).collect::<Vec<_>>(), [1]);
    let detail = inspect_batch(&checkpoint, 2).unwrap();
    assert_eq!((detail.watermark_ms, detail.next_watermark_ms), (2000, Some(2005)));
    assert_eq!(detail.sources[0].name.as_deref(), Some("ev"));
    assert_eq!(detail.sources[0].end, Some(Offset(json!(3))));
    assert_eq!(detail.state_changes.unwrap()["count"], 2);
    let (findings, restorable, next) = verified(dir.path());
    assert_eq!(findings, [""; 0]);
    assert_eq!(restorable, [0, 1, 2, 3]);
    assert_eq!(next, "runs batch 4, from the state after batch 3");
}

#[test]
fn what_is_not_there_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for error in [summarize(&reader(dir.path())).unwrap_err(), verify(&reader(dir.path())).unwrap_err()] {
        assert!(matches!(error, EngineError::Config(_)), "{error}");
        let expected = format!("there is no checkpoint at '{0}': {0}/metadata does not exist", dir.path().display());
        assert_eq!(error.to_string(), expected);
    }
    let dir = written(3, &[]);
    let error = inspect_batch(&reader(dir.path()), 9).unwrap_err();
    assert!(error.to_string().ends_with("has no batch 9"), "{error}");
    assert_eq!(error.next_step(), Some("it has the batches 0 to 3"));
}

/// Flips a bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // A new file: the old one may be linked elsewhere.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_damaged_file_is_found_and_what_is_left_is_told() {
    let check = |name: &str, restorable: &[BatchId], next: &str| {
        let dir = written(3, &[1]);
        flip(&dir.path().join(name));
        let (findings, found, found_next) = verified(dir.path());
        assert_eq!(findings.len(), 1, "{name}: {findings:?}");
        assert!(findings[0].contains(name) && findings[0].contains("is damaged"), "{name}: {findings:?}");
        assert_eq!((found.as_slice(), found_next.as_str()), (restorable, next), "{name}");
    };
    let goes_on = "runs batch 4, from the state after batch 3";
    let refused = "is refused: the state after batch 3 cannot be restored: state/2.changelog is missing";
    check("metadata", &[0, 1, 2, 3], "is refused: the metadata cannot be read");
    check("offsets/1", &[0, 2, 3], goes_on);
    check("offsets/3", &[0, 1, 2], "is refused: the logs of batch 3 cannot be read");
    check("commits/3", &[0, 1, 2], "is refused: the logs of batch 3 cannot be read");
    check("run/1", &[0, 1, 2, 3], goes_on);
    check("state/0.changelog", &[1, 2, 3], goes_on);
    check("state/2.changelog", &[0, 1], refused);
    // The changelogs from the beginning on make up for the snapshot.
    check("state/1.snapshot", &[0, 1, 2, 3], goes_on);
}

#[test]
fn a_damaged_or_missing_content_file_is_found() {
    let dir = written(3, &[1]);
    let content = || fs::read_dir(dir.path().join("state/sst")).unwrap().map(|entry| entry.unwrap().path());
    let file = content().find(|path| path.to_string_lossy().ends_with(".sst")).unwrap();
    flip(&file);
    let name = file.strip_prefix(dir.path()).unwrap().display().to_string();
    assert_eq!(
        verified(dir.path()).0,
        [format!("state file {name} is damaged: its content does not match its checksum")]
    );
    fs::remove_file(&file).unwrap();
    let (findings, ..) = verified(dir.path());
    assert_eq!(findings, [format!("state file {name} is damaged: it is missing, but state snapshot 1 needs it")]);
}

#[test]
fn gaps_strangers_and_lost_logs_are_found() {
    let dir = written(3, &[]);
    fs::remove_file(dir.path().join("commits/1")).unwrap();
    fs::write(dir.path().join("offsets/notes.txt"), "x").unwrap();
    let (findings, restorable, _) = verified(dir.path());
    assert_eq!(
        findings,
        [
            "offsets/notes.txt is not a file of this log, expected a batch id as its name",
            "checkpoint file commits/1 is damaged: it is missing, but commits/2 is there"
        ]
    );
    assert_eq!(restorable, [0, 2, 3]);
    let dir = written(3, &[]);
    fs::remove_file(dir.path().join("offsets/3")).unwrap();
    let (findings, _, next) = verified(dir.path());
    let problem = "the commit log ends with batch 3, but the offset log ends with batch 2";
    assert_eq!(next, format!("is refused: {problem}"));
    assert!(findings[0].ends_with(problem), "{findings:?}");
}

#[test]
fn pruning_leaves_what_the_kept_batches_need() {
    let dir = written(9, &[3, 6]);
    let keep = |batches: u64| Retention { min_batches_to_retain: batches };
    let plan = plan_prune(&reader(dir.path()), keep(2)).unwrap();
    assert_eq!(
        (plan.keep_from, plan.offsets.clone(), plan.commits.clone()),
        (Some(8), (0..8).collect(), (0..8).collect())
    );
    assert_eq!((plan.snapshots.clone(), plan.changelogs.clone()), (vec![3], (0..=6).collect()));
    assert!(!plan.content_files.is_empty() && plan.size_bytes > 0, "{plan:?}");
    assert_eq!(summarize(&reader(dir.path())).unwrap().first_batch, Some(0), "a plan removes nothing");
    let before = summarize(&reader(dir.path())).unwrap().sizes;
    assert_eq!(prune(&open(dir.path()), keep(2)).unwrap(), plan);
    let after = summarize(&reader(dir.path())).unwrap().sizes;
    // Opening it for writing made a run file more.
    let run = fs::metadata(dir.path().join("run/2")).unwrap().len();
    assert_eq!(before.total_bytes() - plan.size_bytes + run, after.total_bytes());
    let (findings, restorable, next) = verified(dir.path());
    assert_eq!((findings, restorable.as_slice()), (Vec::new(), [8, 9].as_slice()));
    assert_eq!(next, "runs batch 10, from the state after batch 9");
    assert_eq!(prune(&open(dir.path()), keep(2)).unwrap().files(), 0);
}

#[test]
fn nothing_of_a_damaged_checkpoint_is_removed() {
    let dir = written(9, &[3, 6]);
    flip(&dir.path().join("state/6.snapshot"));
    let error = prune(&open(dir.path()), Retention { min_batches_to_retain: 2 }).unwrap_err();
    assert!(error.to_string().contains("is damaged, so nothing of it is removed: "), "{error}");
    assert!(dir.path().join("offsets/0").exists() && dir.path().join("state/3.snapshot").exists());
    let reading = prune(&reader(dir.path()), Retention::default()).unwrap_err();
    assert!(matches!(reading, EngineError::Internal(_)), "{reading}");
}

//! Queries whose checkpoint is in an object store that fails at each of its calls in turn: the result is that of a run
//! nothing happened to.

use std::sync::Arc;

use crate::checkpoint::RemoteSettings;
use crate::testing::{Fault, FaultyStore, StreamScript};

const SQL: &str = "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
CREATE SINK out USING test;
CREATE FLOW f AS INSERT INTO out
  SELECT window.start AS w, k, count(*) AS n, sum(v) AS total FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS
  GROUP BY window(ts, '30 seconds'), k";

/// Starts of the query, and batches at each.
const STARTS: usize = 3;
const BATCHES: usize = 5;

fn script(objects: Option<&FaultyStore>) -> StreamScript {
    let mut script = StreamScript::new(SQL);
    // Snapshots, retention and uploads in parts all happen within a few small batches.
    script.settings.query.state.snapshot_every_batches = 2;
    script.settings.query.retention.min_batches_to_retain = 3;
    script.settings.checkpoints.remote =
        RemoteSettings { request_timeout_ms: 200, part_bytes: 4096, ..RemoteSettings::default() };
    match objects {
        Some(objects) => script.checkpoints_in("memory://bucket/checkpoints", Arc::new(objects.clone())),
        None => script,
    }
}

/// Batch `n`: some rows on time, one late.
fn add(script: StreamScript, n: usize) -> StreamScript {
    let second = n * 12;
    let late = second.saturating_sub(25);
    let row = |k: &str, v: usize, second: usize| {
        format!("{{\"k\": \"{k}\", \"v\": {v}, \"ts\": \"2024-01-01T00:{:02}:{:02}Z\"}}\n", second / 60, second % 60)
    };
    script.add("ev", &(row("a", n, second) + &row("b", 2 * n, second + 3) + &row("a", 100, late)))
}

/// Runs all starts; `healed` is called when a start did not come through, which is then tried again.
fn run(mut script: StreamScript, healed: Option<&FaultyStore>) -> Vec<String> {
    for start in 0..STARTS {
        for batch in 0..BATCHES {
            script = add(script, start * BATCHES + batch);
        }
        script = match healed {
            Some(objects) => {
                script = script.process_if_it_can();
                // The fault stays planned until a call comes to it.
                if objects.is_cut_off() {
                    objects.heal();
                    script = script.process();
                }
                script
            }
            None => script.process(),
        };
    }
    script.rows("out")
}

fn undisturbed() -> Vec<String> {
    let rows = run(script(None), None);
    assert!(rows.len() > 8, "{rows:?}");
    rows
}

#[test]
fn a_checkpoint_in_an_object_store_gives_the_same_result() {
    let objects = FaultyStore::default();
    assert_eq!(run(script(Some(&objects)), None), undisturbed());
}

#[test]
fn a_process_that_is_cut_off_at_any_call_goes_on_where_it_was() {
    let expected = undisturbed();
    let calm = FaultyStore::default();
    run(script(Some(&calm)), None);
    let calls = calm.heal();
    assert!(calls > 200, "{calls}");
    // Each run takes a moment: over both faults and all offsets every call has its turn in a few dozen runs.
    for (fault, first) in [(Fault::CutOff, 0), (Fault::CutOffAfter, 3)] {
        for call in (first..calls).step_by(7) {
            let objects = FaultyStore::default();
            objects.fail_at(call, fault);
            assert_eq!(run(script(Some(&objects)), Some(&objects)), expected, "{fault:?} at call {call}");
        }
    }
}

#[test]
fn calls_that_fail_now_and_then_are_tried_again() {
    let expected = undisturbed();
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::Torn] {
        // More than an upload in parts takes: its parts are not sent again alone, so that it would fail each time.
        for every in [13, 17] {
            let objects = FaultyStore::default();
            objects.fail_every(every, fault);
            assert_eq!(run(script(Some(&objects)), None), expected, "{fault:?} each {every} calls");
        }
    }
}

#[test]
fn progress_says_what_is_in_the_checkpoint() {
    let objects = FaultyStore::default();
    let script = (0..6).fold(script(Some(&objects)), add).process();
    let progress = script.progress();
    let last = progress.last().and_then(|last| last.checkpoint.clone()).unwrap();
    assert_eq!(last.location, "memory://bucket/checkpoints/f");
    assert!(last.snapshot_batch_id.is_some_and(|batch| batch >= 1), "{last:?}");
    assert!(last.snapshot_size_bytes > 0 && last.size_bytes > last.snapshot_size_bytes, "{last:?}");
    assert!(last.snapshot_upload_ms.is_some() && last.snapshot_age_ms.is_some(), "{last:?}");
    assert!(last.snapshot_upload_size_bytes.is_some_and(|bytes| bytes > 0), "{last:?}");
    let json = serde_json::to_value(&last).unwrap();
    assert!(json["snapshotAgeMs"].is_u64() && json["sizeBytes"].is_u64(), "{json}");
    // The age is known again after a restart, from the snapshot's own file.
    let restarted = add(script.forget_progress(), 6).process().progress();
    assert!(restarted[0].checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.snapshot_age_ms.is_some()));
}

/// What `docs/checkpoints.md` says a batch costs: three puts, and before each the two questions whose turn it is.
#[test]
fn a_batch_costs_nine_calls() {
    let objects = FaultyStore::default();
    let mut script = script(Some(&objects));
    script.settings.query.state.snapshot_every_batches = 1000;
    let mut calls = Vec::new();
    for batches in [1, 1, 4] {
        objects.heal();
        // One start for so many batches, none of which is a tenth: those also prune.
        for _ in 0..batches {
            script = add(script, 1);
        }
        script = script.process();
        calls.push(objects.heal());
    }
    assert_eq!((calls[2] - calls[1]) / 3, 9, "{calls:?}");
}

#[test]
fn a_location_nobody_can_open_is_said_when_the_query_is_planned() {
    let mut script = script(None);
    script.settings.checkpoints.location = Some("gopher://bucket/x".to_owned());
    let expected =
        "checkpoint location 'gopher://bucket/x/f' has the scheme 'gopher', expected a path or one of file://";
    let _ = add(script, 0).process_fails(expected);
}

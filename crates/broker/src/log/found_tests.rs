//! What fuzzing has found in logs, each as it was found (`make fuzz`, target `segment_recovery`).

use std::fs;
use std::path::Path;

use super::batch::ProducedBatch;
use super::batch::testing::{Spec, batch};
use super::config::LogConfig;
use super::partition_log::PartitionLog;
use super::recovery::Recovery;
use crate::error::BrokerError;
use crate::settings::CorruptLogPolicy;

fn open(dir: &Path) -> Result<PartitionLog, BrokerError> {
    let policy = CorruptLogPolicy::Truncate;
    let recovery =
        Recovery { dir, topic: "t", partition: 0, policy, index_interval_bytes: 64, compacts: false, now_ms: 0 };
    PartitionLog::open(recovery, LogConfig::default(), 100)
}

#[test]
fn offsets_end_before_they_wrap() {
    let dir = tempfile::tempdir().expect("tempdir");
    fs::write(dir.path().join(format!("{}.log", i64::MAX)), []).expect("written");
    // A name of 19 digits is none the broker gives.
    assert_eq!(open(dir.path()).expect("opened").next_offset(), 0);
    let dir = tempfile::tempdir().expect("tempdir");
    fs::write(dir.path().join(format!("{:020}.log", i64::MAX)), []).expect("written");
    let mut log = open(dir.path()).expect("opened");
    let bytes = batch(Spec::default());
    let error = log.append(&ProducedBatch::check(&bytes).expect("valid"), 0).expect_err("no offset is left");
    assert!(error.to_string().contains("used up"), "{error}");
    assert_eq!(log.next_offset(), i64::MAX);
}

#[test]
fn a_batch_that_reaches_the_last_offset_is_damage() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut bytes = batch(Spec { records: 3, ..Spec::default() });
    bytes[..8].copy_from_slice(&(i64::MAX - 1).to_be_bytes());
    fs::write(dir.path().join(format!("{:020}.log", i64::MAX - 1)), bytes).expect("written");
    let log = open(dir.path()).expect("opened");
    assert_eq!((log.next_offset(), log.size_bytes()), (i64::MAX - 1, 0));
}

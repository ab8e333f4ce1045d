//! The store against a model, against damage, and against other runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::checkpoint::{CheckpointDir, testing};
use crate::error::{EngineError, Result};
use crate::sink::BatchId;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn operators(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn settings() -> StateSettings {
    StateSettings { write_buffer_bytes: 1 << 20, ..Default::default() }
}

/// A query with a checkpoint and a local folder; dropping the store ends the run.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("checkpoint").join(name)
    }

    fn run(&self) -> CheckpointDir {
        testing::open(&self.path(""))
    }

    fn try_open(&self, names: &[&str], version: Option<BatchId>) -> Result<(StateStore, RestoreReport)> {
        let local = self.dir.path().join("local");
        StateStore::open(&settings(), &self.run(), &local, &operators(names), version)
    }

    fn open(&self, names: &[&str], version: impl Into<Option<BatchId>>) -> (StateStore, RestoreReport) {
        self.try_open(names, version.into()).unwrap()
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn row(bucket: i64, group: &str) -> Vec<u8> {
    let mut out = Vec::new();
    key::encode(bucket, key::shard_of(group.as_bytes()), group.as_bytes(), &mut out);
    out
}

fn puts(rows: &[(i64, &str, &str)]) -> ChangeSet {
    let mut changes = ChangeSet::new();
    rows.iter().for_each(|(bucket, group, value)| changes.push_put(&row(*bucket, group), value.as_bytes()));
    changes
}

fn all(store: &StateStore, operator: usize) -> Model {
    let mut found = Model::new();
    let mut last = Vec::new();
    let everything = (&[][..], &[0xff; 64][..]);
    store
        .scan(operator, everything, |key, value| {
            assert!(last.is_empty() || last.as_slice() < key, "in order");
            last = key.to_vec();
            found.insert(key.to_vec(), value.to_vec());
            Ok(())
        })
        .unwrap();
    found
}

/// Commits and applies one batch of one operator.
fn batch(store: &StateStore, version: BatchId, changes: ChangeSet) {
    store.commit(version, std::slice::from_ref(&changes), json!({ "batch": version })).unwrap();
    store.apply(0, &changes).unwrap();
}

#[test]
fn a_commit_survives_without_having_been_applied() {
    let place = Place::new();
    let (store, report) = place.open(&["count"], None);
    assert_eq!(report, RestoreReport::default());
    store.commit(0, &[puts(&[(5, "a", "1")])], json!({"watermarkMs": 3})).unwrap();
    assert!(all(&store, 0).is_empty());
    drop(store);
    let (store, report) = place.open(&["count"], 0);
    assert_eq!((report.snapshot, report.changelogs, &report.note), (None, 1, &json!({"watermarkMs": 3})));
    let keys = [row(5, "a"), row(5, "b")];
    assert_eq!(store.multi_get(0, &keys).unwrap(), [Some(b"1".to_vec()), None]);
    assert_eq!(store.multi_get(0, &[&keys[1], &keys[0]]).unwrap(), [None, Some(b"1".to_vec())]);
    assert_eq!(store.metrics().operators[0].operator, "count");
}

#[test]
fn what_was_applied_and_not_committed_is_gone() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    batch(&store, 0, puts(&[(5, "a", "1")]));
    store.apply(0, &puts(&[(5, "a", "2"), (5, "b", "2")])).unwrap();
    drop(store);
    let (store, _) = place.open(&["count"], 0);
    assert_eq!(all(&store, 0), Model::from([(row(5, "a"), b"1".to_vec())]));
}

#[test]
fn a_replayed_batch_replaces_its_changelog_and_what_came_after_is_gone() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    (0..4).for_each(|n| batch(&store, n, puts(&[(n as i64, "a", "old")])));
    store.snapshot(3).unwrap();
    drop(store);
    let (store, _) = place.open(&["count"], 1);
    assert_eq!(place.files("state"), ["0.changelog", "1.changelog", "sst"]);
    batch(&store, 2, puts(&[(9, "b", "new")]));
    drop(store);
    let (store, _) = place.open(&["count"], 2);
    assert_eq!(all(&store, 0).keys().cloned().collect::<Vec<_>>(), [row(0, "a"), row(1, "a"), row(9, "b")]);
}

#[test]
fn a_reader_removes_nothing() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    (0..3).for_each(|n| batch(&store, n, puts(&[(n as i64, "a", "x")])));
    let reader = testing::reader(&place.path(""));
    let local = place.dir.path().join("reader");
    let (read, _) = StateStore::open(&settings(), &reader, &local, &operators(&["count"]), Some(1)).unwrap();
    assert_eq!(all(&read, 0).len(), 2);
    assert_eq!(place.files("state").len(), 4);
    assert!(read.commit(2, &[ChangeSet::new()], json!(null)).is_err());
}

#[test]
fn snapshots_share_files() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    let mut large = ChangeSet::new();
    (0..5_000).for_each(|n| large.push_put(&row(5, &n.to_string()), format!("{n:040}").as_bytes()));
    batch(&store, 0, large);
    let first = store.snapshot(0).unwrap();
    batch(&store, 1, puts(&[(6, "a", "1")]));
    let second = store.snapshot(1).unwrap();
    assert!(second.new_bytes * 2 < first.new_bytes, "{first:?} {second:?}");
    assert!(second.size_bytes > first.size_bytes, "{first:?} {second:?}");
    drop(store);
    // A restored store goes on sharing what it restored.
    let (store, report) = place.open(&["count"], 1);
    assert_eq!((report.snapshot, report.changelogs), (Some(1), 0));
    assert_eq!(all(&store, 0).len(), 5_001);
    batch(&store, 2, puts(&[(7, "a", "1")]));
    let third = store.snapshot(2).unwrap();
    assert!(third.new_bytes * 2 < first.new_bytes, "{third:?}");
    // The first two go; what the third shares stays.
    store.prune(2).unwrap();
    assert_eq!(place.files("state"), ["2.snapshot", "sst"]);
    drop(store);
    let (store, report) = place.open(&["count"], 2);
    assert_eq!((report.snapshot, all(&store, 0).len()), (Some(2), 5_002));
}

#[test]
fn a_crash_before_the_list_leaves_files_that_the_next_prune_removes() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    batch(&store, 0, puts(&[(5, "a", "1")]));
    store.snapshot(0).unwrap();
    std::fs::remove_file(place.path("state/0.snapshot")).unwrap();
    assert!(!place.files("state/sst").is_empty());
    drop(store);
    let (store, report) = place.open(&["count"], 0);
    assert_eq!((report.snapshot, report.changelogs), (None, 1));
    store.prune(0).unwrap();
    assert_eq!(place.files("state/sst"), [""; 0]);
    assert_eq!(store.snapshot(0).unwrap().new_files as usize, place.files("state/sst").len());
}

#[test]
fn the_next_batch_may_be_applied_while_a_snapshot_is_written() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    batch(&store, 0, puts(&[(5, "a", "1")]));
    let frozen = store.freeze(0).unwrap();
    batch(&store, 1, puts(&[(5, "a", "2")]));
    store.prune(0).unwrap();
    store.publish(frozen).unwrap();
    drop(store);
    let reader = testing::reader(&place.path(""));
    let local = place.dir.path().join("reader");
    let open = |version| StateStore::open(&settings(), &reader, &local, &operators(&["count"]), Some(version)).unwrap();
    let (store, report) = open(0);
    assert_eq!((report.snapshot, report.note), (Some(0), json!({"batch": 0})));
    assert_eq!(all(&store, 0)[&row(5, "a")], b"1");
    drop(store);
    let (store, report) = open(1);
    assert_eq!((report.snapshot, report.changelogs, report.note), (Some(0), 1, json!({"batch": 1})));
    assert_eq!(all(&store, 0)[&row(5, "a")], b"2");
}

#[test]
fn a_snapshot_is_due_once_at_a_time() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    (0..49).for_each(|n| batch(&store, n, ChangeSet::new()));
    assert!(!store.snapshot_due());
    batch(&store, 49, ChangeSet::new());
    assert!(store.snapshot_due());
    let frozen = store.freeze(49).unwrap();
    assert!(!store.snapshot_due());
    drop(frozen);
    assert!(store.snapshot_due());
    store.snapshot(49).unwrap();
    assert!(!store.snapshot_due());
}

#[test]
fn expired_buckets_give_their_space_back() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    let mut large = ChangeSet::new();
    for n in 0..40_000i64 {
        large.push_put(&row(n % 100, &n.to_string()), &[n as u8; 60]);
    }
    batch(&store, 0, large);
    let before = store.snapshot(0).unwrap().size_bytes;
    let mut expired = ChangeSet::new();
    let (from, to) = key::bucket_range(i64::MIN, 99);
    expired.push_range_delete(&from, &to);
    batch(&store, 1, expired);
    assert_eq!(all(&store, 0).len(), 400);
    store.snapshot(1).unwrap();
    drop(store);
    let (store, report) = place.open(&["count"], 1);
    assert_eq!((report.snapshot, all(&store, 0).len()), (Some(1), 400));
    assert!(before > 100_000, "{before}");
}

#[test]
fn operators_are_matched_by_name() {
    let place = Place::new();
    let (store, _) = place.open(&["a", "b"], None);
    store.commit(0, &[puts(&[(1, "x", "a")]), puts(&[(1, "x", "b")])], json!(0)).unwrap();
    drop(store);
    let (store, report) = place.open(&["c", "b"], 0);
    assert_eq!(report.dropped_operators, ["a"]);
    assert!(all(&store, 0).is_empty());
    assert_eq!(all(&store, 1)[&row(1, "x")], b"b");
    store.apply(1, &puts(&[])).unwrap();
    store.snapshot(0).unwrap();
    store.commit(1, &[puts(&[(1, "y", "c")]), ChangeSet::new()], json!(1)).unwrap();
    drop(store);
    // 'a' was gone for a while: what it had before is void when it comes back.
    let (store, report) = place.open(&["a", "b", "c"], 1);
    assert_eq!(report.dropped_operators, [""; 0]);
    let sizes = [0, 1, 2].map(|operator| all(&store, operator).len());
    assert_eq!(sizes, [0, 1, 1]);
    store.snapshot(1).unwrap();
    drop(store);
    let (_, report) = place.open(&["c"], 1);
    assert_eq!((report.snapshot, report.dropped_operators.len()), (Some(1), 2));
}

#[test]
fn an_operator_that_was_dropped_and_came_back_begins_empty() {
    let place = Place::new();
    let (store, _) = place.open(&["a", "b"], None);
    store.commit(0, &[puts(&[(1, "x", "a")]), ChangeSet::new()], json!(0)).unwrap();
    drop(store);
    let (store, _) = place.open(&["b"], 0);
    store.commit(1, &[ChangeSet::new()], json!(1)).unwrap();
    drop(store);
    let (store, report) = place.open(&["a", "b"], 1);
    assert_eq!((report.changelogs, all(&store, 0).len()), (2, 0));
}

#[test]
fn a_query_that_gets_state_late_begins_with_an_empty_snapshot() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    store.snapshot(41).unwrap();
    batch(&store, 42, puts(&[(5, "a", "1")]));
    drop(store);
    let (store, report) = place.open(&["count"], 42);
    assert_eq!((report.snapshot, report.changelogs, all(&store, 0).len()), (Some(41), 1, 1));
}

#[test]
fn a_batch_out_of_order_is_a_bug() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    assert!(matches!(store.commit(1, &[ChangeSet::new()], json!(0)).unwrap_err(), EngineError::Internal(_)));
    assert!(matches!(store.commit(0, &[], json!(0)).unwrap_err(), EngineError::Internal(_)));
    batch(&store, 0, ChangeSet::new());
    assert!(matches!(store.snapshot(1).unwrap_err(), EngineError::Internal(_)));
    assert!(matches!(store.multi_get(1, &[b"x"]).unwrap_err(), EngineError::Internal(_)));
}

#[test]
fn a_run_that_was_overtaken_commits_nothing() {
    let place = Place::new();
    let (zombie, _) = place.open(&["count"], None);
    batch(&zombie, 0, puts(&[(5, "a", "1")]));
    std::fs::remove_file(place.path("run/lock")).unwrap();
    let _newer = place.run();
    for error in [
        zombie.commit(1, &[ChangeSet::new()], json!(0)).unwrap_err(),
        zombie.snapshot(0).unwrap_err(),
        zombie.prune(0).unwrap_err(),
    ] {
        assert!(error.to_string().contains("a newer run owns this checkpoint"), "{error}");
    }
    assert_eq!(place.files("state"), ["0.changelog", "sst"]);
    assert_eq!(place.files("state/sst"), [""; 0]);
}

/// Damages each state file in turn: opening names it, and says what to do.
#[test]
fn damage_is_named() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    batch(&store, 0, puts(&[(5, "a", "1")]));
    store.snapshot(0).unwrap();
    batch(&store, 1, puts(&[(5, "b", "1")]));
    store.prune(0).unwrap();
    drop(store);
    let content = place.files("state/sst").into_iter().map(|name| format!("state/sst/{name}"));
    let files: Vec<String> = content.chain(["state/0.snapshot".to_owned(), "state/1.changelog".to_owned()]).collect();
    assert!(files.len() > 4, "{files:?}");
    for name in files {
        let path = place.path(&name);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        check_damage(&place, &name, &path, Some(&flipped));
        check_damage(&place, &name, &path, Some(&whole[..whole.len() - 1]));
        if name != "state/0.snapshot" {
            check_damage(&place, &name, &path, None);
        }
        replace(&path, Some(&whole));
    }
    assert_eq!(all(&place.open(&["count"], 1).0, 0).len(), 2);
}

/// What a run leaves that was overtaken while it wrote a snapshot: its list, of files that are no longer there.
#[test]
fn an_incomplete_snapshot_is_passed_over_where_an_older_one_will_do() {
    let place = Place::new();
    let (store, _) = place.open(&["count"], None);
    for n in 0..6 {
        batch(&store, n, puts(&[(n as i64, "a", "x")]));
        if n == 2 || n == 4 {
            store.snapshot(n).unwrap();
        }
    }
    let whole = all(&store, 0);
    drop(store);
    let newest = place.files("state/sst").into_iter().filter(|name| name.starts_with("4-"));
    newest.for_each(|name| std::fs::remove_file(place.path("state/sst").join(name)).unwrap());
    let (store, report) = place.open(&["count"], 5);
    assert_eq!((report.snapshot, report.changelogs), (Some(2), 3));
    assert_eq!(all(&store, 0), whole);
    assert!(!place.files("state").contains(&"4.snapshot".to_owned()));
    drop(store);
    // Without the changelogs there is no other way, and it is said which file is missing.
    for n in 0..3 {
        std::fs::remove_file(place.path(&format!("state/{n}.changelog"))).unwrap();
    }
    let name = place.files("state/sst").into_iter().find(|name| name.ends_with(".sst")).unwrap();
    std::fs::remove_file(place.path("state/sst").join(&name)).unwrap();
    let Err(error) = place.try_open(&["count"], Some(5)) else { panic!("{name} was not missed") };
    assert!(error.to_string().contains(&name), "{error}");
}

fn check_damage(place: &Place, name: &str, path: &Path, content: Option<&[u8]>) {
    replace(path, content);
    let Err(error) = place.try_open(&["count"], Some(1)) else { panic!("{name} was not missed") };
    assert!(matches!(error, EngineError::Data(_)), "{error}");
    assert!(error.to_string().contains(name) && error.next_step().is_some(), "{name}: {error}");
}

/// A new file: the old one may be linked elsewhere.
fn replace(path: &Path, content: Option<&[u8]>) {
    let _ = std::fs::remove_file(path);
    if let Some(content) = content {
        std::fs::write(path, content).unwrap();
    }
}

/// One step of the model test.
#[derive(Debug, Clone)]
enum Action {
    Batch {
        changes: [Vec<Row>; 2],
        apply: bool,
        snapshot: bool,
    },
    /// Prunes up to this many batches back.
    Prune(u64),
    /// Opens again, this many batches back.
    Reopen(u64),
}

#[derive(Debug, Clone)]
enum Row {
    Put(i64, u8, u8),
    Delete(i64, u8),
    Expire(i64, i64),
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = prop_oneof![
        8 => (0..6i64, 0..8u8, any::<u8>()).prop_map(|(bucket, group, value)| Row::Put(bucket, group, value)),
        2 => (0..6i64, 0..8u8).prop_map(|(bucket, group)| Row::Delete(bucket, group)),
        1 => (0..6i64, 0..6i64).prop_map(|(from, to)| Row::Expire(from, to)),
    ];
    prop::collection::vec(row, 0..12)
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let batch = (rows(), rows(), any::<bool>(), prop::bool::weighted(0.3))
        .prop_map(|(a, b, apply, snapshot)| Action::Batch { changes: [a, b], apply, snapshot });
    let action = prop_oneof![
        6 => batch,
        1 => (0..4u64).prop_map(Action::Prune),
        2 => prop_oneof![3 => Just(0u64), 1 => 1..4u64].prop_map(Action::Reopen),
    ];
    prop::collection::vec(action, 1..20)
}

fn change_set(rows: &[Row]) -> ChangeSet {
    let mut changes = ChangeSet::new();
    for change in rows {
        match change {
            Row::Put(bucket, group, value) => changes.push_put(&row(*bucket, &group.to_string()), &[*value]),
            Row::Delete(bucket, group) => changes.push_delete(&row(*bucket, &group.to_string())),
            Row::Expire(from, to) => {
                let (from, to) = key::bucket_range(*from, *to);
                changes.push_range_delete(&from, &to);
            }
        }
    }
    changes
}

fn apply_to_model(model: &mut Model, changes: &ChangeSet) {
    let apply = |change: Change<'_>| {
        match change {
            Change::RangeDelete(from, to) => model.retain(|key, _| key.as_slice() < from || key.as_slice() >= to),
            Change::Delete(key) => drop(model.remove(key)),
            Change::Put(key, value) => drop(model.insert(key.to_vec(), value.to_vec())),
        }
        Ok(())
    };
    changes.visit(apply).unwrap();
}

/// The store and what it must contain.
struct Pair {
    place: Place,
    store: Option<StateStore>,
    /// After each batch; entry 0 is the empty state before batch 0.
    versions: Vec<[Model; 2]>,
    unapplied: Vec<[ChangeSet; 2]>,
    pruned_to: u64,
}

impl Pair {
    fn step(&mut self, action: &Action) {
        match action {
            Action::Batch { changes, apply, snapshot } => self.batch(changes, *apply || *snapshot, *snapshot),
            Action::Prune(back) => {
                let keep_from = (self.versions.len() as u64).saturating_sub(2 + back);
                self.store.as_ref().unwrap().prune(keep_from).unwrap();
                self.pruned_to = self.pruned_to.max(keep_from);
            }
            Action::Reopen(back) => self.reopen(*back),
        }
    }

    fn batch(&mut self, changes: &[Vec<Row>; 2], apply: bool, snapshot: bool) {
        let store = self.store.as_ref().unwrap();
        let version = self.versions.len() as u64 - 1;
        let sets = changes.each_ref().map(|rows| change_set(rows));
        let mut models = self.versions.last().unwrap().clone();
        models.iter_mut().zip(&sets).for_each(|(model, set)| apply_to_model(model, set));
        self.versions.push(models);
        store.commit(version, &sets, json!(version)).unwrap();
        self.unapplied.push(sets);
        if apply {
            for sets in self.unapplied.drain(..) {
                sets.iter().enumerate().for_each(|(operator, set)| store.apply(operator, set).unwrap());
            }
            self.check();
        }
        if snapshot {
            self.store.as_ref().unwrap().snapshot(version).unwrap();
        }
    }

    fn reopen(&mut self, back: u64) {
        self.store = None;
        // Index into `versions`: one above the batch id. After a prune, nothing older than it can be opened.
        let lowest = if self.pruned_to == 0 { 0 } else { self.pruned_to + 1 };
        let index = (self.versions.len() as u64 - 1).saturating_sub(back).max(lowest);
        self.versions.truncate(index as usize + 1);
        self.unapplied.clear();
        let version = index.checked_sub(1);
        let (store, report) = self.place.open(&["a", "b"], version);
        assert_eq!(report.note, version.map_or(json!(null), |version| json!(version)));
        self.store = Some(store);
        self.check();
    }

    fn check(&self) {
        let store = self.store.as_ref().unwrap();
        for (operator, model) in self.versions.last().unwrap().iter().enumerate() {
            assert_eq!(&all(store, operator), model, "operator {operator}");
            let keys: Vec<Vec<u8>> = (0..48).map(|n| row(n / 8, &(n % 8).to_string())).collect();
            let expected: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
            assert_eq!(store.multi_get(operator, &keys).unwrap(), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_store_is_the_model(actions in actions()) {
        let place = Place::new();
        let (store, _) = place.open(&["a", "b"], None);
        let empty = [Model::new(), Model::new()];
        let mut pair = Pair { place, store: Some(store), versions: vec![empty], unapplied: Vec::new(), pruned_to: 0 };
        actions.iter().for_each(|action| pair.step(action));
        pair.reopen(0);
    }
}

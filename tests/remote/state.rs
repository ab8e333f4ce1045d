//! The state store with its checkpoint elsewhere: large files in parts, only what is new, restored into an empty folder.

use std::path::Path;
use std::sync::Arc;

use highwater_connectors::registry::connectors;
use highwater_engine::checkpoint::{CheckpointContext, CheckpointDir, Durability, RemoteSettings};
use highwater_engine::clock::SystemClock;
use highwater_engine::plan::catalog::Options;
use highwater_engine::state::{ChangeSet, StateSettings, StateStore, key};

use crate::random::Random;

/// Where the checkpoint is.
pub(crate) struct Place {
    pub(crate) location: String,
    pub(crate) options: Vec<(&'static str, String)>,
    pub(crate) remote: RemoteSettings,
}

impl Place {
    fn run(&self, work_dir: &Path) -> CheckpointDir {
        let options: Options = self.options.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let context = CheckpointContext {
            object_stores: &connectors().object_stores,
            options: &options,
            remote: &self.remote,
            durability: Durability::None,
            clock: Arc::new(SystemClock),
            work_dir,
        };
        CheckpointDir::open_with(&self.location, &context).unwrap().start_run("q", &SystemClock).unwrap()
    }

    fn open(&self, work_dir: &Path, version: Option<u64>) -> StateStore {
        let operators = ["count".to_owned()];
        StateStore::open(&StateSettings::default(), &self.run(work_dir), work_dir, &operators, version).unwrap().0
    }
}

/// Rows that cannot be compressed.
fn changes(from: u32, rows: u32) -> ChangeSet {
    let mut changes = ChangeSet::new();
    for n in from..from + rows {
        let mut random = Random(u64::from(n) + 1);
        let value: Vec<u8> = (0..250).flat_map(|_| (random.next(1 << 31) as u32).to_le_bytes()).collect();
        let (group, mut row) = (n.to_be_bytes(), Vec::new());
        key::encode(5, key::shard_of(&group), &group, &mut row);
        changes.push_put(&row, &value);
    }
    changes
}

fn digest(store: &StateStore) -> (usize, u32) {
    let (mut rows, mut sum) = (0, 0u32);
    let everything = (&[][..], &[0xff; 64][..]);
    store
        .scan(0, everything, |key, value| {
            rows += 1;
            for byte in key.iter().chain(value) {
                sum = sum.rotate_left(5) ^ u32::from(*byte);
            }
            Ok(())
        })
        .unwrap();
    (rows, sum)
}

/// Some forty megabytes of state in three snapshots; `between` is called after the first.
pub(crate) fn large_state_comes_back_whole(place: &Place, mut between: impl FnMut()) {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = place.open(first.path(), None);
    for batch in 0..2u32 {
        let changes = changes(batch * 20_000, 20_000);
        store.commit(u64::from(batch), std::slice::from_ref(&changes), serde_json::json!(batch)).unwrap();
        store.apply(0, &changes).unwrap();
        let report = store.snapshot(u64::from(batch)).unwrap();
        assert!(report.new_bytes > 15 << 20, "{report:?}");
        between();
    }
    let small = changes(0, 10);
    store.commit(2, std::slice::from_ref(&small), serde_json::json!(2)).unwrap();
    store.apply(0, &small).unwrap();
    let report = store.snapshot(2).unwrap();
    assert!(report.new_bytes < 4 << 20, "only what is new: {report:?}");
    assert!(report.size_bytes > 35 << 20, "{report:?}");
    let expected = digest(&store);
    assert_eq!(expected.0, 40_000);
    drop(store);
    // Another machine: nothing local is left.
    let restored = place.open(second.path(), Some(2));
    assert_eq!(digest(&restored), expected);
    restored.prune(2).unwrap();
    drop(restored);
    let third = tempfile::tempdir().unwrap();
    assert_eq!(digest(&place.open(third.path(), Some(2))), expected, "after the prune");
}

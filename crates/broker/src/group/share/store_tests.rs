//! What share groups have read, over restarts and up to its limits.

use super::super::partition::{Ack, AckBatch};
use super::*;
use crate::log::journal::REWRITE_AT_LEAST;

const AT: At = (Uuid::from_u128(1), 0);
const OTHER: At = (Uuid::from_u128(2), 3);
const MANY: Limits = Limits { max_partitions: 10, max_in_flight_records: 1000 };

fn acquire(store: &ShareStore, shared: &Shared, records: i64) -> i64 {
    let from = shared.next_offset(1000).expect("something to acquire");
    let order =
        Order { member: "m".into(), deadline_ms: 100, max_records: records, is_strict: true, max_in_flight: 1000 };
    let read = [Stretch { first: from, last: from + 999, is_data: true }];
    store.acquire(shared, order, from, &read).iter().map(|it| it.last - it.first + 1).sum()
}

fn ack(store: &ShareStore, shared: &Shared, first: i64, last: i64, ack: Ack) {
    let batch = AckBatch { first, last, types: vec![ack] };
    store.change(shared, true, |state| state.acknowledge("m", &[batch], 200, 5)).expect("acknowledged");
}

/// Where a partition stands: its start, and what is stored of it.
fn holds(store: &ShareStore, group: &str, at: At) -> Option<(i64, Vec<(i64, i64, char, i16)>)> {
    let shared = store.get(group, at)?;
    let state = shared.state.lock();
    let letter = |state: &State| match state {
        State::Available | State::Acquired { .. } => 'a',
        State::Acknowledged => 'k',
        State::Archived => 'x',
    };
    let changes = state.changes().into_iter().map(|it| (it.first, it.last, letter(&it.state), it.deliveries));
    Some((state.start(), changes.collect()))
}

#[test]
fn what_is_finished_survives_and_locks_do_not() {
    let dir = tempfile::tempdir().expect("tempdir");
    let open = || ShareStore::open(dir.path(), MANY).expect("open");
    let store = open();
    assert!(matches!(store.begin("g", AT, 0), Err(StoreError::NoGroup)));
    store.create("g").expect("created");
    let shared = store.begin("g", AT, 5).expect("begun");
    assert_eq!(acquire(&store, &shared, 20), 20);
    ack(&store, &shared, 5, 6, Ack::Accept);
    ack(&store, &shared, 10, 14, Ack::Accept);
    ack(&store, &shared, 20, 20, Ack::Reject);
    ack(&store, &shared, 21, 22, Ack::Release);
    let stored = (7, vec![(10, 14, 'k', 1), (20, 20, 'x', 1), (21, 22, 'a', 1)]);
    assert_eq!(holds(&store, "g", AT), Some(stored.clone()));
    drop(store);

    let store = open();
    assert_eq!(holds(&store, "g", AT), Some(stored));
    assert_eq!(store.in_flight.load(Ordering::Relaxed), 16, "offsets 7 to 22");
    let shared = store.get("g", AT).expect("there");
    assert_eq!(shared.next_offset(1000), Some(7), "what was with a member is available");
    store.begin_anew("g", AT, 100).expect("altered");
    store.begin("g", OTHER, 1).expect("begun");
    store.remove("g", Some(OTHER.0)).expect("removed");
    store.create("h").expect("created");
    store.begin("h", AT, 3).expect("begun");
    store.remove("h", None).expect("removed");
    for store in [store, open()] {
        assert_eq!((store.group_names(), holds(&store, "g", AT)), (vec!["g".to_owned()], Some((100, vec![]))));
        assert!(store.get("g", OTHER).is_none());
        assert_eq!(store.in_flight.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn what_is_forgotten_is_not_brought_back_by_who_still_has_it_in_hand() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = ShareStore::open(dir.path(), MANY).expect("open");
    store.create("g").expect("created");
    let shared = store.begin("g", AT, 0).expect("begun");
    assert_eq!(acquire(&store, &shared, 10), 10);
    store.forget_topics(|topic| topic == AT.0).expect("forgotten");
    let batch = AckBatch { first: 0, last: 9, types: vec![Ack::Accept] };
    let late = store.change(&shared, true, |state| state.acknowledge("m", &[batch], 200, 5));
    assert!(matches!(late, Err(StoreError::NoGroup)), "{late:?}");
    assert_eq!((acquire(&store, &shared, 10), store.in_flight.load(Ordering::Relaxed)), (0, 0));
    let store = ShareStore::open(dir.path(), MANY).expect("open");
    assert!(store.get("g", AT).is_none());
}

#[test]
fn locks_that_run_out_are_counted_durably() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = ShareStore::open(dir.path(), MANY).expect("open");
    store.create("g").expect("created");
    let shared = store.begin("g", AT, 0).expect("begun");
    for (delivery, expected) in [(1, (0, vec![(0, 9, 'a', 1)])), (2, (10, vec![]))] {
        assert_eq!(acquire(&store, &shared, 10), 10, "delivery {delivery}");
        store.expire(99, |_| 2).expect("expired");
        assert_eq!(shared.next_offset(10), None, "not yet");
        store.expire(100, |_| 2).expect("expired");
        let again = ShareStore::open(dir.path(), MANY).expect("open");
        assert_eq!(holds(&again, "g", AT), Some(expected));
    }
}

#[test]
fn partitions_and_records_in_flight_are_limited_over_all_groups() {
    let dir = tempfile::tempdir().expect("tempdir");
    let limits = Limits { max_partitions: 2, max_in_flight_records: 15 };
    let store = ShareStore::open(dir.path(), limits).expect("open");
    store.create("g").expect("created");
    store.create("h").expect("created");
    let one = store.begin("g", AT, 0).expect("begun");
    let two = store.begin("h", AT, 0).expect("begun");
    assert!(matches!(store.begin("h", OTHER, 0), Err(StoreError::TooMany { limit: 2 })));
    store.begin_anew("h", AT, 0).expect("no more than before");
    assert_eq!((acquire(&store, &one, 10), acquire(&store, &two, 10), acquire(&store, &two, 10)), (10, 5, 0));
    ack(&store, &one, 0, 2, Ack::Accept);
    assert_eq!((acquire(&store, &two, 10), acquire(&store, &two, 10)), (3, 0));
}

#[test]
fn a_file_of_outdated_entries_is_rewritten() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = ShareStore::open(dir.path(), MANY).expect("open");
    store.create("g").expect("created");
    let kept = store.begin("g", AT, 0).expect("begun");
    assert_eq!(acquire(&store, &kept, 3), 3);
    ack(&store, &kept, 1, 1, Ack::Accept);
    let busy = store.begin("g", OTHER, 0).expect("begun");
    let last = REWRITE_AT_LEAST as i64 + 10;
    for at in 0..last {
        assert_eq!(acquire(&store, &busy, 1), 1);
        let batch = AckBatch { first: at, last: at, types: vec![Ack::Accept] };
        store.change(&busy, false, |state| state.acknowledge("m", &[batch], 200, 5)).expect("acknowledged");
    }
    assert!(store.journal.entries() < 100, "{} entries", store.journal.entries());
    for store in [store, ShareStore::open(dir.path(), MANY).expect("open")] {
        assert_eq!(holds(&store, "g", AT), Some((0, vec![(1, 1, 'k', 1)])));
        assert_eq!(holds(&store, "g", OTHER), Some((last, vec![])));
    }
}

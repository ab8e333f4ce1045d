//! The state rows of one worker: those the batch changed in memory, all others in the store.
//!
//! A row is found by the bytes behind its shard: a key, and for a history the sequence behind it. Key bytes of one query
//! are never the beginning of one another, so that the rows of a key are a range of their own. Rows are written and never
//! deleted.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::operator::keyed::shard_of_hash;
use crate::operator::{NO_EXPIRY, OperatorCounts, Place};
use crate::state::{ChangeSet, key};

/// State rows by key.
pub(super) struct Rows {
    place: Place,
    /// What the batch has written so far.
    changed: BTreeMap<Vec<u8>, Vec<u8>>,
    changed_bytes: usize,
    counts: OperatorCounts,
}

/// A row: its whole key and its value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

impl Rows {
    pub(super) fn open(place: Place) -> Result<Self> {
        let mut rows_total = 0;
        let (from, to) = key::bucket_range(NO_EXPIRY, key::NEVER);
        place.store.scan(place.first_table, (&from, &to), |bytes, _| {
            rows_total += u64::from(place.owns(key::decode(bytes)?.1));
            Ok(())
        })?;
        let counts = OperatorCounts { rows_total, ..OperatorCounts::default() };
        Ok(Self { place, changed: BTreeMap::new(), changed_bytes: 0, counts })
    }

    /// The values of keys, which are in order.
    pub(super) fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut values: Vec<Option<Vec<u8>>> = keys.iter().map(|key| self.changed.get(key).cloned()).collect();
        let missing: Vec<usize> = (0..keys.len()).filter(|at| values[*at].is_none()).collect();
        let asked: Vec<&Vec<u8>> = missing.iter().map(|at| &keys[*at]).collect();
        let found = self.place.store.multi_get(self.place.first_table, &asked)?;
        missing.into_iter().zip(found).for_each(|(at, value)| values[at] = value);
        Ok(values)
    }

    /// The rows that begin with `prefix`: the last one before `from`, and all from there on.
    pub(super) fn around(&self, prefix: &[u8], from: &[u8]) -> Result<(Option<Row>, Vec<Row>)> {
        let end = after(prefix);
        let (store, table) = (&self.place.store, self.place.first_table);
        let stored = store.last_row(table, (prefix, from))?;
        let changed = self.changed.range(prefix.to_vec()..from.to_vec()).next_back();
        let before = match (stored, changed) {
            (Some(stored), Some((key, _))) if stored.0 > *key => Some(stored),
            (stored, None) => stored,
            (_, Some((key, value))) => Some((key.clone(), value.clone())),
        };
        let mut later: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        store.scan(table, (from, &end), |key, value| {
            later.insert(key.to_vec(), value.to_vec());
            Ok(())
        })?;
        let changed = self.changed.range(from.to_vec()..end);
        later.extend(changed.map(|(key, value)| (key.clone(), value.clone())));
        Ok((before, later.into_iter().collect()))
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>, is_new: bool) {
        self.counts.rows_total += u64::from(is_new);
        self.changed_bytes += key.len() + value.len();
        if let Some(old) = self.changed.insert(key, value) {
            self.changed_bytes = self.changed_bytes.saturating_sub(old.len());
        }
    }

    pub(super) fn end_batch(&mut self) {
        self.counts.rows_updated = self.changed.len() as u64;
        self.counts.memory_bytes = self.changed_bytes as u64;
    }

    /// What the batch changed goes to the changelog, and to the store, which has all rows from then on.
    pub(super) fn take_changes(&mut self, changes: &mut ChangeSet) -> Result<()> {
        let mut own = self.place.change_set();
        std::mem::take(&mut self.changed).iter().for_each(|(key, value)| own.push_put(key, value));
        self.changed_bytes = 0;
        self.place.store.apply(self.place.first_table, &own)?;
        changes.append(own);
        Ok(())
    }

    pub(super) fn counts(&self) -> OperatorCounts {
        self.counts
    }
}

/// The key of a row by the hash of its group key; `parts` are the group key and what follows.
pub(super) fn row_key(hash: u64, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::encode(NO_EXPIRY, shard_of_hash(hash), &parts.concat(), &mut bytes);
    bytes
}

/// The first key behind all that begin with `prefix`.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

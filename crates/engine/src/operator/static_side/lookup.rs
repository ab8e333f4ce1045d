//! Rows of a static side by key: only the keys of a batch are asked for, and what was found of them is kept.
//!
//! ```text
//!   keys of a batch ─> known and young enough? ──no──> one query for up to 1000 keys ─> chunk: their rows, and which
//!        │ yes                                                                          keys have none
//!        └────────────> rows of all its keys <───────────────────────────────────────────┘
//! ```
//!
//! Chunks leave oldest first, when they are too old or memory is short. A key is asked for once in a batch, as long as
//! memory has room for the batch's keys: who wants one that another thread has asked for waits for that answer. Nothing
//! here asks: whoever does gives the lock on the cache back meanwhile, so that others go on.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{interleave_record_batch, take};
use arrow::datatypes::SchemaRef;
use arrow::row::Rows;
use datafusion::common::ScalarValue;
use hashbrown::{HashMap, HashSet};

use crate::error::Result;
use crate::operator::join::KeyColumns;
use crate::plan::batch::size_of_rows;

/// Keys of one query.
const KEYS_AT_ONCE: usize = 1000;

/// Memory of a key beside its bytes, which are kept twice: in the index, and in its chunk.
const KEY_BYTES: usize = 96;

/// What was found of the keys that were asked for.
#[derive(Default)]
pub(super) struct LookupCache {
    entries: HashMap<Box<[u8]>, Entry>,
    /// Oldest first.
    chunks: VecDeque<Arc<Chunk>>,
    next_chunk: u64,
    /// Keys whose answers are under way.
    asking: HashSet<Box<[u8]>>,
    size_bytes: u64,
    num_rows: u64,
    /// Keys that were asked for in the batch under way.
    asked: u64,
    /// When the oldest rows were read that the batch under way saw.
    oldest_ms: Option<i64>,
}

/// What one query gave.
struct Chunk {
    number: u64,
    read_ms: i64,
    rows: RecordBatch,
    keys: Vec<Box<[u8]>>,
    size_bytes: u64,
}

/// The rows of a key: none if it is known that there are none.
#[derive(Clone)]
pub(super) struct Entry {
    chunk: Arc<Chunk>,
    rows: Vec<u32>,
}

/// How old what is kept may be, in the batch under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ages {
    /// When the batch began.
    pub(super) now_ms: i64,
    /// Rows read since then are as good as new.
    pub(super) fresh_from_ms: i64,
    /// Rows read since then stand in while the table does not answer.
    pub(super) usable_from_ms: i64,
}

/// The different keys of a batch, in order.
pub(super) struct Wanted {
    columns: Vec<ArrayRef>,
    keys: Rows,
    /// A row for each key.
    rows: Vec<u32>,
}

impl Wanted {
    /// Keys with a null are left out: they equal nothing.
    pub(super) fn new(keys: KeyColumns) -> Self {
        let KeyColumns { columns, keys } = keys;
        let has_nulls = |row: &u32| columns.iter().any(|column| column.is_null(*row as usize));
        let mut rows: Vec<u32> = (0_u32..).take(keys.num_rows()).filter(|row| !has_nulls(row)).collect();
        // In order, the keys of one query lie close together, which spares whoever stores rows by key.
        rows.sort_unstable_by_key(|row| keys.row(*row as usize));
        rows.dedup_by_key(|row| keys.row(*row as usize));
        Self { columns, keys, rows }
    }

    /// All its keys.
    pub(super) fn rows(&self) -> Vec<u32> {
        self.rows.clone()
    }

    fn key(&self, row: u32) -> &[u8] {
        self.keys.row(row as usize).data()
    }

    /// The values of some keys, column by column, each once.
    pub(super) fn values(&self, rows: &[u32]) -> Result<Vec<Vec<ScalarValue>>> {
        let rows = UInt32Array::from(rows.to_vec());
        let of_column = |column: &ArrayRef| -> Result<Vec<ScalarValue>> {
            let column = take(column, &rows, None)?;
            let mut seen = HashSet::new();
            let values = (0..column.len()).map(|row| ScalarValue::try_from_array(&column, row));
            let values: Vec<ScalarValue> = values.collect::<Result<_, _>>()?;
            Ok(values.into_iter().filter(|value| seen.insert(value.clone())).collect())
        };
        self.columns.iter().map(of_column).collect()
    }
}

/// What is known of the keys of a batch, and what to do about the others.
#[derive(Default)]
pub(super) struct Known {
    pub(super) found: Vec<Entry>,
    /// Keys to ask for now, by one query; nobody else asks for them until [`LookupCache::answered`].
    pub(super) ask: Vec<u32>,
    /// Whether others have asked for some.
    pub(super) waits: bool,
}

/// The rows a query gave, with their keys.
pub(super) struct Answer {
    pub(super) rows: RecordBatch,
    pub(super) keys: Rows,
}

impl LookupCache {
    /// Forgets what is too old for the batch that begins, or all of it.
    pub(super) fn begin(&mut self, ages: Option<Ages>) {
        (self.asked, self.oldest_ms) = (0, None);
        let Some(ages) = ages else {
            *self = Self::default();
            return;
        };
        if self.chunks.back().is_some_and(|chunk| chunk.read_ms > ages.now_ms) {
            // The clock was put back: how old anything is cannot be told.
            *self = Self::default();
        }
        while self.chunks.front().is_some_and(|chunk| chunk.read_ms < ages.usable_from_ms) {
            self.forget_oldest();
        }
    }

    /// Takes the keys out of `left` that are known or that the caller is to ask for.
    pub(super) fn look(&mut self, wanted: &Wanted, left: &mut Vec<u32>, ages: Ages) -> Known {
        let mut known = Known::default();
        left.retain(|row| {
            let key = wanted.key(*row);
            match self.entries.get(key) {
                Some(entry) if entry.chunk.read_ms >= ages.fresh_from_ms => known.found.push(entry.clone()),
                _ if self.asking.contains(key) => {
                    known.waits = true;
                    return true;
                }
                _ if known.ask.len() == KEYS_AT_ONCE => return true,
                _ => known.ask.push(*row),
            }
            false
        });
        self.asking.extend(known.ask.iter().map(|row| Box::from(wanted.key(*row))));
        self.asked += known.ask.len() as u64;
        known
    }

    /// Says that keys are asked for no more, whatever came of it.
    pub(super) fn answered(&mut self, wanted: &Wanted, asked: &[u32]) {
        for row in asked {
            self.asking.remove(wanted.key(*row));
        }
    }

    /// What there is of keys that are all known, however old.
    pub(super) fn known(&self, wanted: &Wanted) -> Vec<Entry> {
        wanted.rows.iter().filter_map(|row| self.entries.get(wanted.key(*row)).cloned()).collect()
    }

    /// The rows of some keys, as the batch under way sees them.
    pub(super) fn rows(&mut self, found: &[Entry], schema: &SchemaRef) -> Result<RecordBatch> {
        let oldest = found.iter().map(|entry| entry.chunk.read_ms).min();
        self.oldest_ms = self.oldest_ms.into_iter().chain(oldest).min();
        together(found, schema)
    }

    /// Whether there is something for each of the keys that can stand in while the table does not answer.
    pub(super) fn knows_all(&self, wanted: &Wanted) -> bool {
        wanted.rows.iter().all(|row| self.entries.contains_key(wanted.key(*row)))
    }

    /// Keeps what was answered, as far as there is room; gives all of it.
    pub(super) fn add(
        &mut self,
        wanted: &Wanted,
        asked: &[u32],
        answer: &Answer,
        now_ms: i64,
        limit_bytes: u64,
    ) -> Result<Vec<Entry>> {
        let mut by_key: HashMap<&[u8], Vec<u32>> = asked.iter().map(|row| (wanted.key(*row), Vec::new())).collect();
        let mut kept = Vec::new();
        for row in 0..answer.keys.num_rows() {
            if let Some(rows) = by_key.get_mut(answer.keys.row(row).data()) {
                rows.push(u32::try_from(kept.len()).unwrap_or(u32::MAX));
                kept.push(row);
            }
        }
        let kept: Vec<(usize, usize)> = kept.into_iter().map(|row| (0, row)).collect();
        let rows = if kept.is_empty() {
            RecordBatch::new_empty(answer.rows.schema())
        } else {
            interleave_record_batch(&[&answer.rows], &kept)?
        };
        let keys: Vec<Box<[u8]>> = by_key.keys().map(|key| Box::from(*key)).collect();
        let key_bytes: usize = keys.iter().map(|key| 2 * key.len() + KEY_BYTES).sum();
        let size_bytes = size_of_rows(&rows) + (key_bytes + 4 * kept.len()) as u64;
        let chunk = Arc::new(Chunk { number: self.next_chunk, read_ms: now_ms, rows, keys, size_bytes });
        self.next_chunk += 1;
        self.size_bytes += size_bytes;
        self.num_rows += kept.len() as u64;
        self.chunks.push_back(Arc::clone(&chunk));
        let entries = by_key.into_iter().map(|(key, rows)| (key, Entry { chunk: Arc::clone(&chunk), rows }));
        let found = entries
            .inspect(|(key, entry)| drop(self.entries.insert(Box::from(*key), entry.clone())))
            .map(|(_, entry)| entry)
            .collect();
        while self.size_bytes > limit_bytes && !self.chunks.is_empty() {
            self.forget_oldest();
        }
        Ok(found)
    }

    fn forget_oldest(&mut self) {
        let Some(chunk) = self.chunks.pop_front() else { return };
        for key in &chunk.keys {
            // Another chunk may have newer rows of the key.
            if self.entries.get(key).is_some_and(|entry| entry.chunk.number == chunk.number) {
                self.entries.remove(key);
            }
        }
        self.size_bytes -= chunk.size_bytes;
        self.num_rows -= chunk.rows.num_rows() as u64;
    }

    /// Keys it knows about, rows and bytes it has of them.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        (self.entries.len() as u64, self.num_rows, self.size_bytes)
    }

    /// Keys that were asked for in the batch under way.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// When the oldest rows were read that the batch under way saw.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.oldest_ms
    }
}

/// The rows of some keys as one batch.
fn together(entries: &[Entry], schema: &SchemaRef) -> Result<RecordBatch> {
    let mut chunks: Vec<&RecordBatch> = Vec::new();
    let mut places: HashMap<u64, usize> = HashMap::new();
    let mut rows = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.rows.is_empty()) {
        let chunk = *places.entry(entry.chunk.number).or_insert_with(|| {
            chunks.push(&entry.chunk.rows);
            chunks.len() - 1
        });
        rows.extend(entry.rows.iter().map(|row| (chunk, *row as usize)));
    }
    if rows.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)));
    }
    Ok(interleave_record_batch(&chunks, &rows)?.with_schema(Arc::clone(schema))?)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::row::{RowConverter, SortField};

    use super::*;

    fn key_columns(values: &[Option<i64>]) -> KeyColumns {
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(values.to_vec()))];
        let converter = RowConverter::new(vec![SortField::new(DataType::Int64)]).unwrap();
        KeyColumns { keys: converter.convert_columns(&columns).unwrap(), columns }
    }

    /// A table of the even numbers, asked for these keys in a batch at `now_ms` that takes rows of the last ten
    /// milliseconds for new and those of the last hundred for usable: what is found, and how many keys were asked for.
    fn found(cache: &mut LookupCache, now_ms: i64, keys: &[Option<i64>]) -> (usize, u64) {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let ages = Ages { now_ms, fresh_from_ms: now_ms - 10, usable_from_ms: now_ms - 100 };
        cache.begin(Some(ages));
        let ask = |values: &[Vec<ScalarValue>]| {
            assert!(!values[0].is_empty() && values[0].iter().all(|value| !value.is_null()));
            // More rows than were asked for, as of a table that filters coarsely.
            let rows: Vec<Option<i64>> = (0..2000).filter(|id| id % 2 == 0).map(Some).collect();
            let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(rows.clone()))];
            Ok(Answer { rows: RecordBatch::try_new(Arc::clone(&schema), columns)?, keys: key_columns(&rows).keys })
        };
        let wanted = Wanted::new(key_columns(keys));
        let (mut left, mut found) = (wanted.rows(), Vec::new());
        loop {
            let known = cache.look(&wanted, &mut left, ages);
            found.extend(known.found);
            if known.ask.is_empty() {
                break;
            }
            let answer: Result<Answer> = ask(&wanted.values(&known.ask).unwrap());
            cache.answered(&wanted, &known.ask);
            found.extend(cache.add(&wanted, &known.ask, &answer.unwrap(), now_ms, 1 << 20).unwrap());
        }
        let rows = cache.rows(&found, &schema).unwrap();
        (rows.num_rows(), cache.asked())
    }

    #[test]
    fn keys_are_asked_for_once_until_they_are_due() {
        let mut cache = LookupCache::default();
        let keys = [Some(2), Some(3), None, Some(2), Some(4)];
        assert_eq!(found(&mut cache, 1000, &keys), (2, 3));
        assert_eq!(found(&mut cache, 1010, &keys), (2, 0));
        assert_eq!(found(&mut cache, 1010, &[Some(4), Some(6)]), (2, 1));
        assert_eq!(cache.counts().0, 4);
        // Due, asked anew; what was read first leaves when it is of no use any more.
        assert_eq!(found(&mut cache, 1015, &keys), (2, 3));
        assert_eq!(found(&mut cache, 1111, &[Some(6)]), (1, 1));
        assert_eq!(cache.counts(), (4, 3, cache.size_bytes));
        assert_eq!(found(&mut cache, 2000, &[None]), (0, 0));
        assert_eq!(cache.counts(), (0, 0, 0));
    }

    #[test]
    fn a_clock_that_was_put_back_makes_keys_due() {
        let mut cache = LookupCache::default();
        assert_eq!(found(&mut cache, 1000, &[Some(2)]), (1, 1));
        assert_eq!(found(&mut cache, 400, &[Some(2)]), (1, 1));
    }

    #[test]
    fn keys_that_others_have_asked_for_are_waited_for() {
        let mut cache = LookupCache::default();
        let ages = Ages { now_ms: 1000, fresh_from_ms: 990, usable_from_ms: 900 };
        let of = |keys: &[Option<i64>]| Wanted::new(key_columns(keys));
        let (ours, theirs) = (of(&[Some(2), Some(3)]), of(&[Some(3), Some(4)]));
        let (mut our_left, mut their_left) = (ours.rows(), theirs.rows());
        assert_eq!(cache.look(&ours, &mut our_left, ages).ask.len(), 2);
        let known = cache.look(&theirs, &mut their_left, ages);
        assert!(known.ask.len() == 1 && known.waits && their_left.len() == 1, "{:?}", known.ask);
        // What failed is for whoever still wants it.
        cache.answered(&ours, &ours.rows());
        let known = cache.look(&theirs, &mut their_left, ages);
        assert!(known.ask.len() == 1 && !known.waits && their_left.is_empty(), "{:?}", known.ask);
        assert_eq!(cache.asked(), 4);
    }

    #[test]
    fn many_keys_are_asked_for_in_several_queries() {
        let mut cache = LookupCache::default();
        let keys: Vec<Option<i64>> = (0..2000).rev().map(Some).collect();
        assert_eq!(found(&mut cache, 1000, &keys), (1000, 2000));
        assert_eq!(cache.chunks.len(), 2);
    }
}

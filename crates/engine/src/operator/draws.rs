//! What random functions draw by: an id for each row of a batch that is the same when the batch is run again.
//!
//! ```text
//!   rows of a source      batch · stage · partition, or file ── hashed: 80 bits │ place in it: 40 bits
//!   rows of an operator   batch · stage · the row's own values · how many equal ones came before it ── hashed: 120 bits
//! ```
//!
//! A source gives the rows of a partition in the same order whenever it reads a range, in whatever pieces and on whatever
//! thread, so that the place of a row is enough. Rows of an operator come as its workers give them, and the next run may
//! have another number of them: there the row itself has to say who it is, and equal rows are told apart by counting
//! them. Which of them is which does not matter, as they are equal; a count of each different row is kept for the batch.
//!
//! Nothing here draws: the functions do (`plan/functions/random`), from the id and a seed. The seed of calls that name
//! none is the query's own, made of its id in the checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, ListArray, RecordBatch};
use arrow::datatypes::{DataType, Field};
use arrow::row::{RowConverter, SortField};
use parking_lot::Mutex;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128, xxh3_128_with_seed};

use crate::error::{EngineError, Result};
use crate::sink::BatchId;

/// Bits of an id; few enough for a decimal.
const ID_BITS: u32 = 120;
/// Of these, bits for the place of a row.
const PLACE_BITS: u32 = 40;
/// Rows of operators that are remembered for a batch, some 2 GiB of them.
const MAX_ROWS: usize = 1 << 26;

/// The type of ids.
pub(crate) const ROW_ID: DataType = DataType::Decimal128(38, 0);

/// What all rows of the batch under way have in common.
#[derive(Debug, Default)]
pub(crate) struct Draws {
    seed: AtomicU64,
    batch: AtomicU64,
    /// How often each row of an operator came, by half the hash of what it is.
    equal: Mutex<HashMap<u64, u32>>,
}

impl Draws {
    /// Tells which query it is, before its first batch.
    pub(crate) fn set_query(&self, query_id: &str) {
        self.seed.store(xxh3_64(query_id.as_bytes()), Ordering::Relaxed);
    }

    /// Begins a batch.
    pub(crate) fn begin(&self, batch: BatchId) {
        self.batch.store(batch, Ordering::Relaxed);
        *self.equal.lock() = HashMap::new();
    }

    /// The seed of the query's own calls.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.load(Ordering::Relaxed)
    }

    fn name(&self, stage: &str, site: usize) -> String {
        format!("{}/{stage}/{site}", self.batch.load(Ordering::Relaxed))
    }

    /// Ids of rows that are known by their values, at one place of the plan.
    pub(crate) fn by_content(&self, stage: &str, site: usize, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let seed = xxh3_64(self.name(stage, site).as_bytes());
        let columns: Vec<ArrayRef> = columns.iter().filter_map(comparable).collect();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let converted = match columns.is_empty() {
            true => None,
            false => Some(RowConverter::new(fields)?.convert_columns(&columns)?),
        };
        let mut equal = self.equal.lock();
        if equal.len() + rows > MAX_ROWS {
            return Err(EngineError::query(format!(
                "random numbers are drawn for more than {MAX_ROWS} different rows of one batch, each of which has to be remembered"
            ))
            .help("make the batches smaller (maxOffsetsPerTrigger), or draw below the GROUP BY or join, for the rows as they come"));
        }
        let id = |row: usize| {
            let bytes = converted.as_ref().map_or(&[][..], |rows| rows.row(row).data());
            let hash = xxh3_128_with_seed(bytes, seed);
            let before = equal.entry(half(hash)).or_insert(0);
            let id = if *before == 0 { hash } else { xxh3_128_with_seed(&hash.to_be_bytes(), u64::from(*before)) };
            *before += 1;
            id >> (128 - ID_BITS)
        };
        Ok(ids((0..rows).map(id)))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half of the bits is what is wanted")]
fn half(hash: u128) -> u64 {
    hash as u64
}

fn ids(values: impl Iterator<Item = u128>) -> ArrayRef {
    let values = Decimal128Array::from_iter_values(values.map(u128::cast_signed));
    Arc::new(values.with_data_type(ROW_ID))
}

/// A column in a form whose values have bytes to be told apart by; none if there is no such form.
fn comparable(column: &ArrayRef) -> Option<ArrayRef> {
    let is_comparable = |data_type: &DataType| RowConverter::supports_fields(&[SortField::new(data_type.clone())]);
    if is_comparable(column.data_type()) {
        return Some(Arc::clone(column));
    }
    let map = column.as_map_opt()?;
    let entries: ArrayRef = Arc::new(map.entries().clone());
    let field = Arc::new(Field::new_list_field(entries.data_type().clone(), true));
    let list = ListArray::try_new(field, map.offsets().clone(), entries, map.nulls().cloned()).ok()?;
    is_comparable(list.data_type()).then(|| Arc::new(list) as ArrayRef)
}

/// The rows that one task of a batch passes through the steps of a stage.
pub(crate) struct Lane<'a> {
    draws: &'a Draws,
    stage: String,
    /// What rows of a source stand in, all of them in one order; none for those of an operator.
    stretch: Option<String>,
    /// How many rows of the stretch came, at each place of the plan that gives ids.
    places: BTreeMap<usize, u128>,
}

impl<'a> Lane<'a> {
    /// The rows of an operator.
    pub(crate) fn of_operator(draws: &'a Draws, at: usize) -> Self {
        Self { draws, stage: format!("operator {at}"), stretch: None, places: BTreeMap::new() }
    }

    /// The rows that a reader of a source gives.
    pub(crate) fn of_source(draws: &'a Draws, stage: usize) -> Self {
        Self { draws, stage: format!("source {stage}"), stretch: Some(String::new()), places: BTreeMap::new() }
    }

    /// The rows that follow are from this stretch of the source.
    pub(crate) fn enter(&mut self, stretch: &str) {
        if self.stretch.as_deref() != Some(stretch) {
            self.stretch = Some(stretch.to_owned());
            self.places.clear();
        }
    }

    /// The ids of rows at one place of the plan.
    pub(crate) fn ids(&mut self, site: usize, rows: &RecordBatch) -> Result<ArrayRef> {
        let Some(stretch) = &self.stretch else {
            return self.draws.by_content(&self.stage, site, rows.columns(), rows.num_rows());
        };
        let name = format!("{}/{stretch}", self.draws.name(&self.stage, site));
        let base = xxh3_128(name.as_bytes()) >> (128 - ID_BITS + PLACE_BITS) << PLACE_BITS;
        let next = self.places.entry(site).or_insert(0);
        let first = *next;
        *next += rows.num_rows() as u128;
        Ok(ids((first..*next).map(|place| base | place)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Decimal128Type;

    use super::*;

    fn batch(values: &[i64]) -> RecordBatch {
        let texts: StringArray = values.iter().map(|value| Some(value.to_string())).collect();
        let columns: Vec<(&str, ArrayRef)> =
            vec![("n", Arc::new(Int64Array::from(values.to_vec()))), ("t", Arc::new(texts))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn drawn(lane: &mut Lane<'_>, pieces: &[&[i64]]) -> Vec<i128> {
        let ids = pieces.iter().flat_map(|piece| {
            let ids = lane.ids(3, &batch(piece)).unwrap();
            ids.as_primitive::<Decimal128Type>().values().to_vec()
        });
        ids.collect()
    }

    #[test]
    fn rows_of_a_source_are_known_by_their_place() {
        let draws = Draws::default();
        draws.begin(7);
        let of = |stretch: &str, pieces: &[&[i64]]| {
            let mut lane = Lane::of_source(&draws, 0);
            lane.enter(stretch);
            drawn(&mut lane, pieces)
        };
        let whole = of("a-0", &[&[5, 5, 5, 5]]);
        assert_eq!(of("a-0", &[&[1], &[2, 3], &[4]]), whole, "in other pieces");
        let mut all = [whole.clone(), of("a-1", &[&[5, 5, 5, 5]])].concat();
        draws.begin(8);
        all.extend(of("a-0", &[&[5, 5, 5, 5]]));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 12);
        assert!(all.iter().all(|id| (0..1 << ID_BITS).contains(id)));
    }

    #[test]
    fn rows_of_an_operator_are_known_by_their_values() {
        let draws = Draws::default();
        let of = |pieces: &[&[i64]]| {
            draws.begin(7);
            let mut ids = drawn(&mut Lane::of_operator(&draws, 1), pieces);
            ids.sort_unstable();
            ids
        };
        let whole = of(&[&[1, 2, 2, 3, 2]]);
        assert_eq!(of(&[&[2, 3], &[2], &[1, 2]]), whole, "in another order, by several workers");
        let mut different = whole.clone();
        different.dedup();
        assert_eq!(different.len(), 5);
    }
}

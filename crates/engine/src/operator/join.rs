//! Join of a stream with a static table: the static rows are hashed, each batch of the stream's rows is looked up.
//!
//! Which static rows a batch sees is decided in `static_side`. Inner joins and joins that keep the stream's side are
//! possible; a join that keeps the static side would have to wait for the end of the stream.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{filter, filter_record_batch, take, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use hashbrown::HashTable;

use super::evaluate;
use super::normal::normalized;
use super::static_side::StaticSide;
use crate::error::{EngineError, Result};
use crate::plan::batch::size_of_rows;

/// Which rows of the stream come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StaticJoinKind {
    /// One for each match.
    Inner,
    /// One for each match, and those without one.
    KeepStream,
    /// Those with a match, once.
    Semi,
    /// Those without a match.
    Anti,
}

/// What nulls in keys mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StaticNulls {
    /// A null equals nothing.
    EqualNothing,
    /// A null equals a null (`<=>`).
    Equal,
    /// A null may equal anything (`NOT IN`): a row with one comes out only if the static side is empty, and none does
    /// if the static side has one.
    MayEqualAll,
}

/// What the planner found out about a join.
pub(crate) struct StaticJoin {
    pub(crate) kind: StaticJoinKind,
    /// Keys of the stream's rows.
    pub(crate) stream_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// A further condition, on the stream's columns followed by the static ones.
    pub(crate) filter: Option<Arc<dyn PhysicalExpr>>,
    /// The stream's columns followed by the static ones.
    pub(crate) pair_schema: SchemaRef,
    /// Which columns of the pairs come out, in order.
    pub(crate) output: Vec<usize>,
    /// The columns that come out.
    pub(crate) schema: SchemaRef,
    /// The stream's side, for the planner.
    pub(crate) stream: LogicalPlan,
    /// The static side.
    pub(crate) side: StaticSide,
}

impl std::fmt::Debug for StaticJoin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticJoin").field("kind", &self.kind).field("side", &self.side).finish_non_exhaustive()
    }
}

/// The keys of rows: by column, and as bytes that are equal where they are.
pub(crate) struct KeyColumns {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) keys: Rows,
}

impl KeyColumns {
    /// The keys of the rows of a batch.
    pub(crate) fn new(keys: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch) -> Result<Self> {
        let columns = normalized(evaluate(keys, rows)?)?;
        let keys = converter(&columns)?.convert_columns(&columns)?;
        Ok(Self { columns, keys })
    }
}

/// The static rows, found by their keys.
pub(crate) struct StaticTable {
    rows: RecordBatch,
    keys: Option<Rows>,
    index: HashTable<Vec<u32>>,
    nulls: StaticNulls,
    /// Whether a key of a static row has a null.
    has_null: bool,
}

impl StaticJoin {
    /// The static side.
    pub(crate) fn side(&self) -> &StaticSide {
        &self.side
    }

    /// The joined rows of one batch of the stream.
    pub(crate) fn probe(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let table = self.side.table(batch, &self.stream_keys)?;
        let (stream_rows, static_rows) = table.matches(batch, &self.stream_keys)?;
        let (stream_rows, static_rows) = self.apply_filter(batch, &table, stream_rows, static_rows)?;
        match self.kind {
            StaticJoinKind::Inner => self.pairs(batch, &table, &stream_rows, &static_rows),
            StaticJoinKind::KeepStream => {
                let missing = rows_without(&stream_rows, batch.num_rows());
                let pairs =
                    stream_rows.iter().zip(static_rows.iter()).chain(missing.iter().zip(std::iter::repeat(None)));
                // In the order of the stream, whatever pieces it comes in: random numbers go by the place of a row.
                let mut pairs: Vec<(Option<u32>, Option<u32>)> = pairs.collect();
                pairs.sort_by_key(|(of_stream, _)| *of_stream);
                let (stream_rows, static_rows) = pairs.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
                self.pairs(batch, &table, &stream_rows.into(), &static_rows.into())
            }
            StaticJoinKind::Anti => {
                let missing = rows_without(&stream_rows, batch.num_rows());
                self.stream_only(batch, &table.certain(batch, &self.stream_keys, missing)?)
            }
            StaticJoinKind::Semi => {
                let missing = rows_without(&stream_rows, batch.num_rows());
                self.stream_only(batch, &rows_without(&missing, batch.num_rows()))
            }
        }
    }

    fn apply_filter(
        &self,
        batch: &RecordBatch,
        table: &StaticTable,
        stream_rows: UInt32Array,
        static_rows: UInt32Array,
    ) -> Result<(UInt32Array, UInt32Array)> {
        let Some(condition) = &self.filter else { return Ok((stream_rows, static_rows)) };
        let mut columns = take_record_batch(batch, &stream_rows)?.columns().to_vec();
        columns.extend(take_record_batch(&table.rows, &static_rows)?.columns().to_vec());
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(stream_rows.len()));
        let pairs = RecordBatch::try_new_with_options(Arc::clone(&self.pair_schema), columns, &options)?;
        let keep = condition.evaluate(&pairs)?.into_array(pairs.num_rows())?;
        let keep: &BooleanArray =
            keep.as_boolean_opt().ok_or_else(|| EngineError::internal("a join condition is not BOOLEAN"))?;
        let keep_rows = |rows: &UInt32Array| -> Result<UInt32Array> { Ok(filter(rows, keep)?.as_primitive().clone()) };
        Ok((keep_rows(&stream_rows)?, keep_rows(&static_rows)?))
    }

    fn pairs(
        &self,
        batch: &RecordBatch,
        table: &StaticTable,
        stream_rows: &UInt32Array,
        static_rows: &UInt32Array,
    ) -> Result<RecordBatch> {
        let width = batch.num_columns();
        let columns = self.output.iter().map(|column| {
            if *column < width {
                Ok(take(batch.column(*column), stream_rows, None)?)
            } else if table.rows.num_rows() == 0 {
                Ok(new_null_array(table.rows.column(column - width).data_type(), static_rows.len()))
            } else {
                Ok(take(table.rows.column(column - width), static_rows, None)?)
            }
        });
        self.finish(columns.collect::<Result<_>>()?, stream_rows.len())
    }

    fn stream_only(&self, batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch> {
        let columns = self.output.iter().map(|column| Ok(take(batch.column(*column), rows, None)?));
        self.finish(columns.collect::<Result<_>>()?, rows.len())
    }

    fn finish(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl StaticTable {
    /// Rows to be found by their keys.
    pub(crate) fn new(rows: RecordBatch, keys: &[Arc<dyn PhysicalExpr>], nulls: StaticNulls) -> Result<Self> {
        let mut table = Self { rows, keys: None, index: HashTable::new(), nulls, has_null: false };
        if keys.is_empty() {
            return Ok(table);
        }
        let (rows, keys) = with_keys(&table.rows, keys, nulls)?;
        table.has_null = rows.num_rows() < table.rows.num_rows();
        for row in 0..keys.num_rows() {
            let hash = hash_of(&keys, row);
            let number = u32::try_from(row).unwrap_or(u32::MAX);
            match table.index.find_mut(hash, |found| keys.row(found[0] as usize) == keys.row(row)) {
                Some(found) => found.push(number),
                None => {
                    table.index.insert_unique(hash, vec![number], |found| hash_of(&keys, found[0] as usize));
                }
            }
        }
        table.rows = rows;
        table.keys = Some(keys);
        Ok(table)
    }

    /// How many rows there are that can be found.
    pub(crate) fn num_rows(&self) -> u64 {
        self.rows.num_rows() as u64
    }

    /// Memory of the rows and of what finds them.
    pub(crate) fn size_bytes(&self) -> u64 {
        // An entry of the index is a list of at least one row number, which has an allocation of its own.
        let entry = size_of::<Vec<u32>>() + 1 + 16;
        let keys = self.keys.as_ref().map_or(0, Rows::size);
        size_of_rows(&self.rows).saturating_add((keys + self.index.capacity() * entry) as u64)
    }

    /// Of rows without a match those that certainly have none.
    fn certain(&self, batch: &RecordBatch, keys: &[Arc<dyn PhysicalExpr>], rows: UInt32Array) -> Result<UInt32Array> {
        if self.nulls != StaticNulls::MayEqualAll || (self.rows.num_rows() == 0 && !self.has_null) {
            return Ok(rows);
        }
        if self.has_null {
            return Ok(UInt32Array::from(Vec::<u32>::new()));
        }
        let columns = evaluate(keys, batch)?;
        let has_keys = |row: &u32| columns.iter().all(|column| column.is_valid(*row as usize));
        Ok(rows.values().iter().copied().filter(has_keys).collect::<Vec<_>>().into())
    }

    /// Pairs of row numbers (stream, static) with equal keys.
    fn matches(&self, batch: &RecordBatch, keys: &[Arc<dyn PhysicalExpr>]) -> Result<(UInt32Array, UInt32Array)> {
        let (mut stream_rows, mut static_rows) = (Vec::new(), Vec::new());
        let Some(table_keys) = &self.keys else {
            for stream in 0..batch.num_rows() {
                for fixed in 0..self.rows.num_rows() {
                    stream_rows.push(u32::try_from(stream).unwrap_or(u32::MAX));
                    static_rows.push(u32::try_from(fixed).unwrap_or(u32::MAX));
                }
            }
            return Ok((stream_rows.into(), static_rows.into()));
        };
        let KeyColumns { columns, keys: stream_keys } = KeyColumns::new(keys, batch)?;
        for (row, number) in (0..batch.num_rows()).zip(0_u32..) {
            if self.nulls != StaticNulls::Equal && columns.iter().any(|column| column.is_null(row)) {
                continue;
            }
            let key = stream_keys.row(row);
            let found = self
                .index
                .find(hash_of(&stream_keys, row), |found| table_keys.row(found[0] as usize).as_ref() == key.as_ref());
            for fixed in found.into_iter().flatten() {
                stream_rows.push(number);
                static_rows.push(*fixed);
            }
        }
        Ok((stream_rows.into(), static_rows.into()))
    }
}

/// The rows that can be equal to others, and their keys as bytes.
fn with_keys(rows: &RecordBatch, keys: &[Arc<dyn PhysicalExpr>], nulls: StaticNulls) -> Result<(RecordBatch, Rows)> {
    let columns = normalized(evaluate(keys, rows)?)?;
    if nulls == StaticNulls::Equal {
        return Ok((rows.clone(), converter(&columns)?.convert_columns(&columns)?));
    }
    let present: BooleanArray =
        (0..rows.num_rows()).map(|row| Some(columns.iter().all(|column| column.is_valid(row)))).collect();
    let columns = columns.iter().map(|column| filter(column, &present)).collect::<Result<Vec<_>, _>>()?;
    let keys = converter(&columns)?.convert_columns(&columns)?;
    Ok((filter_record_batch(rows, &present)?, keys))
}

fn converter(columns: &[ArrayRef]) -> Result<RowConverter> {
    Ok(RowConverter::new(columns.iter().map(|column| SortField::new(column.data_type().clone())).collect())?)
}

fn hash_of(keys: &Rows, row: usize) -> u64 {
    xxhash_rust::xxh3::xxh3_64(keys.row(row).as_ref())
}

/// The row numbers below `rows` that are not among `found`.
fn rows_without(found: &UInt32Array, rows: usize) -> UInt32Array {
    let mut is_found = vec![false; rows];
    found.values().iter().for_each(|row| is_found[*row as usize] = true);
    (0_u32..).zip(is_found).filter(|(_, found)| !found).map(|(row, _)| row).collect::<Vec<_>>().into()
}

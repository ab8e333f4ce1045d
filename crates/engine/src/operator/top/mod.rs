//! The first rows of each partition: `row_number() OVER (PARTITION BY k ORDER BY ts DESC) <= n`, and ranks likewise.
//!
//! ```text
//!   KeyedBatch ──by partition──> is the row among the first n so far? ──> state: those n, in order
//!        append     the partition's event time is passed  ──> its rows, once            ──> forgotten
//!        update     a place has another row than before   ──> that row                     (forgotten likewise)
//!        complete                                             all rows of all partitions
//! ```
//!
//! Spark runs no such function on a stream. What comes out is what a batch query gives for all rows so far; the state is
//! what comes out and no row more. With rows only added, a place that is taken stays taken: a row goes only for a better
//! one, so that a table by partition and place needs no deletes. Functions without an upper bound are `over.rs`.
//!
//! A partition is one state row (`rows.rs`). Memory has those that were in use, up to a budget; all others are in the
//! store, which has every row once a batch has ended.

mod aging;
mod groups;
mod rows;
pub(crate) mod state_table;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, SortField};

use super::changes::{Tells, marked};
use super::kept_rows::Expiry;
use super::keyed::{InputSpec, KeyedBatch, row_converter};
use super::normal::normalized;
use super::state_table::{StateLayout, StateTable};
use super::{AtEnd, EMIT_ROWS, Emit, Operator, OperatorCounts, OperatorSpec, Place, StateBound};
use crate::error::Result;
use crate::sink::OutputMode;
use crate::state::ChangeSet;
use groups::Groups;
pub(crate) use rows::Ranking;
use rows::{TopRow, TopRows};
use state_table::TopTable;

/// What the first rows of partitions are.
#[derive(Debug)]
pub(crate) struct TopSpec {
    /// Its lasting name in the checkpoint.
    pub(crate) id: String,
    /// The partition; as columns those of the row, then what they are ordered by.
    pub(crate) input: Arc<InputSpec>,
    /// The columns of the row, then its number.
    pub(crate) schema: SchemaRef,
    /// What the rows are ordered by.
    pub(crate) order: Vec<OrderKey>,
    pub(crate) ranking: Ranking,
    /// The last number that is wanted.
    pub(crate) limit: u64,
    pub(crate) output_mode: OutputMode,
    /// Whether another operator reads the rows, which is told which of them are taken back.
    pub(crate) tells: Tells,
}

/// One expression of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderKey {
    /// The expression, as text.
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    pub(crate) options: SortOptions,
}

impl TopSpec {
    fn row_types(&self) -> Vec<DataType> {
        let fields = self.schema.fields();
        fields.iter().take(fields.len() - 1).map(|field| field.data_type().clone()).collect()
    }

    fn limit(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }
}

impl OperatorSpec for TopSpec {
    fn id(&self) -> &str {
        &self.id
    }

    /// Spark's operator of that kind, which it has in batch queries only.
    fn spark_name(&self) -> &'static str {
        "windowGroupLimit"
    }

    fn fingerprint(&self) -> String {
        let (keys, rows, has_time) = (&self.input.key_types, self.row_types(), self.input.has_watermark);
        let (order, ranking, limit) = (&self.order, self.ranking, self.limit);
        let names: Vec<&String> = self.schema.fields().iter().map(|field| field.name()).collect();
        format!("v2 {ranking:?} <= {limit} keys {keys:?} rows {names:?} {rows:?} order {order:?} time {has_time}")
    }

    fn inputs(&self) -> Vec<Arc<InputSpec>> {
        vec![Arc::clone(&self.input)]
    }

    fn bound(&self) -> StateBound {
        match (self.input.has_watermark, self.input.keys.is_empty(), self.ranking) {
            (true, ..) => StateBound::Watermark("the event time of its partition".to_owned()),
            (false, true, Ranking::RowNumber) => StateBound::Rows(self.limit),
            _ => StateBound::None,
        }
    }

    fn revises(&self) -> bool {
        self.output_mode != OutputMode::Append
    }

    fn takes_ttl(&self) -> bool {
        // One partition for all rows is no growing state, and what is forgotten cannot be taken back.
        !self.input.has_watermark && !self.input.keys.is_empty() && self.tells == Tells::Rows
    }

    fn tells(&self) -> Tells {
        self.tells
    }

    fn state_tables(&self) -> Result<Vec<StateTable>> {
        Ok(vec![StateTable::new(&self.id, StateLayout::First(TopTable::of(self)))])
    }

    fn open(self: Arc<Self>, place: Place) -> Result<Box<dyn Operator>> {
        let codec = Codec::new(&self)?;
        let groups = Groups::open(&self.id, self.output_mode == OutputMode::Update, self.input.has_watermark, place)?;
        Ok(Box::new(TopOperator { spec: self, codec, groups, at_end: AtEnd::default() }))
    }
}

/// Between columns and bytes.
struct Codec {
    spec: Arc<TopSpec>,
    rows: RowConverter,
    /// None if nothing is said about the order.
    order: Option<RowConverter>,
}

impl Codec {
    fn new(spec: &Arc<TopSpec>) -> Result<Self> {
        let order = spec.order.iter().map(|key| SortField::new_with_options(key.data_type.clone(), key.options));
        let order: Vec<SortField> = order.collect();
        let order = if order.is_empty() { None } else { Some(RowConverter::new(order)?) };
        Ok(Self { spec: Arc::clone(spec), rows: row_converter(&spec.row_types())?, order })
    }

    /// Emits rows with their numbers.
    fn emit<'a>(&self, rows: impl Iterator<Item = (&'a TopRow, u64)>, emit: &mut Emit<'_>) -> Result<()> {
        let (rows, places): (Vec<&TopRow>, Vec<u64>) = rows.unzip();
        let parser = self.rows.parser();
        for (rows, places) in rows.chunks(EMIT_ROWS).zip(places.chunks(EMIT_ROWS)) {
            let mut columns: Vec<ArrayRef> = self.rows.convert_rows(rows.iter().map(|row| parser.parse(row.row())))?;
            columns.push(Arc::new(UInt64Array::from(places.to_vec())));
            emit(RecordBatch::try_new(Arc::clone(&self.spec.schema), columns)?)?;
        }
        Ok(())
    }

    /// Emits all rows of partitions.
    fn emit_all(&self, groups: &[TopRows], emit: &mut Emit<'_>) -> Result<()> {
        let numbered = |rows: &TopRows| rows.places(self.spec.ranking);
        self.emit(groups.iter().flat_map(|rows| rows.iter().zip(numbered(rows))), emit)
    }

    /// Takes back the rows of places that have another one now, and emits those that they have.
    fn emit_taken_back(&self, changed: &[(TopRows, TopRows)], emit: &mut Emit<'_>) -> Result<()> {
        let ranking = self.spec.ranking;
        let mut rows = [Vec::new(), Vec::new()];
        for (before, now) in changed {
            let (old, new) = (before.places(ranking), now.places(ranking));
            for at in 0..old.len().max(new.len()) {
                let was = before.get(at).zip(old.get(at).copied());
                let is = now.get(at).zip(new.get(at).copied());
                if was != is {
                    rows[0].extend(was);
                    rows[1].extend(is);
                }
            }
        }
        for (rows, taken_back) in rows.into_iter().zip([true, false]) {
            self.emit(rows.into_iter(), &mut |rows| emit(marked(&rows, taken_back)?))?;
        }
        Ok(())
    }

    /// Emits the rows of places that had another one.
    fn emit_changes(&self, changed: &[(TopRows, TopRows)], emit: &mut Emit<'_>) -> Result<()> {
        let is_new = |before: &TopRows, at: usize, row: &TopRow| before.get(at) != Some(row);
        let changes = changed.iter().flat_map(|(before, now)| {
            (0_u64..)
                .zip(now.iter().enumerate())
                .filter_map(move |(place, (at, row))| is_new(before, at, row).then_some((row, place + 1)))
        });
        self.emit(changes, emit)
    }
}

struct TopOperator {
    spec: Arc<TopSpec>,
    codec: Codec,
    groups: Groups,
    at_end: AtEnd,
}

impl TopOperator {
    /// Tells what changed since it was last told, in output mode update.
    fn tell(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        if self.spec.output_mode != OutputMode::Update {
            return Ok(());
        }
        let changed = self.groups.take_changed();
        match (self.at_end, self.spec.tells) {
            (AtEnd::Changes, Tells::Rows) => self.codec.emit_changes(&changed, emit),
            (AtEnd::Changes, _) => self.codec.emit_taken_back(&changed, emit),
            (AtEnd::Everything | AtEnd::Nothing, _) => Ok(()),
        }
    }
}

impl Operator for TopOperator {
    fn set_at_end(&mut self, at_end: AtEnd) {
        self.at_end = at_end;
    }

    fn begin_batch(&mut self, time_us: i64) -> Result<()> {
        self.groups.age(time_us)
    }

    fn process(&mut self, _: usize, rows: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()> {
        let (columns, order) = rows.columns.split_at(self.spec.schema.fields().len() - 1);
        let order = self
            .codec
            .order
            .as_ref()
            .map(|codec| -> Result<_> { Ok(codec.convert_columns(&normalized(order.to_vec())?)?) });
        let (order, bytes) = (order.transpose()?, self.codec.rows.convert_columns(columns)?);
        let wanted = (self.spec.ranking, self.spec.limit());
        for (row, key) in self.groups.load(rows)?.into_iter().enumerate() {
            let order = order.as_ref().map_or(&[][..], |order| order.row(row).data());
            self.groups.offer(&key, (order, bytes.row(row).data()), wanted)?;
        }
        if self.groups.is_over_budget() {
            self.tell(emit)?;
            self.groups.spill()?;
        }
        Ok(())
    }

    fn emit_early(&mut self, _: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()> {
        self.tell(emit)
    }

    fn finish_batch(&mut self, watermark_us: Option<i64>, emit: &mut Emit<'_>) -> Result<()> {
        self.tell(emit)?;
        let codec = &self.codec;
        let whole = self.spec.output_mode == OutputMode::Complete || self.at_end == AtEnd::Everything;
        if whole && self.at_end != AtEnd::Nothing {
            self.groups.each(None, &mut |rows| codec.emit_all(&rows, emit))?;
        }
        let watermark_us = watermark_us.filter(|_| self.spec.input.has_watermark);
        let Some(bound) = watermark_us.map(|watermark_us| Expiry::AT_WATERMARK.of(watermark_us)) else { return Ok(()) };
        if !self.groups.has_rows_up_to(bound) {
            return Ok(());
        }
        if self.spec.output_mode == OutputMode::Append {
            self.groups.each(Some(bound), &mut |rows| codec.emit_all(&rows, emit))?;
        }
        self.groups.forget(bound)
    }

    fn take_changes(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        self.groups.take_changes(&mut changes[0])
    }

    fn take_unflushed(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        self.groups.take_unflushed(&mut changes[0]);
        Ok(())
    }

    fn counts(&self) -> OperatorCounts {
        self.groups.counts()
    }
}

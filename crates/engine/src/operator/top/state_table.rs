//! The first rows of partitions as people read them: the columns of each row, its number, and when it goes.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::TopSpec;
use super::rows::{Ranking, TopRows};
use crate::error::Result;
use crate::operator::NO_EXPIRY;
use crate::operator::keyed::row_converter;
use crate::operator::state_table::{Page, damaged, ipc, shards, time_column};

/// Partitions with their first rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopTable {
    /// The columns of a row.
    #[serde(with = "ipc::schema")]
    columns: SchemaRef,
    ranking: Ranking,
    /// Whether partitions are kept until the watermark has passed them; else a bucket is a stamp of their time to live.
    #[serde(default = "by_time")]
    by_time: bool,
}

/// Checkpoints that do not say so are from before there was a time to live.
fn by_time() -> bool {
    true
}

impl TopTable {
    pub(super) fn of(spec: &TopSpec) -> Self {
        let fields = spec.schema.fields();
        let columns: Vec<Arc<Field>> = fields.iter().take(fields.len() - 1).cloned().collect();
        Self { columns: Arc::new(Schema::new(columns)), ranking: spec.ranking, by_time: spec.input.has_watermark }
    }

    /// The columns of a row, and its number.
    pub(crate) fn columns(&self) -> Vec<Arc<Field>> {
        let number = Field::new(self.ranking.function(), DataType::Int64, false);
        self.columns.fields().iter().cloned().chain([Arc::new(number)]).collect()
    }

    /// The rows of partitions: their columns and numbers, when they go, and their shards.
    pub(crate) fn read(&self, page: &Page) -> Result<Vec<ArrayRef>> {
        let types: Vec<DataType> = self.columns.fields().iter().map(|field| field.data_type().clone()).collect();
        let (mut numbers, mut expiry, mut of_shard) = (Vec::new(), Vec::new(), Vec::new());
        let mut partitions = Vec::new();
        for ((value, bucket), shard) in page.values.iter().zip(&page.buckets).zip(&page.shards) {
            let rows = TopRows::decode(value).ok_or_else(|| damaged("a partition"))?;
            numbers.extend(rows.places(self.ranking).into_iter().map(|at| i64::try_from(at).unwrap_or(i64::MAX)));
            expiry.resize(numbers.len(), Some(*bucket).filter(|bucket| self.by_time && *bucket != NO_EXPIRY));
            of_shard.resize(numbers.len(), *shard);
            partitions.push(rows);
        }
        let converter = row_converter(&types)?;
        let parser = converter.parser();
        let rows = partitions.iter().flat_map(TopRows::iter);
        let mut columns = converter.convert_rows(rows.map(|row| parser.parse(row.row())))?;
        columns.extend([Arc::new(Int64Array::from(numbers)) as ArrayRef, time_column(expiry), shards(&of_shard)]);
        Ok(columns)
    }
}

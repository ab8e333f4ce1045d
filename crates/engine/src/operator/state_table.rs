//! The tables of operators as people read them: what their rows mean, written down in the checkpoint, and the way back
//! from state rows to columns for somebody who has the checkpoint and not the query.
//!
//! ```text
//!   state/tables      v1 · {"id":..,"operatorName":..,"tables":[{"store":..,"layout":{..}}]} a line an operator · crc32c
//!   state row         bucket · shard · key bytes ->  value bytes
//!   as a table        key columns, results or columns of the row, _time, _matched, _expiry, _shard
//! ```
//!
//! Types are kept as Arrow's own description of a schema, because state rows depend on them to the bit. What a row
//! shows is what the operator would emit for it now; what its state is made of inside is nobody's business.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::physical_expr::expressions::Column;
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::aggregate::state_table::GroupTable;
use super::kept_rows::Expiry;
use super::kept_rows::stored::{gone_us, split_flags, split_key};
use super::keyed::InputSpec;
use super::layout::History;
use super::layout::codec::{KeyCodec, ValueCodec};
use super::top::state_table::TopTable;
use super::{EMIT_ROWS, NO_EXPIRY, PhysicalExprRef};
use crate::error::{EngineError, Result};
use crate::plan::describe::plain;
use crate::state::{StateStore, key};

/// A table of an operator that can be read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StateTable {
    /// Its lasting name in the store.
    pub(crate) store: String,
    /// What its rows mean.
    pub(crate) layout: StateLayout,
    /// The layouts its rows may be in, if the checkpoint has them, and which of the operator's tables it is.
    #[serde(skip)]
    pub(crate) history: Option<(Arc<History>, usize)>,
}

/// What the rows of a table mean.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StateLayout {
    /// Groups with the states of functions.
    Groups(GroupTable),
    /// Rows kept as they are.
    Rows(RowTable),
    /// The first rows of partitions.
    First(TopTable),
    /// One number: how many rows passed.
    Count,
}

/// Rows kept as they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RowTable {
    /// The columns of the key.
    #[serde(with = "ipc::schema")]
    keys: SchemaRef,
    /// The columns of the row; without any the key is all there is.
    #[serde(with = "ipc::schema")]
    columns: SchemaRef,
    /// From the time of a row to the moment the watermark has to reach for it to go; never without one.
    expiry_us: Option<i64>,
    /// Whether rows say that they met one.
    has_marks: bool,
}

/// A page of state rows.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) buckets: Vec<i64>,
    pub(crate) shards: Vec<u8>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) values: Vec<Vec<u8>>,
}

impl StateTable {
    pub(crate) fn new(store: &str, layout: StateLayout) -> Self {
        Self { store: store.to_owned(), layout, history: None }
    }

    /// A table of [`super::kept_rows`].
    pub(crate) fn rows(
        store: &str,
        input: &InputSpec,
        columns: Option<&SchemaRef>,
        expiry: Option<Expiry>,
        has_marks: bool,
    ) -> Self {
        let fields = input.keys.iter().zip(&input.key_types);
        let fields: Vec<Field> = fields.map(|(key, kind)| Field::new(name_of(key), kind.clone(), true)).collect();
        let layout = StateLayout::Rows(RowTable {
            keys: Arc::new(Schema::new(fields)),
            columns: columns.map_or_else(|| Arc::new(Schema::empty()), Arc::clone),
            expiry_us: expiry.map(|expiry| expiry.offset_us.saturating_neg()),
            has_marks,
        });
        Self::new(store, layout)
    }

    /// The columns people see.
    pub(crate) fn schema(&self) -> SchemaRef {
        let (columns, more): (Vec<Arc<Field>>, Vec<Field>) = match &self.layout {
            StateLayout::Groups(groups) => (groups.columns(), vec![time_field("_expiry"), shard_field()]),
            StateLayout::First(rows) => (rows.columns(), vec![time_field("_expiry"), shard_field()]),
            StateLayout::Rows(rows) => {
                let mut more = vec![time_field("_time")];
                more.extend(rows.has_marks.then(|| Field::new("_matched", DataType::Boolean, false)));
                more.extend([time_field("_expiry"), shard_field()]);
                (rows.shown().fields().to_vec(), more)
            }
            StateLayout::Count => {
                (vec![Arc::new(Field::new("rows_passed", DataType::Int64, false))], vec![shard_field()])
            }
        };
        let mut fields: Vec<Field> = Vec::new();
        for field in columns.iter().map(|field| field.as_ref().clone().with_nullable(true)).chain(more) {
            let mut name = field.name().clone();
            // Both sides of a join may have a column of that name.
            for again in 1.. {
                if fields.iter().all(|known| known.name() != &name) {
                    break;
                }
                name = format!("{}_{again}", field.name());
            }
            fields.push(field.with_name(name));
        }
        Arc::new(Schema::new(fields))
    }

    /// Gives the rows of the table that is at `table` of the store, at most `limit`.
    pub(crate) fn read(
        &self,
        store: &StateStore,
        table: usize,
        limit: Option<usize>,
        mut emit: impl FnMut(RecordBatch),
    ) -> Result<()> {
        let schema = self.schema();
        let (gone_us, mut left) = (gone_us(store, table)?, limit.unwrap_or(usize::MAX));
        let mut page = Page::default();
        let mut flush = |page: &mut Page, left: &mut usize| -> Result<()> {
            let columns = self.columns(&std::mem::take(page))?;
            let rows = RecordBatch::try_new(Arc::clone(&schema), columns)?;
            let rows = rows.slice(0, rows.num_rows().min(*left));
            *left -= rows.num_rows();
            emit(rows);
            Ok(())
        };
        let (from, to) = key::bucket_range(i64::MIN, key::NEVER);
        store.scan_while(table, (&from, &to), |stored_key, value| {
            let (bucket, shard, rest) = key::decode(stored_key)?;
            if !self.is_alive(rest, gone_us) {
                return Ok(true);
            }
            page.buckets.push(bucket);
            page.shards.push(shard);
            page.keys.push(rest.to_vec());
            page.values.push(value.to_vec());
            if page.keys.len() >= EMIT_ROWS.min(left) {
                flush(&mut page, &mut left)?;
            }
            Ok(left > 0)
        })?;
        if !page.keys.is_empty() && left > 0 { flush(&mut page, &mut left) } else { Ok(()) }
    }

    fn is_alive(&self, rest: &[u8], gone_us: i64) -> bool {
        let StateLayout::Rows(_) = self.layout else { return true };
        split_key(rest).is_none_or(|(_, time, _)| time > gone_us)
    }

    fn columns(&self, page: &Page) -> Result<Vec<ArrayRef>> {
        match &self.layout {
            StateLayout::Groups(groups) => {
                groups.read(page, self.history.as_ref().map(|(history, _)| history.as_ref()))
            }
            StateLayout::First(rows) => rows.read(page),
            StateLayout::Rows(rows) => rows.read(page, self.history.as_ref()),
            StateLayout::Count => {
                let count = |bytes: &Vec<u8>| {
                    let bytes = bytes.as_slice().try_into().map_err(|_| damaged("its count"))?;
                    Ok(i64::try_from(u64::from_be_bytes(bytes)).unwrap_or(i64::MAX))
                };
                let counts = page.values.iter().map(count).collect::<Result<Vec<i64>>>()?;
                Ok(vec![Arc::new(arrow::array::Int64Array::from(counts)), shards(&page.shards)])
            }
        }
    }
}

impl RowTable {
    fn shown(&self) -> &SchemaRef {
        if self.columns.fields().is_empty() { &self.keys } else { &self.columns }
    }

    fn read(&self, page: &Page, history: Option<&(Arc<History>, usize)>) -> Result<Vec<ArrayRef>> {
        let types = self.shown().fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let mut times = Vec::new();
        let mut marks = Vec::new();
        let mut shown = Vec::new();
        for (rest, value) in page.keys.iter().zip(&page.values) {
            let (Some((key, time, _)), Some((mark, columns))) = (split_key(rest), value.split_first()) else {
                return Err(damaged("a row"));
            };
            times.push(Some(time).filter(|time| *time != NO_EXPIRY));
            let (layout, is_matched) = split_flags(*mark);
            marks.push(is_matched);
            shown.push(if self.columns.fields().is_empty() { (0, key) } else { (layout, columns) });
        }
        let mut columns = if self.columns.fields().is_empty() {
            let codec = history.map_or_else(|| KeyCodec::plain(&types), |(history, _)| KeyCodec::new(history))?;
            codec.decode(shown.into_iter().map(|(_, key)| key))?
        } else {
            let plain = || ValueCodec::plain(types.iter().map(|kind| vec![kind.clone()]).collect());
            let codec = history.map_or_else(plain, |(history, at)| ValueCodec::new(history, *at))?;
            codec.decode_rows(shown.into_iter())?
        };
        let expiry = times.iter().map(|time| Some(time.as_ref()?.saturating_add(self.expiry_us?))).collect();
        columns.push(time_column(times));
        if self.has_marks {
            columns.push(Arc::new(BooleanArray::from(marks)));
        }
        columns.extend([time_column(expiry), shards(&page.shards)]);
        Ok(columns)
    }
}

/// A column of moments.
pub(crate) fn time_column(times: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
}

/// A column of shards.
pub(crate) fn shards(shards: &[u8]) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(shards.iter().map(|shard| i32::from(*shard))))
}

fn time_field(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)
}

fn shard_field() -> Field {
    Field::new("_shard", DataType::Int32, false)
}

/// The name of an expression as a person would write it, without the tables columns are of: `count(1)`, `sum(v)`.
pub(crate) fn shown_name(name: &str) -> String {
    let (table, collected) =
        (Regex::new(r"\b[A-Za-z_]\w*\.([A-Za-z_])"), Regex::new(r"(\bcollect_(?:list|set)\(.*), 'ignore'\)"));
    let (Ok(table), Ok(collected)) = (table, collected) else { return plain(name) };
    let name = unwrapped(table.replace_all(&plain(name), "$1").into_owned());
    collected.replace_all(&name, "$1)").into_owned()
}

/// A name without what the planner puts around an argument for its type: nothing the user wrote.
fn unwrapped(mut name: String) -> String {
    let Ok(wrapper) = Regex::new(r"\b(?:summand|addend|as_[a-z]+|hash_for_count)\(") else { return name };
    while let Some(found) = wrapper.find(&name).map(|found| found.range()) {
        let mut depth = 1;
        let closes = |(_, sign): &(usize, char)| {
            depth += match sign {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        };
        let Some((end, _)) = name[found.end..].char_indices().find(closes) else { return name };
        name.remove(found.end + end);
        name.replace_range(found, "");
    }
    name
}

/// What a key expression is called.
fn name_of(expr: &PhysicalExprRef) -> String {
    let any: &dyn std::any::Any = expr.as_ref();
    any.downcast_ref::<Column>().map_or_else(|| expr.to_string(), |column| column.name().to_owned())
}

/// The error for state rows that do not mean what the checkpoint says.
pub(crate) fn damaged(what: &str) -> EngineError {
    EngineError::data(format!("the state cannot be shown: {what} is not as the checkpoint describes it"))
        .help("see 'highwater checkpoint verify'")
}

/// Schemas and single rows in JSON: Arrow's stream format in base64.
pub(crate) mod ipc {
    use arrow::array::RecordBatch;
    use arrow::ipc::reader::StreamReader;
    use arrow::ipc::writer::StreamWriter;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn encode(rows: &RecordBatch) -> Result<String, String> {
        let mut bytes = Vec::new();
        let written = StreamWriter::try_new(&mut bytes, rows.schema_ref()).and_then(|mut writer| {
            if rows.num_rows() > 0 {
                writer.write(rows)?;
            }
            writer.finish()
        });
        written.map_err(|error| error.to_string())?;
        Ok(STANDARD.encode(bytes))
    }

    fn decode(text: &str) -> Result<RecordBatch, String> {
        let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let mut reader = StreamReader::try_new(bytes.as_slice(), None).map_err(|error| error.to_string())?;
        let schema = reader.schema();
        let rows = reader.next().transpose().map_err(|error| error.to_string())?;
        Ok(rows.unwrap_or_else(|| RecordBatch::new_empty(schema)))
    }

    /// For `#[serde(with = ..)]` of a row.
    pub(crate) mod row {
        use super::*;
        use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

        pub(crate) fn serialize<S: Serializer>(rows: &RecordBatch, to: S) -> Result<S::Ok, S::Error> {
            encode(rows).map_err(ser::Error::custom)?.serialize(to)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<RecordBatch, D::Error> {
            decode(&String::deserialize(from)?).map_err(de::Error::custom)
        }
    }

    /// For `#[serde(with = ..)]` of a schema.
    pub(crate) mod schema {
        use super::*;
        use arrow::datatypes::SchemaRef;
        use serde::{Deserializer, Serializer};
        use std::sync::Arc;

        pub(crate) fn serialize<S: Serializer>(schema: &SchemaRef, to: S) -> Result<S::Ok, S::Error> {
            super::row::serialize(&RecordBatch::new_empty(Arc::clone(schema)), to)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SchemaRef, D::Error> {
            super::row::deserialize(from).map(|rows| rows.schema())
        }
    }
}

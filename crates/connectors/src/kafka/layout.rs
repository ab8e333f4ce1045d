//! Which column of a Kafka table is filled with what, and the buffers that fill them.
//!
//! | table | columns |
//! |---|---|
//! | without columns of its own | Spark's: `key`, `value`, `topic`, `partition`, `offset`, `timestamp`, `timestampType`, with `includeHeaders` also `headers` |
//! | with columns | decoded from the value; `_key`, `_topic`, `_partition`, `_offset`, `_timestamp` are Kafka's |
//! | with columns and `value.format` = `raw` | Spark's, those that are named |
//!
//! Only projected columns are filled and decoded.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListBuilder, RecordBatch, RecordBatchOptions, StringArray,
    StringBuilder, StructBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use highwater_engine::error::{EngineError, Result};

use super::client::cluster::TopicPartition;
use super::client::record_batch::{Headers, Malformed, Record};

/// What fills a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The record's key as bytes or as text.
    Key,
    /// The record's value as bytes or as text.
    Value,
    /// The topic's name.
    Topic,
    /// The partition's number.
    Partition,
    /// The record's offset.
    Offset,
    /// The record's timestamp.
    Timestamp,
    /// 0 for the producer's clock, 1 for the broker's.
    TimestampType,
    /// The record's headers.
    Headers,
    /// A column decoded from the value.
    Decoded,
}

/// Names of columns of a table that are the record's own, and are not in its value.
pub const RECORD_COLUMNS: [(&str, Content); 5] = [
    ("_key", Content::Key),
    ("_topic", Content::Topic),
    ("_partition", Content::Partition),
    ("_offset", Content::Offset),
    ("_timestamp", Content::Timestamp),
];

/// The columns of a table, or of a projection of one.
#[derive(Debug, Clone)]
pub struct Layout {
    schema: SchemaRef,
    contents: Vec<Content>,
}

impl Layout {
    /// Spark's columns.
    pub fn spark(include_headers: bool) -> Self {
        let mut columns = vec![
            (Field::new("key", DataType::Binary, true), Content::Key),
            (Field::new("value", DataType::Binary, true), Content::Value),
            (Field::new("topic", DataType::Utf8, true), Content::Topic),
            (Field::new("partition", DataType::Int32, true), Content::Partition),
            (Field::new("offset", DataType::Int64, true), Content::Offset),
            (Field::new("timestamp", timestamp_type(), true), Content::Timestamp),
            (Field::new("timestampType", DataType::Int32, true), Content::TimestampType),
        ];
        if include_headers {
            columns.push((Field::new("headers", headers_type(), true), Content::Headers));
        }
        let (fields, contents): (Vec<Field>, Vec<Content>) = columns.into_iter().unzip();
        Self { schema: Arc::new(Schema::new(fields)), contents }
    }

    /// Declared columns that are decoded from the value, but for the names that stand for Kafka's own.
    pub fn decoded(schema: &SchemaRef, object: &str) -> Result<Self> {
        let content = |field: &Arc<Field>| match RECORD_COLUMNS.iter().find(|(name, _)| name == field.name()) {
            Some((_, content)) => checked(field, *content, object),
            None => Ok(Content::Decoded),
        };
        let contents = schema.fields().iter().map(content).collect::<Result<_>>()?;
        Ok(Self { schema: schema.clone(), contents })
    }

    /// Declared columns that name Spark's.
    pub fn raw(schema: &SchemaRef, object: &str) -> Result<Self> {
        let content = |field: &Arc<Field>| {
            let content = match field.name().to_ascii_lowercase().as_str() {
                "key" => Content::Key,
                "value" => Content::Value,
                "topic" => Content::Topic,
                "partition" => Content::Partition,
                "offset" => Content::Offset,
                "timestamp" => Content::Timestamp,
                "timestamptype" => Content::TimestampType,
                "headers" => Content::Headers,
                other => {
                    return Err(EngineError::config(format!("{object} with 'value.format' = 'raw' has no column '{other}'"))
                        .help("use key, value, topic, partition, offset, timestamp, timestampType or headers, or another value.format"));
                }
            };
            checked(field, content, object)
        };
        let contents = schema.fields().iter().map(content).collect::<Result<_>>()?;
        Ok(Self { schema: schema.clone(), contents })
    }

    /// The columns at these places, in this order.
    pub fn project(&self, projection: &[usize]) -> Result<Self> {
        let schema = Arc::new(self.schema.project(projection)?);
        Ok(Self { schema, contents: projection.iter().map(|index| self.contents[*index]).collect() })
    }

    /// The same columns with the fields a decoder gives for those it fills.
    pub fn with_decoded(&self, decoded: &Schema) -> Self {
        let mut decoded = decoded.fields().iter();
        let field = |(field, content): (&Arc<Field>, &Content)| match content {
            Content::Decoded => decoded.next().unwrap_or(field).clone(),
            _ => field.clone(),
        };
        let fields: Vec<Arc<Field>> = self.schema.fields().iter().zip(&self.contents).map(field).collect();
        Self { schema: Arc::new(Schema::new(fields)), contents: self.contents.clone() }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether any column of the whole table comes from a format's decoder.
    pub fn has_decoded(&self) -> bool {
        self.contents.contains(&Content::Decoded)
    }

    /// The columns a decoder fills.
    pub fn decoded_schema(&self) -> SchemaRef {
        self.decoded_members(&[])
    }

    /// The same without the members of structs that are not read: `members` has those that are, for each column that
    /// has some to be left out.
    pub fn decoded_members(&self, members: &[Option<BTreeSet<String>>]) -> SchemaRef {
        let fields = self.schema.fields().iter().zip(&self.contents).enumerate();
        let fields: Vec<Arc<Field>> = fields
            .filter(|(_, (_, content))| **content == Content::Decoded)
            .map(|(at, (field, _))| match members.get(at) {
                Some(Some(read)) => with_members(field, read),
                _ => field.clone(),
            })
            .collect();
        Arc::new(Schema::new(fields))
    }
}

/// A struct with those of its members that are read; any other column as it is.
fn with_members(field: &Arc<Field>, read: &BTreeSet<String>) -> Arc<Field> {
    let DataType::Struct(members) = field.data_type() else { return field.clone() };
    let members = members.iter().filter(|member| read.contains(member.name())).cloned().collect();
    Arc::new(field.as_ref().clone().with_data_type(DataType::Struct(members)))
}

/// Buffers for the columns that come straight from the record.
pub struct RecordColumns {
    layout: Layout,
    columns: Vec<Column>,
    partition: TopicPartition,
    rows: usize,
    size_bytes: usize,
}

enum Column {
    Bytes(Content, BinaryBuilder),
    Text(Content, StringBuilder),
    Offsets(Vec<i64>),
    Timestamps(Vec<i64>),
    TimestampTypes(Vec<i32>),
    Headers(ListBuilder<StructBuilder>),
    Topic,
    Partition,
    Decoded,
}

impl RecordColumns {
    /// Empty buffers for the records of one partition.
    pub fn new(layout: Layout, partition: TopicPartition) -> Self {
        let column = |(field, content): (&Arc<Field>, &Content)| match (content, field.data_type()) {
            (Content::Key | Content::Value, DataType::Utf8) => Column::Text(*content, StringBuilder::new()),
            (Content::Key | Content::Value, _) => Column::Bytes(*content, BinaryBuilder::new()),
            (Content::Offset, _) => Column::Offsets(Vec::new()),
            (Content::Timestamp, _) => Column::Timestamps(Vec::new()),
            (Content::TimestampType, _) => Column::TimestampTypes(Vec::new()),
            (Content::Headers, _) => Column::Headers(headers_builder()),
            (Content::Topic, _) => Column::Topic,
            (Content::Partition, _) => Column::Partition,
            (Content::Decoded, _) => Column::Decoded,
        };
        let columns = layout.schema.fields().iter().zip(&layout.contents).map(column).collect();
        Self { layout, columns, partition, rows: 0, size_bytes: 0 }
    }

    /// Rows since the last flush.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// About the bytes copied since the last flush.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Adds a record's row.
    #[inline]
    pub fn append(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        self.rows += 1;
        self.size_bytes += record.size_bytes;
        for column in &mut self.columns {
            match column {
                Column::Bytes(content, builder) => builder.append_option(bytes_of(*content, record)),
                Column::Text(content, builder) => {
                    builder.append_option(bytes_of(*content, record).map(String::from_utf8_lossy));
                }
                Column::Offsets(offsets) => offsets.push(record.offset),
                Column::Timestamps(timestamps) => timestamps.push(record.timestamp.saturating_mul(1000)),
                Column::TimestampTypes(types) => types.push(i32::from(record.log_append_time)),
                Column::Headers(builder) => append_headers(builder, record.headers)?,
                Column::Topic | Column::Partition | Column::Decoded => {}
            }
        }
        Ok(())
    }

    /// The rows as a batch, with the decoder's columns at their places; the buffers are empty again.
    pub fn flush(&mut self, decoded: Option<&RecordBatch>) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        self.size_bytes = 0;
        let mut decoded = decoded.map_or(&[][..], RecordBatch::columns).iter();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for column in &mut self.columns {
            arrays.push(match column {
                Column::Bytes(_, builder) => Arc::new(builder.finish()),
                Column::Text(_, builder) => Arc::new(builder.finish()),
                Column::Offsets(offsets) => Arc::new(Int64Array::from(std::mem::take(offsets))),
                Column::Timestamps(timestamps) => {
                    let array = TimestampMicrosecondArray::from(std::mem::take(timestamps));
                    Arc::new(array.with_timezone("UTC"))
                }
                Column::TimestampTypes(types) => Arc::new(Int32Array::from(std::mem::take(types))),
                Column::Headers(builder) => Arc::new(builder.finish()),
                Column::Topic => {
                    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.partition.topic, rows)))
                }
                Column::Partition => Arc::new(Int32Array::from_value(self.partition.partition, rows)),
                Column::Decoded => decoded
                    .next()
                    .cloned()
                    .ok_or_else(|| EngineError::internal("a decoder gave fewer columns than it was asked for"))?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.layout.schema.clone(), arrays, &options)?)
    }
}

fn bytes_of<'a>(content: Content, record: &Record<'a>) -> Option<&'a [u8]> {
    if content == Content::Key { record.key } else { record.value }
}

/// A record without headers has a null, as in Spark.
fn append_headers(builder: &mut ListBuilder<StructBuilder>, headers: Headers<'_>) -> Result<(), Malformed> {
    let any = !headers.is_empty();
    for header in headers {
        let (key, value) = header?;
        let entry = builder.values();
        if let Some(keys) = entry.field_builder::<StringBuilder>(0) {
            keys.append_value(String::from_utf8_lossy(key));
        }
        if let Some(values) = entry.field_builder::<BinaryBuilder>(1) {
            values.append_option(value);
        }
        entry.append(true);
    }
    builder.append(any);
    Ok(())
}

fn checked(field: &Field, content: Content, object: &str) -> Result<Content> {
    let fits = match content {
        Content::Key | Content::Value => matches!(field.data_type(), DataType::Utf8 | DataType::Binary),
        Content::Topic => *field.data_type() == DataType::Utf8,
        Content::Partition | Content::TimestampType => *field.data_type() == DataType::Int32,
        Content::Offset => *field.data_type() == DataType::Int64,
        Content::Timestamp => *field.data_type() == timestamp_type(),
        Content::Headers => *field.data_type() == headers_type(),
        Content::Decoded => true,
    };
    let expected = match content {
        Content::Key | Content::Value => "STRING or BINARY",
        Content::Topic => "STRING",
        Content::Partition | Content::TimestampType => "INT",
        Content::Offset => "BIGINT",
        Content::Timestamp => "TIMESTAMP",
        _ => "ARRAY<STRUCT<key STRING, value BINARY>>",
    };
    if fits {
        return Ok(content);
    }
    Err(EngineError::config(format!(
        "{object}: column '{}' is filled from Kafka, expected type {expected}",
        field.name()
    )))
}

fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)])
}

fn header_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(header_fields()), true))
}

fn headers_type() -> DataType {
    DataType::List(header_item())
}

fn headers_builder() -> ListBuilder<StructBuilder> {
    let children: Vec<Box<dyn arrow::array::ArrayBuilder>> =
        vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())];
    ListBuilder::new(StructBuilder::new(header_fields(), children)).with_field(header_item())
}

//! Rows as Kafka records: Spark's sink columns as they are, or whole rows as JSON objects, lines of CSV or Avro values.
//!
//! | rows | record |
//! |---|---|
//! | `value` and perhaps `key` (STRING or BINARY), `headers`, `topic`, `partition` | those columns |
//! | of a table with columns or with `value.format` = `json` | value: the row as JSON; key: the columns of `key.columns` |
//! | `value.format` = `csv` | value: the row as a line of CSV; key: the same as with JSON |
//! | `value.format` = `avro` | value: the row as Avro; key: the same as with JSON |
//!
//! A null value is a tombstone, as in Spark, and so is a row that is gone: only its key is encoded.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, BooleanArray, Int32Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Schema, SchemaRef};
use highwater_engine::error::{EngineError, Result, nearest};
use highwater_engine::sink::SinkRequest;
use rdkafka::message::{Header, OwnedHeaders};

use super::decode::DEFAULT_CORRUPT_COLUMN;
use super::options::{KafkaOptions, ValueFormat};
use crate::format::{AvroEncoder, CsvWriteOptions, FormatError, JsonWriteOptions, csv_encode_rows, json_encode_rows};

const SINK_COLUMNS: [&str; 5] = ["key", "value", "headers", "topic", "partition"];

/// How rows of one schema become records.
#[derive(Debug)]
pub struct RowEncoder {
    value: ValueSource,
    key: KeySource,
    headers: Option<usize>,
    topic: Option<usize>,
    partition: Option<usize>,
}

#[derive(Debug)]
enum ValueSource {
    Column(usize),
    Json(JsonWriteOptions),
    Csv(CsvWriteOptions),
    /// And the columns that go into it.
    Avro(AvroEncoder, Vec<usize>),
}

#[derive(Debug)]
enum KeySource {
    None,
    Column(usize),
    Json(Vec<usize>, JsonWriteOptions),
}

/// A batch of rows as records.
pub struct EncodedRows {
    rows: usize,
    values: Field,
    keys: Field,
    deleted: Option<BooleanArray>,
    headers: Option<ListArray>,
    topics: Option<StringArray>,
    partitions: Option<Int32Array>,
}

/// One part of each record.
enum Field {
    None,
    Array(BinaryArray),
    Encoded { bytes: Vec<u8>, ends: Vec<usize> },
}

impl RowEncoder {
    /// The encoder of a query's rows.
    pub fn of(request: &SinkRequest, options: &KafkaOptions, declared: Option<&SchemaRef>) -> Result<Self> {
        if request.deletes {
            return Self::by_key(&request.schema, options, declared, &request.key_columns);
        }
        Self::new(&request.schema, options, declared)
    }

    /// Looks at the columns rows will have; `declared` has the table's own.
    pub fn new(schema: &SchemaRef, options: &KafkaOptions, declared: Option<&SchemaRef>) -> Result<Self> {
        let is_sink_row =
            schema.fields().iter().all(|field| SINK_COLUMNS.contains(&field.name().to_ascii_lowercase().as_str()))
                && find(schema, "value").is_some_and(|value| is_bytes(schema.field(value).data_type()));
        match options.value_format {
            Some(ValueFormat::Raw) => Self::of_columns(schema, options),
            Some(ValueFormat::Avro | ValueFormat::Csv) => Self::of_rows(schema, options, declared),
            Some(ValueFormat::Json) if declared.is_some() || !is_sink_row => Self::of_rows(schema, options, declared),
            None if declared.is_some() => Self::of_rows(schema, options, declared),
            _ => Self::of_columns(schema, options),
        }
    }

    /// Whole rows as JSON or Avro with a key that tells which row of the target it is: what a compacted topic keeps the
    /// newest of, and a tombstone takes away.
    pub fn by_key(
        schema: &SchemaRef,
        options: &KafkaOptions,
        declared: Option<&SchemaRef>,
        keys: &[String],
    ) -> Result<Self> {
        let object = &options.object;
        if !matches!(options.value_format, None | Some(ValueFormat::Json | ValueFormat::Avro)) {
            return Err(EngineError::config(format!(
                "{object}: changes are written as JSON or Avro, found another 'value.format'"
            ))
            .help("leave 'value.format' out or set it to 'json' or 'avro'"));
        }
        let mut options = options.clone();
        if options.key_columns.is_empty() {
            options.key_columns = keys.to_vec();
        }
        let is_named = |key: &String| options.key_columns.iter().any(|named| named.eq_ignore_ascii_case(key));
        if keys.len() != options.key_columns.len() || !keys.iter().all(is_named) {
            return Err(EngineError::config(format!(
                "{object}: the key of its records is ({}), but what tells the rows of the changes apart is ({})",
                options.key_columns.join(", "),
                keys.join(", ")
            ))
            .help("leave the option 'key.columns' out, or name those columns"));
        }
        Self::of_rows(schema, &options, declared)
    }

    fn of_columns(schema: &Schema, options: &KafkaOptions) -> Result<Self> {
        let object = &options.object;
        let Some(value) = find(schema, "value") else {
            return Err(EngineError::query(format!("{object}: the rows have no column 'value'")).help(
                "select it: SELECT to_json(struct(*)) AS value, or set 'value.format' = 'json' to write whole rows",
            ));
        };
        if options.topic.is_none() && find(schema, "topic").is_none() {
            return Err(EngineError::config(format!(
                "{object} has no option 'topic' and the rows have no column 'topic'"
            ))
            .help("add the option: OPTIONS ('topic' = 'alerts')"));
        }
        let encoder = Self {
            value: ValueSource::Column(value),
            key: find(schema, "key").map_or(KeySource::None, KeySource::Column),
            headers: find(schema, "headers").filter(|_| options.include_headers),
            topic: find(schema, "topic"),
            partition: find(schema, "partition"),
        };
        for (index, field) in schema.fields().iter().enumerate() {
            encoder.check_column(index, field, object)?;
        }
        Ok(encoder)
    }

    fn check_column(&self, index: usize, field: &arrow::datatypes::Field, object: &str) -> Result<()> {
        let expected = match field.name().to_ascii_lowercase().as_str() {
            "key" | "value" if !is_bytes(field.data_type()) => "STRING or BINARY",
            "topic" if !is_text(field.data_type()) => "STRING",
            "partition" if *field.data_type() != DataType::Int32 => "INT",
            "headers" if self.headers == Some(index) && !matches!(field.data_type(), DataType::List(_)) => {
                "ARRAY<STRUCT<key STRING, value BINARY>>"
            }
            "key" | "value" | "topic" | "partition" | "headers" => return Ok(()),
            other => {
                return Err(EngineError::query(format!("{object}: a Kafka record has no place for column '{other}'"))
                    .help("select only key, value, headers, topic and partition, or set 'value.format' = 'json'"));
            }
        };
        Err(EngineError::query(format!(
            "{object}: column '{}' has type {}, expected {expected}",
            field.name(),
            field.data_type()
        )))
    }

    fn of_rows(schema: &Schema, options: &KafkaOptions, declared: Option<&SchemaRef>) -> Result<Self> {
        let object = &options.object;
        if options.topic.is_none() {
            return Err(EngineError::config(format!("{object} has no option 'topic', rows have nowhere to go"))
                .help("add the option: OPTIONS ('topic' = 'alerts')"));
        }
        let column = |name: &String| {
            find(schema, name).ok_or_else(|| {
                let columns = schema.fields().iter().map(|field| field.name().as_str());
                let error =
                    EngineError::config(format!("{object}: the rows have no column '{name}' to take the key from"));
                match nearest(name, columns) {
                    Some(near) => error.help(format!("did you mean '{near}'?")),
                    None => error,
                }
            })
        };
        let keys = options.key_columns.iter().map(column).collect::<Result<Vec<usize>>>()?;
        let key = match keys[..] {
            [] => KeySource::None,
            [one] => KeySource::Column(one),
            _ => KeySource::Json(keys, options.format.json_write()),
        };
        let value = match options.value_format {
            Some(ValueFormat::Avro) => {
                let columns = options.format.avro.written_columns(schema);
                let encoder = options.format.avro.encoder(&schema.project(&columns)?, declared, object)?;
                refuse_corrupt_column(schema, options)?;
                ValueSource::Avro(encoder, columns)
            }
            Some(ValueFormat::Csv) => ValueSource::Csv(options.format.csv_write()),
            _ => ValueSource::Json(options.format.json_write()),
        };
        // What is wrong with a pattern or a type is known before there are rows.
        match &value {
            ValueSource::Json(json) => {
                _ = Field::of_rows(&RecordBatch::new_empty(Arc::new(schema.clone())), json).map_err(at(object))?
            }
            ValueSource::Csv(csv) => {
                _ = Field::of_lines(&RecordBatch::new_empty(Arc::new(schema.clone())), csv).map_err(at(object))?
            }
            ValueSource::Column(_) | ValueSource::Avro(..) => {}
        }
        Ok(Self { value, key, headers: None, topic: None, partition: None })
    }

    /// Encodes a batch of rows; `deleted` says which of them are gone.
    pub fn encode(&self, rows: &RecordBatch, deleted: Option<BooleanArray>) -> Result<EncodedRows> {
        let column = |index: &usize| rows.column(*index);
        Ok(EncodedRows {
            rows: rows.num_rows(),
            values: match &self.value {
                ValueSource::Column(index) => Field::of_column(column(index))?,
                ValueSource::Json(options) => Field::of_rows(rows, options).map_err(unwritten("JSON"))?,
                ValueSource::Csv(options) => Field::of_lines(rows, options).map_err(unwritten("CSV"))?,
                ValueSource::Avro(encoder, columns) => {
                    Field::of_avro(encoder, &rows.project(columns)?, deleted.as_ref())?
                }
            },
            keys: match &self.key {
                KeySource::None => Field::None,
                KeySource::Column(index) => Field::of_column(column(index))?,
                KeySource::Json(columns, options) => {
                    Field::of_rows(&rows.project(columns)?, options).map_err(unwritten("JSON"))?
                }
            },
            deleted,
            headers: self.headers.as_ref().map(|index| column(index).as_list::<i32>().clone()),
            topics: match &self.topic {
                Some(index) => Some(cast(column(index), &DataType::Utf8)?.as_string::<i32>().clone()),
                None => None,
            },
            partitions: self.partition.as_ref().map(|index| column(index).as_primitive::<Int32Type>().clone()),
        })
    }
}

impl EncodedRows {
    /// How many records.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a record, none for a tombstone.
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        let is_gone = self.deleted.as_ref().is_some_and(|deleted| deleted.value(row));
        self.values.get(row).filter(|_| !is_gone)
    }

    /// The key of a record.
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        self.keys.get(row)
    }

    /// The topic the row names.
    pub fn topic(&self, row: usize) -> Option<&str> {
        self.topics.as_ref().filter(|topics| topics.is_valid(row)).map(|topics| topics.value(row))
    }

    /// The partition the row names.
    pub fn partition(&self, row: usize) -> Option<i32> {
        self.partitions.as_ref().filter(|partitions| partitions.is_valid(row)).map(|partitions| partitions.value(row))
    }

    /// The headers of a record in the producer's form; none if it has none or they are not of the right type.
    pub fn headers(&self, row: usize) -> Option<OwnedHeaders> {
        let headers = self.headers.as_ref().filter(|headers| headers.is_valid(row))?.value(row);
        let entries = headers.as_struct_opt()?;
        let keys = cast(entries.columns().first()?, &DataType::Utf8).ok()?;
        let values = cast(entries.columns().get(1)?, &DataType::Binary).ok()?;
        let (keys, values) = (keys.as_string::<i32>(), values.as_binary::<i32>());
        let header = |index: usize| Header {
            key: keys.value(index),
            value: values.is_valid(index).then(|| values.value(index)),
        };
        let count = entries.len();
        Some((0..count).fold(OwnedHeaders::new_with_capacity(count), |all, index| all.insert(header(index))))
    }
}

impl Field {
    /// Text and bytes as they are, other types as text.
    fn of_column(column: &dyn Array) -> Result<Self> {
        let bytes = if is_bytes(column.data_type()) {
            cast(column, &DataType::Binary)?
        } else {
            cast(&cast(column, &DataType::Utf8)?, &DataType::Binary)?
        };
        Ok(Self::Array(bytes.as_binary::<i32>().clone()))
    }

    fn of_rows(rows: &RecordBatch, options: &JsonWriteOptions) -> Result<Self, FormatError> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        json_encode_rows(rows, options, &mut bytes, &mut ends)?;
        Ok(Self::Encoded { bytes, ends })
    }

    fn of_lines(rows: &RecordBatch, options: &CsvWriteOptions) -> Result<Self, FormatError> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        csv_encode_rows(rows, options, &mut bytes, &mut ends)?;
        Ok(Self::Encoded { bytes, ends })
    }

    /// A row that is gone has no bytes: beside its key it is null where the schema may have no null.
    fn of_avro(encoder: &AvroEncoder, rows: &RecordBatch, deleted: Option<&BooleanArray>) -> Result<Self> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let kept = deleted.map(|deleted| NullBuffer::new(!deleted.values()));
        encoder.encode_rows(rows, kept, &mut bytes, &mut ends).map_err(unwritten("Avro"))?;
        Ok(Self::Encoded { bytes, ends })
    }

    fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::Array(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Encoded { bytes, ends } => {
                let start = if row == 0 { 0 } else { *ends.get(row - 1)? };
                bytes.get(Range { start, end: *ends.get(row)? })
            }
        }
    }
}

/// Rows that cannot be written, whatever their values are: the columns or the options are wrong.
fn at(object: &str) -> impl Fn(FormatError) -> EngineError {
    move |error| EngineError::config(format!("{object}: {error}"))
}

/// A row that cannot be written.
fn unwritten(format: &str) -> impl Fn(FormatError) -> EngineError {
    move |error| EngineError::data(format!("rows cannot be written as {format}: {error}"))
}

/// The column of malformed records is in no schema that a table derives for reading, so it must not be in what is written.
fn refuse_corrupt_column(schema: &Schema, options: &KafkaOptions) -> Result<()> {
    let name = options.format.corrupt_column.as_deref().unwrap_or(DEFAULT_CORRUPT_COLUMN);
    if options.format.avro.schema.is_some() || schema.column_with_name(name).is_none() {
        return Ok(());
    }
    let message = format!("{}: column '{name}' is for malformed records, rows to be written have none", options.object);
    Err(EngineError::config(message).help("leave the column out, or say with 'avro.schema' what is written"))
}

fn find(schema: &Schema, name: &str) -> Option<usize> {
    schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    is_text(data_type) || matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use highwater_engine::plan::catalog::TableDefinition;

    use super::*;

    fn options(pairs: &[(&str, &str)]) -> KafkaOptions {
        let base = [("kafka.bootstrap.servers", "localhost:9092"), ("subscribe", "in")];
        let definition = TableDefinition {
            name: "t".to_owned(),
            format: "kafka".to_owned(),
            schema: None,
            options: base.iter().chain(pairs).copied().collect(),
            partition_columns: Vec::new(),
        };
        KafkaOptions::parse(&definition).unwrap()
    }

    fn rows(columns: &[&str]) -> RecordBatch {
        let column = |name: &str| -> ArrayRef {
            match name {
                "partition" => Arc::new(Int32Array::from(vec![Some(3), None])),
                "n" => Arc::new(Int64Array::from(vec![Some(1), None])),
                _ => Arc::new(StringArray::from(vec![Some(name), None])),
            }
        };
        RecordBatch::try_from_iter(columns.iter().map(|name| (*name, column(name)))).unwrap()
    }

    fn encode(columns: &[&str], pairs: &[(&str, &str)], declared: bool) -> EncodedRows {
        let rows = rows(columns);
        let (schema, declared) = (rows.schema(), declared.then(|| rows.schema()));
        RowEncoder::new(&schema, &options(pairs), declared.as_ref()).unwrap().encode(&rows, None).unwrap()
    }

    #[test]
    fn sparks_columns_are_the_record() {
        let encoded = encode(&["key", "value", "topic", "partition"], &[], false);
        assert_eq!(encoded.len(), 2);
        assert_eq!((encoded.key(0), encoded.value(0)), (Some(b"key".as_slice()), Some(b"value".as_slice())));
        assert_eq!((encoded.topic(0), encoded.partition(0)), (Some("topic"), Some(3)));
        assert_eq!((encoded.key(1), encoded.value(1)), (None, None));
        assert_eq!((encoded.topic(1), encoded.partition(1)), (None, None));
    }

    #[test]
    fn other_rows_are_json_objects_with_keys_from_columns() {
        let json = [("topic", "out"), ("value.format", "json"), ("key.column", "n")];
        let encoded = encode(&["n", "device"], &json, false);
        assert_eq!(encoded.value(0), Some(br#"{"n":1,"device":"device"}"#.as_slice()));
        assert_eq!(encoded.value(1), Some(b"{}".as_slice()));
        assert_eq!((encoded.key(0), encoded.key(1)), (Some(b"1".as_slice()), None));

        let encoded = encode(&["value", "n"], &[("topic", "out"), ("key.columns", "value, n")], true);
        assert_eq!(encoded.value(0), Some(br#"{"value":"value","n":1}"#.as_slice()));
        assert_eq!(encoded.key(0), Some(br#"{"value":"value","n":1}"#.as_slice()));
    }

    #[test]
    fn rows_are_lines_of_csv_and_times_as_the_options_say() {
        use arrow::array::{Date32Array, TimestampMicrosecondArray};
        let csv = [("topic", "out"), ("value.format", "csv"), ("key.column", "n"), ("sep", ";")];
        let encoded = encode(&["n", "device"], &csv, false);
        assert_eq!(encoded.value(0), Some(b"1;device".as_slice()));
        assert_eq!(encoded.value(1), Some(b";".as_slice()));
        assert_eq!(encoded.key(0), Some(b"1".as_slice()));

        let micros = 1_704_164_645_123_456;
        let rows = RecordBatch::try_from_iter([
            ("ts", Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC")) as ArrayRef),
            ("ntz", Arc::new(TimestampMicrosecondArray::from(vec![micros]))),
            ("day", Arc::new(Date32Array::from(vec![19_724]))),
        ]);
        let rows = rows.unwrap();
        let check = |format: &str, given: &[(&str, &str)], expected: &str| {
            let pairs = [&[("topic", "out"), ("value.format", format)], given].concat();
            let encoder = RowEncoder::new(&rows.schema(), &options(&pairs), None).unwrap();
            let encoded = encoder.encode(&rows, None).unwrap();
            assert_eq!(String::from_utf8_lossy(encoded.value(0).unwrap()), expected, "{pairs:?}");
        };
        // Golden: to_json and to_csv of Spark 4.3 with these options.
        let iso = r#"{"ts":"2024-01-02T03:04:05.123Z","ntz":"2024-01-02T03:04:05.123","day":"2024-01-02"}"#;
        check("json", &[], iso);
        let given =
            [("timestampFormat", "yyyy/MM/dd HH:mm"), ("timestampNTZFormat", "HH:mm:ss"), ("dateFormat", "dd.MM.yyyy")];
        check("json", &given, r#"{"ts":"2024/01/02 03:04","ntz":"03:04:05","day":"02.01.2024"}"#);
        check("csv", &given, "2024/01/02 03:04,03:04:05,02.01.2024");
        let wrong = options(&[("topic", "out"), ("value.format", "json"), ("dateFormat", "YYYY")]);
        let error = RowEncoder::new(&rows.schema(), &wrong, None).unwrap_err().to_string();
        assert!(error.starts_with("table t (USING kafka): option `dateFormat`"), "{error}");
    }

    #[test]
    fn rows_are_avro_by_the_columns_or_a_schema() {
        let avro = [("topic", "out"), ("value.format", "avro"), ("key.column", "n")];
        // Unions of the type and null: 0 for the type, then the value; 1 (written 2) for null.
        let encoded = encode(&["n", "device"], &avro, false);
        assert_eq!(encoded.value(0), Some(b"\0\x02\0\x0cdevice".as_slice()));
        assert_eq!(encoded.value(1), Some(b"\x02\x02".as_slice()));
        assert_eq!((encoded.key(0), encoded.key(1)), (Some(b"1".as_slice()), None));

        let schema = r#"{"type":"record","name":"r","fields":[{"name":"m","type":["null","int"]},
            {"name":"device","type":["null","string"]},{"name":"n","type":["null","long"]}]}"#;
        let framed = [("avro.schema", schema), ("avro.confluent", "true"), ("avro.schema.id", "258")];
        let encoded = encode(&["n", "device"], &[&avro[..], &framed].concat(), false);
        assert_eq!(encoded.value(0), Some(b"\0\0\0\x01\x02\0\x02\x0cdevice\x02\x02".as_slice()));
    }

    #[test]
    fn columns_of_the_record_are_not_in_its_avro() {
        let avro = [("topic", "out"), ("value.format", "avro"), ("key.column", "_key")];
        let encoded = encode(&["_key", "n", "_topic"], &avro, true);
        assert_eq!((encoded.key(0), encoded.value(0)), (Some(b"_key".as_slice()), Some(b"\0\x02".as_slice())));
        assert_eq!(encoded.value(1), Some(b"\x02".as_slice()));
        // A schema that has such a field gets it.
        let schema = r#"{"type":"record","name":"r","fields":[{"name":"_topic","type":["null","string"]}]}"#;
        let encoded = encode(&["_key", "_topic"], &[&avro[..], &[("avro.schema", schema)]].concat(), true);
        assert_eq!(encoded.value(0), Some(b"\x02\x0c_topic".as_slice()));
    }

    #[test]
    fn a_row_that_is_gone_is_its_key() {
        let schema = r#"{"type":"record","name":"r","fields":[{"name":"n","type":["null","long"]},
            {"name":"device","type":"string"}]}"#;
        for more in
            [[("value.format", "avro"), ("avro.schema", schema)], [("value.format", "json"), ("mode", "FAILFAST")]]
        {
            let options = options(&[&more[..], &[("topic", "out")]].concat());
            let rows = rows(&["n", "device"]);
            let encoder = RowEncoder::by_key(&rows.schema(), &options, None, &["n".to_owned()]).unwrap();
            let encode = |gone: [bool; 2]| encoder.encode(&rows, Some(BooleanArray::from(gone.to_vec())));
            // The second row has no device, which the schema does not take of a row that stays.
            let encoded = encode([false, true]).unwrap();
            assert!(encoded.value(0).is_some_and(|value| !value.is_empty()), "{more:?}");
            assert_eq!((encoded.key(0), encoded.value(1)), (Some(b"1".as_slice()), None), "{more:?}");
            let is_avro = more[0].1 == "avro";
            assert_eq!(encode([true, false]).is_err(), is_avro, "{more:?}");
        }
    }

    #[test]
    fn rows_that_fit_nowhere_are_refused() {
        let cases: [(&[&str], &[(&str, &str)], &str); 5] = [
            (
                &["n"],
                &[
                    ("topic", "out"),
                    ("value.format", "avro"),
                    ("avro.schema", r#"{"type":"record","name":"r","fields":[]}"#),
                ],
                "table t (USING kafka): the Avro schema, at `n`: found no field of this name, expected one for each column \
                 that is written",
            ),
            (&["key"], &[("topic", "out")], "table t (USING kafka): the rows have no column 'value'"),
            (&["value"], &[], "table t (USING kafka) has no option 'topic' and the rows have no column 'topic'"),
            (&["value", "n"], &[("topic", "out")], "table t (USING kafka): a Kafka record has no place for column 'n'"),
            (
                &["value", "n"],
                &[("topic", "out"), ("value.format", "json"), ("key.column", "m")],
                "table t (USING kafka): the rows have no column 'm' to take the key from",
            ),
        ];
        for (columns, pairs, expected) in cases {
            let error = RowEncoder::new(&rows(columns).schema(), &options(pairs), None).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}

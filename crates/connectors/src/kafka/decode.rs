//! What a table's columns are made of: the layout, and the decoder of the values where there is one.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use highwater_engine::error::{EngineError, Result};

use super::layout::Layout;
use super::options::{FormatOptions, KafkaOptions, ValueFormat};
use crate::format::avro::is_union_of_several;
use crate::format::{
    AvroOptions, AvroSchema, CsvOptions, FormatError, JsonOptions, RecordDecoder, Widened, avro_decoder, csv_decoder,
    json_decoder,
};

/// The corrupt-record column when no option names one.
pub(super) const DEFAULT_CORRUPT_COLUMN: &str = "_corrupt_record";

/// The columns of a table or of a projection of one, and how values become columns.
#[derive(Clone)]
pub struct Decoding {
    layout: Layout,
    /// The members that are read of columns that are structs; see `SourceRequest::members`.
    members: Vec<Option<BTreeSet<String>>>,
    decoder: Option<Arc<DecoderSettings>>,
}

/// What a decoder is made from.
struct DecoderSettings {
    object: String,
    format: ValueFormat,
    options: FormatOptions,
    /// All columns of the table that come from the value, for formats that go by position.
    value_columns: Vec<String>,
    /// What Avro values were written with.
    avro_schema: Option<Arc<AvroSchema>>,
}

impl Decoding {
    /// The columns of a table by its declared columns and options.
    pub fn of_table(schema: Option<&SchemaRef>, options: &KafkaOptions) -> Result<Self> {
        let object = &options.object;
        let Some(schema) = schema else {
            if let Some(format @ (ValueFormat::Csv | ValueFormat::Json | ValueFormat::Avro)) = options.value_format
                && options.selection.is_some()
                && options.topic.is_none()
            {
                let word = format.word();
                return Err(EngineError::config(format!("{object} has 'value.format' = '{word}' but no columns"))
                    .help("declare the columns to decode: CREATE TABLE t (id BIGINT, ...) USING kafka"));
            }
            return Ok(Self::new(Layout::spark(options.include_headers), None));
        };
        let format = options.value_format.unwrap_or(ValueFormat::Json);
        if format == ValueFormat::Raw {
            return Ok(Self::new(Layout::raw(schema, object)?, None));
        }
        let layout = Layout::decoded(schema, object)?;
        let corrupt_column = options.format.corrupt_column.as_deref().unwrap_or(DEFAULT_CORRUPT_COLUMN);
        let decoded = layout.decoded_schema();
        let columns = decoded.fields().iter().filter(|field| field.name() != corrupt_column);
        let avro_schema = match format {
            ValueFormat::Avro => Some(options.format.avro.writer(&columns.clone().cloned().collect(), object)?),
            _ => None,
        };
        let settings = DecoderSettings {
            object: object.clone(),
            format,
            options: options.format.clone(),
            value_columns: columns.map(|field| field.name().clone()).collect(),
            avro_schema,
        };
        let decoder = layout.has_decoded().then(|| Arc::new(settings));
        let decoding = Self::new(layout, decoder);
        Ok(match decoding.decoder()? {
            // What a record lacks is null, whatever the declaration says.
            Some(decoder) => Self { layout: decoding.layout.with_decoded(&decoder.schema()), ..decoding },
            None => decoding,
        })
    }

    fn new(layout: Layout, decoder: Option<Arc<DecoderSettings>>) -> Self {
        Self { layout, members: Vec::new(), decoder }
    }

    /// The same table with only some columns.
    pub fn project(&self, projection: &[usize]) -> Result<Self> {
        Ok(Self::new(self.layout.project(projection)?, self.decoder.clone()))
    }

    /// The same columns, of whose structs only these members need be decoded.
    pub fn reading(self, members: Vec<Option<BTreeSet<String>>>) -> Self {
        Self { members, ..self }
    }

    /// The columns.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A decoder of the decoded columns; none for a table that decodes nothing. A projection without decoded columns
    /// has a decoder of no columns: what does not parse is still counted and kept.
    pub fn decoder(&self) -> Result<Option<Box<dyn RecordDecoder>>> {
        let Some(settings) = &self.decoder else { return Ok(None) };
        let whole = self.layout.decoded_schema();
        let members = self.layout.schema().fields().iter().zip(&self.members).map(|(field, members)| {
            let is_whole = settings.avro_schema.as_ref().is_some_and(|schema| is_union_of_several(schema, field));
            members.clone().filter(|_| !is_whole)
        });
        let read = self.layout.decoded_members(&members.collect::<Vec<_>>());
        if read == whole {
            return settings.decoder(whole).map(Some);
        }
        Ok(Some(Box::new(Widened::new(settings.decoder(read)?, whole))))
    }
}

impl DecoderSettings {
    fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn RecordDecoder>> {
        let decoder = match self.format {
            ValueFormat::Csv => self.csv_options().and_then(|options| csv_decoder(schema, options)),
            ValueFormat::Avro => self.avro_decoder(schema),
            ValueFormat::Json | ValueFormat::Raw => {
                self.json_options().and_then(|options| json_decoder(schema, options))
            }
        };
        decoder.map_err(|error| EngineError::config(format!("{}: {error}", self.object)))
    }

    fn json_options(&self) -> Result<JsonOptions, FormatError> {
        let given = &self.options;
        let mut options = JsonOptions::default();
        options.mode = given.mode.as_deref().map_or(Ok(options.mode), str::parse)?;
        options.timestamp_format.clone_from(&given.timestamp_format);
        options.timestamp_ntz_format.clone_from(&given.timestamp_ntz_format);
        options.date_format.clone_from(&given.date_format);
        if let Some(column) = &given.corrupt_column {
            options.column_name_of_corrupt_record.clone_from(column);
        }
        Ok(options)
    }

    fn avro_decoder(&self, schema: SchemaRef) -> Result<Box<dyn RecordDecoder>, FormatError> {
        let given = &self.options;
        let Some(writer) = &self.avro_schema else { return json_decoder(schema, self.json_options()?) };
        let mut options = AvroOptions::new(writer.clone());
        options.framing = given.avro.framing;
        options.mode = given.mode.as_deref().map_or(Ok(options.mode), str::parse)?;
        if let Some(column) = &given.corrupt_column {
            options.column_name_of_corrupt_record.clone_from(column);
        }
        avro_decoder(schema, options)
    }

    fn csv_options(&self) -> Result<CsvOptions, FormatError> {
        let given = &self.options;
        let mut options = CsvOptions { line_columns: Some(self.value_columns.clone()), ..CsvOptions::default() };
        options.mode = given.mode.as_deref().map_or(Ok(options.mode), str::parse)?;
        options.timestamp_format.clone_from(&given.timestamp_format);
        options.timestamp_ntz_format.clone_from(&given.timestamp_ntz_format);
        options.date_format.clone_from(&given.date_format);
        if let Some(separator) = &given.separator {
            options.sep.clone_from(separator);
        }
        if let Some(column) = &given.corrupt_column {
            options.column_name_of_corrupt_record.clone_from(column);
        }
        Ok(options)
    }
}

//! What the options of a table say of Avro.
//!
//! | option | says |
//! |---|---|
//! | `avro.schema` | what values are written with: JSON text, or the path of a file with it; without it, it follows from the columns |
//! | `avro.confluent` | `true`: values have a magic byte and the number of a schema in front |
//! | `avro.schema.id` | that number: what is written, and what is read must have it; for reading any number will do without it |
//!
//! A table without columns has those of its schema. No registry is asked for schemas by their numbers.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::OptionReader;

use super::layout::RECORD_COLUMNS;
use crate::format::avro::{columns_of_schema, schema_of_columns};
use crate::format::{AvroEncoder, AvroSchema, FormatError, Framing, nullable};

/// Names of the options.
pub const AVRO_OPTIONS: [&str; 3] = ["avro.schema", "avro.confluent", "avro.schema.id"];

/// The largest file that is taken for a schema.
const MAX_SCHEMA_BYTES: u64 = 1 << 20;

/// The options, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AvroSettings {
    /// `avro.schema`.
    pub schema: Option<Arc<AvroSchema>>,
    /// `avro.confluent` and `avro.schema.id`.
    pub framing: Framing,
}

impl AvroSettings {
    /// Reads the options and, if one names it, the file of the schema.
    pub fn read(object: &str, reader: &mut OptionReader<'_>) -> Result<Self> {
        let schema = reader.text("avro.schema").map(|text| schema(object, text)).transpose()?;
        let is_framed = reader.flag("avro.confluent", false)?;
        let id: Option<u32> = reader.parsed("avro.schema.id", "the number of a schema")?;
        if id.is_some() && !is_framed {
            return Err(EngineError::config(format!(
                "{object}: option 'avro.schema.id' is for values with the number of their schema in front"
            ))
            .help("set 'avro.confluent' = 'true', or leave the number out"));
        }
        let framing = if is_framed { Framing::Confluent(id) } else { Framing::Bare };
        Ok(Self { schema: schema.map(Arc::new), framing })
    }

    /// Fails if anything is said of Avro in a table of another format.
    pub fn refuse_for_others(&self, object: &str) -> Result<()> {
        if *self == Self::default() {
            return Ok(());
        }
        Err(EngineError::config(format!("{object}: options of Avro are given, but 'value.format' is not 'avro'"))
            .help("set 'value.format' = 'avro', or leave the options that begin with 'avro.' out"))
    }

    /// The columns of a table that declares none.
    pub fn columns(&self, object: &str) -> Result<Option<SchemaRef>> {
        let Some(schema) = &self.schema else { return Ok(None) };
        let fields = columns_of_schema(schema).map_err(|error| config(object, &error))?;
        Ok(Some(Arc::new(Schema::new(fields))))
    }

    /// What values are written with that become these columns.
    pub fn writer(&self, columns: &Fields, object: &str) -> Result<Arc<AvroSchema>> {
        match &self.schema {
            Some(schema) => Ok(schema.clone()),
            None => schema_of_columns(columns).map(Arc::new).map_err(|error| config(object, &error)),
        }
    }

    /// The places of the columns that are written. Those that are the record's own are in no schema that is derived for
    /// reading: in a value they would be taken for the columns behind them.
    pub fn written_columns(&self, rows: &Schema) -> Vec<usize> {
        let is_written = |name: &str| self.schema.as_ref().is_some_and(|schema| schema.has_field(name));
        let is_own = |name: &str| RECORD_COLUMNS.iter().any(|(own, _)| *own == name);
        let fields = rows.fields().iter().enumerate();
        fields.filter(|(_, field)| !is_own(field.name()) || is_written(field.name())).map(|(at, _)| at).collect()
    }

    /// What rows are written with: columns may be null but for those that are declared otherwise, so that a table with
    /// the same columns reads them, whatever a query knows of its values.
    pub fn schema_of_rows(&self, rows: &Schema, declared: Option<&SchemaRef>, object: &str) -> Result<Arc<AvroSchema>> {
        let of_row = |(row, nullable): (&FieldRef, &FieldRef)| {
            let declared = declared.and_then(|declared| declared.field_with_name(row.name()).ok());
            match declared {
                Some(field) if field.data_type().equals_datatype(row.data_type()) => Arc::new(field.clone()),
                _ => nullable.clone(),
            }
        };
        let columns = rows.fields().iter().zip(&nullable(rows.fields())).map(of_row).collect();
        self.writer(&columns, object)
    }

    /// What writes rows.
    pub fn encoder(&self, rows: &Schema, declared: Option<&SchemaRef>, object: &str) -> Result<AvroEncoder> {
        if self.framing == Framing::Confluent(None) {
            return Err(EngineError::config(format!(
                "{object}: option 'avro.confluent' is true, and no 'avro.schema.id' says which number is to be written"
            ))
            .help("register the schema, and give its number: 'avro.schema.id' = '1'"));
        }
        let schema = self.schema_of_rows(rows, declared, object)?;
        AvroEncoder::of_rows(&schema, rows.fields(), self.framing).map_err(|error| config(object, &error))
    }
}

fn config(object: &str, error: &FormatError) -> EngineError {
    EngineError::config(format!("{object}: {error}"))
}

/// A schema from its text, or from the file that the text names.
fn schema(object: &str, text: &str) -> Result<AvroSchema> {
    let refused = |error: &dyn std::fmt::Display| {
        EngineError::config(format!("{object}: option 'avro.schema': {error}")).help(
            "give the JSON text of an Avro schema, or the path of a file with it, like '${project.dir}/order.avsc'",
        )
    };
    if text.trim_start().starts_with(['{', '[', '"']) {
        return AvroSchema::parse(text).map_err(|error| refused(&error));
    }
    let size = std::fs::metadata(text).map(|file| file.len());
    match size {
        Err(error) => return Err(refused(&format!("the file '{text}' cannot be read: {error}"))),
        Ok(size) if size > MAX_SCHEMA_BYTES => {
            return Err(refused(&format!("the file '{text}' has {size} bytes, expected at most {MAX_SCHEMA_BYTES}")));
        }
        Ok(_) => {}
    }
    let json = std::fs::read_to_string(text);
    let json = json.map_err(|error| refused(&format!("the file '{text}' cannot be read: {error}")))?;
    AvroSchema::parse(&json).map_err(|error| refused(&format!("in the file '{text}': {error}")))
}

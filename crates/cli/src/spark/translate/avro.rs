//! Avro in topics, in Spark's words: `from_avro` and `to_avro` with the very schemas that values have here.
//!
//! | here | on Spark |
//! |---|---|
//! | a table with columns | `from_avro(value, writer's schema, map('mode', ..., 'avroSchema', columns as a reader))`, each column cast |
//! | a sink | `to_avro(struct(each column cast), schema)` |
//! | `avro.confluent` | the five bytes cut off or put in front; others make the value malformed |
//!
//! `from_avro` neither drops malformed values nor keeps their bytes: tables that ask for it are refused.

use arrow::datatypes::{Field, Schema};
use highwater_connectors::format::Framing;
use highwater_connectors::format::avro::reader_schema;
use highwater_connectors::kafka::avro::AvroSettings;
use highwater_engine::plan::ddl::type_name;
use highwater_engine::plan::outline::OutlineTable;

use super::Problem;
use super::sources::{literal, quoted};

/// What a table says of Avro.
pub(super) fn settings(table: &OutlineTable) -> Result<AvroSettings, Vec<Problem>> {
    let object = format!("table '{}'", table.name);
    AvroSettings::read(&object, &mut table.options.reader(object.clone())).map_err(|error| {
        let help = "give the JSON text of an Avro schema, or the path of a file with it";
        vec![Problem::at_option("avro.schema", error.to_string(), help)]
    })
}

/// The record of these columns, out of a value.
pub(super) fn parsed(table: &OutlineTable, columns: &Schema) -> Result<String, Vec<Problem>> {
    let avro = settings(table)?;
    let mode = table.options.get("mode").unwrap_or("PERMISSIVE").to_ascii_uppercase();
    if mode == "DROPMALFORMED" {
        let message = format!("table '{}': Spark's from_avro has no mode DROPMALFORMED", table.name);
        return Err(vec![Problem::at_option(
            "mode",
            message,
            "use PERMISSIVE, and leave rows of nulls out in the query",
        )]);
    }
    let corrupt = table.options.get("columnNameOfCorruptRecord").unwrap_or("_corrupt_record");
    if columns.column_with_name(corrupt).is_some() {
        let message =
            format!("table '{}': Spark's from_avro keeps no malformed values, as column '{corrupt}' does", table.name);
        return Err(vec![Problem::of(corrupt, message, "leave the column out")]);
    }
    let refused = |error: &dyn std::fmt::Display| {
        let message = format!("table '{}': {error}", table.name);
        vec![Problem::of(&table.name, message, "declare columns that the schema has values for")]
    };
    let writer = avro.writer(columns.fields(), &table.name).map_err(|error| refused(&error))?;
    let mut options = vec!["'mode'".to_owned(), literal(&mode)];
    if avro.schema.is_some() {
        let reader = reader_schema(&writer, columns.fields()).map_err(|error| refused(&error))?;
        options.extend(["'avroSchema'".to_owned(), literal(&reader.to_string())]);
    }
    let value = match avro.framing {
        Framing::Bare => "`value`".to_owned(),
        Framing::Confluent(_) if writer.may_be_empty() => {
            let message = format!("table '{}': values of its schema may be empty", table.name);
            let help = "give the schema a field, or leave 'avro.confluent' out: Spark would take a record of another schema \
                        for an empty one";
            return Err(vec![Problem::at_option("avro.confluent", message, help)]);
        }
        // No value is empty, so that what begins otherwise is malformed; a tombstone stays null.
        Framing::Confluent(id) => {
            let is_ours = format!("`value` IS NULL OR startswith(`value`, {})", frame(id, "00"));
            format!("if({is_ours}, substring(`value`, 6), X'')")
        }
    };
    Ok(format!("from_avro({value}, {}, map({}))", literal(&writer.to_string()), options.join(", ")))
}

/// The value of a record with these columns.
pub(super) fn written(table: &OutlineTable, rows: &Schema) -> Result<String, Vec<Problem>> {
    let avro = settings(table)?;
    let refused = |error: &dyn std::fmt::Display| {
        vec![Problem::of(
            &table.name,
            error.to_string(),
            "select the columns of the schema, or leave 'avro.schema' out",
        )]
    };
    let object = format!("sink '{}'", table.name);
    let rows = &rows.project(&avro.written_columns(rows)).map_err(|error| refused(&error))?;
    // Says what does not fit, as here.
    avro.encoder(rows, table.columns.as_ref(), &object).map_err(|error| refused(&error))?;
    let schema = avro.schema_of_rows(rows, table.columns.as_ref(), &object).map_err(|error| refused(&error))?;
    let columns: Vec<String> = rows.fields().iter().map(|field| cast(&quoted(field.name()), field)).collect();
    let value = format!("to_avro(struct({}), {})", columns.join(", "), literal(&schema.to_string()));
    Ok(match avro.framing {
        Framing::Bare => value,
        Framing::Confluent(id) => format!("concat({}, {value})", frame(id, "0000000000")),
    })
}

/// An expression in the type of a column.
pub(super) fn cast(expression: &str, field: &Field) -> String {
    format!("CAST({expression} AS {}) AS {}", type_name(field.data_type()), quoted(field.name()))
}

/// The bytes in front of a value of a schema, or what stands there for any.
fn frame(id: Option<u32>, any: &str) -> String {
    id.map_or_else(|| format!("X'{any}'"), |id| format!("X'00{id:08X}'"))
}

//! What a plan reads: tables by name, outside sources by format and options, schemas as DDL or as PySpark's JSON.

use std::collections::{BTreeMap, HashMap};

use highwater_engine::plan::ddl;
use serde_json::Value;

use super::super::problem::{Problem, Result};
use super::literal::quoted_text;
use super::{Names, quoted};
use crate::spark_connect::messages::{DataSource, NamedTable, Read, ReadKind};

/// The text of a read relation after `FROM`, without a name for it.
pub(super) fn source(read: &Read, names: &dyn Names, kept_views: &BTreeMap<String, String>) -> Result<String> {
    let stream = if read.is_streaming { "STREAM " } else { "" };
    match &read.kind {
        Some(ReadKind::Table(table)) => {
            let name = table_name(table)?;
            let kept = kept_views.iter().find(|(view, _)| name.eq_ignore_ascii_case(&quoted(view)));
            Ok(format!("{stream}{}", kept.map_or(name, |(_, kept)| quoted(kept))))
        }
        Some(ReadKind::Source(source)) => {
            let format = source.format.as_deref().unwrap_or("parquet");
            let name = names.define(&definition(source, format)?)?;
            Ok(format!("{stream}{}", quoted(&name)))
        }
        None => Err(Problem::unsupported("a read of this kind", "read a table or a format")),
    }
}

/// A table's name; of `catalog.database.table` the last part counts, because there is one namespace here.
fn table_name(table: &NamedTable) -> Result<String> {
    if let Some(key) = table.options.keys().next() {
        return Err(Problem::unsupported(
            format!("the option '{key}' of a table that is read by name"),
            "give it where the table is created, or read by format",
        ));
    }
    let parts = super::expression::parts(&table.name);
    parts.last().cloned().ok_or_else(|| Problem::argument("a table has no name"))
}

/// `(columns) USING format OPTIONS (...)`.
fn definition(source: &DataSource, format: &str) -> Result<String> {
    let mut options: BTreeMap<String, String> = source.options.clone().into_iter().collect();
    match source.paths.as_slice() {
        [] => {}
        [path] => {
            options.insert("path".to_owned(), path.clone());
        }
        paths => {
            return Err(Problem::unsupported(
                format!("reading {} paths at once", paths.len()),
                "read each path by itself and unite them with union",
            ));
        }
    }
    let columns = match source.schema.as_deref().filter(|schema| !schema.trim().is_empty()) {
        Some(schema) => format!("({}) ", columns_ddl(schema)?),
        None => String::new(),
    };
    let options: HashMap<String, String> = options.into_iter().collect();
    Ok(format!("{columns}USING {}{}", format_word(format)?, options_text(&options)))
}

/// The word after `USING`.
pub(crate) fn format_word(format: &str) -> Result<String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !format.is_empty() && format.bytes().all(is_word) {
        return Ok(if format.contains(['-', '.']) { quoted(format) } else { format.to_owned() });
    }
    Err(Problem::argument(format!("'{format}' is not the name of a format")))
}

/// ` OPTIONS (...)` in the order of their names; nothing without any.
pub(crate) fn options_text(options: &HashMap<String, String>) -> String {
    let sorted: BTreeMap<&String, &String> = options.iter().collect();
    if sorted.is_empty() {
        return String::new();
    }
    let pair = |(key, value): (&String, &String)| format!("{} {}", quoted_text(key), quoted_text(value));
    format!(" OPTIONS ({})", sorted.into_iter().map(pair).collect::<Vec<_>>().join(", "))
}

/// Columns as DDL, from DDL or from the JSON of a `StructType`.
pub(crate) fn columns_ddl(schema: &str) -> Result<String> {
    if schema.trim_start().starts_with('{') {
        let value: Value = serde_json::from_str(schema)
            .map_err(|error| Problem::argument(format!("a schema is not JSON: {error}")))?;
        return struct_columns(&value, " ");
    }
    let parsed = ddl::parse_schema(schema).map_err(|error| Problem::analysis(error.to_string()))?;
    Ok(ddl::schema_ddl(&parsed))
}

fn struct_columns(value: &Value, between: &str) -> Result<String> {
    let fields = value.get("fields").and_then(Value::as_array).ok_or_else(|| unknown(value))?;
    let field = |field: &Value| -> Result<String> {
        let name = field.get("name").and_then(Value::as_str).ok_or_else(|| unknown(field))?;
        let data_type = json_type(field.get("type").unwrap_or(&Value::Null))?;
        let nullable = field.get("nullable").and_then(Value::as_bool).unwrap_or(true);
        Ok(format!("{}{between}{data_type}{}", quoted(name), if nullable { "" } else { " NOT NULL" }))
    };
    Ok(fields.iter().map(field).collect::<Result<Vec<_>>>()?.join(", "))
}

fn json_type(value: &Value) -> Result<String> {
    if let Some(word) = value.as_str() {
        let ddl_word = match word {
            "integer" => "INT",
            "long" => "BIGINT",
            "short" => "SMALLINT",
            "byte" => "TINYINT",
            other => other,
        };
        let parsed = ddl::parse_type(ddl_word).map_err(|error| Problem::analysis(error.to_string()))?;
        return Ok(ddl::type_name(&parsed));
    }
    let inner = |key: &str| json_type(value.get(key).unwrap_or(&Value::Null));
    match value.get("type").and_then(Value::as_str) {
        Some("struct") => Ok(format!("STRUCT<{}>", struct_columns(value, ": ")?)),
        Some("array") => Ok(format!("ARRAY<{}>", inner("elementType")?)),
        Some("map") => Ok(format!("MAP<{}, {}>", inner("keyType")?, inner("valueType")?)),
        _ => Err(unknown(value)),
    }
}

fn unknown(value: &Value) -> Problem {
    Problem::unsupported(format!("the type {value} in a schema"), "declare the columns with types of SQL")
}

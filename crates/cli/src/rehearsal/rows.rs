//! From rows as a test has them to a batch with a table's columns.
//!
//! A value becomes a column's type as JSON does in Spark's files: times as text, numbers also as text, structs as
//! mappings, arrays as lists. Text in a BINARY column is its UTF-8 bytes. A column that a row does not name is null.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use highwater_engine::error::nearest;
use serde_json::{Map, Value};

use super::csv::{self, Cell};
use super::file::{Rows, TableRows};
use crate::error::{Failure, Place, Result};

/// Rows of a table as a batch, and the columns that any of them names.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) batch: RecordBatch,
    /// In the table's order.
    pub(super) named: Vec<usize>,
}

/// The rows with the columns of `schema`; files are looked for in `root`.
pub(super) fn read(rows: &TableRows, schema: &SchemaRef, root: &Path) -> Result<Given> {
    let given = match &rows.rows {
        Rows::Inline(rows) => rows.clone(),
        Rows::Csv(text) => csv_rows(text, schema, &|_| rows.place.clone())?,
        Rows::File(name) => file_rows(&root.join(name), schema, rows)?,
    };
    let mut named = BTreeSet::new();
    let mut batches = Vec::new();
    for (row, place) in &given {
        let mut object = Map::new();
        for (name, value) in row {
            let at = column(schema, name, &rows.table).map_err(|failure| failure.at(place.clone()))?;
            named.insert(at);
            let field = schema.field(at);
            object.insert(field.name().clone(), spelled(value.clone(), field.data_type()));
        }
        batches.push(decode(&object, schema).map_err(|what| {
            Failure::invalid(format!("a row does not fit the columns of table '{}': {what}", rows.table))
                .at(place.clone())
                .help(format!("its columns are: {}", columns_of(schema)))
        })?);
    }
    let batch =
        concat_batches(schema, &batches).map_err(|error| Failure::runtime(error.to_string()).at(rows.place.clone()))?;
    Ok(Given { batch, named: named.into_iter().collect() })
}

/// The same schema with every column nullable: expected rows need not name them all.
pub(super) fn lenient(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

fn column(schema: &Schema, name: &str, table: &str) -> Result<usize> {
    if let Some(at) = schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name)) {
        return Ok(at);
    }
    let failure = Failure::invalid(format!("table '{table}' has no column '{name}'"));
    Err(match nearest(name, schema.fields().iter().map(|field| field.name().as_str())) {
        Some(near) => failure.help(format!("did you mean '{near}'?")),
        None => failure.help(format!("its columns are: {}", columns_of(schema))),
    })
}

fn columns_of(schema: &Schema) -> String {
    highwater_engine::plan::ddl::schema_ddl(schema).replace(',', ", ")
}

fn decode(object: &Map<String, Value>, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let first_line = |error: arrow::error::ArrowError| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("Json error: ").to_owned()
    };
    let builder = ReaderBuilder::new(Arc::clone(schema)).with_coerce_primitive(true);
    let mut decoder = builder.build_decoder().map_err(first_line)?;
    decoder.serialize(std::slice::from_ref(object)).map_err(first_line)?;
    let batch = decoder.flush().map_err(first_line)?;
    batch.ok_or_else(|| "it is empty".to_owned())
}

/// A value in the spelling the decoder reads.
fn spelled(value: Value, data_type: &DataType) -> Value {
    match (value, data_type) {
        (Value::String(text), DataType::Binary | DataType::LargeBinary | DataType::BinaryView) => {
            Value::String(text.bytes().map(|byte| format!("{byte:02x}")).collect())
        }
        // A whole number is a fraction, too, and a fraction that is whole a number: 3 and 3.0 are the same.
        (Value::Number(number), data_type) if data_type.is_integer() => match number.as_f64() {
            Some(float) if !number.is_i64() && !number.is_u64() && float.fract() == 0.0 => {
                Value::String(format!("{float:.0}"))
            }
            _ => Value::Number(number),
        },
        (value, _) => value,
    }
}

type PlacedRows = Vec<(BTreeMap<String, Value>, Place)>;

fn file_rows(path: &Path, schema: &SchemaRef, rows: &TableRows) -> Result<PlacedRows> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let failure = match error.kind() {
            std::io::ErrorKind::NotFound => Failure::invalid(format!("there is no file {name}"))
                .help("name a file of the project, relative to its folder, or give the rows themselves"),
            _ => Failure::runtime(format!("{name} cannot be read: {error}")),
        };
        failure.at(rows.place.clone())
    })?;
    let at = |line: usize| Place::in_text(name.clone(), &text, crate::error::line_span(line));
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => csv_rows(&text, schema, &at),
        Some("json" | "jsonl") => json_rows(&text, &at),
        _ => Err(Failure::invalid(format!("{name} is not a .csv or .json file")).at(rows.place.clone())),
    }
}

fn json_rows(text: &str, at: &dyn Fn(usize) -> Place) -> Result<PlacedRows> {
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: BTreeMap<String, Value> = serde_json::from_str(line)
            .map_err(|error| Failure::invalid(format!("a line is not a JSON object: {error}")).at(at(number + 1)))?;
        rows.push((row, at(number + 1)));
    }
    Ok(rows)
}

fn csv_rows(text: &str, schema: &SchemaRef, at: &dyn Fn(usize) -> Place) -> Result<PlacedRows> {
    let mut records = csv::records(text).map_err(|what| Failure::invalid(what).at(at(1)))?.into_iter();
    let Some((_, header)) = records.next() else { return Ok(Vec::new()) };
    let names: Vec<String> = header.into_iter().map(Option::unwrap_or_default).collect();
    let mut rows = Vec::new();
    for (line, cells) in records {
        if cells.len() != names.len() {
            let message = format!("a row has {} cells, expected {} as in the header", cells.len(), names.len());
            return Err(Failure::invalid(message).at(at(line)));
        }
        let typed = |(name, cell): (&String, Cell)| {
            let field = schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
            (name.clone(), cell.map_or(Value::Null, |text| typed(text, field.map(|field| field.data_type()))))
        };
        rows.push((names.iter().zip(cells).map(typed).collect(), at(line)));
    }
    Ok(rows)
}

/// A cell as the column's type wants it: nested values and booleans are JSON, all else text.
fn typed(text: String, data_type: Option<&DataType>) -> Value {
    let is_json = data_type.is_some_and(|data_type| data_type.is_nested() || *data_type == DataType::Boolean);
    if is_json { serde_json::from_str(&text).unwrap_or(Value::String(text)) } else { Value::String(text) }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    fn schema(ddl: &str) -> SchemaRef {
        Arc::new(highwater_engine::plan::ddl::parse_schema(ddl).unwrap())
    }

    fn given(ddl: &str, rows: Rows) -> Result<Given, String> {
        let rows = TableRows { table: "t".to_owned(), place: Place::file("t.yml"), rows, ordered: false };
        read(&rows, &schema(ddl), Path::new("/nowhere")).map_err(|failure| failure.render(false))
    }

    fn inline(json: &str) -> Rows {
        let rows: Vec<BTreeMap<String, Value>> = serde_json::from_str(json).unwrap();
        Rows::Inline(rows.into_iter().map(|row| (row, Place::file("t.yml"))).collect())
    }

    #[test]
    fn values_become_the_columns_types() {
        let ddl = "s STRING, n BIGINT, x DOUBLE, d DECIMAL(10,2), b BOOLEAN, raw BINARY, ts TIMESTAMP, day DATE, \
                   w STRUCT<start: TIMESTAMP>, a ARRAY<INT>";
        let json = r#"[{"S": 1, "n": 3.0, "x": 2, "d": 1.5, "b": true, "raw": "{}", "ts": "2024-01-01 00:00:01.5",
                      "day": "2024-01-02", "w": {"start": "2024-01-01T00:00:00Z"}, "a": [1, null]}, {"x": "NaN"}]"#;
        let given = given(ddl, inline(json)).unwrap();
        assert_eq!(given.named, (0..10).collect::<Vec<_>>());
        let shown = pretty_format_batches(&[given.batch]).unwrap().to_string();
        for part in ["| 1 | 3 | 2.0 | 1.50 | true | 7b7d | 2024-01-01T00:00:01.500Z | 2024-01-02 |", "NaN"] {
            assert!(shown.contains(part), "'{part}' is not in\n{shown}");
        }
    }

    #[test]
    fn csv_cells_are_typed_by_their_column() {
        let csv = "n,s,b,a\n1,,true,\"[1,2]\"\n2,\"\",false,\n";
        let given = given("s STRING, n INT, b BOOLEAN, a ARRAY<INT>, more INT", Rows::Csv(csv.to_owned())).unwrap();
        assert_eq!(given.named, [0, 1, 2, 3]);
        let shown = pretty_format_batches(&[given.batch]).unwrap().to_string();
        assert!(shown.contains("|   | 1 | true  | [1, 2] |      |"), "{shown}");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let check = |ddl: &str, rows: Rows, expected: &str| {
            let found = given(ddl, rows).unwrap_err();
            assert!(found.contains(expected), "'{expected}' is not in\n{found}");
        };
        check(
            "amount INT",
            inline(r#"[{"amuont": 1}]"#),
            "table 't' has no column 'amuont'\n  --> t.yml\nhelp: did you mean 'amount'?",
        );
        check("n INT", inline(r#"[{"n": "many"}]"#), "a row does not fit the columns of table 't': ");
        check("n INT", inline(r#"[{"n": [1]}]"#), "help: its columns are: n INT");
        check("n INT", Rows::Csv("n\n1,2\n".to_owned()), "a row has 2 cells, expected 1 as in the header");
        check("n INT", Rows::File("no.csv".to_owned()), "there is no file /nowhere/no.csv");
    }
}

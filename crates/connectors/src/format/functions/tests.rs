//! The JSON functions against real Spark, through the queries users write.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, MapBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use highwater_engine::plan::ddl::parse_schema;
use highwater_engine::query::select;

use crate::registry::connectors;

fn oracle(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match if c == '\\' { chars.next().map(|escaped| (escaped, true)) } else { Some((c, false)) } {
            Some(('t', true)) => out.push('\t'),
            Some(('n', true)) => out.push('\n'),
            Some((other, _)) => out.push(other),
            None => {}
        }
    }
    out
}

/// The only value of a query's result, or the condition of its error.
fn value(zone: &str, sql: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let sql = format!("SET spark.sql.session.timeZone = '{zone}'; {sql}");
    let (_, rows) = select(&sql, folder.path(), &connectors()).map_err(|error| condition(&error.to_string()))?;
    let rows: Vec<&RecordBatch> = rows.iter().filter(|rows| rows.num_rows() > 0).collect();
    let text = arrow::compute::cast(rows[0].column(0), &DataType::Utf8).unwrap();
    let text = text.as_string::<i32>();
    Ok(if text.is_null(0) { "NULL".to_owned() } else { text.value(0).to_owned() })
}

fn condition(error: &str) -> String {
    let conditions = error.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(name, _)| name);
    let is_condition =
        |name: &&str| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_.".contains(c));
    match conditions.filter(|name| name.len() > 3).find(is_condition) {
        Some(name) => format!("ERROR {name}"),
        None => format!("ERROR {}", error.chars().take(200).collect::<String>()),
    }
}

/// Type, value and name of a column; an error instead of all three.
fn answer(zone: &str, from: &str, expression: &str) -> Result<[String; 3], String> {
    let from = if from.is_empty() { String::new() } else { format!(" FROM {from}") };
    let value = self::value(zone, &format!("SELECT CAST({expression} AS STRING){from}"))?;
    let data_type = self::value(zone, &format!("SELECT typeof({expression}){from}"))?;
    let folder = tempfile::tempdir().unwrap();
    let sql = format!("SELECT {expression}{from}");
    let (schema, _) = select(&sql, folder.path(), &connectors()).map_err(|error| condition(&error.to_string()))?;
    Ok([data_type, value, schema.field(0).name().clone()])
}

#[test]
fn functions_give_what_spark_gives() {
    let known = oracle("json_functions.known");
    let known: BTreeMap<String, &str> = known
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('\t'))
        .map(|(expression, reason)| (unescape(expression), reason))
        .collect();
    let (mut differ, mut mended) = (Vec::new(), Vec::new());
    for line in oracle("json_functions.tsv").lines() {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let [zone, from, expression, data_type, value, name] = fields.try_into().unwrap();
        let found = answer(&zone, &from, &expression);
        let agrees = match &found {
            Ok(found) => *found == [data_type.clone(), value.clone(), name.clone()],
            Err(found) => *found == value,
        };
        match (agrees, known.contains_key(&format!("{zone} {expression}"))) {
            (true, true) => mended.push(expression),
            (false, false) => {
                differ.push(format!("{zone} {expression}\n  Spark {data_type} {value} `{name}`\n  here  {found:?}"));
            }
            _ => {}
        }
    }
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    assert!(mended.is_empty(), "no longer different, take them out of json_functions.known: {mended:#?}");
}

/// Decoding less must not hide what is wrong with a document.
#[test]
fn fields_are_left_out_only_where_nobody_sees_it() {
    let documents: ArrayRef = Arc::new(BinaryArray::from(vec![&b"{\"a\":1,\"b\":\"\xff\",\"c\":\"x\"}"[..]]));
    let call = |schema: &str, options: &[(&str, &str)], used: &str| {
        let field = Arc::new(Field::new("j", DataType::Struct(parse_schema(schema).unwrap().fields), true));
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for (name, value) in options {
            maps.keys().append_value(name);
            maps.values().append_value(value);
        }
        maps.append(true).unwrap();
        let scalars = [
            ScalarValue::from(schema),
            ScalarValue::Map(Arc::new(maps.finish())),
            ScalarValue::LargeUtf8(Some(used.to_owned())),
        ];
        let mut args = vec![ColumnarValue::Array(Arc::clone(&documents))];
        args.extend(scalars.into_iter().map(ColumnarValue::Scalar));
        let of = |arg: &ColumnarValue| Arc::new(Field::new("", arg.data_type(), true));
        let arg_fields = args.iter().map(of).collect();
        let config_options = Arc::new(ConfigOptions::default());
        let args = ScalarFunctionArgs { args, arg_fields, number_rows: 1, return_field: field, config_options };
        let result = super::all()[0].invoke_with_args(args).map_err(|error| condition(&error.to_string()))?;
        let result = result.into_array(1).unwrap();
        Ok::<_, String>(arrow::util::display::array_value_to_string(&result, 0).unwrap())
    };
    assert_eq!(call("a INT, b STRING, c INT", &[], r#"["a"]"#).unwrap(), "{a: 1, b: , c: }");
    assert_eq!(call("a INT, b STRING, c INT", &[], r#"["B"]"#).unwrap(), "{a: , b: \u{fffd}, c: }");
    let with_corrupt = "a INT, c INT, _corrupt_record STRING";
    assert_eq!(call(with_corrupt, &[], r#"["a"]"#).unwrap(), "{a: 1, c: , _corrupt_record: }");
    let shown = call(with_corrupt, &[], r#"["_corrupt_record"]"#).unwrap();
    assert_eq!(shown, "{a: 1, c: , _corrupt_record: {\"a\":1,\"b\":\"\u{fffd}\",\"c\":\"x\"}}");
    let error = call("a INT, c INT", &[("mode", "FAILFAST")], r#"["a"]"#).unwrap_err();
    assert_eq!(error, "ERROR MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION");
}

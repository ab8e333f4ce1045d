//! The decoder against real Spark.

use super::super::testing::check_golden;
use super::*;

fn options(golden: &serde_json::Map<String, serde_json::Value>) -> CsvOptions {
    let text = |name: &str| golden.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    let byte = |name: &str| text(name).map(|value| value.as_bytes()[0]);
    let default = CsvOptions::default();
    CsvOptions {
        sep: text("sep").unwrap_or(default.sep),
        quote: byte("quote").or(default.quote),
        escape: byte("escape").unwrap_or(default.escape),
        comment: byte("comment"),
        null_value: text("nullValue").unwrap_or(default.null_value),
        empty_value: text("emptyValue").unwrap_or(default.empty_value),
        ignore_leading_white_space: text("ignoreLeadingWhiteSpace").is_some(),
        ignore_trailing_white_space: text("ignoreTrailingWhiteSpace").is_some(),
        timestamp_format: text("timestampFormat"),
        date_format: text("dateFormat"),
        ..CsvOptions::default()
    }
}

#[test]
fn lines_give_what_spark_gives() {
    check_golden(include_str!("golden.jsonl"), |schema, golden| {
        csv_decoder(schema, options(golden)).expect("a decoder")
    });
}

#[test]
fn only_some_fields_of_a_line_are_columns() {
    let schema = highwater_engine::plan::ddl::parse_schema("c DOUBLE, a INT").expect("a schema");
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    let options = CsvOptions { line_columns: Some(names), ..CsvOptions::default() };
    let mut decoder = csv_decoder(Arc::new(schema.clone()), options.clone()).expect("a decoder");
    assert_eq!(decoder.append(b"1,not needed,2.5").expect("no error"), Appended::Row);
    let batch = decoder.flush().expect("a batch");
    assert_eq!(format!("{:?}", batch.column(1)), "PrimitiveArray<Int32>\n[\n  1,\n]");

    let options = CsvOptions { line_columns: Some(vec!["a".to_owned()]), ..options };
    let error = csv_decoder(Arc::new(schema), options).err().expect("a missing column").to_string();
    assert_eq!(error, "option `columns of the file` is `without `c``, expected a list with every column of the schema");
}

#[test]
fn modes() {
    let schema = Arc::new(highwater_engine::plan::ddl::parse_schema("a INT, b STRING").expect("a schema"));
    let decoder = |mode| csv_decoder(schema.clone(), CsvOptions { mode, ..CsvOptions::default() }).expect("a decoder");
    let mut dropping = decoder(ParseMode::DropMalformed);
    assert!(matches!(dropping.append(b"1"), Ok(Appended::Malformed { row: false, .. })));
    assert_eq!(dropping.append(b"1,x").expect("no error"), Appended::Row);
    assert_eq!(dropping.flush().expect("a batch").num_rows(), 1);
    let error = decoder(ParseMode::FailFast).append(b"x,y").expect_err("malformed").to_string();
    assert_eq!(
        error,
        "malformed record in FAILFAST mode: field `a` is `x`, expected INT; the record begins with `x,y`"
    );
}

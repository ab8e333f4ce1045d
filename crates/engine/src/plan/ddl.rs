//! Schemas and data types in Spark's DDL words, in both directions.
//!
//! ```text
//! "a INT, b STRUCT<x: DOUBLE, y: ARRAY<STRING>>"  --parse_schema-->  arrow Schema
//! "DECIMAL(10, 2)"                                --parse_type---->  arrow DataType
//! arrow Schema / DataType                --schema_ddl/type_name-->   Spark's text
//! ```
//!
//! A user writes a schema in `CREATE TABLE`, in `from_json` and in the option of a source; all of
//! them come here, so that one text always means one Arrow type. Names of types and the words
//! `NOT NULL` and `COMMENT` are case-insensitive; names of columns keep their case.
//!
//! | Spark | Arrow |
//! |---|---|
//! | `TIMESTAMP`, `TIMESTAMP_LTZ` | `Timestamp(Microsecond, "UTC")` |
//! | `TIMESTAMP_NTZ` | `Timestamp(Microsecond, None)` |
//! | `STRING`, `VARCHAR(n)`, `CHAR(n)` | `Utf8` (lengths are checked for form, not enforced) |
//! | `MAP<K, V>` | `Map` of `entries: {key not null, value}` |
//!
//! It refuses what has no column type here: intervals, `VARIANT`, `TIME`, collations other than
//! `UTF8_BINARY`, a name twice in one list of columns, and types nested deeper than
//! [`MAX_DEPTH`].

use std::collections::HashMap;
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::CharIndices;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};

/// The key of a field's metadata under which its `COMMENT` is kept, as in Spark.
pub const COMMENT_KEY: &str = "comment";

/// How deep types may nest: the parser is recursive and its input may come from anyone.
pub const MAX_DEPTH: usize = 100;

const KNOWN_TYPES: &str = "STRING, VARCHAR(n), CHAR(n), TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, \
     DECIMAL(p, s), BOOLEAN, BINARY, DATE, TIMESTAMP, TIMESTAMP_NTZ, ARRAY<T>, MAP<K, V>, STRUCT<name: T, ...>";

/// Why a text is no schema or type: where, what stands there, and what could have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the schema `{text}`: at character {position} found {found}, expected {expected}")]
pub struct DdlError {
    /// The whole text that was given.
    pub text: String,
    /// The character at which reading stopped, counted from 1.
    pub position: usize,
    /// What stands there.
    pub found: String,
    /// What would have been accepted.
    pub expected: String,
}

/// Reads `name type [NOT NULL] [COMMENT 'text'], ...` as a schema.
///
/// `STRUCT<...>` around the columns is accepted too, as Spark does, and so is `name: type`.
/// An empty text is a schema without columns.
pub fn parse_schema(ddl: &str) -> Result<Schema, DdlError> {
    let mut parser = Parser::new(ddl)?;
    if parser.peek_is_word("STRUCT") && parser.tokens.get(1).is_some_and(|t| t.kind == TokenKind::Symbol('<')) {
        let data_type = parser.data_type(0)?;
        parser.end()?;
        return match data_type {
            DataType::Struct(fields) => Ok(Schema::new(fields)),
            _ => Ok(Schema::empty()),
        };
    }
    let fields = if parser.peek().kind == TokenKind::End { Fields::empty() } else { parser.columns(0)? };
    parser.end()?;
    Ok(Schema::new(fields))
}

/// Reads one data type, such as `array<decimal(10, 2)>`.
pub fn parse_type(text: &str) -> Result<DataType, DdlError> {
    let mut parser = Parser::new(text)?;
    let data_type = parser.data_type(0)?;
    parser.end()?;
    Ok(data_type)
}

/// The Spark name of an Arrow type.
///
/// Every type that [`parse_type`] returns comes back as a text it reads as the same type. Arrow
/// types that Spark lacks are named by the nearest Spark type that holds all their values
/// (`UInt32` is `BIGINT`), or, when there is none, by Arrow's own name.
pub fn type_name(data_type: &DataType) -> String {
    let mut out = String::new();
    write_type(data_type, &mut out);
    out
}

/// The columns of a schema as Spark's `StructType.toDDL` writes them, without spaces after commas.
pub fn schema_ddl(schema: &Schema) -> String {
    let mut out = String::new();
    write_columns(schema.fields(), " ", ",", &mut out);
    out
}

fn write_columns(fields: &Fields, after_name: &str, between: &str, out: &mut String) {
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            out.push_str(between);
        }
        write_name(field.name(), out);
        out.push_str(after_name);
        write_type(field.data_type(), out);
        if !field.is_nullable() {
            out.push_str(" NOT NULL");
        }
        if let Some(comment) = field.metadata().get(COMMENT_KEY) {
            let escaped = comment.replace('\\', "\\\\").replace('\'', "\\'");
            let _ = write!(out, " COMMENT '{escaped}'");
        }
    }
}

fn write_name(name: &str, out: &mut String) {
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain {
        out.push_str(name);
    } else {
        let _ = write!(out, "`{}`", name.replace('`', "``"));
    }
}

fn write_type(data_type: &DataType, out: &mut String) {
    let plain = match data_type {
        DataType::Null => "VOID",
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 | DataType::UInt8 => "SMALLINT",
        DataType::Int32 | DataType::UInt16 => "INT",
        DataType::Int64 | DataType::UInt32 => "BIGINT",
        DataType::UInt64 => "DECIMAL(20,0)",
        DataType::Float16 | DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BINARY",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP",
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ",
        DataType::Duration(_) => "INTERVAL DAY TO SECOND",
        _ => return write_parameterized(data_type, out),
    };
    out.push_str(plain);
}

fn write_parameterized(data_type: &DataType, out: &mut String) {
    match data_type {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => {
            let _ = write!(out, "DECIMAL({p},{s})");
        }
        DataType::Dictionary(_, values) => write_type(values, out),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            out.push_str("ARRAY<");
            write_type(item.data_type(), out);
            out.push('>');
        }
        DataType::Struct(fields) => {
            out.push_str("STRUCT<");
            write_columns(fields, ": ", ", ", out);
            out.push('>');
        }
        DataType::Map(entries, _) => {
            out.push_str("MAP<");
            if let DataType::Struct(pair) = entries.data_type() {
                for (i, side) in pair.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    write_type(side.data_type(), out);
                }
            }
            out.push('>');
        }
        other => {
            let _ = write!(out, "{other:?}");
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TokenKind {
    Word(String),
    Quoted(String),
    Text(String),
    Number(String),
    Symbol(char),
    End,
}

#[derive(Debug, Clone)]
struct Token {
    kind: TokenKind,
    /// Counted in characters from 1, for the message.
    position: usize,
}

impl Token {
    fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, TokenKind::Word(w) if w.eq_ignore_ascii_case(word))
    }

    fn describe(&self) -> String {
        match &self.kind {
            TokenKind::Word(w) | TokenKind::Number(w) => format!("`{w}`"),
            TokenKind::Quoted(q) => format!("the quoted name `{q}`"),
            TokenKind::Text(t) => format!("the text '{t}'"),
            TokenKind::Symbol(c) => format!("`{c}`"),
            TokenKind::End => "the end of the text".to_owned(),
        }
    }
}

/// A parser over all tokens of a text; `tokens` always ends with [`TokenKind::End`].
struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, DdlError> {
        Ok(Self { text, tokens: tokenize(text)?, next: 0 })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn peek_is_word(&self, word: &str) -> bool {
        self.peek().is_word(word)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn take_symbol_if(&mut self, symbol: char) -> bool {
        let found = self.peek().kind == TokenKind::Symbol(symbol);
        self.next += usize::from(found);
        found
    }

    fn take_word_if(&mut self, word: &str) -> bool {
        let found = self.peek_is_word(word);
        self.next += usize::from(found);
        found
    }

    fn unexpected<T>(&self, token: &Token, expected: impl Into<String>) -> Result<T, DdlError> {
        Err(error_at(self.text, token.position, token.describe(), expected))
    }

    fn symbol(&mut self, symbol: char, expected: &str) -> Result<(), DdlError> {
        let token = self.take();
        if token.kind == TokenKind::Symbol(symbol) { Ok(()) } else { self.unexpected(&token, expected) }
    }

    fn end(&mut self) -> Result<(), DdlError> {
        let token = self.take();
        if token.kind == TokenKind::End { Ok(()) } else { self.unexpected(&token, "`,` or the end of the text") }
    }

    /// One or more columns, up to whatever is not a comma.
    fn columns(&mut self, depth: usize) -> Result<Fields, DdlError> {
        let mut fields: Vec<FieldRef> = Vec::new();
        loop {
            let start = self.peek().clone();
            let field = self.column(depth)?;
            if fields.iter().any(|f| f.name() == field.name()) {
                return self.unexpected(&start, "a name that is not already in this list of columns");
            }
            fields.push(Arc::new(field));
            if !self.take_symbol_if(',') {
                return Ok(fields.into());
            }
        }
    }

    fn column(&mut self, depth: usize) -> Result<Field, DdlError> {
        let token = self.take();
        let name = match token.kind {
            TokenKind::Word(name) | TokenKind::Quoted(name) => name,
            _ => return self.unexpected(&token, "the name of a column"),
        };
        self.take_symbol_if(':');
        let data_type = self.data_type(depth)?;
        let mut nullable = true;
        if self.take_word_if("NOT") {
            if !self.take_word_if("NULL") {
                let token = self.peek().clone();
                return self.unexpected(&token, "`NULL` after `NOT`");
            }
            nullable = false;
        }
        let field = Field::new(name, data_type, nullable);
        if !self.take_word_if("COMMENT") {
            return Ok(field);
        }
        let token = self.take();
        match token.kind {
            TokenKind::Text(comment) => Ok(field.with_metadata(HashMap::from([(COMMENT_KEY.to_owned(), comment)]))),
            _ => self.unexpected(&token, "the comment as a quoted text"),
        }
    }

    fn data_type(&mut self, depth: usize) -> Result<DataType, DdlError> {
        let token = self.take();
        if depth > MAX_DEPTH {
            return self.unexpected(&token, format!("types nested at most {MAX_DEPTH} deep"));
        }
        let TokenKind::Word(word) = &token.kind else {
            return self.unexpected(&token, "a data type");
        };
        let utc = || Some("UTC".into());
        Ok(match word.to_ascii_uppercase().as_str() {
            "BOOLEAN" => DataType::Boolean,
            "TINYINT" | "BYTE" => DataType::Int8,
            "SMALLINT" | "SHORT" => DataType::Int16,
            "INT" | "INTEGER" => DataType::Int32,
            "BIGINT" | "LONG" => DataType::Int64,
            "FLOAT" | "REAL" => DataType::Float32,
            "DOUBLE" => DataType::Float64,
            "BINARY" => DataType::Binary,
            "DATE" => DataType::Date32,
            "TIMESTAMP" | "TIMESTAMP_LTZ" => DataType::Timestamp(TimeUnit::Microsecond, utc()),
            "TIMESTAMP_NTZ" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "VOID" => DataType::Null,
            "STRING" => self.collation()?,
            "VARCHAR" | "CHARACTER" | "CHAR" => self.length()?,
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal()?,
            "ARRAY" => self.array(depth)?,
            "MAP" => self.map(depth)?,
            "STRUCT" => self.structure(depth)?,
            _ => return self.unexpected(&token, format!("a data type, one of {KNOWN_TYPES}")),
        })
    }

    /// `STRING [COLLATE UTF8_BINARY]`: byte order is the only collation there is here.
    fn collation(&mut self) -> Result<DataType, DdlError> {
        if self.take_word_if("COLLATE") && !self.take_word_if("UTF8_BINARY") {
            let token = self.peek().clone();
            return self.unexpected(&token, "UTF8_BINARY, the only supported collation");
        }
        Ok(DataType::Utf8)
    }

    fn length(&mut self) -> Result<DataType, DdlError> {
        self.symbol('(', "`(` and the length")?;
        self.number(1..=i64::from(i32::MAX), "a length from 1")?;
        self.symbol(')', "`)` after the length")?;
        Ok(DataType::Utf8)
    }

    fn decimal(&mut self) -> Result<DataType, DdlError> {
        let (mut precision, mut scale) = (10, 0);
        if self.take_symbol_if('(') {
            precision = self.number(1..=38, "a precision from 1 to 38")?;
            if self.take_symbol_if(',') {
                scale = self.number(0..=precision, "a scale from 0 to the precision")?;
            }
            self.symbol(')', "`)` after precision and scale")?;
        }
        // Both are at most 38, by the ranges above.
        Ok(DataType::Decimal128(precision as u8, scale as i8))
    }

    fn number(&mut self, range: std::ops::RangeInclusive<i64>, expected: &str) -> Result<i64, DdlError> {
        let token = self.take();
        match &token.kind {
            TokenKind::Number(digits) => match digits.parse() {
                Ok(number) if range.contains(&number) => Ok(number),
                _ => self.unexpected(&token, expected),
            },
            _ => self.unexpected(&token, expected),
        }
    }

    fn array(&mut self, depth: usize) -> Result<DataType, DdlError> {
        self.symbol('<', "`<` and the type of the elements")?;
        let item = self.data_type(depth + 1)?;
        self.symbol('>', "`>` after the type of the elements")?;
        Ok(DataType::List(Arc::new(Field::new_list_field(item, true))))
    }

    fn map(&mut self, depth: usize) -> Result<DataType, DdlError> {
        self.symbol('<', "`<` and the types of key and value")?;
        let key = self.data_type(depth + 1)?;
        self.symbol(',', "`,` between the types of key and value")?;
        let value = self.data_type(depth + 1)?;
        self.symbol('>', "`>` after the type of the value")?;
        let pair = vec![Field::new("key", key, false), Field::new("value", value, true)];
        let entries = Field::new("entries", DataType::Struct(pair.into()), false);
        Ok(DataType::Map(Arc::new(entries), false))
    }

    fn structure(&mut self, depth: usize) -> Result<DataType, DdlError> {
        self.symbol('<', "`<` and the fields of the struct")?;
        let empty = self.peek().kind == TokenKind::Symbol('>');
        let fields = if empty { Fields::empty() } else { self.columns(depth + 1)? };
        self.symbol('>', "`,` or `>` after a field of the struct")?;
        Ok(DataType::Struct(fields))
    }
}

fn error_at(text: &str, position: usize, found: String, expected: impl Into<String>) -> DdlError {
    DdlError { text: text.to_owned(), position, found, expected: expected.into() }
}

fn tokenize(text: &str) -> Result<Vec<Token>, DdlError> {
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    let mut position_of = PositionCounter { text, byte: 0, position: 1 };
    while let Some(&(start, c)) = chars.peek() {
        let position = position_of.at(start);
        let kind = match c {
            _ if c.is_whitespace() => {
                chars.next();
                continue;
            }
            '`' => TokenKind::Quoted(quoted(text, &mut chars, position)?),
            '\'' | '"' => TokenKind::Text(quoted(text, &mut chars, position)?),
            _ if c.is_ascii_digit() || c.is_alphabetic() || c == '_' => word(&mut chars),
            _ => {
                chars.next();
                TokenKind::Symbol(c)
            }
        };
        tokens.push(Token { kind, position });
    }
    tokens.push(Token { kind: TokenKind::End, position: position_of.at(text.len()) });
    Ok(tokens)
}

/// Turns ascending byte offsets into character positions without counting from the start each time.
struct PositionCounter<'a> {
    text: &'a str,
    byte: usize,
    position: usize,
}

impl PositionCounter<'_> {
    fn at(&mut self, byte: usize) -> usize {
        self.position += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        self.position
    }
}

fn word(chars: &mut Peekable<CharIndices<'_>>) -> TokenKind {
    let mut word = String::new();
    while let Some((_, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
        word.push(c);
    }
    if word.bytes().all(|b| b.is_ascii_digit()) { TokenKind::Number(word) } else { TokenKind::Word(word) }
}

/// A name in backticks (doubled inside) or a text in quotes (doubled or after a backslash inside).
fn quoted(text: &str, chars: &mut Peekable<CharIndices<'_>>, position: usize) -> Result<String, DdlError> {
    let quote = chars.next().map_or('`', |(_, c)| c);
    let mut out = String::new();
    while let Some((_, c)) = chars.next() {
        match c {
            _ if c == quote => {
                if chars.next_if(|(_, next)| *next == quote).is_none() {
                    return Ok(out);
                }
                out.push(quote);
            }
            '\\' if quote != '`' => out.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => out.push(c),
        }
    }
    Err(error_at(text, position, format!("`{quote}` that is never closed"), format!("a closing `{quote}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_type(text: &str, expected: DataType, spark_name: &str) {
        let parsed = parse_type(text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(parsed, expected, "{text}");
        assert_eq!(type_name(&parsed), spark_name, "{text}");
        assert_eq!(parse_type(spark_name).as_ref(), Ok(&expected), "{spark_name}");
    }

    #[test]
    fn every_type_is_read_and_named_back() {
        let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        for (text, expected, name) in [
            ("string", DataType::Utf8, "STRING"),
            ("STRING COLLATE utf8_binary", DataType::Utf8, "STRING"),
            ("varchar(10)", DataType::Utf8, "STRING"),
            ("Char( 3 )", DataType::Utf8, "STRING"),
            ("TINYINT", DataType::Int8, "TINYINT"),
            ("byte", DataType::Int8, "TINYINT"),
            ("short", DataType::Int16, "SMALLINT"),
            ("Integer", DataType::Int32, "INT"),
            ("LONG", DataType::Int64, "BIGINT"),
            ("real", DataType::Float32, "FLOAT"),
            ("double", DataType::Float64, "DOUBLE"),
            ("dec", DataType::Decimal128(10, 0), "DECIMAL(10,0)"),
            ("NUMERIC(5)", DataType::Decimal128(5, 0), "DECIMAL(5,0)"),
            ("decimal(38, 18)", DataType::Decimal128(38, 18), "DECIMAL(38,18)"),
            ("boolean", DataType::Boolean, "BOOLEAN"),
            ("binary", DataType::Binary, "BINARY"),
            ("date", DataType::Date32, "DATE"),
            ("timestamp", utc(), "TIMESTAMP"),
            ("timestamp_ltz", utc(), "TIMESTAMP"),
            ("timestamp_ntz", DataType::Timestamp(TimeUnit::Microsecond, None), "TIMESTAMP_NTZ"),
            ("array<int>", DataType::new_list(DataType::Int32, true), "ARRAY<INT>"),
        ] {
            check_type(text, expected, name);
        }
    }

    #[test]
    fn nested_types_keep_names_nullability_and_comments() {
        let ddl = "a INT, `b c` STRUCT<x: DOUBLE NOT NULL, y ARRAY<MAP<STRING,DECIMAL(10,2)>>>, \
                   c DECIMAL(10,2) NOT NULL COMMENT 'it''s \\'x\\''";
        let schema = parse_schema(ddl).unwrap_or_else(|e| panic!("{e}"));
        assert!(!schema.field(2).is_nullable());
        assert_eq!(schema.field(2).metadata()[COMMENT_KEY], "it's 'x'");
        let text = schema_ddl(&schema);
        assert_eq!(
            text,
            "a INT,`b c` STRUCT<x: DOUBLE NOT NULL, y: ARRAY<MAP<STRING, DECIMAL(10,2)>>>,\
             c DECIMAL(10,2) NOT NULL COMMENT 'it\\'s \\'x\\''"
        );
        assert_eq!(parse_schema(&text), Ok(schema));
    }

    #[test]
    fn other_spellings_of_a_schema() {
        let plain = parse_schema("a INT, b STRING");
        assert_eq!(parse_schema("a: int, b: string"), plain);
        assert_eq!(parse_schema("STRUCT<a: INT, b STRING>"), plain);
        assert_eq!(parse_schema("  "), Ok(Schema::empty()));
        // A column may be called like a type, and may differ from another by case only.
        let named = parse_schema("struct INT, date DATE, Date DATE").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(named.field(0).name(), "struct");
        assert_eq!(named.fields().len(), 3);
    }

    #[test]
    fn errors_say_position_found_and_expected() {
        for (ddl, position, found, expected) in [
            ("a", 2, "the end of the text", "a data type"),
            ("a INTT", 3, "`INTT`", "a data type, one of STRING"),
            ("é INT,", 7, "the end of the text", "the name of a column"),
            ("a DECIMAL(39)", 11, "`39`", "a precision from 1 to 38"),
            ("a DECIMAL(3,4)", 13, "`4`", "a scale from 0 to the precision"),
            ("a ARRAY<INT", 12, "the end of the text", "`>` after the type of the elements"),
            ("a MAP<INT>", 10, "`>`", "`,` between the types of key and value"),
            ("a INT NOT b", 11, "`b`", "`NULL` after `NOT`"),
            ("a INT b INT", 7, "`b`", "`,` or the end of the text"),
            ("a INT, a INT", 8, "`a`", "a name that is not already"),
            ("a INT COMMENT 'x", 15, "`'` that is never closed", "a closing `'`"),
            ("a VARCHAR", 10, "the end of the text", "`(` and the length"),
            ("a STRING COLLATE UNICODE", 18, "`UNICODE`", "UTF8_BINARY"),
            ("a INTERVAL DAY TO SECOND", 3, "`INTERVAL`", "a data type, one of"),
        ] {
            let error = parse_schema(ddl).expect_err(ddl);
            assert_eq!((error.position, error.found.as_str()), (position, found), "{ddl}");
            assert!(error.expected.starts_with(expected), "{ddl}: {}", error.expected);
        }
        let message = parse_type("map<int").expect_err("open").to_string();
        assert_eq!(
            message,
            "cannot read the schema `map<int`: at character 8 found the end of the text, \
             expected `,` between the types of key and value"
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "ARRAY<".repeat(100_000);
        let error = parse_type(&deep).expect_err("too deep");
        assert!(error.expected.contains("at most 100 deep"));
    }
}

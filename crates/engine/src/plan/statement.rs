//! The statements of a project: which tables there are, and which queries fill them.
//!
//! ```text
//!   CREATE TABLE t (...) USING format OPTIONS (...)              an outside table
//!   CREATE STREAMING TABLE t [(...)] [USING format] [AS query]   a table that queries append to
//!   CREATE FLOW f AS INSERT INTO t BY NAME query                 one such query
//!   CREATE STREAMING TABLE t FLOW AUTO CDC ...                   a table that follows a stream of changes
//!   CREATE FLOW f AS AUTO CDC INTO t ...                         the same, by name
//!   CREATE SINK s USING format OPTIONS (...)                     an outside target
//!   CREATE MATERIALIZED VIEW v AS query                          a table computed whole
//!   CREATE TEMPORARY VIEW v AS query                             a name for a query
//!   SET key = value;  USE schema;  SET CATALOG name;  INSERT INTO t query;  query
//! ```
//!
//! Only the statement's frame is read here; a query stays a run of tokens until the tables it names are known.

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::auto_cdc::{self, AutoCdc};
use super::catalog::Options;
use super::ddl;
use super::token::Cursor;
use crate::error::{EngineError, Result, Span, nearest};

/// One statement and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// Its first word.
    pub(crate) span: Span,
    /// What it says.
    pub(crate) kind: StatementKind,
}

/// What a statement says.
#[derive(Debug, Clone)]
pub(crate) enum StatementKind {
    /// `CREATE TABLE`, `CREATE SINK`, `CREATE STREAMING TABLE`, `CREATE MATERIALIZED VIEW`.
    CreateTable(CreateTable),
    /// `CREATE [TEMPORARY] VIEW`.
    CreateView { name: String, query: Cursor },
    /// `CREATE FLOW`, or `INSERT INTO` without a name.
    CreateFlow { name: Option<String>, insert: Insert },
    /// `SET key = value`.
    Set { key: String, value: String },
    /// `USE [SCHEMA] name`, `SET CATALOG name`: of no consequence, because a project has one namespace here.
    Use,
    /// A query on its own.
    Query(Cursor),
}

/// `INSERT INTO target [BY NAME] query`.
#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub(crate) target: String,
    pub(crate) target_span: Span,
    /// Whether columns are matched by name and not by place.
    pub(crate) by_name: bool,
    pub(crate) query: Cursor,
    /// The rows are changes, to be applied as this says.
    pub(crate) cdc: Option<AutoCdc>,
}

/// A table, whoever fills it.
#[derive(Debug, Clone)]
pub(crate) struct CreateTable {
    pub(crate) name: String,
    pub(crate) kind: TableKind,
    pub(crate) if_not_exists: bool,
    pub(crate) columns: Option<SchemaRef>,
    pub(crate) format: Option<String>,
    pub(crate) options: Options,
    pub(crate) partition_columns: Vec<String>,
    pub(crate) query: Option<Cursor>,
    /// The rows of the query are changes, to be applied as this says.
    pub(crate) cdc: Option<AutoCdc>,
}

/// Who fills a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// Somebody else.
    External,
    /// Nobody reads it here; flows write to it.
    Sink,
    /// Flows append to it.
    Streaming,
    /// A query over tables, computed whole at each run.
    Materialized,
}

const STATEMENTS: [&str; 9] = ["CREATE", "INSERT", "SET", "USE", "SELECT", "WITH", "FROM", "VALUES", "TABLE"];

impl Statement {
    /// Reads one statement.
    pub(crate) fn parse(cursor: Cursor) -> Result<Self> {
        let span = cursor.span();
        StatementKind::parse(cursor).map(|kind| Self { span, kind })
    }
}

impl StatementKind {
    fn parse(mut cursor: Cursor) -> Result<Self> {
        if cursor.eat(&["CREATE"]) {
            return parse_create(cursor);
        }
        if cursor.looks_at(&["INSERT"]) {
            return Ok(Self::CreateFlow { name: None, insert: parse_insert(&mut cursor)? });
        }
        if cursor.eat(&["SET", "CATALOG"]) {
            return parse_use(cursor);
        }
        if cursor.eat(&["SET"]) {
            return parse_set(cursor);
        }
        if cursor.eat(&["USE"]) {
            // A name on its own may be one of these words.
            let is_kind = ["NAMESPACE", "DATABASE", "SCHEMA"].iter().any(|word| cursor.looks_at(&[word]));
            if is_kind && cursor.peek_nth(1).is_some() {
                cursor.advance();
            }
            return parse_use(cursor);
        }
        let is_query = ["SELECT", "WITH", "FROM", "VALUES", "TABLE", "EXPLAIN", "DESCRIBE", "SHOW"]
            .iter()
            .any(|word| cursor.looks_at(&[word]))
            || cursor.peek() == Some(&Token::LParen);
        if is_query {
            return Ok(Self::Query(cursor));
        }
        Err(unknown_statement(&cursor))
    }
}

fn unknown_statement(cursor: &Cursor) -> EngineError {
    let error = cursor.expected("a statement");
    match cursor.peek() {
        Some(Token::Word(word)) => match nearest(&word.value, STATEMENTS) {
            Some(near) => error.help(format!("did you mean {near}?")),
            None => error.help(format!("statements begin with one of {}", STATEMENTS.join(", "))),
        },
        _ => error,
    }
}

fn parse_create(mut cursor: Cursor) -> Result<StatementKind> {
    let replace = cursor.eat(&["OR", "REPLACE"]) || cursor.eat(&["OR", "REFRESH"]);
    if cursor.eat(&["TEMPORARY", "VIEW"]) || cursor.eat(&["TEMP", "VIEW"]) || cursor.eat(&["VIEW"]) {
        return parse_view(cursor);
    }
    if cursor.eat(&["FLOW"]) {
        return parse_flow(cursor);
    }
    let kind = if cursor.eat(&["STREAMING", "TABLE"]) {
        TableKind::Streaming
    } else if cursor.eat(&["MATERIALIZED", "VIEW"]) {
        TableKind::Materialized
    } else if cursor.eat(&["SINK"]) {
        TableKind::Sink
    } else if cursor.eat(&["TABLE"]) || cursor.eat(&["EXTERNAL", "TABLE"]) {
        TableKind::External
    } else {
        let words = ["TABLE", "STREAMING TABLE", "MATERIALIZED VIEW", "TEMPORARY VIEW", "FLOW", "SINK"];
        return Err(cursor
            .expected("TABLE, STREAMING TABLE, MATERIALIZED VIEW, TEMPORARY VIEW, FLOW or SINK after CREATE")
            .help(match cursor.peek() {
                Some(Token::Word(word)) => nearest(&word.value, words.iter().flat_map(|w| w.split(' ')))
                    .map_or("see the SQL reference".to_owned(), |near| format!("did you mean {near}?")),
                _ => "see the SQL reference".to_owned(),
            }));
    };
    parse_table(cursor, kind, replace)
}

fn parse_view(mut cursor: Cursor) -> Result<StatementKind> {
    cursor.eat(&["IF", "NOT", "EXISTS"]);
    let name = last_part(cursor.object_name("the view's name")?);
    eat_comment(&mut cursor)?;
    cursor.expect(&["AS"], "and a query after the view's name")?;
    Ok(StatementKind::CreateView { name, query: query_of(&mut cursor)? })
}

fn parse_flow(mut cursor: Cursor) -> Result<StatementKind> {
    let name = last_part(cursor.object_name("the flow's name")?);
    eat_comment(&mut cursor)?;
    cursor.expect(&["AS"], "and INSERT INTO or AUTO CDC INTO after the flow's name")?;
    let span = cursor.span();
    let insert = if cursor.eat(&["AUTO", "CDC"]) {
        cursor.expect(&["INTO"], "and the target's name after AUTO CDC")?;
        let target_span = cursor.span();
        let target = last_part(cursor.object_name("the target's name")?);
        let (cdc, query) = auto_cdc::parse_changes(&mut cursor, span)?;
        Insert { target, target_span, by_name: true, query, cdc: Some(cdc) }
    } else {
        parse_insert(&mut cursor)?
    };
    Ok(StatementKind::CreateFlow { name: Some(name), insert })
}

/// `INSERT INTO [TABLE] target [BY NAME] query`.
fn parse_insert(cursor: &mut Cursor) -> Result<Insert> {
    cursor.expect(&["INSERT", "INTO"], "and the target's name")?;
    cursor.eat(&["TABLE"]);
    let target_span = cursor.span();
    let target = last_part(cursor.object_name("the target's name")?);
    let by_name = cursor.eat(&["BY", "NAME"]);
    Ok(Insert { target, target_span, by_name, query: query_of(cursor)?, cdc: None })
}

fn parse_set(mut cursor: Cursor) -> Result<StatementKind> {
    let key = cursor.up_to_token(&Token::Eq);
    cursor.expect_token(&Token::Eq, "after the key of SET")?;
    let key = key.text().replace('`', "").trim().to_owned();
    let value = cursor.rest();
    let text = value.text().trim();
    let unquoted = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or(text);
    Ok(StatementKind::Set { key, value: unquoted.to_owned() })
}

fn parse_use(mut cursor: Cursor) -> Result<StatementKind> {
    match cursor.peek() {
        Some(Token::SingleQuotedString(_)) => drop(cursor.string("the name of a catalog or schema")?),
        _ => drop(cursor.object_name("the name of a catalog or schema")?),
    }
    if cursor.is_at_end() { Ok(StatementKind::Use) } else { Err(cursor.expected("the end of the statement")) }
}

fn parse_table(mut cursor: Cursor, kind: TableKind, replace: bool) -> Result<StatementKind> {
    let if_not_exists = cursor.eat(&["IF", "NOT", "EXISTS"]) || replace;
    let name = last_part(cursor.object_name("the table's name")?);
    let mut table = CreateTable {
        name,
        kind,
        if_not_exists,
        columns: None,
        format: None,
        options: Options::default(),
        partition_columns: Vec::new(),
        query: None,
        cdc: None,
    };
    if cursor.peek() == Some(&Token::LParen) {
        table.columns = Some(parse_columns(&mut cursor)?);
    }
    while !cursor.is_at_end() {
        parse_clause(&mut cursor, &mut table)?;
    }
    Ok(StatementKind::CreateTable(table))
}

/// The word after `USING`; one with a dash needs backticks, as every name that has one.
fn parse_format(cursor: &mut Cursor) -> Result<String> {
    let span = cursor.span();
    let mut format = cursor.identifier("a format after USING, such as kafka or delta")?.to_ascii_lowercase();
    if cursor.peek() != Some(&Token::Minus) {
        return Ok(format);
    }
    while cursor.eat_token(&Token::Minus) {
        format = format!("{format}-{}", cursor.identifier("the rest of the format")?.to_ascii_lowercase());
    }
    Err(EngineError::query_at(
        span,
        format!("the format {format} has a dash, which a name without backticks cannot have"),
    )
    .help(format!("write USING `{format}`")))
}

/// One clause after a table's name: `USING`, `OPTIONS`, `TBLPROPERTIES`, `PARTITIONED BY`, `LOCATION`, `COMMENT`, `AS`.
fn parse_clause(cursor: &mut Cursor, table: &mut CreateTable) -> Result<()> {
    if cursor.eat(&["USING"]) {
        table.format = Some(parse_format(cursor)?);
    } else if cursor.eat(&["OPTIONS"]) || cursor.eat(&["TBLPROPERTIES"]) {
        parse_options(&mut cursor.parenthesised("before the options")?, &mut table.options)?;
    } else if cursor.eat(&["PARTITIONED", "BY"]) {
        let mut names = cursor.parenthesised("before the partition columns")?;
        while !names.is_at_end() {
            table.partition_columns.push(names.identifier("a partition column")?);
            names.eat_token(&Token::Comma);
        }
    } else if cursor.eat(&["LOCATION"]) {
        table.options.set("path", cursor.string("a path after LOCATION")?);
    } else if cursor.looks_at(&["COMMENT"]) {
        eat_comment(cursor)?;
    } else if cursor.eat(&["AS"]) {
        table.query = Some(query_of(cursor)?);
    } else if cursor.looks_at(&["FLOW"]) {
        let span = cursor.span();
        cursor.expect(&["FLOW", "AUTO", "CDC"], "and a stream of changes after the table")?;
        if table.kind != TableKind::Streaming {
            return Err(EngineError::query_at(span, "only a STREAMING TABLE can follow a stream of changes")
                .help("write CREATE STREAMING TABLE t FLOW AUTO CDC FROM STREAM ..."));
        }
        let (cdc, query) = auto_cdc::parse_changes(cursor, span)?;
        (table.cdc, table.query) = (Some(cdc), Some(query));
    } else {
        let clauses = ["USING", "OPTIONS", "TBLPROPERTIES", "PARTITIONED", "LOCATION", "COMMENT", "AS", "FLOW"];
        let error = cursor.expected(&format!("one of {}", clauses.join(", ")));
        return Err(match cursor.peek() {
            Some(Token::Word(word)) => match nearest(&word.value, clauses) {
                Some(near) => error.help(format!("did you mean {near}?")),
                None => error,
            },
            _ => error,
        });
    }
    Ok(())
}

fn parse_columns(cursor: &mut Cursor) -> Result<SchemaRef> {
    let start = cursor.span();
    let columns = cursor.parenthesised("before the columns")?;
    let at = if columns.is_at_end() { start } else { columns.span() };
    let schema: Schema =
        ddl::parse_schema(columns.text()).map_err(|error| EngineError::query_at(at, error.to_string()))?;
    Ok(schema.into())
}

/// `key = 'value', 'key' 'value', dotted.key value, ...`
pub(crate) fn parse_options(cursor: &mut Cursor, options: &mut Options) -> Result<()> {
    while !cursor.is_at_end() {
        let key = match cursor.peek() {
            Some(Token::SingleQuotedString(_) | Token::DoubleQuotedString(_)) => cursor.string("an option's key")?,
            _ => cursor.object_name("an option's key")?.join("."),
        };
        cursor.eat_token(&Token::Eq);
        let value = option_value(cursor, &key)?;
        options.set(key, value);
        if !cursor.is_at_end() {
            cursor.expect_token(&Token::Comma, "between options")?;
        }
    }
    Ok(())
}

fn option_value(cursor: &mut Cursor, key: &str) -> Result<String> {
    let negative = cursor.eat_token(&Token::Minus);
    let value = match cursor.peek() {
        Some(Token::SingleQuotedString(text) | Token::DoubleQuotedString(text)) => text.clone(),
        Some(Token::Number(number, _)) => number.clone(),
        Some(Token::Word(word)) if ["true", "false"].contains(&word.value.to_ascii_lowercase().as_str()) => {
            word.value.to_ascii_lowercase()
        }
        _ => return Err(cursor.expected(&format!("the value of option '{key}'")).help("put values in single quotes")),
    };
    cursor.advance();
    Ok(if negative { format!("-{value}") } else { value })
}

fn eat_comment(cursor: &mut Cursor) -> Result<()> {
    if cursor.eat(&["COMMENT"]) {
        cursor.string("the comment's text")?;
    }
    Ok(())
}

fn query_of(cursor: &mut Cursor) -> Result<Cursor> {
    if cursor.is_at_end() { Err(cursor.expected("a query")) } else { Ok(cursor.rest()) }
}

fn last_part(mut parts: Vec<String>) -> String {
    parts.pop().unwrap_or_default()
}

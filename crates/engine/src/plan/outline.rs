//! What each statement of a project says, before anything is planned: for those who hand statements on to another
//! engine, and have to know which tables they name, what stands in them, and where.
//!
//! ```text
//!   file ──token──> statements ──> OutlineStatement { kind, words with places, tables after FROM and JOIN }
//! ```
//!
//! Nothing is resolved here: whether a name is a table, a view or a mistake is for whoever plans it.

use std::ops::Range;

use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::catalog::Options;
use super::program::{ScriptError, ScriptFile};
use super::relation::is_alias;
use super::session;
use super::statement::{CreateTable, Insert, Statement, StatementKind, TableKind};
use super::token::{Cursor, TokenStream, is_word, span_of};
use crate::error::{EngineError, Result, Span};

/// One statement.
#[derive(Debug, Clone)]
pub struct OutlineStatement {
    /// The place of its file in the list that was given.
    pub file: usize,
    /// Its bytes in the file's text, without the semicolon.
    pub bytes: Range<usize>,
    /// What it says.
    pub kind: OutlineKind,
    /// Its words, numbers and signs, without white space and comments.
    pub words: Vec<OutlineWord>,
    /// The tables and views it reads, in the order of the text.
    pub reads: Vec<TableRead>,
}

/// What a statement says.
#[derive(Debug, Clone)]
pub enum OutlineKind {
    /// `CREATE TABLE ... USING`: a table that somebody else fills.
    Source(OutlineTable),
    /// `CREATE SINK`.
    Sink(OutlineTable),
    /// `CREATE STREAMING TABLE`.
    StreamingTable(OutlineTable),
    /// `CREATE MATERIALIZED VIEW`.
    MaterializedView(OutlineTable),
    /// `CREATE VIEW`.
    View {
        /// Its name.
        name: String,
    },
    /// `CREATE FLOW`, or `INSERT INTO` on its own.
    Flow {
        /// Its name, if it has one.
        name: Option<String>,
        /// The table it fills.
        target: String,
        /// Whether its rows are changes (`AUTO CDC`).
        follows_changes: bool,
        /// The bytes of its query in the file's text; for changes, of all that follows the target.
        query: Range<usize>,
    },
    /// `SET key = value`.
    Set {
        /// The key.
        key: String,
    },
    /// `USE name`.
    Use,
    /// A query whose rows are shown.
    Query,
}

/// A table as its statement describes it.
#[derive(Debug, Clone)]
pub struct OutlineTable {
    /// Its name.
    pub name: String,
    /// Its columns, if the statement gives them.
    pub columns: Option<SchemaRef>,
    /// The word after `USING`, in lower case.
    pub format: Option<String>,
    /// Its options.
    pub options: Options,
    /// `PARTITIONED BY`.
    pub partition_columns: Vec<String>,
    /// Whether the statement has a query of its own.
    pub has_query: bool,
    /// Whether that query's rows are changes (`AUTO CDC`).
    pub follows_changes: bool,
}

/// A word, number or sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineWord {
    /// The text of an unquoted word in upper case, of a quoted one as it is; of others what the parser writes.
    pub text: String,
    /// What it is.
    pub kind: WordKind,
    /// Its bytes in the file's text.
    pub bytes: Range<usize>,
    /// Where it stands.
    pub span: Span,
}

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordKind {
    /// A keyword or a name without quotes.
    Plain,
    /// A name in backticks.
    Quoted,
    /// A text in quotes; the word's text is what is between them.
    Literal,
    /// A number or a sign.
    Other,
}

/// A table that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRead {
    /// The last part of its name.
    pub name: String,
    /// Whether the name has dots.
    pub is_qualified: bool,
    /// The word `STREAM` before it, as an index into the statement's words.
    pub stream: Option<usize>,
    /// The name's last word, as an index into the statement's words.
    pub word: usize,
    /// Whether another name follows, or a clause that one would stand behind.
    pub has_alias: bool,
}

/// The statements of all files, in their order.
pub fn outline(files: &[ScriptFile]) -> Result<Vec<OutlineStatement>, ScriptError> {
    let mut statements = Vec::new();
    for (file, script) in files.iter().enumerate() {
        let located = |error| ScriptError { file: script.name.clone(), text: script.text.clone(), error };
        statements.extend(outline_file(file, script).map_err(located)?);
    }
    Ok(statements)
}

fn outline_file(file: usize, script: &ScriptFile) -> Result<Vec<OutlineStatement>> {
    let tokens = TokenStream::new(&script.text, session::dialect().as_ref())?;
    let lines = Lines::of(&script.text);
    tokens.statements().into_iter().map(|cursor| statement(file, &lines, cursor)).collect()
}

fn statement(file: usize, lines: &Lines<'_>, cursor: Cursor) -> Result<OutlineStatement> {
    let words: Vec<OutlineWord> = cursor.tokens().iter().map(|token| word(token, lines)).collect();
    let reads = reads(cursor.tokens());
    let (Some(first), Some(last)) = (words.first(), words.last()) else {
        return Err(EngineError::internal("a statement without a word"));
    };
    let bytes = first.bytes.start..last.bytes.end;
    let kind = kind(Statement::parse(cursor)?.kind, &words, bytes.end);
    Ok(OutlineStatement { file, bytes, kind, words, reads })
}

fn kind(kind: StatementKind, words: &[OutlineWord], end: usize) -> OutlineKind {
    match kind {
        StatementKind::CreateTable(table) => {
            let kind = table.kind;
            let table = table_of(table);
            match kind {
                TableKind::External => OutlineKind::Source(table),
                TableKind::Sink => OutlineKind::Sink(table),
                TableKind::Streaming => OutlineKind::StreamingTable(table),
                TableKind::Materialized => OutlineKind::MaterializedView(table),
            }
        }
        StatementKind::CreateView { name, .. } => OutlineKind::View { name },
        StatementKind::CreateFlow { name, insert } => {
            let Insert { target, query, cdc, target_span, .. } = insert;
            let start = if cdc.is_some() {
                words.iter().find(|word| word.span == target_span).map_or(end, |word| word.bytes.end)
            } else {
                let first = query.span();
                words.iter().find(|word| word.span == first).map_or(end, |word| word.bytes.start)
            };
            OutlineKind::Flow { name, target, follows_changes: cdc.is_some(), query: start..end }
        }
        StatementKind::Set { key, .. } => OutlineKind::Set { key },
        StatementKind::Use => OutlineKind::Use,
        StatementKind::Query(_) => OutlineKind::Query,
    }
}

fn table_of(table: CreateTable) -> OutlineTable {
    OutlineTable {
        name: table.name,
        columns: table.columns,
        format: table.format,
        options: table.options,
        partition_columns: table.partition_columns,
        has_query: table.query.is_some(),
        follows_changes: table.cdc.is_some(),
    }
}

fn word(token: &TokenWithSpan, lines: &Lines<'_>) -> OutlineWord {
    let (text, kind) = match &token.token {
        Token::Word(word) if word.quote_style.is_some() => (word.value.clone(), WordKind::Quoted),
        Token::Word(word) => (word.value.to_uppercase(), WordKind::Plain),
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => (text.clone(), WordKind::Literal),
        other => (other.to_string(), WordKind::Other),
    };
    let at = |place: datafusion::sql::sqlparser::tokenizer::Location| lines.byte_at(place.line, place.column);
    OutlineWord { text, kind, bytes: at(token.span.start)..at(token.span.end), span: span_of(token) }
}

/// Where the lines of a text begin, so that a place is found without reading the text again.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    fn byte_at(&self, line: u64, column: u64) -> usize {
        let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let start = self.starts.get(index(line)).copied().unwrap_or(self.text.len());
        let mut letters = self.text[start..].char_indices();
        letters.nth(index(column)).map_or(self.text.len(), |(at, _)| start + at)
    }
}

/// Words after which the relations of a `FROM` are over.
const ENDS_FROM: [&str; 11] =
    ["WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT", "SELECT", "ON", "KEYS"];

/// The names after `FROM`, `JOIN` and commas among them, with or without `STREAM`. Names that `WITH` gives are left out.
fn reads(tokens: &[TokenWithSpan]) -> Vec<TableRead> {
    let mut found: Vec<TableRead> = Vec::new();
    let mut in_from = vec![false];
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let is = |words: &[&str]| words.iter().any(|word| is_word(Some(&token.token), word));
        let among_relations = in_from.last().copied().unwrap_or_default();
        let begins = is(&["FROM", "JOIN"]) || (token.token == Token::Comma && among_relations);
        match token.token {
            Token::LParen => in_from.push(false),
            Token::RParen if in_from.len() > 1 => drop(in_from.pop()),
            _ => {}
        }
        if let Some(level) = in_from.last_mut() {
            *level = (*level || begins) && !is(&ENDS_FROM);
        }
        at += 1;
        if begins && let Some((read, next)) = read_at(tokens, at) {
            at = next;
            found.push(read);
        }
    }
    let defined = names_of_with(tokens);
    found.retain(|read| read.stream.is_some() || !defined.iter().any(|name| name.eq_ignore_ascii_case(&read.name)));
    found
}

/// `[STREAM] [(] a.b [)]`, with the place behind it; nothing before a subquery or a table function.
fn read_at(tokens: &[TokenWithSpan], start: usize) -> Option<(TableRead, usize)> {
    let token = |at: usize| tokens.get(at).map(|token| &token.token);
    let mut at = start;
    if is_word(token(at), "LATERAL") {
        return None;
    }
    let is_name = |token: Option<&Token>| matches!(token, Some(Token::Word(_)));
    let opens = |at: usize| token(at) == Some(&Token::LParen);
    let stream = (is_word(token(at), "STREAM") && (is_name(token(at + 1)) || opens(at + 1))).then_some(at);
    if stream.is_some() {
        at += 1 + usize::from(opens(at + 1));
    }
    let first = at;
    while is_name(token(at)) && token(at + 1) == Some(&Token::Period) {
        at += 2;
    }
    let Some(Token::Word(word)) = token(at) else { return None };
    if stream.is_none() && opens(at + 1) {
        return None;
    }
    let next = token(at + 1);
    let has_alias = is_alias(next) || ["WATERMARK", "TABLESAMPLE", "KEYS"].iter().any(|word| is_word(next, word));
    Some((TableRead { name: word.value.clone(), is_qualified: at > first, stream, word: at, has_alias }, at + 1))
}

/// The names before `AS (`: those of `WITH`, mostly, and hiding any other name so called is what they do.
fn names_of_with(tokens: &[TokenWithSpan]) -> Vec<String> {
    if !tokens.iter().any(|token| is_word(Some(&token.token), "WITH")) {
        return Vec::new();
    }
    let named = tokens.windows(3).filter_map(|three| match &three[0].token {
        Token::Word(word) if is_word(Some(&three[1].token), "AS") && three[2].token == Token::LParen => {
            Some(word.value.clone())
        }
        _ => None,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let files = [ScriptFile { name: "a.sql".to_owned(), text: text.to_owned() }];
        let shown: Vec<String> = outline(&files)
            .unwrap()
            .iter()
            .map(|statement| {
                let reads = statement.reads.iter().map(|read| {
                    let word = &statement.words[read.word];
                    assert_eq!(text[word.bytes.clone()].trim_matches('`'), read.name);
                    format!("{}{}", if read.stream.is_some() { "stream " } else { "" }, read.name)
                });
                let reads: Vec<String> = reads.collect();
                let kind = match &statement.kind {
                    OutlineKind::Source(table) => format!("source {} of {:?}", table.name, table.format),
                    OutlineKind::Sink(table) => format!("sink {}", table.name),
                    OutlineKind::StreamingTable(table) => format!("streaming {}", table.name),
                    OutlineKind::MaterializedView(table) => format!("materialized {}", table.name),
                    OutlineKind::View { name } => format!("view {name}"),
                    OutlineKind::Flow { target, query, .. } => format!("into {target}: {}", &text[query.clone()]),
                    OutlineKind::Set { key } => format!("set {key}"),
                    OutlineKind::Use => "use".to_owned(),
                    OutlineKind::Query => "query".to_owned(),
                };
                format!("{kind} | {}", reads.join(", "))
            })
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn statements_say_what_they_read() {
        check("CREATE TABLE t (a INT) USING json OPTIONS (path '/x');", &["source t of Some(\"json\") | "]);
        check(
            "CREATE TEMPORARY VIEW v AS SELECT * FROM STREAM default.t, `u` JOIN w ON a = b",
            &["view v | stream t, u, w"],
        );
        check(
            "-- é\nCREATE FLOW f AS INSERT INTO s BY NAME\n SELECT é FROM STREAM(t) WATERMARK ts DELAY OF INTERVAL 1 DAY",
            &["into s: SELECT é FROM STREAM(t) WATERMARK ts DELAY OF INTERVAL 1 DAY | stream t"],
        );
        check(
            "CREATE FLOW f AS AUTO CDC INTO s FROM STREAM t KEYS (a, b) SEQUENCE BY c",
            &["into s:  FROM STREAM t KEYS (a, b) SEQUENCE BY c | stream t"],
        );
        check(
            "WITH c AS (SELECT * FROM x) SELECT * FROM c JOIN (SELECT a, b FROM y) z; SET k = v",
            &["query | x, y", "set k | "],
        );
        check("SELECT extract(YEAR FROM ts), a FROM t, LATERAL explode(b), range(3)", &["query | ts, t"]);
    }
}

//! `AUTO CDC`: a stream of changes that a table follows, as Spark 4.3 writes it.
//!
//! ```text
//!   CREATE STREAMING TABLE t FLOW AUTO CDC changes
//!   CREATE FLOW f AS AUTO CDC INTO t changes
//!
//!   changes:  FROM STREAM s | FROM (query)
//!             KEYS (a, b)
//!             SEQUENCE BY expression                   these four in any order, each at most once
//!             APPLY AS DELETE WHEN condition
//!             COLUMNS (a, b) | COLUMNS * EXCEPT (c)
//!             STORED AS SCD TYPE 1 | 2
//!             TRACK HISTORY ON (a) | ON * EXCEPT (b)   of type 2 alone
//! ```
//!
//! Only the clauses are read here. The stream becomes a query that gives its columns and two more, the sequence and
//! whether the row deletes; what the clauses mean for them is `plan/streaming/cdc.rs`.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::token::{Cursor, is_word};
use crate::error::{EngineError, Result, Span, nearest};

/// The column of the source query that has the sequence.
pub(crate) const SEQUENCE: &str = "__highwater_sequence";

/// The column of the source query that says whether the row deletes.
pub(crate) const DELETES: &str = "__highwater_deletes";

/// A name and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// Some of the columns.
#[derive(Debug, Clone)]
pub(crate) enum Selection {
    /// `(a, b)`.
    Only(Vec<Name>),
    /// `* EXCEPT (a, b)`.
    Except(Vec<Name>),
}

/// What a table keeps of the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum ScdType {
    /// The newest row of each key.
    #[default]
    One,
    /// Every row a key ever had, with the time it was there.
    Two,
}

/// The clauses after `AUTO CDC`.
#[derive(Debug, Clone)]
pub(crate) struct AutoCdc {
    pub(crate) keys: Vec<Name>,
    pub(crate) columns: Option<Selection>,
    pub(crate) scd_type: ScdType,
    pub(crate) track_history: Option<Selection>,
    /// Where `AUTO CDC` stands.
    pub(crate) span: Span,
}

/// What the optional clauses said so far.
#[derive(Default)]
struct Clauses {
    sequence: Option<Cursor>,
    deletes: Option<Cursor>,
    columns: Option<Selection>,
    scd_type: Option<ScdType>,
    track_history: Option<(Selection, Span)>,
}

/// The first words of the clauses after `KEYS`.
const CLAUSES: [&[&str]; 5] =
    [&["SEQUENCE", "BY"], &["APPLY", "AS"], &["COLUMNS"], &["STORED", "AS"], &["TRACK", "HISTORY"]];

/// Reads what follows `AUTO CDC [INTO t]`: the clauses, and the stream of changes as a query.
pub(crate) fn parse_changes(cursor: &mut Cursor, span: Span) -> Result<(AutoCdc, Cursor)> {
    let source = parse_source(cursor)?;
    cursor.expect(&["KEYS"], "and the key columns in parentheses after the stream of AUTO CDC")?;
    let keys = parse_names(cursor, "the key columns after KEYS")?;
    let mut clauses = Clauses::default();
    while !cursor.is_at_end() {
        clauses.parse(cursor)?;
    }
    let Some(sequence) = clauses.sequence else {
        return Err(cursor
            .expected("SEQUENCE BY and what orders the changes of a key")
            .help("add it: SEQUENCE BY a column that grows with each change of a key, such as its time or version"));
    };
    let scd_type = clauses.scd_type.unwrap_or_default();
    if let (ScdType::One, Some((_, span))) = (scd_type, &clauses.track_history) {
        return Err(EngineError::query_at(
            *span,
            "TRACK HISTORY ON is for STORED AS SCD TYPE 2: type 1 has no history",
        )
        .help("add STORED AS SCD TYPE 2, or leave TRACK HISTORY ON out"));
    }
    let query = query_of(&source, &sequence, clauses.deletes.as_ref());
    let track_history = clauses.track_history.map(|(selection, _)| selection);
    Ok((AutoCdc { keys, columns: clauses.columns, scd_type, track_history, span }, query))
}

/// `FROM STREAM s ...` or `FROM (query) ...`, up to `KEYS`.
fn parse_source(cursor: &mut Cursor) -> Result<Cursor> {
    if !cursor.looks_at(&["FROM"]) {
        return Err(cursor.expected("FROM and a stream after AUTO CDC"));
    }
    let mut inside = cursor.clone();
    inside.advance();
    let source = cursor.up_to(&["KEYS"]);
    let is_stream = inside.looks_at(&["STREAM"]) || inside.peek() == Some(&Token::LParen);
    if !is_stream {
        return Err(EngineError::query_at(inside.span(), "the source of AUTO CDC is not a stream")
            .help("write FROM STREAM t, or a query that reads one in parentheses"));
    }
    let mut depth = 0_i32;
    let own = source.tokens().len();
    for _ in 1..own {
        const MORE: [&str; 9] = ["JOIN", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT"];
        match inside.peek() {
            Some(Token::LParen) => depth += 1,
            Some(Token::RParen) => depth -= 1,
            Some(Token::Comma) if depth == 0 => return Err(more_than_a_stream(&inside)),
            token if depth == 0 && MORE.iter().any(|word| is_word(token, word)) => {
                return Err(more_than_a_stream(&inside));
            }
            _ => {}
        }
        inside.advance();
    }
    Ok(source)
}

fn more_than_a_stream(cursor: &Cursor) -> EngineError {
    cursor.expected("KEYS after the stream of AUTO CDC").help(
        "put what is more than one stream into a query in parentheses: FROM (SELECT ... FROM STREAM a WHERE ...) KEYS (...)",
    )
}

/// `(a, b)`: at least one.
fn parse_names(cursor: &mut Cursor, what: &str) -> Result<Vec<Name>> {
    let open = cursor.span();
    let mut inside = cursor.parenthesised(&format!("before {what}"))?;
    if inside.is_at_end() {
        return Err(EngineError::query_at(open, format!("expected {what}, found '()'")));
    }
    let mut names = Vec::new();
    loop {
        let span = inside.span();
        let text = inside.identifier(what)?;
        names.push(Name { text, span });
        if inside.is_at_end() {
            return Ok(names);
        }
        if inside.peek() == Some(&Token::Period) {
            return Err(inside.expected("a comma: columns stand here by their own name, without a table or a struct"));
        }
        inside.expect_token(&Token::Comma, "between columns")?;
    }
}

/// `(a, b)` or `* EXCEPT (a, b)`.
fn parse_selection(cursor: &mut Cursor, clause: &str) -> Result<Selection> {
    if cursor.eat_token(&Token::Mul) {
        cursor.expect(&["EXCEPT"], &format!("and columns in parentheses after {clause} *"))?;
        return Ok(Selection::Except(parse_names(cursor, &format!("the columns after {clause} * EXCEPT"))?));
    }
    Ok(Selection::Only(parse_names(cursor, &format!("the columns after {clause}"))?))
}

impl Clauses {
    fn parse(&mut self, cursor: &mut Cursor) -> Result<()> {
        let at = cursor.span();
        let is_known = if cursor.eat(&["SEQUENCE", "BY"]) {
            let sequence = expression(cursor, "what orders the changes after SEQUENCE BY")?;
            self.sequence.replace(sequence).is_some()
        } else if cursor.eat(&["APPLY", "AS"]) {
            cursor.expect(&["DELETE", "WHEN"], "and a condition after APPLY AS")?;
            let condition = expression(cursor, "the condition after APPLY AS DELETE WHEN")?;
            self.deletes.replace(condition).is_some()
        } else if cursor.eat(&["COLUMNS"]) {
            self.columns.replace(parse_selection(cursor, "COLUMNS")?).is_some()
        } else if cursor.eat(&["STORED", "AS"]) {
            cursor.expect(&["SCD", "TYPE"], "and 1 or 2 after STORED AS")?;
            self.scd_type.replace(parse_type(cursor)?).is_some()
        } else if cursor.eat(&["TRACK", "HISTORY", "ON"]) {
            let selection = parse_selection(cursor, "TRACK HISTORY ON")?;
            self.track_history.replace((selection, at)).is_some()
        } else {
            return Err(unknown_clause(cursor));
        };
        if is_known {
            return Err(EngineError::query_at(at, "a clause of AUTO CDC stands twice").help("keep one of the two"));
        }
        Ok(())
    }
}

fn parse_type(cursor: &mut Cursor) -> Result<ScdType> {
    let scd_type = match cursor.peek() {
        Some(Token::Number(number, _)) if number == "1" => ScdType::One,
        Some(Token::Number(number, _)) if number == "2" => ScdType::Two,
        _ => return Err(cursor.expected("1 or 2 after STORED AS SCD TYPE")),
    };
    cursor.advance();
    Ok(scd_type)
}

/// The tokens up to the next clause.
fn expression(cursor: &mut Cursor, what: &str) -> Result<Cursor> {
    let length = |words: &[&str]| cursor.clone().up_to(words).tokens().len();
    let nearest = CLAUSES.into_iter().min_by_key(|words| length(words)).unwrap_or_default();
    let found = cursor.up_to(nearest);
    if found.is_at_end() { Err(cursor.expected(what)) } else { Ok(found) }
}

fn unknown_clause(cursor: &Cursor) -> EngineError {
    let clauses = ["SEQUENCE BY", "APPLY AS DELETE WHEN", "COLUMNS", "STORED AS SCD TYPE", "TRACK HISTORY ON"];
    let error = cursor.expected(&format!("one of {}", clauses.join(", ")));
    match cursor.peek() {
        Some(Token::Word(word)) => match nearest(&word.value, ["SEQUENCE", "APPLY", "COLUMNS", "STORED", "TRACK"]) {
            Some(near) => error.help(format!("did you mean {near}?")),
            None => error,
        },
        _ => error,
    }
}

/// `SELECT *, (sequence) AS .., (condition) AS .. FROM source`, its words at their places in the user's text.
fn query_of(source: &Cursor, sequence: &Cursor, deletes: Option<&Cursor>) -> Cursor {
    let at = source.tokens().first();
    let plain = |token: Token| TokenWithSpan {
        token,
        span: at.map_or_else(|| TokenWithSpan::wrap(Token::EOF).span, |at| at.span),
    };
    let word = |text: &str, keyword: Keyword, quote_style: Option<char>| {
        plain(Token::Word(Word { value: text.to_owned(), quote_style, keyword }))
    };
    let mut tokens = vec![word("SELECT", Keyword::SELECT, None), plain(Token::Mul)];
    for (expr, name) in [(Some(sequence), SEQUENCE), (deletes, DELETES)] {
        let Some(expr) = expr else { continue };
        tokens.push(plain(Token::Comma));
        tokens.push(plain(Token::LParen));
        tokens.extend(expr.tokens().iter().cloned());
        tokens.push(plain(Token::RParen));
        tokens.push(word("AS", Keyword::AS, None));
        tokens.push(word(name, Keyword::NoKeyword, Some('`')));
    }
    tokens.extend(source.tokens().iter().cloned());
    source.with_tokens(tokens)
}

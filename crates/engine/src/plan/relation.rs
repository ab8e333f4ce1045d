//! `STREAM t WATERMARK expr AS name DELAY OF INTERVAL ...`: taken out of a query and replaced by a name.
//!
//! ```text
//!   SELECT count(*) FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS AS e GROUP BY ...
//!                        └────────────────── Relation 0 ───────────────────┘
//!   SELECT count(*) FROM __relation_0                                        AS e GROUP BY ...
//! ```
//!
//! What is left is plain SQL that any parser reads, with every token still at its place in the user's text.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::catalog::Options;
use super::interval::parse_delay_us;
use super::token::{Cursor, is_word, span_of};
use crate::error::{EngineError, Result, Span};

/// A relation that plain SQL cannot say.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    /// The name that stands for it in the rewritten query.
    pub(crate) placeholder: String,
    /// What it reads.
    pub(crate) input: RelationInput,
    /// Whether it is read as a stream.
    pub(crate) is_stream: bool,
    /// Its watermark.
    pub(crate) watermark: Option<WatermarkClause>,
    /// Where it stands.
    pub(crate) span: Span,
}

/// What a relation reads.
#[derive(Debug, Clone)]
pub(crate) enum RelationInput {
    /// A table or view by name, with the options of its `WITH (...)`.
    Table { name: String, options: Options },
    /// The state of a query, as a table.
    State(StateRequest),
    /// A subquery, already rewritten.
    Query(Vec<TokenWithSpan>),
}

/// `state('query' [, 'operator' [, batch]])`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateRequest {
    /// The query.
    pub(crate) query: String,
    /// The operator; a list of all of them without one.
    pub(crate) operator: Option<String>,
    /// The batch after which; the newest without one.
    pub(crate) batch: Option<u64>,
}

/// `WATERMARK expr [AS name] DELAY OF interval`.
#[derive(Debug, Clone)]
pub(crate) struct WatermarkClause {
    /// The event time.
    pub(crate) expr: Vec<TokenWithSpan>,
    /// The name of the column it makes, if it is not a column already.
    pub(crate) alias: Option<String>,
    /// How late rows may be.
    pub(crate) delay_us: i64,
}

/// A query whose special relations are taken out, innermost first.
#[derive(Debug, Clone, Default)]
pub(crate) struct RewrittenQuery {
    /// The plain SQL that is left.
    pub(crate) tokens: Vec<TokenWithSpan>,
    /// What was taken out, each only reading those before it.
    pub(crate) relations: Vec<Relation>,
}

/// Words that cannot be an alias after a relation.
const AFTER_RELATION: [&str; 32] = [
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "JOIN",
    "INNER",
    "LEFT",
    "RIGHT",
    "FULL",
    "CROSS",
    "SEMI",
    "ANTI",
    "NATURAL",
    "ON",
    "USING",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "MINUS",
    "LATERAL",
    "WINDOW",
    "CLUSTER",
    "DISTRIBUTE",
    "SORT",
    "TABLESAMPLE",
    "PIVOT",
    "UNPIVOT",
    "QUALIFY",
    "OFFSET",
    "FETCH",
    "WATERMARK",
];

/// Words after which the relations of a `FROM` are over.
const ENDS_FROM: [&str; 10] =
    ["WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT", "SELECT", "ON"];

/// Takes the special relations out of a query; `first` numbers the first placeholder.
pub(crate) fn rewrite(query: &Cursor, first: usize) -> Result<RewrittenQuery> {
    let mut rewriter = Rewriter { first, out: RewrittenQuery::default(), levels: vec![Level::default()] };
    let mut cursor = query.clone();
    while !cursor.is_at_end() {
        rewriter.step(&mut cursor)?;
    }
    Ok(rewriter.out)
}

/// One level of parentheses: whether we are among relations, and where the current one began.
#[derive(Debug, Default, Clone, Copy)]
struct Level {
    in_from: bool,
    relation_start: usize,
}

struct Rewriter {
    first: usize,
    out: RewrittenQuery,
    levels: Vec<Level>,
}

impl Rewriter {
    fn step(&mut self, cursor: &mut Cursor) -> Result<()> {
        let level = self.level();
        let at_relation = level.in_from && level.relation_start == self.out.tokens.len();
        if at_relation && cursor.looks_at(&["STREAM"]) && starts_relation(cursor.peek_nth(1)) {
            return self.stream(cursor);
        }
        if at_relation && cursor.looks_at(&["STATE"]) && cursor.peek_nth(1) == Some(&Token::LParen) {
            return self.state(cursor);
        }
        if level.in_from
            && !at_relation
            && cursor.looks_at(&["WATERMARK"])
            && cursor.peek_nth(1) != Some(&Token::Period)
        {
            return self.watermark_on_last(cursor);
        }
        self.copy(cursor);
        Ok(())
    }

    fn level(&self) -> Level {
        self.levels.last().copied().unwrap_or_default()
    }

    fn copy(&mut self, cursor: &mut Cursor) {
        let Some(token) = cursor.advance().cloned() else { return };
        let begins_relation = is_word(Some(&token.token), "FROM")
            || is_word(Some(&token.token), "JOIN")
            || (token.token == Token::Comma && self.level().in_from);
        let ends = ENDS_FROM.iter().any(|word| is_word(Some(&token.token), word));
        match token.token {
            Token::LParen => {
                self.out.tokens.push(token);
                self.levels.push(Level::default());
                return;
            }
            Token::RParen if self.levels.len() > 1 => {
                self.levels.pop();
            }
            _ => {}
        }
        self.out.tokens.push(token);
        let start = self.out.tokens.len();
        if let Some(level) = self.levels.last_mut() {
            if begins_relation {
                *level = Level { in_from: true, relation_start: start };
            } else if ends {
                level.in_from = false;
            }
        }
    }

    /// `STREAM name`, `STREAM(name)`, with options and watermark.
    fn stream(&mut self, cursor: &mut Cursor) -> Result<()> {
        let first = cursor.advance().cloned();
        let mut inner =
            if cursor.peek() == Some(&Token::LParen) { Some(cursor.parenthesised("after STREAM")?) } else { None };
        let span = inner.as_ref().unwrap_or(cursor).span();
        let names = inner.as_mut().unwrap_or(cursor).object_name("the name of a table after STREAM")?;
        let name = names.last().cloned().unwrap_or_default();
        let mut options = Options::default();
        if cursor.eat(&["WITH"]) {
            let mut pairs = cursor.parenthesised("after WITH")?;
            super::statement::parse_options(&mut pairs, &mut options)?;
        }
        if cursor.eat(&["IDENTIFIED", "BY"]) {
            cursor.identifier("a name after IDENTIFIED BY")?;
        }
        let watermark = self.watermark(cursor)?;
        let input = RelationInput::Table { name: name.clone(), options };
        self.push(Relation { placeholder: String::new(), input, is_stream: true, watermark, span }, first);
        self.alias(cursor, &name, span);
        Ok(())
    }

    /// `state('query', 'operator', batch)`.
    fn state(&mut self, cursor: &mut Cursor) -> Result<()> {
        let span = cursor.span();
        let first = cursor.advance().cloned();
        let mut inner = cursor.parenthesised("after state")?;
        let query = inner.string("the name of a query in quotes")?;
        let (mut operator, mut batch) = (None, None);
        if inner.eat_token(&Token::Comma) {
            operator = Some(inner.string("the name of an operator in quotes")?);
        }
        if inner.eat_token(&Token::Comma) {
            let number = match inner.peek() {
                Some(Token::Number(digits, _)) => digits.parse().ok(),
                _ => None,
            };
            batch = Some(number.ok_or_else(|| inner.expected("the number of a batch"))?);
            inner.advance();
        }
        if !inner.is_at_end() {
            return Err(inner.expected("a query, an operator and a batch, as in state('query', 'operator', 12)"));
        }
        let input = RelationInput::State(StateRequest { query, operator, batch });
        self.push(Relation { placeholder: String::new(), input, is_stream: false, watermark: None, span }, first);
        self.alias(cursor, "state", span);
        Ok(())
    }

    /// A watermark behind a relation that was already copied: a subquery or a static table.
    fn watermark_on_last(&mut self, cursor: &mut Cursor) -> Result<()> {
        let span = cursor.span();
        let mut tokens = self.out.tokens.split_off(self.level().relation_start);
        let is_query = tokens.first().is_some_and(|t| t.token == Token::LParen)
            && tokens.last().is_some_and(|t| t.token == Token::RParen);
        let first = tokens.first().cloned();
        let (input, name) = if is_query {
            tokens.pop();
            tokens.remove(0);
            (RelationInput::Query(tokens), None)
        } else {
            match tokens.last().map(|t| &t.token) {
                Some(Token::Word(word)) => {
                    let name = word.value.clone();
                    (RelationInput::Table { name: name.clone(), options: Options::default() }, Some(name))
                }
                _ => {
                    return Err(EngineError::query_at(
                        span,
                        "WATERMARK stands after a table or a subquery in parentheses",
                    ));
                }
            }
        };
        let watermark = self.watermark(cursor)?;
        self.push(Relation { placeholder: String::new(), input, is_stream: false, watermark, span }, first);
        if let Some(name) = name {
            self.alias(cursor, &name, span);
        }
        Ok(())
    }

    fn watermark(&self, cursor: &mut Cursor) -> Result<Option<WatermarkClause>> {
        if !cursor.eat(&["WATERMARK"]) {
            return Ok(None);
        }
        let with_alias = cursor.clone().up_to(&["AS"]).tokens().len();
        let without = cursor.clone().up_to(&["DELAY", "OF"]).tokens().len();
        let expr = if with_alias < without { cursor.up_to(&["AS"]) } else { cursor.up_to(&["DELAY", "OF"]) };
        if expr.is_at_end() {
            return Err(cursor.expected("the event time column after WATERMARK"));
        }
        let alias =
            if cursor.eat(&["AS"]) { Some(cursor.identifier("the name of the event time column")?) } else { None };
        cursor.expect(&["DELAY", "OF"], "and an interval, such as DELAY OF INTERVAL 10 SECONDS, after WATERMARK")?;
        let span = cursor.span();
        let delay_us = parse_delay_us(cursor, "the watermark's delay")?;
        if delay_us < 0 {
            return Err(EngineError::query_at(span, "the watermark's delay is negative, expected zero or more"));
        }
        Ok(Some(WatermarkClause { expr: expr.tokens().to_vec(), alias, delay_us }))
    }

    fn push(&mut self, mut relation: Relation, at: Option<TokenWithSpan>) {
        relation.placeholder = format!("__relation_{}", self.first + self.out.relations.len());
        self.out.tokens.push(word_at(&relation.placeholder, at));
        self.out.relations.push(relation);
    }

    /// Gives the placeholder the table's own name, unless the user gave it one.
    fn alias(&mut self, cursor: &Cursor, name: &str, span: Span) {
        if !is_alias(cursor.peek()) {
            let at = self.out.tokens.last().cloned().filter(|t| span_of(t).line == span.line);
            self.out.tokens.push(word_at("AS", at.clone()));
            self.out.tokens.push(word_at(name, at));
        }
    }
}

/// Whether the token after a relation is another name for it.
pub(super) fn is_alias(token: Option<&Token>) -> bool {
    match token {
        Some(Token::Word(word)) if word.quote_style.is_none() => {
            !AFTER_RELATION.iter().any(|reserved| word.value.eq_ignore_ascii_case(reserved))
        }
        Some(Token::Word(_)) => true,
        _ => false,
    }
}

fn starts_relation(token: Option<&Token>) -> bool {
    match token {
        Some(Token::LParen) => true,
        Some(Token::Word(word)) => {
            word.quote_style.is_some()
                || !AFTER_RELATION.iter().chain(&["AS"]).any(|reserved| word.value.eq_ignore_ascii_case(reserved))
        }
        _ => false,
    }
}

fn word_at(value: &str, at: Option<TokenWithSpan>) -> TokenWithSpan {
    let (keyword, quote_style) = if value == "AS" { (Keyword::AS, None) } else { (Keyword::NoKeyword, Some('`')) };
    let token = Token::Word(Word { value: value.to_owned(), quote_style, keyword });
    match at {
        Some(at) => TokenWithSpan { token, span: at.span },
        None => TokenWithSpan::wrap(token),
    }
}

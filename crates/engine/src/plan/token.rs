//! SQL text as tokens with places, and a cursor over them.
//!
//! Our statements (`CREATE STREAMING TABLE`, `STREAM t WATERMARK ...`) are read here, token by token, because no SQL
//! parser knows them; the queries inside go to `sqlparser` with their tokens' places kept, so that every error points
//! into the text the user wrote.

use std::sync::Arc;

use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Word};

use super::dialect::join_number_suffixes;
use super::raw_strings;
use crate::error::{EngineError, Result, Span};

/// The text of one file and its tokens without white space and comments.
#[derive(Debug, Clone)]
pub(crate) struct TokenStream {
    text: Arc<str>,
    tokens: Arc<[TokenWithSpan]>,
}

impl TokenStream {
    /// Splits `text`; fails at a quote or comment that does not end.
    pub(crate) fn new(text: &str, dialect: &dyn Dialect) -> Result<Self> {
        let tokens = raw_strings::tokenize(text, dialect).map_err(|error| {
            let at = Span { line: error.location.line, column: error.location.column, length: 1 };
            EngineError::query_at(at, format!("the SQL text cannot be split into words: {}", error.message))
        })?;
        let tokens = join_number_suffixes(tokens)
            .into_iter()
            .filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF))
            .collect();
        Ok(Self { text: text.into(), tokens })
    }

    /// A cursor over each statement, split at semicolons; empty statements are left out.
    pub(crate) fn statements(&self) -> Vec<Cursor> {
        let mut statements = Vec::new();
        let mut start = 0;
        for (at, token) in self.tokens.iter().enumerate() {
            if token.token == Token::SemiColon {
                statements.push(start..at);
                start = at + 1;
            }
        }
        statements.push(start..self.tokens.len());
        statements.into_iter().filter(|range| !range.is_empty()).map(|range| Cursor::new(self.clone(), range)).collect()
    }

    /// The text between two tokens, both included.
    fn slice(&self, first: usize, last: usize) -> &str {
        let start = self.byte_at(self.tokens[first].span.start);
        let end = self.byte_at(self.tokens[last].span.end);
        &self.text[start..end]
    }

    /// The byte a (line, column in characters) stands at.
    fn byte_at(&self, location: Location) -> usize {
        let line_start: usize =
            self.text.split_inclusive('\n').take(location.line.saturating_sub(1) as usize).map(str::len).sum();
        let column = location.column.saturating_sub(1) as usize;
        self.text[line_start..].char_indices().nth(column).map_or(self.text.len(), |(at, _)| line_start + at)
    }
}

/// A position in a run of tokens.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    stream: TokenStream,
    end: usize,
    at: usize,
}

impl Cursor {
    fn new(stream: TokenStream, range: std::ops::Range<usize>) -> Self {
        Self { stream, end: range.end, at: range.start }
    }

    /// The token here, if the run is not at its end.
    pub(crate) fn peek(&self) -> Option<&Token> {
        self.peek_nth(0)
    }

    /// The token `n` further on.
    pub(crate) fn peek_nth(&self, n: usize) -> Option<&Token> {
        let at = self.at + n;
        (at < self.end).then(|| &self.stream.tokens[at].token)
    }

    /// Whether the run is used up.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    /// Takes one token.
    pub(crate) fn advance(&mut self) -> Option<&TokenWithSpan> {
        let at = self.at;
        (at < self.end).then(|| {
            self.at += 1;
            &self.stream.tokens[at]
        })
    }

    /// Whether the unquoted words from here on are `words`.
    pub(crate) fn looks_at(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, word)| is_word(self.peek_nth(n), word))
    }

    /// Takes `words` if they stand here.
    pub(crate) fn eat(&mut self, words: &[&str]) -> bool {
        let found = self.looks_at(words);
        if found {
            self.at += words.len();
        }
        found
    }

    /// Takes `words` or says what stands here instead.
    pub(crate) fn expect(&mut self, words: &[&str], after: &str) -> Result<()> {
        if self.eat(words) { Ok(()) } else { Err(self.expected(&format!("{} {after}", words.join(" ")))) }
    }

    /// Takes a token such as `(`.
    pub(crate) fn eat_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    /// Takes a token or says what stands here instead.
    pub(crate) fn expect_token(&mut self, token: &Token, place: &str) -> Result<()> {
        if self.eat_token(token) { Ok(()) } else { Err(self.expected(&format!("{token} {place}"))) }
    }

    /// A name: a word, quoted or not.
    pub(crate) fn identifier(&mut self, what: &str) -> Result<String> {
        match self.peek() {
            Some(Token::Word(Word { value, .. })) => {
                let value = value.clone();
                self.at += 1;
                Ok(value)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A name with dots: `catalog.database.table`.
    pub(crate) fn object_name(&mut self, what: &str) -> Result<Vec<String>> {
        let mut parts = vec![self.identifier(what)?];
        while self.eat_token(&Token::Period) {
            parts.push(self.identifier(what)?);
        }
        Ok(parts)
    }

    /// A string literal.
    pub(crate) fn string(&mut self, what: &str) -> Result<String> {
        match self.peek() {
            Some(Token::SingleQuotedString(text) | Token::DoubleQuotedString(text)) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// The tokens inside the parentheses that open here; the cursor ends after the closing one.
    pub(crate) fn parenthesised(&mut self, what: &str) -> Result<Cursor> {
        let open = self.span();
        self.expect_token(&Token::LParen, what)?;
        let start = self.at;
        let mut depth = 1;
        while let Some(token) = self.advance() {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(Cursor::new(self.stream.clone(), start..self.at - 1));
            }
        }
        Err(EngineError::query_at(open, "this parenthesis is not closed"))
    }

    /// The tokens from here up to `stop` words outside of parentheses, or to the end; the cursor ends before them.
    pub(crate) fn up_to(&mut self, stop: &[&str]) -> Cursor {
        let start = self.at;
        let mut depth = 0_i32;
        while let Some(token) = self.peek() {
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            if depth == 0 && self.looks_at(stop) {
                break;
            }
            self.at += 1;
        }
        Cursor::new(self.stream.clone(), start..self.at)
    }

    /// The tokens from here up to `stop`, or to the end; the cursor ends before it.
    pub(crate) fn up_to_token(&mut self, stop: &Token) -> Cursor {
        let start = self.at;
        while self.peek().is_some_and(|token| token != stop) {
            self.at += 1;
        }
        Cursor::new(self.stream.clone(), start..self.at)
    }

    /// What is left, as a run of its own.
    pub(crate) fn rest(&mut self) -> Cursor {
        let rest = self.clone();
        self.at = self.end;
        rest
    }

    /// The tokens from here to the end of the run.
    pub(crate) fn tokens(&self) -> &[TokenWithSpan] {
        &self.stream.tokens[self.at.min(self.end)..self.end]
    }

    /// A cursor over other tokens of the same text.
    pub(crate) fn with_tokens(&self, tokens: Vec<TokenWithSpan>) -> Self {
        let end = tokens.len();
        Self::new(TokenStream { text: Arc::clone(&self.stream.text), tokens: tokens.into() }, 0..end)
    }

    /// The text from here to the end of the run, as the user wrote it.
    pub(crate) fn text(&self) -> &str {
        if self.is_at_end() { "" } else { self.stream.slice(self.at, self.end - 1) }
    }

    /// The place of the token here, or just after the last one.
    pub(crate) fn span(&self) -> Span {
        match self.stream.tokens.get(self.at).filter(|_| self.at < self.end) {
            Some(token) => span_of(token),
            None => {
                self.stream.tokens.get(self.end.wrapping_sub(1)).map_or(Span { line: 1, column: 1, length: 1 }, |t| {
                    Span { line: t.span.end.line, column: t.span.end.column, length: 1 }
                })
            }
        }
    }

    /// "expected X, found Y" at this place.
    pub(crate) fn expected(&self, what: &str) -> EngineError {
        let found = self.peek().map_or("the end of the statement".to_owned(), |token| format!("'{token}'"));
        EngineError::query_at(self.span(), format!("expected {what}, found {found}"))
    }
}

/// The place of a token.
pub(crate) fn span_of(token: &TokenWithSpan) -> Span {
    let (start, end) = (token.span.start, token.span.end);
    let length = if start.line == end.line { end.column.saturating_sub(start.column).max(1) } else { 1 };
    Span { line: start.line, column: start.column, length }
}

/// Whether a token is this unquoted word, in any case.
pub(crate) fn is_word(token: Option<&Token>, word: &str) -> bool {
    matches!(token, Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

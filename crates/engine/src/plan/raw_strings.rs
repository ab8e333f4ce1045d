//! Raw strings, `r'\d+'` and `R"\d+"`: text without escapes, up to the next quote of the same kind.
//!
//! ```text
//!   SELECT r'\d' AS x  ─>  [SELECT ]  r'\d'  [ AS x]
//!                           tokenizer  here   tokenizer, its places moved behind the string
//! ```
//!
//! The tokenizer undoes escapes before a dialect is asked, and takes the backslash in `r'\'` for the escape of a quote.
//! So the text is cut at its raw strings first, and what is between them goes to the tokenizer piece by piece. It refuses
//! nothing: a raw string that does not end is left to the tokenizer, which says where it began.

use std::ops::Range;

use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, TokenizerError};

/// Splits a text into tokens with their places; raw strings become strings.
pub(crate) fn tokenize(text: &str, dialect: &dyn Dialect) -> Result<Vec<TokenWithSpan>, TokenizerError> {
    let mut tokens = Vec::new();
    let mut place = Place { text, at: 0, location: Location { line: 1, column: 1 } };
    for raw in raw_strings(text) {
        place.split_up_to(raw.start, dialect, &mut tokens)?;
        let start = place.location;
        place.advance(raw.end);
        let content = &text[raw.start + 2..raw.end - 1];
        let span = Span { start, end: place.location };
        tokens.push(TokenWithSpan { token: Token::SingleQuotedString(content.to_owned()), span });
    }
    place.split_up_to(text.len(), dialect, &mut tokens)?;
    Ok(tokens)
}

/// How far a text has been read.
struct Place<'t> {
    text: &'t str,
    at: usize,
    location: Location,
}

impl Place<'_> {
    fn advance(&mut self, end: usize) {
        for c in self.text[self.at..end].chars() {
            if c == '\n' {
                self.location = Location { line: self.location.line + 1, column: 1 };
            } else {
                self.location.column += 1;
            }
        }
        self.at = end;
    }

    fn split_up_to(
        &mut self,
        end: usize,
        dialect: &dyn Dialect,
        tokens: &mut Vec<TokenWithSpan>,
    ) -> Result<(), TokenizerError> {
        let base = self.location;
        let moved = |location: Location| Location {
            line: location.line + base.line - 1,
            column: if location.line == 1 { location.column + base.column - 1 } else { location.column },
        };
        let piece = Tokenizer::new(dialect, &self.text[self.at..end]).tokenize_with_location();
        let piece =
            piece.map_err(|error| TokenizerError { location: moved(error.location), message: error.message })?;
        tokens.extend(piece.into_iter().map(|TokenWithSpan { token, span }| TokenWithSpan {
            token,
            span: Span { start: moved(span.start), end: moved(span.end) },
        }));
        self.advance(end);
        Ok(())
    }
}

/// Where raw strings stand, from their letter to behind their last quote.
fn raw_strings(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        at += match c {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest),
            '\'' | '"' => quoted(rest, c, true),
            '`' => quoted(rest, c, false),
            c if c.is_alphanumeric() || c == '_' => {
                let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                match raw_string(rest).filter(|_| word == 1) {
                    Some(length) => {
                        found.push(at..at + length);
                        length
                    }
                    None => word,
                }
            }
            c => c.len_utf8(),
        };
    }
    found
}

/// The length of the raw string that begins here, if one does and it ends.
fn raw_string(text: &str) -> Option<usize> {
    let quoted = text.strip_prefix(['r', 'R'])?;
    let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    quoted[1..].find(quote).map(|end| end + 3)
}

/// The length of a quoted text with its quotes; the whole rest if it does not end.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return at + 1;
        }
        if escapes && c == '\\' {
            chars.next();
        }
    }
    text.len()
}

/// The length of a comment and of those inside it.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::dialect::SparkDialect;

    fn check(sql: &str, expected: &[&str]) {
        let tokens = tokenize(sql, &SparkDialect).unwrap();
        let shown = |token: &TokenWithSpan| match &token.token {
            Token::Whitespace(_) | Token::EOF => None,
            Token::SingleQuotedString(text) => Some(format!("{}:{} {text}", token.span.start, token.span.end)),
            other => Some(format!("{}:{} {other}", token.span.start, token.span.end)),
        };
        let place = |text: String| text.replace(" at Line: ", "").replace(", Column: ", ".");
        let found: Vec<String> = tokens.iter().filter_map(shown).map(place).collect();
        assert_eq!(found, expected, "{sql}");
    }

    #[test]
    fn raw_strings_keep_their_backslashes_and_all_tokens_their_places() {
        check(r"r'\d'", &[r"1.1:1.6 \d"]);
        check(r"r'\' x", &[r"1.1:1.5 \", "1.6:1.7 x"]);
        check("a R\"it's\"\n, r'1\n2' b", &["1.1:1.2 a", "1.3:1.10 it's", "2.1:2.2 ,", "2.3:3.3 1\n2", "3.4:3.5 b"]);
        check(r"'r' r 'x' `r'y` -- r'z", &["1.1:1.4 r", "1.5:1.6 r", "1.7:1.10 x", "1.11:1.16 `r'y`"]);
        check(r"/* r'a /* b' */ */ bar'x' '\'r' ü", &["1.20:1.23 bar", "1.23:1.26 x", "1.27:1.32 'r", "1.33:1.34 ü"]);
    }

    #[test]
    fn what_does_not_end_is_told_with_its_place() {
        let error = tokenize("SELECT r'a', r'b", &SparkDialect).unwrap_err();
        assert_eq!((error.location.line, error.location.column), (1, 15));
    }
}

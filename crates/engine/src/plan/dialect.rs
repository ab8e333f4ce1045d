//! How Spark's SQL is split into words and read as expressions.
//!
//! [`SparkDialect`] tells `sqlparser` what Spark's grammar says: back-ticks quote names, double quotes are strings,
//! backslashes escape, `DIV` binds like `*`. What the tokenizer cannot know is repaired on its tokens by
//! [`join_number_suffixes`]: `1L`, `2.5D` and `1BD` come out as a number and a word, and would read as an alias.
//!
//! Raw strings (`r'...'`) are cut out of the text before it comes here (`raw_strings.rs`).

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident, ObjectName};
use datafusion::sql::sqlparser::dialect::{DatabricksDialect, Dialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Spark 4's SQL with its default settings.
#[derive(Debug, Default, Clone, Copy)]
pub struct SparkDialect;

impl Dialect for SparkDialect {
    /// The parser asks by type whether `ARRAY(` and `EXISTS(` are functions: they are in Databricks' dialect.
    fn dialect(&self) -> TypeId {
        TypeId::of::<DatabricksDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_'
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    fn ignores_wildcard_escapes(&self) -> bool {
        true
    }

    fn supports_string_literal_concatenation(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }

    fn supports_lambda_functions(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_long_type_as_bigint(&self) -> bool {
        true
    }

    fn supports_values_as_table_factor(&self) -> bool {
        true
    }

    fn supports_bang_not_operator(&self) -> bool {
        true
    }

    fn supports_cte_without_as(&self) -> bool {
        true
    }

    fn supports_select_item_multi_column_alias(&self) -> bool {
        true
    }

    fn supports_from_first_select(&self) -> bool {
        true
    }

    fn supports_pipe_operator(&self) -> bool {
        true
    }

    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    /// `overlay(a, b, 3)` and `position(a, b)`: calls of functions whose names are also keywords of standard syntax.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let Token::Word(word) = parser.peek_token().token else { return None };
        if !matches!(word.keyword, Keyword::OVERLAY | Keyword::POSITION) || word.quote_style.is_some() {
            return None;
        }
        let call = parser.maybe_parse(|parser| {
            parser.next_token();
            parser.parse_function(ObjectName::from(vec![Ident::new(word.value.clone())]))
        });
        call.transpose()
    }

    fn parse_infix(&self, parser: &mut Parser, left: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        if !parser.parse_keyword(Keyword::DIV) {
            return None;
        }
        let right = parser.parse_subexpr(self.prec_value(Precedence::MulDivModOp));
        Some(right.map(|right| Expr::BinaryOp {
            left: Box::new(left.clone()),
            op: BinaryOperator::MyIntegerDivide,
            right: Box::new(right),
        }))
    }
}

/// Joins a number and the suffix that follows it without a space: `1` `L` to `1L`.
///
/// The suffixes are Spark's: `Y` `S` `L` for integers, `F` `D` for floating point, `BD` for decimals. To be called on
/// tokens with their spaces, or with their places kept.
pub fn join_number_suffixes(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut joined: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        match joined.last_mut() {
            Some(last) if last.span.end == token.span.start => {
                if let Some(number) = with_suffix(&last.token, &token.token) {
                    last.token = number;
                    last.span.end = token.span.end;
                    continue;
                }
                joined.push(token);
            }
            _ => joined.push(token),
        }
    }
    joined.iter_mut().for_each(spell_out_long);
    joined
}

fn with_suffix(number: &Token, word: &Token) -> Option<Token> {
    let (Token::Number(digits, false), Token::Word(word)) = (number, word) else { return None };
    let is_suffix = word.quote_style.is_none()
        && ["Y", "S", "L", "F", "D", "BD"].iter().any(|suffix| word.value.eq_ignore_ascii_case(suffix));
    is_suffix.then(|| Token::Number(format!("{digits}{}", word.value.to_ascii_uppercase()), false))
}

/// The tokenizer keeps `L` as a flag; with the other suffixes in the text, it belongs there too.
fn spell_out_long(token: &mut TokenWithSpan) {
    if let Token::Number(digits, long @ true) = &mut token.token {
        digits.push('L');
        *long = false;
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn expr(sql: &str) -> String {
        let tokens = Tokenizer::new(&SparkDialect, sql).tokenize_with_location().unwrap();
        let mut parser = Parser::new(&SparkDialect).with_tokens_with_locations(join_number_suffixes(tokens));
        let expr = parser.parse_expr().unwrap();
        assert_eq!(parser.peek_token().token, Token::EOF, "{sql}");
        expr.to_string()
    }

    #[test]
    fn suffixes_stay_with_their_numbers() {
        assert_eq!(expr("1L + 2.5D"), "1L + 2.5D");
        assert_eq!(expr("1.25BD * 7Y"), "1.25BD * 7Y");
        assert_eq!(expr("1e3F"), "1e3F");
    }

    #[test]
    fn div_binds_like_multiplication() {
        let Expr::BinaryOp { op, .. } =
            Parser::new(&SparkDialect).try_with_sql("7 DIV 2 + 1").unwrap().parse_expr().unwrap()
        else {
            panic!("not a binary operator")
        };
        assert_eq!(op, BinaryOperator::Plus);
    }

    #[test]
    fn keywords_can_be_functions() {
        assert_eq!(expr("array(1, 2)[0]"), "array(1, 2)[0]");
        assert_eq!(expr("position('l', x)"), "position('l', x)");
        assert_eq!(expr("overlay('abcdef', 'ZZ', 3)"), "overlay('abcdef', 'ZZ', 3)");
        expr("position('l' IN x)");
        expr("exists(a, x -> x > 1)");
        expr("INTERVAL 10 SECONDS");
        expr("INTERVAL '1 hour 30 minutes'");
    }
}

//! How long a chain of operators a query may have.
//!
//! `a + a + a ...` is a tree as deep as it is long, and whoever walks a tree uses stack for its depth: text from outside
//! must not be able to end the process. Parentheses are limited by the parser; chains are counted here, on the tokens,
//! before there is any tree; so are `CASE` and brackets one in the other, which the parser takes exponential time for.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::token::span_of;
use crate::error::{EngineError, Result};

/// Most operators one after the other, at one level of parentheses.
const MOST_IN_CHAIN: usize = 250;

/// Most `CASE` or brackets one in the other: where the innermost cannot be read, the parser tries each level twice.
const MOST_NESTED: usize = 10;

/// Words that add a level to the tree where they stand between operands.
const OPERATORS: [&str; 9] = ["AND", "OR", "NOT", "DIV", "IS", "LIKE", "ILIKE", "RLIKE", "BETWEEN"];

/// Words that add one where they stand between relations.
const RELATIONS: [&str; 5] = ["JOIN", "VIEW", "UNION", "INTERSECT", "EXCEPT"];

/// Words after which another tree begins.
const CLAUSES: [&str; 8] = ["SELECT", "WHERE", "GROUP", "HAVING", "ORDER", "WHEN", "THEN", "ELSE"];

/// Refuses tokens that would make too deep a tree.
pub(crate) fn check_depth(tokens: &[TokenWithSpan]) -> Result<()> {
    // For each level of parentheses: operators that a clause ends, and those that only the level's end does.
    let mut levels = vec![(0_usize, 0_usize)];
    let mut in_from = false;
    let (mut cases, mut brackets) = (0_usize, 0_usize);
    for token in tokens {
        let is_inner = levels.len() > 1;
        let Some((chain, relations)) = levels.last_mut() else { return Ok(()) };
        match &token.token {
            Token::LBracket => brackets += 1,
            Token::RBracket => brackets = brackets.saturating_sub(1),
            Token::Word(word) if word.value.eq_ignore_ascii_case("CASE") => cases += 1,
            Token::Word(word) if word.value.eq_ignore_ascii_case("END") => cases = cases.saturating_sub(1),
            _ => {}
        }
        if cases.max(brackets) > MOST_NESTED {
            return Err(EngineError::query_at(
                span_of(token),
                format!("the query nests more than {MOST_NESTED} CASE or brackets"),
            )
            .help("give the inner ones a name in a subquery, or list more WHEN in one CASE"));
        }
        match &token.token {
            Token::LParen | Token::LBracket => {
                *chain += 1;
                levels.push((0, 0));
            }
            Token::RParen | Token::RBracket if is_inner => drop(levels.pop()),
            Token::Comma if in_from => *relations += 1,
            Token::Comma => *chain = 0,
            Token::VerticalBarRightAngleBracket => *relations += 1,
            Token::Word(word) if word.quote_style.is_none() => {
                let is = |known: &&str| word.value.eq_ignore_ascii_case(known);
                if CLAUSES.iter().any(is) {
                    (*chain, in_from) = (0, false);
                } else if word.value.eq_ignore_ascii_case("FROM") {
                    in_from = true;
                } else if RELATIONS.iter().any(is) {
                    *relations += 1;
                } else if OPERATORS.iter().any(is) {
                    *chain += 1;
                }
            }
            other if is_operator(other) => *chain += 1,
            _ => {}
        }
        if levels.last().is_some_and(|(chain, relations)| (*chain).max(*relations) > MOST_IN_CHAIN) {
            return Err(EngineError::query_at(
                span_of(token),
                format!("the query has a chain of more than {MOST_IN_CHAIN} operators"),
            )
            .help("write IN (...) for many comparisons, or split the query into views"));
        }
    }
    Ok(())
}

fn is_operator(token: &Token) -> bool {
    !matches!(
        token,
        Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Whitespace(_)
            | Token::SemiColon
            | Token::EOF
            | Token::Word(_)
            | Token::RParen
            | Token::RBracket
            | Token::LBrace
            | Token::RBrace
    )
}

#[cfg(test)]
mod tests {
    use crate::testing::StreamScript;

    /// Text that nests or repeats a piece so many times; each must be answered, by a plan or by an error.
    fn answer(begin: &str, piece: &str, end: &str, times: usize) -> Option<String> {
        let query = format!("{begin}{}{end}", piece.repeat(times));
        StreamScript::refusal(&format!(
            "CREATE TABLE a (k STRING, v INT, l ARRAY<INT>, ts TIMESTAMP) USING test;\n\
             CREATE SINK out USING test;\nCREATE FLOW f AS INSERT INTO out {query}"
        ))
    }

    #[test]
    fn deep_queries_are_refused_and_long_ones_are_not() {
        let pieces = [
            ("SELECT v", " + v", " AS s FROM STREAM a"),
            ("SELECT v FROM STREAM a WHERE v = 1", " OR v = 2", ""),
            ("SELECT ", "(", "v FROM STREAM a"),
            ("SELECT ", "abs(", "v FROM STREAM a"),
            ("SELECT ", "- ", "v AS n FROM STREAM a"),
            ("SELECT v FROM STREAM a WHERE ", "NOT ", "true"),
            ("SELECT l", "[0]", " AS e FROM STREAM a"),
            ("SELECT ", "CASE WHEN v > 0 THEN ", "1 FROM STREAM a"),
            ("SELECT CAST(v AS ", "ARRAY<", "INT) FROM STREAM a"),
            ("SELECT v FROM ", "(SELECT v FROM ", "STREAM a"),
            ("SELECT v FROM STREAM a", " UNION ALL SELECT v FROM STREAM a", ""),
            ("FROM STREAM a", " |> WHERE v > 0", ""),
            ("SELECT v FROM STREAM a", " LATERAL VIEW explode(l) t AS e", ""),
            ("SELECT ", "ARRAY[", "1 AS x FROM STREAM a"),
            ("SELECT v", "::INT", " AS c FROM STREAM a"),
        ];
        for (begin, piece, end) in pieces {
            let refused = answer(begin, piece, end, 5000);
            assert!(refused.is_some(), "5000 times '{piece}' is accepted");
        }
        let (begin, piece, end) = ("SELECT v FROM STREAM a WHERE v IN (1", ", 2", ")");
        assert_eq!(answer(begin, piece, end, 300), None);
        assert_eq!(answer("SELECT v", " + v", " AS s FROM STREAM a", 60), None);
    }
}

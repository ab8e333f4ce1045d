//! Subqueries that would stand too deep in others, as steps in front of the query.
//!
//! ```text
//!   SELECT ... FROM (SELECT ... FROM (SELECT ...))    WITH `__p1` AS (SELECT ...) SELECT ... FROM (SELECT ... FROM `__p1`)
//! ```
//!
//! Parsers take so many parentheses in each other and no more; steps stand one behind the other. A query is written with the
//! steps that it reads and no others, for a stream that nobody reads would be read all the same.

use std::cell::RefCell;

use super::quoted;

/// How deep parentheses may stand in each other in one step. The parser takes 50 levels, of which a subquery is several.
const MAX_PARENTHESES: usize = 12;

/// The steps of a plan, each behind those that it reads.
#[derive(Default)]
pub(super) struct Steps(RefCell<Vec<(String, String)>>);

impl Steps {
    /// A subquery as it stands after `FROM`.
    pub(super) fn source(&self, query: &str) -> String {
        if nesting(query).0 < MAX_PARENTHESES {
            return format!("({query})");
        }
        let mut steps = self.0.borrow_mut();
        let name = quoted(&format!("__p{}", steps.len() + 1));
        steps.push((name.clone(), query.to_owned()));
        name
    }

    /// A query with the steps that it reads.
    pub(super) fn with(&self, query: String) -> String {
        let steps = self.0.borrow();
        let mut read: Vec<&(String, String)> = Vec::new();
        // From the last one on: a step reads only earlier ones.
        for step in steps.iter().rev() {
            if query.contains(&step.0) || read.iter().any(|(_, text)| text.contains(&step.0)) {
                read.push(step);
            }
        }
        if read.is_empty() {
            return query;
        }
        let read: Vec<String> = read.iter().rev().map(|(name, text)| format!("{name} AS ({text})")).collect();
        format!("WITH {} {query}", read.join(", "))
    }

    /// A relation as it stands after `FROM`, for somebody who does not know the steps.
    pub(super) fn whole(&self, source: &str) -> String {
        let reads_steps = self.0.borrow().iter().any(|(name, _)| source.contains(name));
        if !reads_steps {
            return source.to_owned();
        }
        // Under other names: a query around it does not read these steps.
        format!("({})", self.with(format!("SELECT * FROM {source}"))).replace("`__p", "`__w")
    }
}

/// How deep brackets and parentheses stand in each other in a text, and how deep `CASE` does; quoted text is none of it.
pub(super) fn nesting(text: &str) -> (usize, usize) {
    let (mut open, mut cases) = (0_usize, 0_usize);
    let (mut deepest, mut most_cases) = (0, 0);
    let mut quote = None;
    let mut word = String::new();
    for letter in text.chars().chain([' ']) {
        if quote.is_some() {
            if quote == Some(letter) {
                quote = None;
            }
            continue;
        }
        if letter.is_alphanumeric() || letter == '_' {
            word.push(letter);
            continue;
        }
        match word.as_str() {
            "CASE" => cases += 1,
            "END" => cases = cases.saturating_sub(1),
            _ => {}
        }
        word.clear();
        match letter {
            '\'' | '"' | '`' => quote = Some(letter),
            '(' | '[' => open += 1,
            ')' | ']' => open = open.saturating_sub(1),
            _ => {}
        }
        (deepest, most_cases) = (deepest.max(open), most_cases.max(cases));
    }
    (deepest, most_cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses_and_cases_are_counted_outside_of_quotes() {
        let check = |text: &str, expected: (usize, usize)| assert_eq!(nesting(text), expected, "{text}");
        check("SELECT a", (0, 0));
        check("SELECT f(a, g(b)[1]) + (c)", (2, 0));
        check("SELECT '((((' , `CASE((`, \"((\" FROM (t)", (1, 0));
        check("CASE WHEN a THEN CASE WHEN b THEN 1 END ELSE 'CASE' END", (0, 2));
        check("SHOWCASE ENDING", (0, 0));
    }

    #[test]
    fn a_query_has_the_steps_it_reads() {
        let steps = Steps::default();
        let deep = |inner: &str| format!("SELECT {}{inner}{}", "(".repeat(20), ")".repeat(20));
        assert_eq!(steps.source("SELECT (1)"), "(SELECT (1))");
        let first = steps.source(&deep("1"));
        let other = steps.source(&deep("2"));
        let second = steps.source(&format!("{} FROM {first}", deep("a")));
        assert_eq!((first.as_str(), other.as_str(), second.as_str()), ("`__p1`", "`__p2`", "`__p3`"));
        let query = steps.with(format!("SELECT * FROM {second} AS t"));
        assert!(
            query.starts_with("WITH `__p1` AS (SELECT (((") && query.contains(", `__p3` AS (SELECT ((("),
            "{query}"
        );
        assert!(!query.contains("`__p2`"), "{query}");
        assert_eq!(steps.with("SELECT 1".to_owned()), "SELECT 1");
        assert_eq!(steps.whole("`t`"), "`t`");
        let whole = steps.whole("`__p3`");
        assert!(whole.starts_with("(WITH `__w1` AS (") && whole.ends_with("SELECT * FROM `__w3`)"), "{whole}");
        assert_eq!(steps.with(whole.clone()), whole);
    }
}

//! `highwater doctor --kafka`: looks at a cluster, compares it with good practice, and says what to change and why.
//!
//! ```text
//!   cluster ──survey──> Facts ──rules (one table)──> Finding: found, expected, change, command ──report──> table, JSON
//! ```
//!
//! Asks only; changes nothing. The rules are functions of the facts, which tests make up. What could not be asked, for want
//! of a right or because a broker does not know the question, is said and not guessed. The table of the rules is also
//! docs/operations/kafka-doctor.md, which a test compares.

pub(crate) mod facts;
pub(crate) mod report;
pub(crate) mod rules;
pub(crate) mod survey;
#[cfg(test)]
mod tests;

/// `1 topic`, `2 topics`.
fn counted(number: usize, word: &str) -> String {
    format!("{number} {}", plural(number, word))
}

/// `topic` for one, `topics` for others.
fn plural(number: usize, word: &str) -> String {
    if number == 1 { word.to_owned() } else { format!("{word}s") }
}

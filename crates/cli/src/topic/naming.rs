//! Names of topics: what Kafka refuses, what it will confuse, and the convention `domain.entity.action`.
//!
//! | rule | who says so | found here |
//! |---|---|---|
//! | letters, digits, `.`, `_`, `-`; 1 to 249 of them; not `.` or `..` | Kafka | [`check`] |
//! | no two names that differ in `.` and `_` only: they are one in metrics | Kafka | [`collision`] |
//! | `domain.entity.action`, lower case, `-` inside a part; then `v2`, `retry` or `dlq` if need be | convention | [`lint`] |
//!
//! A topic cannot be renamed, so the convention is said before there are readers. Decides only; asks no cluster.

/// The longest name Kafka takes.
const MAX_LENGTH: usize = 249;

/// Parts of a conventional name.
const PARTS: usize = 3;

/// How strictly the convention is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Strictness {
    /// Any name Kafka takes.
    Off,
    /// Another name is created, with a warning.
    #[default]
    Warn,
    /// Another name is refused.
    Error,
}

/// What is unconventional about a name, and a better one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// "has upper-case letters, 1 part".
    pub(crate) found: String,
    /// A name that follows the convention; `<domain>` stands for what cannot be guessed.
    pub(crate) better: String,
}

/// Refuses what Kafka refuses; the sentence says why.
pub(crate) fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a topic's name cannot be empty".to_owned());
    }
    if matches!(name, "." | "..") {
        return Err(format!("'{name}' cannot be a topic's name"));
    }
    if let Some(letter) = name.chars().find(|letter| !is_legal(*letter)) {
        return Err(format!("topic name '{name}' has {letter:?}, expected letters of ASCII, digits, '.', '_' and '-'"));
    }
    if name.len() > MAX_LENGTH {
        return Err(format!("the topic's name has {} letters, expected at most {MAX_LENGTH}", name.len()));
    }
    Ok(())
}

fn is_legal(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}

/// The name among `existing` that is the same as `name` in metrics, where `.` becomes `_`.
pub(crate) fn collision<'a>(name: &str, existing: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    existing.into_iter().find(|other| *other != name && metric_name(other) == metric_name(name))
}

/// The name as Kafka's metrics have it.
pub(crate) fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

/// What the convention says against `name`. Kafka's own topics (`__...`) are nobody's to name.
pub(crate) fn lint(name: &str) -> Option<Complaint> {
    if name.starts_with("__") {
        return None;
    }
    let parts: Vec<&str> = name.split('.').collect();
    let (core, suffixes) = parts.split_at(parts.iter().rposition(|part| !is_suffix(part)).map_or(0, |last| last + 1));
    let mut found = Vec::new();
    if name.contains(|letter: char| letter.is_ascii_uppercase()) {
        found.push("upper-case letters".to_owned());
    }
    if name.contains('_') {
        found.push("'_', which is '.' in metrics".to_owned());
    }
    if parts.contains(&"") {
        found.push("an empty part".to_owned());
    }
    if core.len() != PARTS {
        let count = core.len();
        found.push(format!("{count} part{}, expected {PARTS}", if count == 1 { "" } else { "s" }));
    }
    if found.is_empty() {
        return None;
    }
    Some(Complaint { found: found.join("; "), better: better(core, suffixes) })
}

/// What may follow the three parts: a version, and what is done with records that failed.
fn is_suffix(part: &str) -> bool {
    let version = part.strip_prefix(['v', 'V']).is_some_and(|number| number.parse::<u16>().is_ok());
    version || part.eq_ignore_ascii_case("dlq") || part.eq_ignore_ascii_case("retry")
}

fn better(core: &[&str], suffixes: &[&str]) -> String {
    let parts: Vec<Vec<String>> = core.iter().map(|part| words(part)).filter(|words| !words.is_empty()).collect();
    let all: Vec<String> = parts.iter().flatten().cloned().collect();
    let chosen: Vec<String> = match (parts.len(), all.as_slice()) {
        (PARTS, _) => parts.iter().map(|part| part.join("-")).collect(),
        (_, []) => vec!["<domain>".to_owned(), "<entity>".to_owned(), "<action>".to_owned()],
        (_, [entity]) => vec!["<domain>".to_owned(), entity.clone(), "<action>".to_owned()],
        (2, [domain, entity]) => vec![domain.clone(), entity.clone(), "<action>".to_owned()],
        (_, [entity, action]) => vec!["<domain>".to_owned(), entity.clone(), action.clone()],
        (_, [domain, entity @ .., action]) => vec![domain.clone(), entity.join("-"), action.clone()],
    };
    let suffixes = suffixes.iter().map(|suffix| suffix.to_ascii_lowercase());
    chosen.into_iter().chain(suffixes).collect::<Vec<_>>().join(".")
}

/// `OrderPlaced_2024` as order, placed, 2024; `HTTPRequest` as http, request.
fn words(part: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for piece in part.split(['_', '-']).filter(|piece| !piece.is_empty()) {
        let letters: Vec<char> = piece.chars().collect();
        let mut word = String::new();
        for (at, letter) in letters.iter().enumerate() {
            let after_lower = at > 0 && !letters[at - 1].is_ascii_uppercase();
            let before_lower = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
            if letter.is_ascii_uppercase() && !word.is_empty() && (after_lower || before_lower) {
                words.push(std::mem::take(&mut word));
            }
            word.push(letter.to_ascii_lowercase());
        }
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kafka_refuses_is_refused_with_the_letter() {
        for name in ["t", "A_b-c.9", "__consumer_offsets"] {
            assert_eq!(check(name), Ok(()));
        }
        assert_eq!(check(&"a".repeat(249)), Ok(()));
        assert!(check(&"a".repeat(250)).unwrap_err().contains("250 letters, expected at most 249"));
        assert!(check("a b").unwrap_err().contains("' '"));
        assert!(check("zürich").unwrap_err().contains("'ü'"));
        for name in ["", ".", ".."] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn names_that_are_one_in_metrics_collide() {
        assert_eq!(collision("a.b_c", ["x", "a_b.c"]), Some("a_b.c"));
        assert_eq!(collision("a.b", ["a.b", "a-b"]), None);
    }

    #[test]
    fn the_convention_is_followed() {
        for name in ["shop.order.created", "iot.sensor-2.measured", "a.b.c.v2", "a.b.c.dlq", "a.b.c.v2.retry", "__x"] {
            assert_eq!(lint(name), None, "{name}");
        }
    }

    #[test]
    fn a_better_name_is_made_of_the_words_there_are() {
        let check = |name: &str, found: &str, better: &str| {
            let complaint = lint(name).unwrap_or_else(|| panic!("{name} is accepted"));
            assert_eq!((complaint.found.as_str(), complaint.better.as_str()), (found, better), "{name}");
        };
        check("orders", "1 part, expected 3", "<domain>.orders.<action>");
        check("shop.orders", "2 parts, expected 3", "shop.orders.<action>");
        check("order-created", "1 part, expected 3", "<domain>.order.created");
        check("shop.OrderCreated", "upper-case letters; 2 parts, expected 3", "shop.order.created");
        check("ShopOrderPlaced", "upper-case letters; 1 part, expected 3", "shop.order.placed");
        check("shop_order_created", "'_', which is '.' in metrics; 1 part, expected 3", "shop.order.created");
        check("Shop.Order.Created.DLQ", "upper-case letters", "shop.order.created.dlq");
        check("shop.order_line.created", "'_', which is '.' in metrics", "shop.order-line.created");
        check("eu.shop.order.created", "4 parts, expected 3", "eu.shop-order.created");
        check("shop..created", "an empty part", "shop.created.<action>");
        check("api.HTTPRequest.seen", "upper-case letters", "api.http-request.seen");
        check("dlq", "0 parts, expected 3", "<domain>.<entity>.<action>.dlq");
    }
}

//! What members subscribe to: topics by name, and by a regular expression.
//!
//! Kafka matches whole names with RE2J. The expressions here run in linear time too, and the size
//! of their text and of what they compile to is limited. Topic names are ASCII, and so is what
//! `\d` and `\w` stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use regex::bytes::{Regex, RegexBuilder};
use uuid::Uuid;

use super::message::{Limits, Refused};
use super::topics::TopicImage;

/// A regular expression over topic names, and who may see which of them.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    regex: Regex,
    reader: Option<Reader>,
}

/// Whose pattern it is: it finds topics that this client may see.
#[derive(Clone)]
pub(crate) struct Reader {
    /// Who it is, as access rules see it: equal names see the same topics.
    pub(crate) name: String,
    pub(crate) may_see: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({})", self.name)
    }
}

impl Pattern {
    /// `reader` is `None` where everybody may see everything.
    pub(super) fn compile(text: &str, reader: Option<Reader>, limits: &Limits) -> Result<Self, Refused> {
        let invalid = |reason: String| {
            let message = format!("SubscribedTopicRegex `{text}` is not a valid regular expression: {reason}.");
            Refused::new(ResponseError::InvalidRegularExpression, message)
        };
        if text.len() > limits.max_regex_bytes {
            let message = format!(
                "SubscribedTopicRegex has {} bytes, expected at most {} (max_subscription_regex_bytes).",
                text.len(),
                limits.max_regex_bytes
            );
            return Err(Refused::new(ResponseError::InvalidRegularExpression, message));
        }
        let compile = |text: &str| {
            let size_limit = limits.max_compiled_regex_bytes;
            let built =
                RegexBuilder::new(text).unicode(false).size_limit(size_limit).dfa_size_limit(size_limit).build();
            built.map_err(|error| invalid(error.to_string()))
        };
        // By itself first, so that what stands around it cannot make sense of a stray parenthesis.
        compile(text)?;
        Ok(Self { text: text.to_owned(), regex: compile(&format!("^(?:{text})$"))?, reader })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Text and reader: patterns that are equal in them find the same topics.
    pub(super) fn identity(&self) -> Identity<'_> {
        (&self.text, self.reader.as_ref().map(|reader| reader.name.as_str()))
    }

    /// Whether it finds the same topics as one of this text and reader.
    pub(super) fn is(&self, text: &str, reader: Option<&Reader>) -> bool {
        self.identity() == (text, reader.map(|reader| reader.name.as_str()))
    }

    fn matches(&self, topic: &str) -> bool {
        self.regex.is_match(topic.as_bytes()) && self.reader.as_ref().is_none_or(|reader| (reader.may_see)(topic))
    }
}

/// The text of a pattern, and whose it is.
type Identity<'a> = (&'a str, Option<&'a str>);
type Subscription<'a> = (&'a BTreeSet<String>, Option<Identity<'a>>);

/// Finds the topics of subscriptions; equal ones are looked up once and share their answer.
pub(super) struct Resolver<'a> {
    image: &'a TopicImage,
    found: BTreeMap<Subscription<'a>, Arc<BTreeSet<Uuid>>>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(image: &'a TopicImage) -> Self {
        Self { image, found: BTreeMap::new() }
    }

    pub(super) fn resolve(
        &mut self,
        topics: &'a BTreeSet<String>,
        pattern: Option<&'a Pattern>,
    ) -> Arc<BTreeSet<Uuid>> {
        let image = self.image;
        let find = || {
            let mut found: BTreeSet<Uuid> = topics.iter().filter_map(|name| image.id(name)).collect();
            if let Some(pattern) = pattern {
                found.extend(image.names().filter(|(name, _)| pattern.matches(name)).map(|(_, id)| id));
            }
            Arc::new(found)
        };
        let key = (topics, pattern.map(Pattern::identity));
        Arc::clone(self.found.entry(key).or_insert_with(find))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::group::Times;

    const LIMITS: Limits = Limits {
        times: Times { heartbeat_interval_ms: 1, session_timeout_ms: 2 },
        max_groups: 1,
        max_members: 1,
        max_regex_bytes: 50,
        max_compiled_regex_bytes: 10_000,
    };

    #[test]
    fn a_pattern_matches_whole_names() {
        let matches =
            |pattern: &str, name: &str| Pattern::compile(pattern, None, &LIMITS).expect(pattern).matches(name);
        for (pattern, yes, no) in [
            ("orders", "orders", "orders2"),
            ("orders.*", "orders-eu", "my-orders"),
            ("a|b", "b", "ab"),
            (r"t\d+", "t12", "t"),
            ("(?i)ABC", "abc", "ab"),
            ("^t$", "t", "tt"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn a_pattern_that_is_wrong_or_too_large_is_refused() {
        for (pattern, reason) in [
            ("(", "unclosed group"),
            ("a)|(b", "unopened group"),
            (r"(a)\1", "backreferences"),
            ("(?x)a #b", "unclosed group"),
            ("(a{1000}){1000}", "exceeds size limit"),
            (&"x".repeat(51), "51 bytes, expected at most 50 (max_subscription_regex_bytes)"),
        ] {
            let refused = Pattern::compile(pattern, None, &LIMITS).expect_err(pattern);
            assert_eq!(refused.error, ResponseError::InvalidRegularExpression);
            assert!(refused.message.contains(reason), "{}", refused.message);
        }
    }

    #[test]
    fn names_and_patterns_are_added_up_and_unknown_topics_left_out() {
        let id = Uuid::from_u128;
        let topics = [("a", 1), ("b1", 2), ("b2", 3)].map(|(name, number)| (name.to_owned(), id(number), 1));
        let image = TopicImage::new(1, topics.into_iter());
        let names = BTreeSet::from(["a".to_owned(), "nowhere".to_owned()]);
        let pattern = Pattern::compile("b.", None, &LIMITS).expect("valid");
        let mut resolver = Resolver::new(&image);
        assert_eq!(*resolver.resolve(&names, None), BTreeSet::from([id(1)]));
        let all = resolver.resolve(&names, Some(&pattern));
        assert_eq!(*all, BTreeSet::from([id(1), id(2), id(3)]));
        assert!(Arc::ptr_eq(&all, &resolver.resolve(&names, Some(&pattern))));
    }

    #[test]
    fn a_pattern_finds_what_its_reader_may_see() {
        let topics = [("b1", 2), ("b2", 3)].map(|(name, number)| (name.to_owned(), Uuid::from_u128(number), 1));
        let image = TopicImage::new(1, topics.into_iter());
        let reader = Reader { name: "User:a".to_owned(), may_see: Arc::new(|topic| topic == "b2") };
        let of_one = Pattern::compile("b.", Some(reader.clone()), &LIMITS).expect("valid");
        let of_all = Pattern::compile("b.", None, &LIMITS).expect("valid");
        let names = BTreeSet::new();
        let mut resolver = Resolver::new(&image);
        assert_eq!(*resolver.resolve(&names, Some(&of_one)), BTreeSet::from([Uuid::from_u128(3)]));
        assert_eq!(resolver.resolve(&names, Some(&of_all)).len(), 2, "the answer is not that of the other");
        assert!(of_one.is("b.", Some(&reader)) && !of_one.is("b.", None) && !of_all.is("b.", Some(&reader)));
    }
}

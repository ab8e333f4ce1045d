//! Positions in topics, in Spark's JSON: `{"topic":{"0":123,"1":456}}`, each number the next offset to read.
//!
//! The same text stands in Spark's offset log, in `startingOffsets` and in our checkpoints, so that a query can move
//! from Spark to here without a gap. Topics and partitions are written in order: equal positions are equal texts.

use std::collections::BTreeMap;

use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::Offset;
use serde_json::{Map, Value};

use super::client::cluster::TopicPartition;

/// In `startingOffsets`: the first record there is.
pub const EARLIEST: i64 = -2;
/// In `startingOffsets`: behind the last record.
pub const LATEST: i64 = -1;

/// The next offset to read of each partition.
pub type PartitionOffsets = BTreeMap<TopicPartition, i64>;

/// Writes positions in Spark's form.
pub fn to_offset(offsets: &PartitionOffsets) -> Offset {
    let mut topics = Map::new();
    for (partition, offset) in offsets {
        let topic = topics.entry(partition.topic.to_string()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(partitions) = topic {
            partitions.insert(partition.partition.to_string(), Value::from(*offset));
        }
    }
    Offset(Value::Object(topics))
}

/// Reads positions in Spark's form; `object` says in an error whose they are.
pub fn from_offset(offset: &Offset, object: &str) -> Result<PartitionOffsets> {
    from_json(&offset.0, object)
}

/// Reads Spark's form from text, as an option has it.
pub fn from_text(text: &str, object: &str) -> Result<PartitionOffsets> {
    let value = serde_json::from_str(text).map_err(|error| malformed(object, text).caused_by(error))?;
    from_json(&value, object)
}

fn from_json(value: &Value, object: &str) -> Result<PartitionOffsets> {
    let wrong = || malformed(object, &value.to_string());
    let mut offsets = BTreeMap::new();
    for (topic, partitions) in value.as_object().ok_or_else(wrong)? {
        for (partition, offset) in partitions.as_object().ok_or_else(wrong)? {
            let number = partition.parse::<i32>().ok().filter(|number| *number >= 0).ok_or_else(wrong)?;
            let offset = offset.as_i64().ok_or_else(wrong)?;
            offsets.insert(TopicPartition::new(topic.as_str(), number), offset);
        }
    }
    Ok(offsets)
}

/// Reads `assign`: `{"topic":[0,1]}`.
pub fn assignment_from_text(text: &str, object: &str) -> Result<Vec<TopicPartition>> {
    let wrong = || {
        EngineError::config(format!("{object} is '{text}', expected partitions of topics"))
            .help(r#"write it like {"payments":[0,1,2]}"#)
    };
    let topics: BTreeMap<String, Vec<i32>> = serde_json::from_str(text).map_err(|error| wrong().caused_by(error))?;
    let partitions: Vec<TopicPartition> = topics
        .iter()
        .flat_map(|(topic, numbers)| numbers.iter().map(|number| TopicPartition::new(topic.as_str(), *number)))
        .collect();
    if partitions.is_empty() || partitions.iter().any(|partition| partition.partition < 0) {
        return Err(wrong());
    }
    Ok(partitions)
}

fn malformed(object: &str, found: &str) -> EngineError {
    EngineError::config(format!("{object} is '{found}', expected an offset for each partition"))
        .help(r#"write it like {"payments":{"0":123,"1":-2}}, with -2 for the earliest and -1 for the latest"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_spark_writes_them() {
        let text = r#"{"a":{"0":5,"1":0},"b":{"10":7}}"#;
        let offsets = from_text(text, "startingOffsets").unwrap();
        assert_eq!(offsets[&TopicPartition::new("b", 10)], 7);
        assert_eq!(to_offset(&offsets).to_string(), text);
        assert_eq!(from_offset(&to_offset(&offsets), "checkpoint").unwrap(), offsets);
    }

    #[test]
    fn what_is_not_offsets_is_named_with_the_form_expected() {
        for text in ["", "7", "[]", r#"{"a":5}"#, r#"{"a":{"x":5}}"#, r#"{"a":{"0":"5"}}"#, r#"{"a":{"-1":5}}"#] {
            let error = from_text(text, "option 'startingOffsets'").unwrap_err();
            assert!(error.to_string().starts_with("option 'startingOffsets' is '"), "{error}");
            assert!(error.next_step().is_some());
        }
    }

    #[test]
    fn an_assignment_names_partitions() {
        let partitions = assignment_from_text(r#"{"a":[0,2],"b":[1]}"#, "assign").unwrap();
        let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a-0", "a-2", "b-1"]);
        for text in ["{}", r#"{"a":["0"]}"#, r#"{"a":[-1]}"#, "a"] {
            assert!(assignment_from_text(text, "assign").is_err(), "{text}");
        }
    }
}

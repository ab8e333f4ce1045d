//! The checkpoint of a Spark query: where it stands in its Kafka topics, and whether another query may go on from there.
//!
//! ```text
//!   offsets/N   written before batch N runs: where it ends      commits/N   written when it is done
//!   state/OPERATOR/...                                          what stateful operators keep, which stays with Spark
//! ```
//!
//! Only the two logs are read, and nothing is written. A last batch without its commit may or may not be in the target:
//! nobody but the target knows, so that is asked and not guessed.

use std::path::{Path, PathBuf};

use highwater_engine::checkpoint::OffsetLogEntry;
use highwater_engine::source::Offset;

use crate::error::{Failure, Result};

/// What becomes of a last batch that was begun and not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Uncommitted {
    /// It is read again: right if the target does not have it, or takes the same rows twice without harm.
    Repeat,
    /// It is left out: right if the target has all of it.
    Skip,
}

/// What is known of the batches of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batches {
    /// The newest batch that was begun.
    pub(crate) begun: u64,
    /// The newest batch that is done.
    pub(crate) committed: Option<u64>,
}

/// The batch whose end is where another query begins; none for the very beginning.
pub(crate) fn last_batch(batches: Batches, uncommitted: Option<Uncommitted>) -> Result<Option<u64>> {
    let Batches { begun, committed } = batches;
    if committed == Some(begun) {
        return Ok(Some(begun));
    }
    match uncommitted {
        Some(Uncommitted::Skip) => Ok(Some(begun)),
        Some(Uncommitted::Repeat) => Ok(begun.checked_sub(1)),
        None => Err(Failure::check(format!(
            "batch {begun} was begun and not committed: its rows may be in the target, or not"
        ))
        .help(format!(
            "look into the target: --uncommitted skip if it has batch {begun}, --uncommitted repeat if it has not; or \
                 let the query finish it"
        ))),
    }
}

/// A folder of a Spark query's checkpoint.
pub(crate) struct SparkCheckpoint {
    folder: PathBuf,
    /// What its logs say.
    pub(crate) batches: Batches,
}

impl SparkCheckpoint {
    /// Looks into a folder.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let (offsets, commits) = (numbers(&folder.join("offsets"))?, numbers(&folder.join("commits"))?);
        let Some(begun) = offsets.last().copied() else {
            return Err(Failure::usage(format!("{} is no checkpoint of a Spark query: it has no offsets/0", folder.display()))
                .help("name the checkpointLocation of one query; a pipeline has one for each flow, below STORAGE/_checkpoints"));
        };
        if let Some(newer) = commits.last().filter(|last| **last > begun) {
            return Err(Failure::check(format!(
                "{} is damaged: commits/{newer} is there, but no offsets/{newer}",
                folder.display()
            )));
        }
        Ok(Self { folder: folder.to_owned(), batches: Batches { begun, committed: commits.last().copied() } })
    }

    /// The stateful operators, by their numbers.
    pub(crate) fn operators(&self) -> Result<Vec<u64>> {
        numbers(&self.folder.join("state"))
    }

    /// The end of a batch for each source.
    pub(crate) fn ends(&self, batch: u64) -> Result<Vec<Option<Offset>>> {
        let path = self.folder.join("offsets").join(batch.to_string());
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::check(format!("{} cannot be read: {error}", path.display()))
                .help("Spark keeps the newest batches only (spark.sql.streaming.minBatchesToRetain)")
        })?;
        let ends = OffsetLogEntry::ends_from_spark(&text);
        ends.map_err(|reason| {
            Failure::check(format!("{} is no offset log of Spark's that is known here: {reason}", path.display()))
        })
    }
}

/// The offsets of topics, as `startingOffsets` writes them; `source` numbers from 0.
pub(crate) fn starting_offsets(source: usize, end: Option<&Offset>) -> Result<String> {
    let topics = end.map(|end| &end.0).and_then(serde_json::Value::as_object);
    let is_kafka = topics.is_some_and(|topics| {
        let are_offsets = |partitions: &serde_json::Value| {
            partitions.as_object().is_some_and(|partitions| {
                !partitions.is_empty()
                    && partitions
                        .iter()
                        .all(|(number, offset)| number.parse::<u32>().is_ok() && offset.as_u64().is_some())
            })
        };
        !topics.is_empty() && topics.values().all(are_offsets)
    });
    match (end, is_kafka) {
        (Some(end), true) => Ok(end.to_string()),
        (None, _) => Err(Failure::check(format!("source {source} has no position yet"))
            .help("let the query do a batch with rows of it, or begin with startingOffsets = 'earliest'")),
        (Some(end), false) => {
            Err(Failure::check(format!("source {source} stands at {end}, which are no offsets of Kafka topics"))
                .help("only queries over Kafka can be moved by their offsets"))
        }
    }
}

/// The names in a folder that are numbers, in order; none if there is no such folder.
fn numbers(folder: &Path) -> Result<Vec<u64>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::runtime(format!("{} cannot be read: {error}", folder.display()))),
    };
    let mut numbers: Vec<u64> =
        entries.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_go_on_follows_from_the_logs() {
        let check = |begun, committed, uncommitted, expected: Option<Option<u64>>| {
            let found = last_batch(Batches { begun, committed }, uncommitted).ok();
            assert_eq!(found, expected, "{begun} {committed:?} {uncommitted:?}");
        };
        check(7, Some(7), None, Some(Some(7)));
        check(7, Some(7), Some(Uncommitted::Repeat), Some(Some(7)));
        check(7, Some(6), None, None);
        check(7, Some(6), Some(Uncommitted::Skip), Some(Some(7)));
        check(7, Some(6), Some(Uncommitted::Repeat), Some(Some(6)));
        check(0, None, None, None);
        check(0, None, Some(Uncommitted::Repeat), Some(None));
    }

    #[test]
    fn only_offsets_of_topics_are_taken() {
        let offset = |json: &str| Offset(serde_json::from_str(json).unwrap());
        let kafka = offset(r#"{"b":{"1":7,"0":9},"a":{"0":0}}"#);
        assert_eq!(starting_offsets(0, Some(&kafka)).unwrap(), r#"{"b":{"1":7,"0":9},"a":{"0":0}}"#);
        for other in [r#"{"logOffset":1}"#, r#"{"a":{}}"#, "12", r#"{"a":{"x":1}}"#, r#"{"a":{"0":-1}}"#] {
            assert!(starting_offsets(0, Some(&offset(other))).is_err(), "{other}");
        }
        assert!(starting_offsets(0, None).is_err());
    }
}

//! The offset log: what batch N reads, written before it reads anything.
//!
//! ```text
//!   offsets/N:  v1
//!               {"batchId":N,"batchWatermarkMs":..,"batchTimestampMs":..,"conf":{..},"starts":[..],"watermarks":{..}}
//!               {"topic":{"0":123}}      the end of source 0, in its own form; - for a source without a position
//!               ...                      one line a source
//!               crc32c ..
//! ```
//!
//! This is Spark's shape with three fields of ours: `batchId` (a copied file is found out), `starts` (an entry needs no
//! other to be replayed, the first not even the source's opinion of where a query begins) and `watermarks` (what the
//! watermark tracker needs to go on as if it had not stopped). Once an entry exists, batch N reads these ranges for
//! ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::log::{LogEntry, MetadataLog};
use crate::error::Result;
use crate::sink::BatchId;
use crate::source::{Offset, OffsetRange};

/// The key of an entry's `conf` that says which rebuild of the state its batch is a part of.
pub(crate) const PART_OF_REBUILD: &str = "part of a rebuild";

/// The log of what batches read.
pub type OffsetLog = MetadataLog<OffsetLogEntry>;

/// What one batch reads, and under which watermark and settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OffsetLogEntry {
    /// The watermark in force when the batch begins, in milliseconds since 1970.
    pub batch_watermark_ms: i64,
    /// The batch's processing time: what `current_timestamp()` gives, also in a replay.
    pub batch_timestamp_ms: i64,
    /// Settings that must stay as they are for the life of the checkpoint.
    pub conf: BTreeMap<String, String>,
    /// What the watermark tracker wants back at a restart.
    pub watermarks: serde_json::Map<String, serde_json::Value>,
    /// Where each source's range starts; none for a source without a position.
    pub starts: Vec<Option<Offset>>,
    /// Where each source's range ends.
    pub ends: Vec<Option<Offset>>,
}

impl OffsetLogEntry {
    /// The range of a source, if it has one.
    pub fn range(&self, source: usize) -> Option<OffsetRange> {
        let start = self.starts.get(source)?.clone()?;
        let end = self.ends.get(source)?.clone()?;
        Some(OffsetRange { start, end })
    }

    /// The end offsets in an offset log file that Spark wrote: so a Spark query can be taken over without a gap.
    pub fn ends_from_spark(text: &str) -> Result<Vec<Option<Offset>>, String> {
        let mut lines = text.lines();
        match lines.next() {
            Some("v1") => {}
            other => return Err(format!("it begins with '{}', expected 'v1'", other.unwrap_or_default())),
        }
        lines.next().ok_or("its metadata line is missing")?;
        lines.map(parse_offset).collect()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    batch_id: BatchId,
    batch_watermark_ms: i64,
    batch_timestamp_ms: i64,
    conf: BTreeMap<String, String>,
    starts: Vec<Option<Offset>>,
    #[serde(default)]
    watermarks: serde_json::Map<String, serde_json::Value>,
}

impl LogEntry for OffsetLogEntry {
    const FOLDER: &'static str = super::OFFSETS;

    fn to_lines(&self, batch_id: BatchId) -> serde_json::Result<Vec<String>> {
        let head = Head {
            batch_id,
            batch_watermark_ms: self.batch_watermark_ms,
            batch_timestamp_ms: self.batch_timestamp_ms,
            conf: self.conf.clone(),
            starts: self.starts.clone(),
            watermarks: self.watermarks.clone(),
        };
        let mut lines = vec![serde_json::to_string(&head)?];
        for end in &self.ends {
            lines.push(end.as_ref().map_or_else(|| Ok("-".to_owned()), serde_json::to_string)?);
        }
        Ok(lines)
    }

    fn from_lines(batch_id: BatchId, lines: &[String]) -> Result<Self, String> {
        let (head, ends) = lines.split_first().ok_or("its metadata line is missing")?;
        let head: Head = serde_json::from_str(head).map_err(|error| format!("its metadata line: {error}"))?;
        if head.batch_id != batch_id {
            return Err(format!("it is the entry of batch {}, expected batch {batch_id}", head.batch_id));
        }
        let ends: Vec<_> = ends.iter().map(|line| parse_offset(line)).collect::<Result<_, _>>()?;
        if ends.len() != head.starts.len() {
            return Err(format!("it has {} start and {} end offsets", head.starts.len(), ends.len()));
        }
        Ok(Self {
            batch_watermark_ms: head.batch_watermark_ms,
            batch_timestamp_ms: head.batch_timestamp_ms,
            conf: head.conf,
            watermarks: head.watermarks,
            starts: head.starts,
            ends,
        })
    }
}

fn parse_offset(line: &str) -> Result<Option<Offset>, String> {
    match line {
        "-" => Ok(None),
        json => serde_json::from_str(json).map(Some).map_err(|error| format!("the offset '{json}': {error}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::checkpoint;
    use super::*;

    fn entry() -> OffsetLogEntry {
        OffsetLogEntry {
            batch_watermark_ms: 5,
            batch_timestamp_ms: 1_700_000_000_000,
            conf: [("spark.sql.session.timeZone".to_owned(), "UTC".to_owned())].into(),
            watermarks: [("ev-0".to_owned(), json!(7))].into_iter().collect(),
            starts: vec![Some(Offset(json!({"ev": {"0": 1}}))), None],
            ends: vec![Some(Offset(json!({"ev": {"0": 9}}))), None],
        }
    }

    #[test]
    fn the_text_is_spark_s_shape() {
        let lines = entry().to_lines(3).unwrap();
        let head = concat!(
            r#"{"batchId":3,"batchWatermarkMs":5,"batchTimestampMs":1700000000000,"#,
            r#""conf":{"spark.sql.session.timeZone":"UTC"},"starts":[{"ev":{"0":1}},null],"watermarks":{"ev-0":7}}"#
        );
        assert_eq!(lines, [head, r#"{"ev":{"0":9}}"#, "-"]);
        assert_eq!(OffsetLogEntry::from_lines(3, &lines).unwrap(), entry());
    }

    #[test]
    fn an_entry_under_another_number_is_found_out() {
        let lines = entry().to_lines(3).unwrap();
        let error = OffsetLogEntry::from_lines(4, &lines).unwrap_err();
        assert_eq!(error, "it is the entry of batch 3, expected batch 4");
        assert!(OffsetLogEntry::from_lines(3, &lines[..2]).unwrap_err().contains("2 start and 1 end"));
    }

    #[test]
    fn ranges_come_back_from_disk() {
        let (_dir, checkpoint) = checkpoint();
        let log = OffsetLog::open(&checkpoint).unwrap();
        log.add(0, &entry()).unwrap();
        let (batch_id, read) = OffsetLog::open(&checkpoint).unwrap().latest().unwrap().unwrap();
        assert_eq!((batch_id, &read), (0, &entry()));
        assert_eq!(read.range(0).unwrap().end, Offset(json!({"ev": {"0": 9}})));
        assert_eq!(read.range(1), None);
    }

    #[test]
    fn spark_s_own_file_gives_its_ends() {
        let text = "v1\n{\"batchWatermarkMs\":0,\"batchTimestampMs\":1,\"conf\":{}}\n{\"ev\":{\"0\":3}}\n-";
        let ends = OffsetLogEntry::ends_from_spark(text).unwrap();
        assert_eq!(ends, [Some(Offset(json!({"ev": {"0": 3}}))), None]);
        assert!(OffsetLogEntry::ends_from_spark("v2\n").is_err());
    }
}

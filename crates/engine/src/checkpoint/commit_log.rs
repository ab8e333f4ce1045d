//! The commit log: batch N is done, sink and state and all.
//!
//! ```text
//!   commits/N:  v1 · {"batchId":N,"nextBatchWatermarkMs":..,"watermarks":{..},"rebuiltRows":..} · crc32c
//! ```
//!
//! It is the last thing a batch writes. The sink's own token, not this log, says whether the rows are visible; this
//! log says that nothing of batch N is left to do, and with which watermark batch N+1 begins.

use serde::{Deserialize, Serialize};

use super::log::{LogEntry, MetadataLog};
use crate::error::Result;
use crate::sink::BatchId;

/// The log of finished batches.
pub type CommitLog = MetadataLog<CommitLogEntry>;

/// What batch N leaves to batch N+1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitLogEntry {
    /// The watermark of batch N+1, in milliseconds since 1970.
    pub next_batch_watermark_ms: i64,
    /// The watermark tracker after the batch.
    pub watermarks: serde_json::Map<String, serde_json::Value>,
    /// Rows that a rebuild of the state has read so far, if the batch was part of one.
    pub rebuilt_rows: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    batch_id: BatchId,
    next_batch_watermark_ms: i64,
    #[serde(default)]
    watermarks: serde_json::Map<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rebuilt_rows: Option<u64>,
}

impl LogEntry for CommitLogEntry {
    const FOLDER: &'static str = super::COMMITS;

    fn to_lines(&self, batch_id: BatchId) -> serde_json::Result<Vec<String>> {
        let body = Body {
            batch_id,
            next_batch_watermark_ms: self.next_batch_watermark_ms,
            watermarks: self.watermarks.clone(),
            rebuilt_rows: self.rebuilt_rows,
        };
        Ok(vec![serde_json::to_string(&body)?])
    }

    fn from_lines(batch_id: BatchId, lines: &[String]) -> Result<Self, String> {
        let line = lines.first().ok_or("its only line is missing")?;
        let body: Body = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if body.batch_id != batch_id {
            return Err(format!("it is the entry of batch {}, expected batch {batch_id}", body.batch_id));
        }
        let Body { next_batch_watermark_ms, watermarks, rebuilt_rows, .. } = body;
        Ok(Self { next_batch_watermark_ms, watermarks, rebuilt_rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        let entry = CommitLogEntry { next_batch_watermark_ms: 7, ..Default::default() };
        let lines = entry.to_lines(2).unwrap();
        assert_eq!(lines, [r#"{"batchId":2,"nextBatchWatermarkMs":7,"watermarks":{}}"#]);
        assert_eq!(CommitLogEntry::from_lines(2, &lines).unwrap(), entry);
        let part = CommitLogEntry { rebuilt_rows: Some(9), ..entry };
        let of_part = part.to_lines(3).unwrap();
        assert_eq!(of_part, [r#"{"batchId":3,"nextBatchWatermarkMs":7,"watermarks":{},"rebuiltRows":9}"#]);
        assert_eq!(CommitLogEntry::from_lines(3, &of_part).unwrap(), part);
        assert!(CommitLogEntry::from_lines(3, &lines).is_err());
    }
}

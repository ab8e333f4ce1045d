//! What Spark tells of its queries, for the board: the same JSON as ours, but for what it does not know.

use highwater_engine::progress::{ProgressListener, StreamingQueryProgress};
use serde_json::Value;

use super::problems::last_part;
use crate::progress::board::Board;

/// Puts an event of Spark's listener bus on the board; events of other kinds have nothing for it.
pub(crate) fn show(json: &str, board: &Board) {
    let Ok(mut event) = serde_json::from_str::<Value>(json) else {
        tracing::debug!("an event of Spark's cannot be read: {json}");
        return;
    };
    let Some(progress) = event.get_mut("progress").map(Value::take) else { return };
    let (progress, tells_rows_out) = match read(progress) {
        Ok(read) => read,
        Err(error) => return tracing::debug!("progress of Spark's cannot be read: {error}"),
    };
    if !tells_rows_out {
        board.hide_rows_out(&progress.name);
    }
    board.on_progress(&progress);
}

/// Progress as ours, and whether it says how many rows were written.
fn read(mut progress: Value) -> serde_json::Result<(StreamingQueryProgress, bool)> {
    // Spark says -1 for "not known".
    let rows_out = progress.pointer_mut("/sink/numOutputRows");
    let tells_rows_out = rows_out.as_ref().is_some_and(|rows| rows.as_i64().is_some_and(|rows| rows >= 0));
    if let (false, Some(rows)) = (tells_rows_out, rows_out) {
        *rows = 0.into();
    }
    let behind: Vec<Option<u64>> = progress["sources"].as_array().into_iter().flatten().map(records_behind).collect();
    let mut progress: StreamingQueryProgress = serde_json::from_value(progress)?;
    progress.name = last_part(&progress.name).to_owned();
    for (source, behind) in progress.sources.iter_mut().zip(behind) {
        source.records_behind = behind;
    }
    Ok((progress, tells_rows_out))
}

/// How far the end of a batch is from the end of the topics, where offsets are Kafka's.
fn records_behind(source: &Value) -> Option<u64> {
    let (end, latest) = (source["endOffset"].as_object()?, source["latestOffset"].as_object()?);
    let mut behind = 0;
    for (topic, partitions) in latest {
        for (partition, offset) in partitions.as_object()? {
            let reached = end.get(topic).and_then(|end| end.get(partition)).and_then(Value::as_u64).unwrap_or(0);
            behind += offset.as_u64()?.saturating_sub(reached);
        }
    }
    Some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_of_spark_is_shown_as_ours() {
        let board = Board::of(["t".to_owned()]);
        let json = r#"{"progress":{"id":"a","runId":"b","name":"spark_catalog.default.t","timestamp":"2026-01-01T00:00:00.000Z",
            "batchId":3,"batchDuration":12,"numInputRows":5,"inputRowsPerSecond":1.5,"processedRowsPerSecond":2.0,
            "durationMs":{"triggerExecution":12,"queryPlanning":1},"eventTime":{"watermark":"2024-01-01T00:00:00.000Z"},
            "stateOperators":[{"operatorName":"stateStoreSave","numRowsTotal":7,"numRowsDroppedByWatermark":2,"customMetrics":{}}],
            "sources":[{"description":"KafkaV2[Subscribe[x]]","startOffset":null,"endOffset":{"x":{"0":4,"1":9}},
              "latestOffset":{"x":{"0":10,"1":9}},"numInputRows":5,"metrics":{"avgOffsetsBehindLatest":"3.0"}}],
            "sink":{"description":"ForeachBatch","numOutputRows":-1},"observedMetrics":{}}}"#;
        show(json, &board);
        show(r#"{"id":"a","runId":"b","exception":null}"#, &board);
        show("no JSON", &board);
        let lines = board.lines();
        assert_eq!(lines.len(), 1);
        let (name, line) = &lines[0];
        assert_eq!((name.as_str(), line.rows_in, line.rows_out, line.hides_rows_out), ("t", 5, 0, true));
        assert_eq!((line.late_rows, line.progress.batch_id), (2, 3));
        assert_eq!(line.progress.sources[0].records_behind, Some(6));
    }
}

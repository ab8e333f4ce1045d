//! Progress and events of a streaming query as clients of Spark read them: JSON with Spark's keys.
//!
//! A client cannot read progress in which a key of Spark's is missing, so what is not measured apart here is there as 0.

use chrono::{SecondsFormat, Utc};
use highwater_engine::progress::StreamingQueryProgress;
use serde_json::{Value, json};

use crate::config::secrets::redact;
use crate::spark_connect::messages::{ListenerEvent, ListenerEventType, QueryId};

/// What clients of Spark ask of a stateful operator and what is not measured apart here: it is in the times of the batch.
const NOT_MEASURED: [&str; 5] =
    ["allUpdatesTimeMs", "allRemovalsTimeMs", "commitTimeMs", "numShufflePartitions", "numStateStoreInstances"];

/// Progress with the keys that clients of Spark cannot do without, under the name the client knows the query by.
pub(super) fn progress(id: &QueryId, name: Option<&str>, progress: &StreamingQueryProgress) -> Value {
    let mut value = serde_json::to_value(progress).unwrap_or_default();
    value["id"] = id.id.clone().into();
    value["runId"] = id.run_id.clone().into();
    value["name"] = name.into();
    for operator in value["stateOperators"].as_array_mut().into_iter().flatten() {
        if let Some(fields) = operator.as_object_mut() {
            for key in NOT_MEASURED {
                fields.entry(key).or_insert(0.into());
            }
        }
    }
    for source in value["sources"].as_array_mut().into_iter().flatten() {
        if let Some(fields) = source.as_object_mut() {
            for key in ["startOffset", "endOffset", "latestOffset"] {
                fields.entry(key).or_insert(Value::Null);
            }
        }
    }
    value
}

/// The error of a query in Spark's words around it.
pub(super) fn exception(id: &QueryId, error: &str) -> String {
    format!(
        "[STREAM_FAILED] Query [id = {}, runId = {}] terminated with exception: {}",
        id.id,
        id.run_id,
        redact(error)
    )
}

/// `QueryStartedEvent`, which a client gets with the answer to its start.
pub(super) fn started(id: &QueryId, name: Option<&str>) -> String {
    json!({"id": id.id, "runId": id.run_id, "name": name, "timestamp": now(), "jobTags": []}).to_string()
}

/// `QueryProgressEvent`.
pub(super) fn progressed(id: &QueryId, name: Option<&str>, of: &StreamingQueryProgress) -> ListenerEvent {
    event(ListenerEventType::Progress, &json!({"progress": progress(id, name, of)}))
}

/// `QueryIdleEvent`.
pub(super) fn idle(id: &QueryId) -> ListenerEvent {
    event(ListenerEventType::Idle, &json!({"id": id.id, "runId": id.run_id, "timestamp": now()}))
}

/// `QueryTerminatedEvent`.
pub(super) fn terminated(id: &QueryId, error: Option<&str>) -> ListenerEvent {
    let class = error.map(|_| "STREAM_FAILED");
    let exception = error.map(|error| exception(id, error));
    let told = json!({"id": id.id, "runId": id.run_id, "exception": exception, "errorClassOnException": class});
    event(ListenerEventType::Terminated, &told)
}

fn event(kind: ListenerEventType, told: &Value) -> ListenerEvent {
    ListenerEvent { json: told.to_string(), event_type: kind as i32 }
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use highwater_engine::progress::{SourceProgress, StateOperatorProgress};

    use super::*;

    fn id() -> QueryId {
        QueryId { id: "i".to_owned(), run_id: "r".to_owned() }
    }

    #[test]
    fn progress_has_every_key_that_a_client_reads() {
        let told = StreamingQueryProgress {
            name: "query_1".to_owned(),
            sources: vec![SourceProgress::default()],
            state_operators: vec![StateOperatorProgress::default()],
            ..StreamingQueryProgress::default()
        };
        let value = progress(&id(), None, &told);
        assert_eq!((&value["id"], &value["runId"], &value["name"]), (&json!("i"), &json!("r"), &Value::Null));
        let has = |value: &Value, keys: &[&str]| {
            keys.iter().for_each(|key| assert!(value.get(key).is_some(), "{key} is not in {value}"));
        };
        has(&value, &["timestamp", "batchId", "batchDuration", "durationMs", "numInputRows", "inputRowsPerSecond"]);
        has(
            &value["sources"][0],
            &["description", "startOffset", "endOffset", "latestOffset", "processedRowsPerSecond"],
        );
        has(&value["stateOperators"][0], &NOT_MEASURED);
        has(&value["stateOperators"][0], &["operatorName", "numRowsTotal", "numRowsDroppedByWatermark"]);
        has(&value["sink"], &["description", "numOutputRows"]);
    }

    #[test]
    fn the_end_of_a_query_says_why() {
        let read = |event: ListenerEvent| serde_json::from_str::<Value>(&event.json).unwrap();
        let well = read(terminated(&id(), None));
        assert_eq!((&well["exception"], &well["errorClassOnException"]), (&Value::Null, &Value::Null));
        let failed = read(terminated(&id(), Some("no rows")));
        assert_eq!(failed["exception"], "[STREAM_FAILED] Query [id = i, runId = r] terminated with exception: no rows");
    }
}

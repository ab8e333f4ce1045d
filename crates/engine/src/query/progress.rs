//! From what a batch did to what is told about it.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};

use super::batch::BatchOutcome;
use super::execution::StreamingQuery;
use crate::checkpoint::OffsetLogEntry;
use crate::clock::Clock;
use crate::error::Result;
use crate::operator::stateless::TimeRange;
use crate::progress::{
    DurationMs, EventTimeStats, SinkProgress, SourceProgress, StateOperatorProgress, StreamingQueryProgress,
};
use crate::sink::{BatchId, CommitReport};
use crate::source::Unread;

/// Measures the phases of a batch.
pub(crate) struct Timer {
    clock: Arc<dyn Clock>,
    start_ns: u64,
    durations: DurationMs,
}

impl Timer {
    pub(crate) fn start(clock: &Arc<dyn Clock>) -> Self {
        Self { clock: Arc::clone(clock), start_ns: clock.monotonic_ns(), durations: DurationMs::default() }
    }

    /// Runs `f` and adds its time to one of the phases.
    pub(crate) fn phase<T>(&mut self, slot: impl FnOnce(&mut DurationMs) -> &mut u64, f: impl FnOnce() -> T) -> T {
        let before = self.clock.monotonic_ns();
        let result = f();
        *slot(&mut self.durations) += self.clock.monotonic_ns().saturating_sub(before) / 1_000_000;
        result
    }

    fn finish(mut self) -> (DurationMs, f64) {
        let total_ns = self.clock.monotonic_ns().saturating_sub(self.start_ns);
        self.durations.trigger_execution = total_ns / 1_000_000;
        (self.durations, seconds_of(total_ns))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time for people")]
fn seconds_of(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// ISO-8601 with milliseconds in UTC, as Spark prints times.
pub(crate) fn iso_ms(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// The progress of a batch that is committed.
pub(crate) fn progress_of(
    query: &mut StreamingQuery,
    batch: BatchId,
    entry: &OffsetLogEntry,
    outcome: &BatchOutcome,
    report: CommitReport,
    timer: Timer,
    unread: Vec<Unread>,
) -> Result<StreamingQueryProgress> {
    let start_ns = timer.start_ns;
    let (duration_ms, seconds) = timer.finish();
    // The first batch has no trigger before it: what it read came in while it ran.
    let since_last = query.replace_start(start_ns).map_or(seconds, |last_ns| seconds_of(start_ns - last_ns));
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |rows: u64, seconds: f64| if seconds > 0.0 { rows as f64 / seconds } else { 0.0 };
    let mut sources = Vec::new();
    for (index, reads) in outcome.reads.iter().enumerate() {
        let end = entry.ends.get(index).cloned().flatten();
        let source = query.source_mut(index);
        let backlog = unread.get(index).and_then(|unread| unread.backlog.clone());
        let end = end.map(|offset| offset.0).unwrap_or_default();
        sources.push(SourceProgress {
            description: source.description(),
            start_offset: entry.starts.get(index).cloned().flatten().map(|offset| offset.0).unwrap_or_default(),
            latest_offset: backlog.as_ref().map_or_else(|| end.clone(), |backlog| backlog.latest.0.clone()),
            end_offset: end,
            num_input_rows: reads.records,
            input_rows_per_second: rate(reads.records, since_last),
            processed_rows_per_second: rate(reads.records, seconds),
            num_input_bytes: reads.size_bytes,
            num_malformed_records: reads.malformed,
            records_behind: backlog.map(|backlog| backlog.records),
        });
    }
    let rebuild = query.rebuild_progress(batch, entry)?;
    let rows = outcome.reads.iter().map(|reads| reads.records).sum();
    let (id, run_id, name) = query.identity();
    Ok(StreamingQueryProgress {
        id,
        run_id,
        name,
        timestamp: iso_ms(entry.batch_timestamp_ms),
        batch_id: batch,
        batch_duration: duration_ms.trigger_execution,
        num_input_rows: rows,
        input_rows_per_second: rate(rows, since_last),
        processed_rows_per_second: rate(rows, seconds),
        duration_ms,
        event_time: event_time(query, entry, outcome),
        state_operators: state_operators(query, outcome, duration_ms.state_commit),
        sources,
        static_tables: query.static_tables(),
        sink: SinkProgress { description: query.sink_description(), num_output_rows: report.rows },
        checkpoint: query.checkpoint_progress(),
        rebuild,
    })
}

fn event_time(query: &StreamingQuery, entry: &OffsetLogEntry, outcome: &BatchOutcome) -> EventTimeStats {
    if !query.has_watermark() {
        return EventTimeStats::default();
    }
    let ranges: Vec<TimeRange> = outcome.event_times.ranges.values().copied().collect();
    let time = |us: i64| iso_ms(us.div_euclid(1000));
    EventTimeStats {
        min: ranges.iter().map(|range| range.min_us).min().map(time),
        max: ranges.iter().map(|range| range.max_us).max().map(time),
        watermark: Some(iso_ms(entry.batch_watermark_ms)),
    }
}

fn state_operators(query: &StreamingQuery, outcome: &BatchOutcome, commit_time_ms: u64) -> Vec<StateOperatorProgress> {
    let mut operators = Vec::new();
    for ((stage, workers), late_rows) in query.operators().zip(&outcome.late_rows) {
        let mut total = StateOperatorProgress {
            operator_name: stage.spec.spark_name().to_owned(),
            num_rows_dropped_by_watermark: *late_rows,
            commit_time_ms,
            num_shuffle_partitions: 256,
            memory_used_bytes: query.store_memory_bytes(),
            ..StateOperatorProgress::default()
        };
        for counts in workers.iter().map(|worker| worker.counts()) {
            total.num_rows_total += counts.rows_total;
            total.num_rows_updated += counts.rows_updated;
            total.num_rows_removed += counts.rows_removed;
            total.memory_used_bytes += counts.memory_bytes;
            total.num_lookups += counts.lookups;
        }
        operators.push(total);
    }
    // Spark tells of the operator next to the sink first.
    operators.reverse();
    operators
}

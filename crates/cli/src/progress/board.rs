//! The newest progress of every query, and the lines it is shown as.
//!
//! ```text
//! query            rows in/s   rows out   batch            watermark        lag   state rows  late
//! fraud_alerts         1,204         18   #42  120 ms      12:00:03 (2 s)     0        1,024     3
//! ```

use std::collections::BTreeMap;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use highwater_engine::progress::{ProgressListener, Restart, StreamingQueryProgress};

/// What is known of one query.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueryLine {
    /// The newest batch.
    pub(crate) progress: StreamingQueryProgress,
    /// Rows written since the start of this process.
    pub(crate) rows_out: u64,
    /// Rows read since the start of this process.
    pub(crate) rows_in: u64,
    /// Rows left out since the start of this process because they came too late.
    pub(crate) late_rows: u64,
    /// Records that did not parse since the start of this process.
    pub(crate) malformed: u64,
    /// Whoever runs the query does not tell how many rows it writes.
    pub(crate) hides_rows_out: bool,
    /// Times it was started again.
    pub(crate) restarts: u64,
    /// It has failed and rests before it is started again.
    pub(crate) is_restarting: bool,
    /// The query has ended; with its error, if it failed.
    pub(crate) ended: Option<Option<String>>,
}

/// All queries of this process by name.
#[derive(Debug, Default)]
pub(crate) struct Board {
    queries: Mutex<BTreeMap<String, QueryLine>>,
}

impl Board {
    /// A board that lists `names` before they have made any progress.
    pub(crate) fn of(names: impl IntoIterator<Item = String>) -> Self {
        Self { queries: Mutex::new(names.into_iter().map(|name| (name, QueryLine::default())).collect()) }
    }

    /// The lines as they are now.
    pub(crate) fn lines(&self) -> Vec<(String, QueryLine)> {
        let queries = self.queries.lock().map(|queries| queries.clone()).unwrap_or_default();
        queries.into_iter().collect()
    }

    /// Notes that rows written by a query are not known.
    pub(crate) fn hide_rows_out(&self, name: &str) {
        self.update(name, |line| line.hides_rows_out = true);
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut QueryLine)) {
        if let Ok(mut queries) = self.queries.lock() {
            change(queries.entry(name.to_owned()).or_default());
        }
    }
}

impl ProgressListener for Board {
    fn on_progress(&self, progress: &StreamingQueryProgress) {
        self.update(&progress.name, |line| {
            line.rows_in += progress.num_input_rows;
            line.rows_out += progress.sink.num_output_rows;
            line.late_rows += progress.state_operators.iter().map(|op| op.num_rows_dropped_by_watermark).sum::<u64>();
            line.malformed += progress.sources.iter().map(|source| source.num_malformed_records).sum::<u64>();
            line.progress = progress.clone();
            line.is_restarting = false;
        });
    }

    fn on_restart(&self, name: &str, _: &Restart) {
        self.update(name, |line| {
            line.restarts += 1;
            line.is_restarting = true;
        });
    }

    fn on_terminated(&self, name: &str, error: Option<&str>) {
        self.update(name, |line| line.ended = Some(error.map(str::to_owned)));
    }
}

/// The columns of the live block.
const HEADERS: [&str; 8] = ["query", "rows in/s", "rows out", "batch", "watermark", "lag", "state rows", "late"];

/// The live block: a header and a line a query, columns aligned.
pub(crate) fn block(lines: &[(String, QueryLine)], now: DateTime<Utc>) -> Vec<String> {
    let mut table: Vec<[String; 8]> = vec![HEADERS.map(str::to_owned)];
    table.extend(lines.iter().map(|(name, line)| cells(name, line, now)));
    let mut widths = [0; 8];
    for row in &table {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    table.iter().map(|row| aligned(row, &widths)).collect()
}

fn aligned(row: &[String; 8], widths: &[usize; 8]) -> String {
    let mut line = String::new();
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        let padding = " ".repeat(width - cell.chars().count());
        // Names to the left, numbers to the right.
        let (before, after) = if index == 0 { ("", padding.as_str()) } else { (padding.as_str(), "") };
        line.push_str(before);
        line.push_str(cell);
        line.push_str(after);
        line.push_str("   ");
    }
    line.trim_end().to_owned()
}

fn cells(name: &str, line: &QueryLine, now: DateTime<Utc>) -> [String; 8] {
    let progress = &line.progress;
    let batch = match &line.ended {
        Some(Some(_)) => "failed".to_owned(),
        Some(None) => "stopped".to_owned(),
        None if line.is_restarting => format!("restart {}", line.restarts),
        None if progress.timestamp.is_empty() => "starting".to_owned(),
        None if let Some(rebuild) = progress.rebuild.as_ref().filter(|rebuild| !rebuild.is_whole()) => {
            format!("#{} rebuilds{}", progress.batch_id, rebuild.done_share.map_or_else(String::new, percent))
        }
        None => format!("#{} {} ms", progress.batch_id, progress.batch_duration),
    };
    let state_rows: u64 = progress.state_operators.iter().map(|operator| operator.num_rows_total).sum();
    [
        name.to_owned(),
        number(progress.input_rows_per_second),
        if line.hides_rows_out { "-".to_owned() } else { number(line.rows_out as f64) },
        batch,
        watermark(progress.event_time.watermark.as_deref(), now),
        lag(progress).map_or_else(|| "-".to_owned(), |records| number(records as f64)),
        if progress.state_operators.is_empty() { "-".to_owned() } else { number(state_rows as f64) },
        number(line.late_rows as f64),
    ]
}

/// Records the query is behind, if every source that counts was asked.
pub(crate) fn lag(progress: &StreamingQueryProgress) -> Option<u64> {
    let known: Vec<u64> = progress.sources.iter().filter_map(|source| source.records_behind).collect();
    (!known.is_empty()).then(|| known.iter().sum())
}

/// `12:00:03 (2 s behind)`; the date only if it is not today.
fn watermark(text: Option<&str>, now: DateTime<Utc>) -> String {
    let Some(moment) = text.and_then(|text| DateTime::parse_from_rfc3339(text).ok()) else { return "-".to_owned() };
    let moment = moment.with_timezone(&Utc);
    if moment.timestamp() <= 0 {
        return "-".to_owned();
    }
    let behind = (now - moment).num_seconds();
    if moment.date_naive() == now.date_naive() && behind >= 0 {
        format!("{} ({behind} s ago)", moment.format("%H:%M:%S"))
    } else {
        moment.format("%Y-%m-%d %H:%M:%S").to_string()
    }
}

/// ` 42 %`, never more than there is.
fn percent(share: f64) -> String {
    format!(" {:.0} %", (share * 100.0).floor())
}

/// A whole number with commas.
pub(crate) fn number(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit that keeps a digit before the point.
pub(crate) fn bytes(size: u64) -> String {
    let mut value = size as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{size} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use highwater_engine::progress::{RebuildProgress, SourceProgress, StateOperatorProgress};

    use super::*;

    fn progress() -> StreamingQueryProgress {
        let mut progress = StreamingQueryProgress {
            name: "fraud_alerts".to_owned(),
            timestamp: "2026-01-01T12:00:05.000Z".to_owned(),
            batch_id: 42,
            batch_duration: 120,
            num_input_rows: 1204,
            input_rows_per_second: 1204.4,
            state_operators: vec![StateOperatorProgress {
                num_rows_total: 1024,
                num_rows_dropped_by_watermark: 3,
                ..Default::default()
            }],
            sources: vec![SourceProgress { records_behind: Some(0), ..Default::default() }],
            ..Default::default()
        };
        progress.sink.num_output_rows = 18;
        progress.event_time.watermark = Some("2026-01-01T12:00:03.000Z".to_owned());
        progress
    }

    #[test]
    fn the_block_is_aligned_and_adds_up_over_batches() {
        let board = Board::of(["clicks".to_owned()]);
        board.on_progress(&progress());
        board.on_progress(&progress());
        board.on_terminated("clicks", None);
        let restart = Restart { attempt: 1, delay: std::time::Duration::from_secs(1), error: "away".to_owned() };
        let resting = Board::of(["orders".to_owned()]);
        resting.on_restart("orders", &restart);
        resting.on_restart("orders", &restart);
        let now = DateTime::parse_from_rfc3339("2026-01-01T12:00:05Z").unwrap().with_timezone(&Utc);
        let expected = "\
query          rows in/s   rows out        batch          watermark   lag   state rows   late
clicks                 0          0      stopped                  -     -            -      0
fraud_alerts       1,204         36   #42 120 ms   12:00:03 (2 s ago)     0        1,024      6";
        let shown = block(&board.lines(), now).join("\n");
        let of_resting = cells("orders", &resting.lines()[0].1, now);
        assert_eq!(of_resting[3], "restart 2");
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&shown), squeeze(expected));
        let rebuild = |done_share| {
            let rebuild = Some(RebuildProgress { done_share, ..RebuildProgress::default() });
            let line = QueryLine { progress: StreamingQueryProgress { rebuild, ..progress() }, ..QueryLine::default() };
            cells("f", &line, now)[3].clone()
        };
        let shown_batches = [Some(0.429), None, Some(1.0)].map(rebuild);
        assert_eq!(shown_batches, ["#42 rebuilds 42 %", "#42 rebuilds", "#42 120 ms"]);
        let widths: Vec<usize> = shown.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{shown}");
    }

    #[test]
    fn numbers_have_commas_and_bytes_units() {
        assert_eq!(number(1_234_567.2), "1,234,567");
        assert_eq!(number(-1.0), "0");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(2_345_678), "2.3 MB");
    }
}

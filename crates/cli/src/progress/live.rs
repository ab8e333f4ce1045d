//! Shows a [`Board`] while queries run: drawn in place on a terminal, as log lines elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use indicatif::ProgressBar;

use super::board::{self, Board, QueryLine};
use super::screen;

/// How often a terminal is drawn.
const REFRESH: Duration = Duration::from_millis(500);

/// How often a query that works is logged where there is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A view of a board; call [`LiveView::refresh`] now and then.
pub(crate) struct LiveView {
    board: Arc<Board>,
    quiet: bool,
    bars: Option<Vec<ProgressBar>>,
    refreshed: Option<Instant>,
    logged: BTreeMap<String, u64>,
}

impl LiveView {
    /// A view of `board`; `quiet` shows nothing.
    pub(crate) fn new(board: Arc<Board>, quiet: bool) -> Self {
        let bars = (screen::is_live() && !quiet).then(Vec::new);
        Self { board, quiet, bars, refreshed: None, logged: BTreeMap::new() }
    }

    /// Shows what is new, if it is time to.
    pub(crate) fn refresh(&mut self, now: DateTime<Utc>) {
        let interval = if self.bars.is_some() { REFRESH } else { LOG_INTERVAL };
        if self.quiet || self.refreshed.is_some_and(|last| last.elapsed() < interval) {
            return;
        }
        let first = self.refreshed.is_none();
        self.refreshed = Some(Instant::now());
        match self.bars.take() {
            Some(bars) => self.bars = Some(draw(bars, &board::block(&self.board.lines(), now))),
            None if first => {}
            None => self.log(),
        }
    }

    /// Logs the queries that have done a batch since the last time.
    fn log(&mut self) {
        for (name, line) in self.board.lines() {
            let batch = line.progress.batch_id;
            if line.progress.timestamp.is_empty() || self.logged.insert(name.clone(), batch) == Some(batch) {
                continue;
            }
            log_line(&name, &line);
        }
    }

    /// Leaves the last picture on the screen and goes below it.
    pub(crate) fn finish(mut self, now: DateTime<Utc>) {
        if let Some(bars) = self.bars.take() {
            screen::leave(&bars, &board::block(&self.board.lines(), now));
        }
    }
}

fn draw(mut bars: Vec<ProgressBar>, lines: &[String]) -> Vec<ProgressBar> {
    while bars.len() < lines.len() {
        bars.push(screen::line());
    }
    for (bar, line) in bars.iter().zip(lines) {
        bar.set_message(line.clone());
    }
    screen::draw(&bars);
    bars
}

fn log_line(name: &str, line: &QueryLine) {
    let progress = &line.progress;
    tracing::info!(
        query = name,
        batch = progress.batch_id,
        batch_ms = progress.batch_duration,
        rows_in = line.rows_in,
        rows_in_per_s = progress.input_rows_per_second.round(),
        rows_out = line.rows_out,
        watermark = progress.event_time.watermark.as_deref().unwrap_or("-"),
        lag = board::lag(progress),
        state_rows = progress.state_operators.iter().map(|operator| operator.num_rows_total).sum::<u64>(),
        late = line.late_rows,
        malformed = line.malformed,
        "progress"
    );
}

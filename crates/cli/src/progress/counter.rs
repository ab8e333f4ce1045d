//! A running count of records with its rate, for commands that send or make them.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::board::{bytes, number};
use super::screen;

/// How often the line is drawn.
const REFRESH: Duration = Duration::from_millis(200);

/// Records between two looks at the clock.
const STRIDE: u64 = 512;

/// Counts records; draws only on a terminal.
pub(crate) struct Counter {
    verb: &'static str,
    bar: Option<ProgressBar>,
    began: Instant,
    drawn: Instant,
    records: u64,
    size_bytes: u64,
    total_bytes: Option<u64>,
}

impl Counter {
    /// A count of zero; `verb` as in "12,000 records sent".
    pub(crate) fn new(verb: &'static str) -> Self {
        let now = Instant::now();
        let bar = screen::is_live().then(screen::line);
        Self { verb, bar, began: now, drawn: now, records: 0, size_bytes: 0, total_bytes: None }
    }

    /// The same, which tells how much of `total_bytes` is done.
    #[must_use]
    pub(crate) fn of_total(mut self, total_bytes: Option<u64>) -> Self {
        self.total_bytes = total_bytes.filter(|total| *total > 0);
        self
    }

    /// The same, which draws nothing.
    #[must_use]
    pub(crate) fn hidden(mut self) -> Self {
        self.finish();
        self.bar = None;
        self
    }

    /// Adds records and their bytes.
    pub(crate) fn add(&mut self, records: u64, size_bytes: usize) {
        self.records += records;
        self.size_bytes += size_bytes as u64;
        if self.records.is_multiple_of(STRIDE) && self.drawn.elapsed() >= REFRESH {
            self.draw();
        }
    }

    /// Records so far.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    fn draw(&mut self) {
        self.drawn = Instant::now();
        if let Some(bar) = &self.bar {
            bar.set_message(self.summary());
            screen::draw(std::slice::from_ref(bar));
        }
    }

    /// "12,000 records sent, 2.3 MB, 4,000 records/s", with the share in between if the total is known.
    pub(crate) fn summary(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let rate = self.records as f64 / seconds;
        let (records, size) = (number(self.records as f64), bytes(self.size_bytes));
        let share = self.total_bytes.map(|total| {
            let percent = (self.size_bytes as f64 / total as f64 * 100.0).min(100.0);
            format!(" of {} ({percent:.0} %)", bytes(total))
        });
        format!("{records} records {}, {size}{}, {} records/s", self.verb, share.unwrap_or_default(), number(rate))
    }

    /// Takes the line off the screen.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

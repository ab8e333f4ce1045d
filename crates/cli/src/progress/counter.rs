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
}

impl Counter {
    /// A count of zero; `verb` as in "12,000 records sent".
    pub(crate) fn new(verb: &'static str) -> Self {
        let now = Instant::now();
        let bar = screen::is_live().then(screen::line);
        Self { verb, bar, began: now, drawn: now, records: 0, size_bytes: 0 }
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

    /// "12,000 records sent, 2.3 MB, 4,000 records/s".
    pub(crate) fn summary(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let rate = self.records as f64 / seconds;
        let (records, size) = (number(self.records as f64), bytes(self.size_bytes));
        format!("{records} records {}, {size}, {} records/s", self.verb, number(rate))
    }

    /// Takes the line off the screen.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

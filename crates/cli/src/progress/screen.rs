//! The one live block of this process's terminal, and the way past it for everyone else who writes there.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

static BLOCK: OnceLock<MultiProgress> = OnceLock::new();

fn block() -> &'static MultiProgress {
    BLOCK.get_or_init(MultiProgress::new)
}

/// Whether there is a terminal to draw on.
pub(crate) fn is_live() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Runs `write`, which prints lines, with the block out of the way.
pub(crate) fn above<R>(write: impl FnOnce() -> R) -> R {
    match BLOCK.get() {
        Some(block) => {
            let written = block.suspend(write);
            park();
            written
        }
        None => write(),
    }
}

/// Draws the lines of the block as they are now.
pub(crate) fn draw(lines: &[ProgressBar]) {
    lines.iter().for_each(ProgressBar::tick);
    park();
}

/// Takes the block away and leaves `lines` in its place, as text that stays.
pub(crate) fn leave(bars: &[ProgressBar], lines: &[String]) {
    bars.iter().for_each(ProgressBar::finish_and_clear);
    above(|| {
        let mut text = lines.join("\n");
        text.push('\n');
        // Nowhere is left to say that stderr is gone.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    });
}

/// Puts the cursor at the start of the block's last line. At its end, where a draw leaves it, the terminal's `^C` would
/// go to a new line, and everything after it would be drawn one line too low.
fn park() {
    if is_live() {
        let _ = io::stderr().lock().write_all(b"\r");
    }
}

/// A new line at the block's end, cut at the terminal's width. Without a terminal it draws nothing.
pub(crate) fn line() -> ProgressBar {
    let bar = block().add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
        bar.set_style(style);
    }
    bar
}

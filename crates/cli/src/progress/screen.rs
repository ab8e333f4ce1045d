//! The one live block of this process's terminal, and the way past it for everyone else who writes there.

use std::io::{self, IsTerminal};
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
        Some(block) => block.suspend(write),
        None => write(),
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

//! Logs on stderr: time, level, words and key=value fields, without secrets, and never through a live view.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::secrets::redact;
use crate::error::{Failure, Result};
use crate::progress::screen;

/// What is logged when nobody says: our own words, and only warnings of what we build on.
const DEFAULT_FILTER: &str =
    "warn,highwater=info,highwater_engine=info,highwater_connectors=info,highwater_broker=info";

/// Starts logging with `filter`: a level for Highwater's own modules, or a full filter (`warn,highwater_broker=debug`).
pub(crate) fn start(filter: Option<&str>) -> Result<()> {
    let filter = match filter {
        None => DEFAULT_FILTER.to_owned(),
        Some(level) if is_level(level) => DEFAULT_FILTER.replace("=info", &format!("={}", level.to_ascii_lowercase())),
        Some(filter) => filter.to_owned(),
    };
    let parsed = EnvFilter::try_new(&filter).map_err(|error| {
        Failure::usage(format!("log filter '{filter}' is not understood: {error}"))
            .help("use error, warn, info, debug, trace, or a list such as warn,highwater_broker=debug")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_target(false)
        .with_ansi(coloured())
        .with_writer(Stderr)
        .try_init()
        .map_err(|error| Failure::runtime(format!("logging cannot start: {error}")))
}

fn is_level(text: &str) -> bool {
    ["error", "warn", "info", "debug", "trace", "off"].iter().any(|level| level.eq_ignore_ascii_case(text))
}

/// Whether stderr takes colours: a terminal, and NO_COLOR (no-color.org) does not say no.
pub(crate) fn coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes whole lines to stderr, above the live view if there is one.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One event, written when it is whole.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        screen::above(|| {
            // Nowhere is left to say that stderr is gone.
            let _ = io::stderr().lock().write_all(redact(&text).as_bytes());
        });
    }
}

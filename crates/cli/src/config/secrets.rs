//! References to secrets, and the promise that what they stand for is not printed.
//!
//! `${env:NAME}` is the environment variable NAME, `${file:PATH}` the content of a file without its last newline.
//! Every value that was resolved is remembered for the life of the process, and [`redact`] takes it out of whatever
//! is about to be shown. Refuses to guess: a missing variable or file is an error.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Mutex;

/// What replaces a secret in output.
const REDACTED: &str = "******";

/// Shorter values are left alone: taking every "1" out of a message would hide more than it keeps.
const MIN_LENGTH: usize = 4;

static RESOLVED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The value of a reference (`env:NAME` or `file:PATH`), `None` if `reference` is not of that form; the error is a
/// sentence without a place. A relative path is relative to `base`.
pub(crate) fn resolve(reference: &str, base: &Path) -> Option<Result<String, String>> {
    let value = if let Some(name) = reference.strip_prefix("env:") {
        std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => format!("environment variable {name} is not set"),
            std::env::VarError::NotUnicode(_) => format!("environment variable {name} is not UTF-8 text"),
        })
    } else if let Some(path) = reference.strip_prefix("file:") {
        std::fs::read_to_string(base.join(path))
            .map(|text| text.strip_suffix('\n').map_or(text.clone(), |line| line.trim_end_matches('\r').to_owned()))
            .map_err(|error| format!("secret file {path} cannot be read: {error}"))
    } else {
        return None;
    };
    Some(value.inspect(|value| remember(value)))
}

fn remember(value: &str) {
    if value.len() < MIN_LENGTH {
        return;
    }
    if let Ok(mut values) = RESOLVED.lock() {
        if !values.iter().any(|known| known == value) {
            values.push(value.to_owned());
            values.sort_by_key(|known| std::cmp::Reverse(known.len()));
        }
    }
}

/// `text` without any secret that was resolved in this process.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let Ok(values) = RESOLVED.lock() else { return Cow::Borrowed(REDACTED) };
    values.iter().fold(Cow::Borrowed(text), |text, value| {
        if text.contains(value.as_str()) { Cow::Owned(text.replace(value.as_str(), REDACTED)) } else { text }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reference_is_resolved_and_from_then_on_redacted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("password"), "hunter2-of-this-test\n").unwrap();
        let value = resolve("file:password", dir.path()).unwrap().unwrap();
        assert_eq!(value, "hunter2-of-this-test");
        assert_eq!(redact("login with hunter2-of-this-test failed"), "login with ****** failed");
    }

    #[test]
    fn what_is_missing_is_named() {
        let base = Path::new("/nonexistent");
        assert_eq!(
            resolve("env:HIGHWATER_NO_SUCH_VARIABLE", base).unwrap().unwrap_err(),
            "environment variable HIGHWATER_NO_SUCH_VARIABLE is not set"
        );
        assert!(resolve("file:nothing", base).unwrap().unwrap_err().starts_with("secret file nothing cannot be read"));
        assert!(resolve("path", base).is_none());
    }
}

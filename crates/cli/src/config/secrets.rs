//! The promise that secrets are not printed.
//!
//! `${env:NAME}` (an environment variable) and `${file:PATH}` (a file's content) stand in option values; the engine
//! puts their values in place just before a connector sees them. Here the same values are only remembered, for the
//! life of the process, so that [`redact`] can take them out of whatever is about to be shown.

use std::borrow::Cow;
use std::sync::Mutex;

/// What replaces a secret in output.
const REDACTED: &str = "******";

/// Shorter values are left alone: taking every "1" out of a message would hide more than it keeps.
const MIN_LENGTH: usize = 4;

static VALUES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Whether `name` refers to a secret. If it does, its value is never shown from now on.
pub(crate) fn is_reference(name: &str) -> bool {
    let value = match name.split_once(':') {
        Some(("env", variable)) => std::env::var(variable).ok(),
        Some(("file", path)) => std::fs::read_to_string(path).ok(),
        _ => return false,
    };
    // What is missing is for the engine to complain about, where it is used.
    if let Some(value) = value {
        remember(value.trim_end());
    }
    true
}

/// The same for every reference in the value of an option.
pub(crate) fn remember_references(value: &str) {
    for reference in value.split("${").skip(1).filter_map(|rest| rest.split_once('}')) {
        is_reference(reference.0);
    }
}

/// A value that is never shown from now on.
pub(crate) fn remember(value: &str) {
    if value.len() < MIN_LENGTH {
        return;
    }
    if let Ok(mut values) = VALUES.lock()
        && !values.iter().any(|known| known == value)
    {
        values.push(value.to_owned());
        // The longest first, so that no part of it is left over.
        values.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }
}

/// `text` without any secret that is referred to in this process.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let Ok(values) = VALUES.lock() else { return Cow::Borrowed(REDACTED) };
    values.iter().fold(Cow::Borrowed(text), |text, value| {
        if text.contains(value.as_str()) { Cow::Owned(text.replace(value.as_str(), REDACTED)) } else { text }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_referred_to_is_redacted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "hunter2-of-this-test\n").unwrap();
        assert!(is_reference(&format!("file:{}", path.display())));
        assert_eq!(redact("login with hunter2-of-this-test failed"), "login with ****** failed");
        std::fs::write(&path, "hunter3-of-this-test\n").unwrap();
        remember_references(&format!("key:${{file:{}}}", path.display()));
        assert_eq!(redact("hunter3-of-this-test"), "******");
    }

    #[test]
    fn names_are_references_only_by_their_form() {
        assert!(is_reference("env:HIGHWATER_NO_SUCH_VARIABLE"));
        assert!(!is_reference("path") && !is_reference("spark:conf"));
    }
}

//! `${name}` in SQL text: Spark's configuration substitution, with errors instead of silence.
//!
//! A name is looked up in `--param`, then in the project's `configuration`; `${env:NAME}` and `${file:PATH}` are
//! secrets and left for the engine (see [`super::secrets`]). Comments are left as they are. A name that nobody set is an error with its
//! place; Spark would leave the text as it stands and fail later, elsewhere.

use std::collections::BTreeMap;

use highwater_engine::error::nearest;

use super::secrets;
use crate::error::{Failure, Place, Result};

/// Values for `${name}`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters {
    values: BTreeMap<String, String>,
}

impl Parameters {
    /// Sets values; a later one of the same name wins.
    #[must_use]
    pub(crate) fn with(mut self, values: impl IntoIterator<Item = (String, String)>) -> Self {
        self.values.extend(values);
        self
    }

    /// `text`, the content of `file`, with every `${...}` outside comments replaced.
    pub(crate) fn substitute(&self, file: &str, text: &str) -> Result<String> {
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        for reference in references(text) {
            let name = &text[reference.start + 2..reference.end - 1];
            if secrets::is_reference(name) {
                continue;
            }
            let value = self.values.get(name).ok_or_else(|| {
                let place = Place::at_offset(file, text, reference.start, reference.end - reference.start);
                self.unset(name).at(place)
            })?;
            out.push_str(&text[copied..reference.start]);
            out.push_str(value);
            copied = reference.end;
        }
        out.push_str(&text[copied..]);
        Ok(out)
    }

    fn unset(&self, name: &str) -> Failure {
        let failure = Failure::invalid(format!("parameter ${{{name}}} is not set"));
        failure.help(match nearest(name, self.values.keys().map(String::as_str)) {
            Some(near) => format!("did you mean ${{{near}}}?"),
            None => format!("add --param {name}=VALUE, or set it under 'configuration' in spark-pipeline.yml"),
        })
    }
}

/// The byte ranges of `${...}` in SQL text, comments left out.
fn references(text: &str) -> Vec<std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut quote: Option<u8> = None;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        at += if rest.starts_with(b"${") {
            match reference_length(&text[at..]) {
                Some(length) => {
                    found.push(at..at + length);
                    length
                }
                None => 2,
            }
        } else if let Some(open) = quote {
            if rest[0] == open {
                quote = None;
            }
            if rest[0] == b'\\' { 2 } else { 1 }
        } else if rest.starts_with(b"--") {
            length_to(rest, b"\n")
        } else if rest.starts_with(b"/*") {
            length_to(rest, b"*/")
        } else {
            if matches!(rest[0], b'\'' | b'"' | b'`') {
                quote = Some(rest[0]);
            }
            1
        };
    }
    found
}

/// The length of the `${...}` at the start of `text`; names hold no braces and stay on one line.
fn reference_length(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let name = &text[2..end];
    (!name.is_empty() && !name.contains(['{', '\n'])).then_some(end + 1)
}

/// How far it is to the end of the first `end`, or to the end of the text.
fn length_to(bytes: &[u8], end: &[u8]) -> usize {
    bytes.windows(end.len()).position(|window| window == end).map_or(bytes.len(), |at| at + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Parameters {
        Parameters::default().with([("path".into(), "/data/in".into()), ("bootstrap".into(), "b:9092".into())])
    }

    #[test]
    fn names_are_replaced_in_strings_and_outside_but_not_in_comments() {
        let text = "-- set ${path}\nSELECT '${path}', ${path} /* ${other} */ FROM `${bootstrap}` -- don't ${x}";
        let expected = "-- set ${path}\nSELECT '/data/in', /data/in /* ${other} */ FROM `b:9092` -- don't ${x}";
        assert_eq!(parameters().substitute("q.sql", text).unwrap(), expected);
    }

    #[test]
    fn dashes_and_escaped_quotes_inside_strings_are_not_comments() {
        let text = r"SELECT 'it\'s -- ${path}', '/* ${path}' FROM t";
        assert_eq!(
            parameters().substitute("q.sql", text).unwrap(),
            r"SELECT 'it\'s -- /data/in', '/* /data/in' FROM t"
        );
    }

    #[test]
    fn a_name_nobody_set_is_an_error_at_its_place() {
        let error = parameters().substitute("q.sql", "SELECT 1;\nSELECT '${pth}'").unwrap_err();
        assert_eq!(
            error.render(false),
            "error: parameter ${pth} is not set\n  --> q.sql:2:9\n   |\n 2 | SELECT '${pth}'\n   |         \
             ^^^^^^\nhelp: did you mean ${path}?\n"
        );
    }

    #[test]
    fn secrets_are_left_for_the_engine() {
        let text = "OPTIONS ('kafka.sasl.password' = '${env:PASSWORD}', path = '${path}')";
        let expected = "OPTIONS ('kafka.sasl.password' = '${env:PASSWORD}', path = '/data/in')";
        assert_eq!(parameters().substitute("q.sql", text).unwrap(), expected);
    }
}

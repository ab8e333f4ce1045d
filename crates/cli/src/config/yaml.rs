//! YAML files read strictly: every mistake has a place, and an unknown key the nearest one there is.

use highwater_engine::error::{Span, nearest};
use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location};

use crate::error::{Failure, Place, Result};

/// The content of `file` as a `T`.
pub(crate) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    serde_saphyr::from_str(text).map_err(|error| failure(file, text, error.without_snippet()))
}

/// A failure about the value at `location`.
pub(crate) fn failure_at(file: &str, text: &str, location: Location, message: String, length: usize) -> Failure {
    let failure = Failure::invalid(message);
    if location == Location::UNKNOWN {
        return failure.help(format!("look in {file}"));
    }
    let span = Span { line: location.line(), column: location.column(), length: length.max(1) as u64 };
    failure.at(Place::in_text(file, text, span))
}

fn failure(file: &str, text: &str, error: &Error) -> Failure {
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let at = |message: String, length: usize| failure_at(file, text, location, message, length);
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let known = expected.join(", ");
            at(format!("unknown key '{field}'"), field.chars().count()).help(
                match nearest(field, expected.iter().copied()) {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => format!("known keys here: {known}"),
                },
            )
        }
        Error::SerdeMissingField { field, .. } => {
            at(format!("the key '{field}' is missing"), 1).help(format!("add a line '{field}: ...'"))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let failure = at(format!("'{variant}' is not one of {}", expected.join(", ")), variant.chars().count());
            match nearest(variant, expected.iter().copied()) {
                Some(near) => failure.help(format!("did you mean '{near}'?")),
                None => failure,
            }
        }
        Error::SerdeInvalidType { unexpected, expected, .. } => {
            at(format!("found {unexpected}, expected {expected}"), 1)
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            at(format!("the key '{key}' stands twice"), key.chars().count()).help("keep one of the two")
        }
        other => at(format!("not the YAML that was expected: {}", first_line(other)), 1),
    }
}

/// The library's own words, without the place it repeats.
fn first_line(error: &Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.split(" at line ").next().unwrap_or(line).trim_start_matches("error: ").to_owned()
}

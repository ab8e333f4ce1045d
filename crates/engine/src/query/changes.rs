//! What an `AUTO CDC` flow asks of its target, and others whose rows can go: that rows can be replaced and taken away, by
//! nobody else.

use crate::error::{EngineError, Result};
use crate::plan::catalog::Table;
use crate::plan::program::{Flow, Program};
use crate::sink::OutputMode;

/// Refuses a target that cannot follow changes, and an output mode that means something else.
pub(super) fn check_target(flow: &Flow, description: &str, target: &dyn Table, mode: Option<OutputMode>) -> Result<()> {
    if let Some(mode) = mode.filter(|mode| *mode != OutputMode::Update) {
        return Err(EngineError::config(format!(
            "flow '{}' replaces rows of its target (AUTO CDC), found output mode {mode}",
            flow.name
        ))
        .help("leave the output mode out: it is update"));
    }
    if target.takes_deletes() {
        return Ok(());
    }
    Err(EngineError::query_at(
        flow.span,
        format!(
            "[AUTOCDC_TARGET_DOES_NOT_SUPPORT_MERGE] {description} cannot take the rows of an AUTO CDC flow: it keeps what \
             was written, and they replace and delete rows"
        ),
    )
    .help("use USING delta (the default of a streaming table), sqlite, memory or kafka"))
}

/// Refuses a target that cannot be told that a group is gone.
pub(super) fn check_takes_deletes(description: &str, target: &dyn Table) -> Result<()> {
    if target.takes_deletes() {
        return Ok(());
    }
    Err(EngineError::config(format!(
        "{description} does not take deletes, which output mode update needs here: a group may lose all of its rows, when \
         these move to another group"
    ))
    .help("use delta, sqlite, memory or kafka, or output mode complete"))
}

/// Refuses other flows into a table that follows changes: each would undo what the others do.
pub(super) fn check_only_flow(program: &Program, flow: &Flow) -> Result<()> {
    let Some(target) = &flow.target else { return Ok(()) };
    let fills = |other: &&Flow| other.target.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(target));
    let other = program.flows.iter().filter(fills).find(|other| other.name != flow.name);
    match other {
        Some(other) if program.follows_changes(target) => Err(EngineError::query_at(
            flow.span,
            format!(
                "table '{target}' follows changes (AUTO CDC), and flows '{}' and '{}' write to it",
                other.name, flow.name
            ),
        )
        .help("let one AUTO CDC flow write to it: FROM (SELECT ... FROM STREAM a UNION ALL SELECT ... FROM STREAM b)")),
        _ => Ok(()),
    }
}

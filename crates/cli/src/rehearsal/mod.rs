//! `highwater test`: a project run on given rows, with expected rows compared, and nothing outside touched.
//!
//! ```text
//!   tests/*.yml ──file──> tests: given, steps (advance, input), expected rows
//!   project ──stand-ins for its connectors──> Pipeline ──a start a step──> tables in memory ──compare──> outcome
//!                                                └ a clock that moves when a step says so
//! ```
//!
//! Every step starts the pipeline, lets it take all there is and stops it, on one checkpoint in a folder that goes
//! afterwards: so each test is a test of going on, too. Batches are as the steps make them: rows of one step are one
//! batch of their source. Output modes are the project's; triggers are not waited for.

pub(crate) mod compare;
mod csv;
pub(crate) mod file;
mod rows;
mod run;

pub(crate) use file::TestFile;
pub(crate) use run::{Outcome, Problem, run};

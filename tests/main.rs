//! Tests of the whole: the binary as a user runs it, and the rules of the source tree.

mod broker;
mod cli;
mod program;
mod tidy;

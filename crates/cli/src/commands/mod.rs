//! One module a verb: arguments in, words and an exit code out. What is more than wiring lives beside this folder.

pub(crate) mod broker;
pub(crate) mod checkpoint;
pub(crate) mod completions;
pub(crate) mod connect;
pub(crate) mod doctor;
pub(crate) mod dry_run;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod init;
pub(crate) mod migrate;
pub(crate) mod query;
pub(crate) mod run;
pub(crate) mod sql;
pub(crate) mod state;
pub(crate) mod test;
pub(crate) mod topic;
pub(crate) mod validate;

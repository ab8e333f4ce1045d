//! Settings from files, the environment and the command line.
//!
//! ```text
//!   flag  >  HIGHWATER_* environment  >  highwater.yml  >  default
//! ```
//!
//! Files are strict: an unknown key is an error with its place and the nearest key there is. A secret stands in a
//! file only by reference (`${env:NAME}`, `${file:PATH}`), never by value.

pub(crate) mod broker_yml;
pub(crate) mod highwater_yml;
pub(crate) mod parameters;
pub(crate) mod secrets;
pub(crate) mod yaml;

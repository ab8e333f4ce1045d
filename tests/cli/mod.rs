//! The command line as a user meets it: what works, and what every mistake says.

mod administration;
mod broker_settings;
mod datagen;
mod mistakes;
mod records;
mod topics;

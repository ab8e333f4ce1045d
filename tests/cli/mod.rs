//! The command line as a user meets it: what works, and what every mistake says.

mod administration;
mod broker_settings;
mod changes;
mod checkpoints;
mod datagen;
mod doctor;
mod mistakes;
mod projects;
mod records;
mod state;
mod testing;
mod topics;

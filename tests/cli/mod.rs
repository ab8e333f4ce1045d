//! The command line as a user meets it: what works, and what every mistake says.

mod datagen;
mod mistakes;
mod topics;

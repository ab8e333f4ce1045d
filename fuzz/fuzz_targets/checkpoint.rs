//! Any bytes as a file of a checkpoint, with and without checksums that fit: read, or said to be damaged.
//!
//! The first byte says which file.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((which, content)) = data.split_first() else { return };
    highwater_engine::fuzzing::checkpoint_file(*which, content, false);
    highwater_engine::fuzzing::checkpoint_file(*which, content, true);
});

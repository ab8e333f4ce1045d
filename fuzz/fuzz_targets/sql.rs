//! Any text as a program and as a query: planned or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        highwater_engine::fuzzing::sql(text);
    }
});

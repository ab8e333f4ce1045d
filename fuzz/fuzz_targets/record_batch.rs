//! Any bytes as the records of a produce request, with and without a checksum that fits: checked, stamped, unpacked.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    highwater_broker::fuzzing::record_batch(data.to_vec(), false);
    highwater_broker::fuzzing::record_batch(data.to_vec(), true);
});

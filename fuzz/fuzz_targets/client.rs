//! Bytes as a server might send them, through a client's session. Nothing may panic, and everybody who waits for
//! an answer is told.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ringmq_client::fuzzing::receive(data));

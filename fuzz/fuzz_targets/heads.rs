#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| eagleray_wire::fuzz::heads(input));

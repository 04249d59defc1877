#![no_main]

#[path = "../../crates/proxy/tests/fuzz/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| target::websocket(input));

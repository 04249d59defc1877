#![no_main]

#[path = "../../crates/config/tests/fuzz/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| target::config(input));

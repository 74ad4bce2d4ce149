#![no_main]

#[path = "../checks/status.rs"]
mod status;

libfuzzer_sys::fuzz_target!(|input: &[u8]| status::check(input));

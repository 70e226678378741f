#![no_main]

#[path = "../checks/connector.rs"]
mod connector;

libfuzzer_sys::fuzz_target!(|input: &[u8]| connector::check(input));

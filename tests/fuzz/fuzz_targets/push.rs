#![no_main]

#[path = "../checks/push.rs"]
mod push;

libfuzzer_sys::fuzz_target!(|input: &str| push::check(input));

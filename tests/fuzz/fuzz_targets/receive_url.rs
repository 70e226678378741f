#![no_main]

#[path = "../checks/receive_url.rs"]
mod receive_url;

libfuzzer_sys::fuzz_target!(|input: &str| receive_url::check(input));

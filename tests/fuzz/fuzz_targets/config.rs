#![no_main]

#[path = "../checks/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|input: (&str, Vec<(&str, &str)>)| config::check(input));

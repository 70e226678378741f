#![no_main]

#[path = "../checks/answer.rs"]
mod answer;

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, &[u8])| answer::check(input));

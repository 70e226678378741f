#![no_main]

#[path = "../checks/session.rs"]
mod session;

libfuzzer_sys::fuzz_target!(|input: (bool, Vec<u8>, &[u8])| session::check(input));

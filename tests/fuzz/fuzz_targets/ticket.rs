#![no_main]

#[path = "../checks/ticket.rs"]
mod ticket;

libfuzzer_sys::fuzz_target!(|input: (&str, [u8; 16], u64, usize)| ticket::check(input));

//! Micro-benchmarks of the work for every message, without sockets: `cargo bench --bench core -- --help`.
//!
//! Smoke test of all of them, in seconds: `cargo bench --profile dev --bench core -- --test`

mod codec;
mod fanout;
#[path = "../shared/filled_store.rs"]
mod filled_store;
mod queues;
mod session;
mod sessions;
mod timeline;
mod wafer;

use std::time::Instant;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    codec::benches(&mut criterion);
    session::benches(&mut criterion);
    wafer::benches(&mut criterion);
    queues::benches(&mut criterion);
    fanout::benches(&mut criterion);
    sessions::benches(&mut criterion);
    timeline::benches(&mut criterion);
    criterion.final_summary();
}

/// An arbitrary start time.
#[expect(clippy::disallowed_methods, reason = "benchmarks pick a start")]
fn start() -> Instant {
    Instant::now()
}

/// A JSON message of an application, `bytes` long.
fn content(bytes: usize) -> String {
    let head = r#"{"type":"speak","content":""#;
    format!(r#"{head}{}"}}"#, "x".repeat(bytes - head.len() - 2))
}

/// A client's masked text frame.
fn masked(text: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(short @ ..126), _) => vec![0x81, 0x80 | short],
        (_, Ok(medium)) => [&[0x81, 0xfe][..], &medium.to_be_bytes()].concat(),
        _ => [&[0x81, 0xff][..], &(text.len() as u64).to_be_bytes()].concat(),
    };
    frame.extend(MASK);
    frame.extend(text.bytes().zip(MASK.into_iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

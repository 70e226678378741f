//! A client with an open tunnel while others arrive: measures its heartbeat times meanwhile.

use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;

use super::clients::upgrade;
use super::front::Stand;
use crate::clock::now;
use crate::frame;
use crate::http;
use crate::latency::Latency;

/// The time between two heartbeats.
const BEAT: Duration = Duration::from_millis(10);

/// The client, on a thread of its own.
pub(crate) struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Latency>>,
}

impl Bystander {
    /// Opens its tunnel and starts to send `ping`.
    pub(crate) fn watch(stand: &Stand) -> anyhow::Result<Self> {
        let path = stand.tunnels(1)?.pop().context("one tunnel")?;
        let mut stream = stand.connect()?;
        stream.write_all(&upgrade(&path))?;
        let mut input = vec![];
        let answer = read_until(&mut stream, &mut input, |input| http::read(input).map(|answer| answer.bytes))?;
        anyhow::ensure!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        read_until(&mut stream, &mut input, |input| frame::read(input).map(|frame| frame.bytes))?;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut latency, mut ping) = (Latency::default(), vec![]);
            frame::write_masked(&mut ping, b"ping");
            while !is_over.load(Ordering::Acquire) {
                let begun = now();
                stream.write_all(&ping)?;
                read_until(&mut stream, &mut input, |input| frame::read(input).map(|frame| frame.bytes))?;
                latency.add(now() - begun);
                thread::sleep(BEAT);
            }
            Ok(latency)
        });
        Ok(Self { stop, thread })
    }

    /// Stops it and returns its heartbeat times.
    pub(crate) fn end(self) -> anyhow::Result<Latency> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("no panic").context("the bystander")
    }
}

/// Reads until `whole` finds a complete message, and removes it.
fn read_until(
    stream: &mut impl Read,
    input: &mut Vec<u8>,
    whole: impl Fn(&[u8]) -> Option<usize>,
) -> anyhow::Result<Vec<u8>> {
    let mut buffer = [0; 4_096];
    loop {
        if let Some(bytes) = whole(input) {
            return Ok(input.drain(..bytes).collect());
        }
        let read = stream.read(&mut buffer).context("no answer in time")?;
        anyhow::ensure!(read > 0, "closed");
        input.extend_from_slice(&buffer[..read]);
    }
}

//! A live view of a gateway, read beside a measurement: whatever is not shown must be said to be skipped.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use anyhow::ensure;

use crate::clock::now;
use crate::server::KEY;
use crate::server::Server;
use crate::wire::Protocol;

/// Longest time until the last record comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A reader of `GET /v1/tail`.
pub(super) struct Live {
    stream: TcpStream,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    shown: AtomicU64,
    skipped: AtomicU64,
}

/// What a live view has seen of the attempts for messages.
pub(super) struct Seen {
    pub(super) shown: u64,
    pub(super) skipped: u64,
}

impl Live {
    /// Begins to read.
    pub(super) fn open(server: &Server, dialect: &Protocol) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(server.address)?;
        let (host, tenant) = (server.address, dialect.tenant());
        write!(stream, "GET /v1/tail HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {tenant}:{KEY}\r\n\r\n")?;
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200 "), "no live view: {line}");
        while !line.starts_with("event: open") {
            line.clear();
            ensure!(lines.read_line(&mut line)? > 0, "the live view ended before it began");
        }
        let counts = Arc::new(Counts::default());
        let own = Arc::clone(&counts);
        thread::spawn(move || own.count(lines));
        Ok(Self { stream, counts })
    }

    /// Waits until as many events as there were are shown or said to be skipped, and ends.
    pub(super) fn close(self, events: u64) -> anyhow::Result<Seen> {
        let begun = now();
        loop {
            let [shown, skipped] =
                [&self.counts.shown, &self.counts.skipped].map(|count| count.load(Ordering::Acquire));
            if shown + skipped == events {
                self.stream.shutdown(Shutdown::Both)?;
                return Ok(Seen { shown, skipped });
            }
            if shown + skipped > events || now() - begun > PATIENCE {
                bail!("of {events} events {shown} were shown live and {skipped} said to be skipped");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Counts {
    /// Counts until the stream ends.
    fn count(&self, lines: impl BufRead) {
        for line in lines.lines().map_while(Result::ok) {
            if let Some(count) = line.strip_prefix("data: {\"count\":") {
                let count = count.trim_end_matches('}').parse().unwrap_or(0);
                self.skipped.fetch_add(count, Ordering::AcqRel);
            } else if line.starts_with("data: ") && line.contains("\"type\":\"attempt\"") {
                self.shown.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

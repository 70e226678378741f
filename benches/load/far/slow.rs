//! A business server with limited capacity: a number of workers with a fixed service time; further requests queue up or are
//! refused.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpListener;
use mio::net::TcpStream;

use crate::clock::now;
use crate::http;
use crate::world::ACCEPTED;

/// The response to a refused request.
const REFUSED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// How often it checks whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Its capacity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    /// Requests per second, all workers together.
    pub(super) per_second: usize,
    /// Concurrent requests.
    pub(super) workers: usize,
    /// Whether further requests queue up instead of being refused.
    pub(super) has_queue: bool,
}

/// Its counters.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Requests handled, including abandoned ones.
    pub(super) handled: AtomicUsize,
    /// Requests refused.
    pub(super) refused: AtomicUsize,
}

/// The running server; it ends when dropped.
pub(super) struct Slow {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its counters so far.
    pub(super) done: Arc<Done>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Slow {
    /// Starts it.
    pub(super) fn start(capacity: Capacity) -> io::Result<Self> {
        let door = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        let address = door.local_addr()?;
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Done::default()));
        let (is_over, counts) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = Some(thread::spawn(move || Works::new(capacity, counts).serve(door, &is_over)));
        Ok(Self { address, done, stop, thread })
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("load: the slow business server: {error}"),
            Some(Err(_)) => eprintln!("load: the slow business server panicked"),
            _ => {}
        }
    }
}

/// A connection of the gateway, with the bytes of its next request.
struct Delivery {
    stream: TcpStream,
    carry: Vec<u8>,
}

struct Works {
    capacity: Capacity,
    service: Duration,
    done: Arc<Done>,
    guests: Vec<Option<Delivery>>,
    /// When each worker becomes free, and the connection it works for.
    busy: BinaryHeap<Reverse<(Instant, usize)>>,
    queue: VecDeque<usize>,
}

impl Works {
    fn new(capacity: Capacity, done: Arc<Done>) -> Self {
        let service = Duration::from_secs(capacity.workers as u64) / capacity.per_second as u32;
        Self { capacity, service, done, guests: vec![], busy: BinaryHeap::new(), queue: VecDeque::new() }
    }

    fn serve(&mut self, mut door: TcpListener, is_over: &AtomicBool) -> io::Result<()> {
        let mut poll = Poll::new()?;
        poll.registry().register(&mut door, Token(0), Interest::READABLE)?;
        let (mut events, mut buffer) = (Events::with_capacity(256), vec![0; 64 * 1024]);
        while !is_over.load(Ordering::Acquire) {
            let wait =
                self.busy.peek().map_or(LOOK_EVERY, |Reverse((ready, _))| ready.saturating_duration_since(now()));
            // The system waits in whole milliseconds: shorter waits spin.
            poll.poll(&mut events, Some(Duration::from_millis(wait.min(LOOK_EVERY).as_millis() as u64)))?;
            for event in &events {
                if let Some(guest) = event.token().0.checked_sub(1) {
                    self.hear(guest, &mut buffer);
                    continue;
                }
                while let Ok((mut stream, _)) = door.accept() {
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(self.guests.len() + 1), Interest::READABLE)?;
                    self.guests.push(Some(Delivery { stream, carry: vec![] }));
                }
            }
            self.finish();
        }
        Ok(())
    }

    /// Reads from a connection; at most one request at a time results.
    fn hear(&mut self, number: usize, buffer: &mut [u8]) {
        let mut requests = 0;
        while let Some(guest) = &mut self.guests[number] {
            match guest.stream.read(buffer) {
                Ok(read) if read > 0 => guest.carry.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => self.guests[number] = None,
            }
            if let Some(Delivery { carry, .. }) = &mut self.guests[number] {
                while let Some(bytes) = http::read(carry).map(|request| request.bytes) {
                    carry.drain(..bytes);
                    requests += 1;
                }
            }
        }
        (0..requests).for_each(|_| self.take(number));
    }

    fn take(&mut self, guest: usize) {
        if self.busy.len() < self.capacity.workers {
            self.busy.push(Reverse((now() + self.service, guest)));
        } else if self.capacity.has_queue {
            self.queue.push_back(guest);
        } else {
            self.done.refused.fetch_add(1, Ordering::Relaxed);
            self.answer(guest, REFUSED);
        }
    }

    fn finish(&mut self) {
        while let Some(Reverse((ready, guest))) =
            self.busy.peek().copied().filter(|Reverse((ready, _))| *ready <= now())
        {
            self.busy.pop();
            self.done.handled.fetch_add(1, Ordering::Relaxed);
            self.answer(guest, ACCEPTED);
            // The server cannot tell which clients still wait.
            if let Some(next) = self.queue.pop_front() {
                self.busy.push(Reverse((ready + self.service, next)));
            }
        }
    }

    fn answer(&mut self, guest: usize, answer: &[u8]) {
        let told = self.guests[guest].as_mut().map(|guest| guest.stream.write_all(answer));
        if told.is_some_and(|told| told.is_err()) {
            self.guests[guest] = None;
        }
    }
}

//! The shared socket of an open tunnel: publishers write to it directly, and queue only what did not fit.

use std::io;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Socket;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Profile;
use crate::protocol::frame;
use crate::protocol::frame::Goodbye;
use crate::protocol::packet;
use crate::tunnel::Outbox;
use crate::webhook::EventQueue;

/// Frames per write.
const MAX_PIECES: usize = 64;
/// Bytes per write, so that the backlog of one client does not delay the other tasks of its thread.
const MAX_WRITE_BYTES: usize = 64 * 1024;

/// `heard_ms` while the client is deliberately not read: its idle clock is paused.
const NOT_LISTENING: u64 = u64::MAX;

/// One open tunnel.
pub struct Connection<S: ?Sized> {
    /// Its events, tunnel id, tenant and receive URL.
    pub event_queue: Arc<EventQueue>,
    /// The protocol of the socket.
    pub profile: Profile,
    /// When it opened, in seconds since 1970; four bytes that are padding otherwise.
    opened_unix_secs: u32,
    /// When the client last sent anything, in milliseconds since the gateway's start.
    heard_ms: AtomicU64,
    writer: Mutex<Writer>,
    socket: S,
}

#[derive(Default)]
struct Writer {
    outbox: Outbox,
    phase: Phase,
    /// The reading task, which also writes queued frames and notices the end.
    reader: Option<Waker>,
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Phase {
    /// Frames go both ways.
    #[default]
    Open,
    /// It has ended for this reason; the last frames may still be queued.
    Closing(CloseReason),
}

/// Result of sending a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sent {
    /// Written, or queued in order.
    Accepted,
    /// The outbox is full: the client does not read.
    Slow,
    /// The connection has ended.
    Closed,
}

/// How far queued frames have been written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flushed {
    /// All of them.
    Whole,
    /// As far as the client reads.
    Blocked,
    /// As much as one turn allows.
    InPart,
}

impl<S: Socket> Connection<S> {
    /// A connection of a client seen just now: `opened` is the time since 1970, `now_ms` since the gateway's start.
    pub fn new(event_queue: Arc<EventQueue>, profile: Profile, socket: S, opened: Duration, now_ms: u64) -> Self {
        let opened_unix_secs = u32::try_from(opened.as_secs()).unwrap_or(u32::MAX);
        Self {
            event_queue,
            profile,
            opened_unix_secs,
            heard_ms: AtomicU64::new(now_ms),
            writer: Mutex::default(),
            socket,
        }
    }
}

impl<S: Socket + ?Sized> Connection<S> {
    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// When it opened, since 1970, to the second.
    pub fn opened_unix(&self) -> Duration {
        Duration::from_secs(self.opened_unix_secs.into())
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        self.writer.lock().phase
    }

    /// Sends a frame after all earlier ones: written at once if nothing is queued, else queued.
    pub fn send(&self, frame: &Bytes, limit_bytes: usize, now: Instant) -> Sent {
        let mut writer = self.writer.lock();
        if writer.phase != Phase::Open {
            return Sent::Closed;
        }
        if !writer.outbox.is_empty() {
            return self.queue_or_write(&mut writer, frame, limit_bytes, now);
        }
        let written = match self.socket.try_write(&[IoSlice::new(frame)]) {
            Ok(written) if written == frame.len() => {
                if !matches!(self.socket.try_flush(), Ok(true)) {
                    writer.wake_reader();
                }
                return Sent::Accepted;
            }
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Sent::Closed,
        };
        let sent = writer.queue(frame, written, limit_bytes, now);
        writer.wake_reader();
        sent
    }

    /// Queues a frame after all earlier ones; true if it is the first in the queue, which the caller must then flush
    /// after its last frame.
    ///
    /// If the outbox is full, queued frames are written first.
    pub fn queue(&self, frame: &Bytes, limit_bytes: usize, now: Instant) -> (Sent, bool) {
        let mut writer = self.writer.lock();
        if writer.phase != Phase::Open {
            return (Sent::Closed, false);
        }
        let is_first = writer.outbox.is_empty();
        (self.queue_or_write(&mut writer, frame, limit_bytes, now), is_first)
    }

    /// Writes queued frames for one turn; the reading task handles the rest and errors.
    pub fn flush_queued(&self) {
        if !matches!(self.flush(), Ok(Flushed::Whole)) {
            self.writer.lock().wake_reader();
        }
    }

    /// Ends the connection unless it has ended; true if this call did.
    ///
    /// Queued frames are still written, unless the client does not read; then a close frame with the reason's code,
    /// after Wafer's `close` packet if the business server wants the client to stay away.
    pub fn close(&self, reason: CloseReason, now: Instant) -> bool {
        self.close_saying(reason, reason.text(), now)
    }

    /// As [`close`](Self::close), with this text of at most 123 bytes in the close frame.
    pub fn close_saying(&self, reason: CloseReason, text: &str, now: Instant) -> bool {
        self.end(reason, reason.code().map(|code| frame::close(Some(code), text)), now)
    }

    /// Ends the connection with a close frame in reply to the client's.
    pub fn answer_goodbye(&self, goodbye: Goodbye, now: Instant) -> bool {
        self.end(CloseReason::ClientClose, Some(frame::close(goodbye.code(), goodbye.text())), now)
    }

    /// Ends the connection with this last frame.
    fn end(&self, reason: CloseReason, last: Option<Bytes>, now: Instant) -> bool {
        let mut writer = self.writer.lock();
        if writer.phase != Phase::Open {
            return false;
        }
        writer.phase = Phase::Closing(reason);
        if reason == CloseReason::SlowConsumer {
            writer.outbox.discard_unbegun();
        }
        if reason == CloseReason::PushedClose && self.profile == Profile::Wafer {
            writer.outbox.push_last(frame::text(packet::CLOSE, ""), now.into_std());
        }
        if let Some(last) = last {
            writer.outbox.push_last(last, now.into_std());
        }
        // The reading task sees errors on its own.
        let _ = self.write_some(&mut writer.outbox);
        writer.wake_reader();
        true
    }

    /// Ready when the reading task has more to do than read: the connection has ended, or queued frames can be written.
    pub fn poll_writer(&self, cx: &mut Context<'_>) -> Poll<io::Result<Phase>> {
        let mut writer = self.writer.lock();
        if writer.reader.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            writer.reader = Some(cx.waker().clone());
        }
        if writer.phase != Phase::Open {
            return Poll::Ready(Ok(writer.phase));
        }
        if writer.outbox.is_empty() && self.socket.try_flush()? {
            return Poll::Pending;
        }
        self.socket.poll_write_ready(cx).map_ok(|()| Phase::Open)
    }

    /// Writes queued frames once: other tasks have their turn before the next write.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    pub fn flush(&self) -> io::Result<Flushed> {
        let mut writer = self.writer.lock();
        let outbox = &mut writer.outbox;
        if !outbox.is_empty() && !self.write_once(outbox)? {
            return Ok(Flushed::Blocked);
        }
        Ok(match outbox.is_empty() {
            false => Flushed::InPart,
            true if self.socket.try_flush()? => Flushed::Whole,
            true => Flushed::Blocked,
        })
    }

    /// Ready when all queued frames are written. Called by the reading task only.
    pub fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.flush()? {
                Flushed::Whole => return Poll::Ready(Ok(())),
                Flushed::Blocked => ready!(self.socket.poll_write_ready(cx))?,
                Flushed::InPart => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    /// When the oldest queued byte was queued.
    pub fn oldest_queued(&self) -> Option<Instant> {
        self.writer.lock().outbox.oldest().map(Instant::from_std)
    }

    /// Queued bytes.
    pub fn queued_bytes(&self) -> usize {
        self.writer.lock().outbox.bytes()
    }

    /// Notes that the client sent something.
    pub fn heard(&self, now_ms: u64) {
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Pauses the idle clock until [`heard`](Self::heard): the client is not read.
    pub fn stop_listening(&self) {
        self.heard_ms.store(NOT_LISTENING, Ordering::Relaxed);
    }

    /// When the client last sent anything, in milliseconds since the gateway's start; now, while the clock is paused.
    pub fn last_heard_ms(&self, now_ms: u64) -> u64 {
        match self.heard_ms.load(Ordering::Relaxed) {
            NOT_LISTENING => now_ms,
            heard_ms => heard_ms,
        }
    }

    /// Queues a frame; if the outbox is full, writes queued frames first, which a batch may not have flushed yet.
    fn queue_or_write(&self, writer: &mut Writer, frame: &Bytes, limit_bytes: usize, now: Instant) -> Sent {
        match writer.queue(frame, 0, limit_bytes, now) {
            Sent::Slow => match self.write_some(&mut writer.outbox) {
                Ok(()) => writer.queue(frame, 0, limit_bytes, now),
                Err(_) => Sent::Closed,
            },
            sent => sent,
        }
    }

    fn write_some(&self, outbox: &mut Outbox) -> io::Result<()> {
        while !outbox.is_empty() && self.write_once(outbox)? {}
        Ok(())
    }

    /// Writes the first queued frames; false if the client does not read.
    fn write_once(&self, outbox: &mut Outbox) -> io::Result<bool> {
        let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
        let first = pieces.iter_mut().zip(outbox.first_bytes(MAX_WRITE_BYTES));
        let count = first.map(|(piece, bytes)| *piece = IoSlice::new(bytes)).count();
        match self.socket.try_write(&pieces[..count]) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                outbox.advance(written);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Writer {
    fn queue(&mut self, frame: &Bytes, written: usize, limit_bytes: usize, now: Instant) -> Sent {
        match self.outbox.push(frame.clone(), written, limit_bytes, now.into_std()) {
            Ok(()) => Sent::Accepted,
            Err(_) => Sent::Slow,
        }
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = &self.reader {
            waker.wake_by_ref();
        }
    }
}

//! One open tunnel's socket as everybody may use it: the publisher writes straight to it, and queues only what did not fit.

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

/// Most frames that leave in one write.
const MAX_PIECES: usize = 64;

/// `heard` while the client is deliberately not read: its silence clock stands still.
const NOT_LISTENING: u64 = u64::MAX;

/// One open tunnel.
pub struct Connection<S: ?Sized> {
    /// Its events; also its id, its tenant and its receive URL.
    pub event_queue: Arc<EventQueue>,
    /// What its socket speaks.
    pub profile: Profile,
    /// When it opened, in seconds since 1970: four bytes that lie idle beside the profile anyway.
    opened_unix_secs: u32,
    /// When the client was last heard, in milliseconds since the gateway's start.
    heard_ms: AtomicU64,
    writer: Mutex<Writer>,
    socket: S,
}

#[derive(Default)]
struct Writer {
    outbox: Outbox,
    phase: Phase,
    /// The task that reads: it also writes what did not fit, and notices the end.
    reader: Option<Waker>,
}

/// How far a connection's life has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Phase {
    /// EncodedCommand go both ways.
    #[default]
    Open,
    /// It has been ended for this reason; the last frames are on their way.
    Closing(CloseReason),
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sent {
    /// It is written, or queued in order.
    Accepted,
    /// There is no room for it: the client does not read.
    Slow,
    /// The connection has ended.
    Closed,
}

impl<S: Socket> Connection<S> {
    /// The connection of a client that was heard just now: `opened` is the time since 1970, `now_ms` since the gateway's start.
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
    /// Its socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// When it opened, since 1970, to the second.
    pub fn opened_unix(&self) -> Duration {
        Duration::from_secs(self.opened_unix_secs.into())
    }

    /// How far its life has come.
    pub fn phase(&self) -> Phase {
        self.writer.lock().phase
    }

    /// Sends one frame, after all that were sent before: written at once if nothing waits, else queued.
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

    /// Queues one frame, after all that were sent before, and says whether it is the first one there: then the caller must flush,
    /// when it has queued more for others too.
    ///
    /// If there is no room for it, what is queued is written first.
    pub fn queue(&self, frame: &Bytes, limit_bytes: usize, now: Instant) -> (Sent, bool) {
        let mut writer = self.writer.lock();
        if writer.phase != Phase::Open {
            return (Sent::Closed, false);
        }
        let is_first = writer.outbox.is_empty();
        (self.queue_or_write(&mut writer, frame, limit_bytes, now), is_first)
    }

    /// Writes what is queued, as far as the client has room; the rest, and errors, are left to the reading task.
    pub fn flush_queued(&self) {
        if !matches!(self.flush(), Ok(true)) {
            self.writer.lock().wake_reader();
        }
    }

    /// Ends the connection, if nothing has ended it yet, and says whether it was this call.
    ///
    /// What has been accepted is still written, unless the client does not read anyway; then a close frame with the reason's code,
    /// behind Wafer's `close` packet if the business server wants the client to stay away.
    pub fn close(&self, reason: CloseReason, now: Instant) -> bool {
        self.close_saying(reason, reason.text(), now)
    }

    /// The same with this text in the close frame, of at most 123 bytes.
    pub fn close_saying(&self, reason: CloseReason, text: &str, now: Instant) -> bool {
        self.end(reason, reason.code().map(|code| frame::close(Some(code), text)), now)
    }

    /// The same for a client that says goodbye, which is answered.
    pub fn answer_goodbye(&self, goodbye: Goodbye, now: Instant) -> bool {
        self.end(CloseReason::ClientClose, Some(frame::close(goodbye.code(), goodbye.text())), now)
    }

    /// Ends it with this last frame.
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
        // The reader finds out about errors by itself.
        let _ = self.write_some(&mut writer.outbox);
        writer.wake_reader();
        true
    }

    /// Ready when the reading task has something to do beside reading: the connection was ended, or what is queued can be written.
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

    /// Writes what is queued, as far as the client has room, and says whether all of it went out.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    pub fn flush(&self) -> io::Result<bool> {
        let mut writer = self.writer.lock();
        self.write_some(&mut writer.outbox)?;
        Ok(writer.outbox.is_empty() && self.socket.try_flush()?)
    }

    /// Ready when all that is queued has been written. To be called by the reading task only.
    pub fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.flush()? {
                return Poll::Ready(Ok(()));
            }
            ready!(self.socket.poll_write_ready(cx))?;
        }
    }

    /// Since when the oldest queued byte waits.
    pub fn oldest_queued(&self) -> Option<Instant> {
        self.writer.lock().outbox.oldest().map(Instant::from_std)
    }

    /// How much is queued, in bytes.
    pub fn queued_bytes(&self) -> usize {
        self.writer.lock().outbox.bytes()
    }

    /// The client was heard.
    pub fn heard(&self, now_ms: u64) {
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The client is not read from now on until [`heard`](Self::heard).
    pub fn stop_listening(&self) {
        self.heard_ms.store(NOT_LISTENING, Ordering::Relaxed);
    }

    /// When the client was last heard, in milliseconds since the gateway's start: now, while nobody listens.
    pub fn last_heard_ms(&self, now_ms: u64) -> u64 {
        match self.heard_ms.load(Ordering::Relaxed) {
            NOT_LISTENING => now_ms,
            heard_ms => heard_ms,
        }
    }

    /// Queues a frame; if there is no room for it, what is queued is written first: others may not have come to that yet.
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
        while !outbox.is_empty() {
            let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
            let count =
                pieces.iter_mut().zip(outbox.frames()).map(|(piece, frame)| *piece = IoSlice::new(frame)).count();
            match self.socket.try_write(&pieces[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => outbox.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
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

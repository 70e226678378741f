//! The loop that serves one open tunnel: one small task that makes every decision about its client.
//!
//! It owns no buffer while nothing is incomplete; it reads into a buffer of its thread.

use std::cell::RefCell;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use bytes::BytesMut;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep_until;

use super::pause::Pause;
use super::pause::PauseEnd;
use crate::delivery::EventKind;
use crate::gateway::Connection;
use crate::gateway::Flushed;
use crate::gateway::Gateway;
use crate::gateway::Phase;
use crate::gateway::Socket;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Content;
use crate::protocol::fault::Fault;
use crate::protocol::frame::Goodbye;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::tunnel::Action;
use crate::tunnel::Session;
use crate::tunnel::SessionLimits;

/// Size of the read buffer.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    /// Shared by all connections of a thread: an idle connection needs no buffer.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Serves a tunnel until its socket ends. `early` is what the client sent behind its handshake.
///
/// The future is kept small, because each idle connection has one.
pub fn serve<S: Socket>(
    gateway: Arc<Gateway>,
    connection: Arc<Connection<S>>,
    early: Vec<u8>,
) -> impl Future<Output = ()> + Send + use<S> {
    let session = Session::new(connection.profile);
    let mut task = Task { gateway, connection, session, pause: None, age: None, gives_way: false, has_told: false };
    let mut early = (!early.is_empty()).then(|| Box::new(early));
    async move {
        let first = early.take().map_or(Ok(()), |mut early| task.handle(&mut early));
        let end = match first {
            Ok(()) => task.run().await,
            Err(end) => end,
        };
        Box::pin(task.finish(end)).await;
    }
}

/// One connection's task. However it ends, even by a panic, the tunnel is closed and its `close` event sent exactly once.
pub(super) struct Task<S: Socket> {
    pub(super) gateway: Arc<Gateway>,
    pub(super) connection: Arc<Connection<S>>,
    session: Session,
    pub(super) pause: Option<Box<Pause>>,
    /// Fires when the oldest queued byte is too old; runs only while bytes are queued.
    age: Option<Pin<Box<Sleep>>>,
    /// Whether the task yields before its next read or write, so that a client that sends or reads without pause cannot occupy
    /// this thread.
    gives_way: bool,
    /// Whether the `close` event has been queued.
    has_told: bool,
}

/// Why the loop continues.
enum Wake {
    Readable,
    Writable,
    Pause(PauseEnd),
    TooOld,
    Broken,
    Closed,
}

/// Why the loop ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The client says goodbye.
    Goodbye(Goodbye),
    /// The client sent something invalid.
    Fault(Fault),
    /// The client does not read.
    Slow,
    /// The socket is broken, or the client ended it without a close frame.
    Gone,
    /// The client hung up while it was not read: there may be more to read.
    HungUp,
    /// The tunnel was closed elsewhere.
    Closed,
}

impl<S: Socket> Task<S> {
    async fn run(&mut self) -> End {
        loop {
            let went_on = match poll_fn(|cx| self.poll_wake(cx)).await {
                Wake::Readable => self.read(Self::handle).map(|more| self.gives_way = more),
                Wake::Writable => {
                    let flushed = self.connection.flush().map_err(|_| End::Gone);
                    flushed.map(|flushed| self.gives_way = flushed == Flushed::InPart)
                }
                Wake::Pause(PauseEnd::Over) => {
                    self.resume();
                    Ok(())
                }
                Wake::Pause(PauseEnd::HungUp) => Err(End::HungUp),
                Wake::TooOld => Err(End::Slow),
                Wake::Broken => Err(End::Gone),
                Wake::Closed => Err(End::Closed),
            };
            if let Err(end) = went_on {
                return end;
            }
        }
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if std::mem::take(&mut self.gives_way) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.connection.poll_writer(cx) {
            Poll::Ready(Ok(Phase::Closing(_))) => return Poll::Ready(Wake::Closed),
            Poll::Ready(Ok(Phase::Open)) => return Poll::Ready(Wake::Writable),
            Poll::Ready(Err(_)) => return Poll::Ready(Wake::Broken),
            Poll::Pending => {}
        }
        if self.poll_age(cx).is_ready() {
            return Poll::Ready(Wake::TooOld);
        }
        if self.pause.is_some() {
            return self.poll_pause(cx).map(Wake::Pause);
        }
        self.connection.socket().poll_read_ready(cx).map(|_| Wake::Readable)
    }

    /// Ready when the oldest queued byte is too old.
    fn poll_age(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(oldest) = self.connection.oldest_queued() else {
            self.age = None;
            return Poll::Pending;
        };
        let deadline = oldest + self.gateway.tunnels.options.outbox_age();
        let age = self.age.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if age.deadline() != deadline {
            age.as_mut().reset(deadline);
        }
        age.as_mut().poll(cx)
    }

    /// Ready when the pause ends; must only be called during one.
    pub(super) fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<PauseEnd> {
        match &mut self.pause {
            Some(pause) => pause.poll(cx, &self.gateway, &self.connection.event_queue),
            None => Poll::Ready(PauseEnd::Over),
        }
    }

    /// Resumes reading the client.
    pub(super) fn resume(&mut self) {
        if let Some(pause) = self.pause.take() {
            let elapsed = pause.elapsed();
            self.session.was_not_read(elapsed);
            let tunnels = &self.gateway.tunnels;
            tunnels.record(&self.connection.event_queue, Kind::ReadingResumed, Reason::None, |record| {
                record.took(elapsed)
            });
        }
        self.connection.heard(self.gateway.tunnels.idle_timeouts.now_ms());
    }

    /// Reads once, passes the bytes to `handle`, and returns whether there may be more.
    pub(super) fn read(&mut self, handle: impl FnOnce(&mut Self, &mut [u8]) -> Result<(), End>) -> Result<bool, End> {
        READ_BUFFER.with_borrow_mut(|buffer| match self.connection.socket().try_read(buffer) {
            Ok(0) => Err(End::Gone),
            Ok(read) => handle(self, &mut buffer[..read]).map(|()| read == READ_BYTES),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(_) => Err(End::Gone),
        })
    }

    /// Handles what the client sent.
    pub(super) fn handle(&mut self, input: &mut [u8]) -> Result<(), End> {
        let now = Instant::now();
        self.connection.heard(self.gateway.tunnels.idle_timeouts.ms_at(now));
        let (gateway, connection) = (&self.gateway, &self.connection);
        let settings = connection.event_queue.tenant.settings();
        let limits = SessionLimits {
            max_message_bytes: gateway.tunnels.options.max_message_bytes,
            message_rate: settings.message_rate_per_connection(),
        };
        let tenant_rate = gateway.shared_limits.share(settings.message_rate());
        let mut owed = 0;
        let mut replies = BytesMut::new();
        let mut end = Ok(());
        let handled = self.session.handle_input(input, &limits, now.into_std(), &mut |action| match action {
            Action::Deliver(content) => {
                reply(gateway, connection, &mut replies, now);
                if tenant_rate
                    .is_some_and(|rate| connection.event_queue.tenant.usage.take_message(rate, now.into_std()).is_err())
                {
                    owed += 1;
                }
                enqueue_message(gateway, connection, content, now);
            }
            Action::Reply(frame) => replies.extend_from_slice(&frame),
            Action::Goodbye(goodbye) => end = Err(End::Goodbye(goodbye)),
        });
        reply(gateway, connection, &mut replies, now);
        handled.map_err(End::Fault).and(end)?;
        if owed > 0 || self.connection.event_queue.is_full(self.gateway.tunnels.options.inbox_bytes) {
            self.stop_reading(owed);
        }
        Ok(())
    }

    /// Looks for the client's close frame only; everything else behind the end is ignored.
    pub(super) fn handle_goodbye(&mut self, input: &mut [u8]) -> Result<(), End> {
        let max_message_bytes = self.gateway.tunnels.options.max_message_bytes;
        let limits = SessionLimits { max_message_bytes, message_rate: None };
        let mut end = Ok(());
        let handled = self.session.handle_input(input, &limits, Instant::now().into_std(), &mut |action| {
            if let Action::Goodbye(goodbye) = action {
                end = Err(End::Goodbye(goodbye));
            }
        });
        handled.map_err(End::Fault).and(end)
    }

    /// Stops reading, so that TCP flow control holds the client back.
    fn stop_reading(&mut self, owed: u32) {
        self.tell_pause(owed);
        let connection = Arc::clone(&self.connection);
        let hung_up = async move { connection.socket().hung_up().await };
        self.connection.stop_listening();
        self.pause = Some(Box::new(Pause::new(owed, Box::pin(hung_up))));
    }

    /// Counts and logs a pause in reading.
    fn tell_pause(&self, owed: u32) {
        let event_queue = &self.connection.event_queue;
        let (tunnel, tenant) = (event_queue.tunnel, &event_queue.tenant);
        let user = event_queue.user();
        let user = user.as_ref().map(tracing::field::display);
        let reason = if owed > 0 { Reason::TenantRate } else { Reason::InboxFull };
        self.gateway
            .tunnels
            .record(event_queue, Kind::ReadingPaused, reason, |record| record.with_bytes(event_queue.bytes()));
        if owed > 0 {
            tenant.usage.throttle();
            self.gateway.metrics.read_paused("messages_per_sec");
            let messages_per_sec = tenant.settings().limits.messages_per_sec;
            tracing::info!(
                tunnel.id = %tunnel,
                tenant.id = %tenant.id,
                user,
                messages_per_sec,
                "client not read for a while: its tenant has reached messages_per_sec",
            );
        } else {
            self.gateway.metrics.read_paused("inbox_bytes");
            tracing::info!(
                tunnel.id = %tunnel,
                tenant.id = %tenant.id,
                user,
                queued_events = event_queue.len(),
                queued_bytes = event_queue.bytes(),
                url = %event_queue.endpoint.url,
                "client not read for a while: its events wait for the business server",
            );
        }
    }

    /// Queues the `close` event once; no further event of this tunnel follows it.
    pub(super) fn tell(&mut self, reason: CloseReason) {
        if !std::mem::replace(&mut self.has_told, true) {
            self.gateway.tunnels.events.enqueue(&self.connection.event_queue, EventKind::Close(reason), Instant::now());
        }
    }
}

impl<S: Socket> Drop for Task<S> {
    fn drop(&mut self) {
        if !self.has_told {
            self.connection.close(CloseReason::Internal, Instant::now());
            let reason = self.gateway.tunnels.detach(&self.connection).unwrap_or(CloseReason::Internal);
            self.tell(reason);
        }
    }
}

fn enqueue_message<S: Socket>(gateway: &Gateway, connection: &Connection<S>, content: Content, now: Instant) {
    gateway.metrics.messages_received.inc();
    connection.event_queue.tenant.usage.count_message();
    gateway.tunnels.events.enqueue(&connection.event_queue, EventKind::Message(content), now);
}

/// Sends replies in one write. A failure means that the connection has ended, which the loop notices.
fn reply<S: Socket>(gateway: &Gateway, connection: &Connection<S>, replies: &mut BytesMut, now: Instant) {
    if !replies.is_empty() {
        gateway.tunnels.send(connection, &replies.split().freeze(), now);
    }
}

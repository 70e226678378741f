//! One connection of a connector, seen from inside: what may be queued for it, and how much.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::delivery::FlightId;
use crate::delivery::Instance;
use crate::delivery::Session;
use crate::delivery::Take;
use crate::id::TenantId;
use crate::protocol::connector::CallResult;
use crate::protocol::connector::MAX_LISTEN_ATTEMPT;
use crate::protocol::connector::MAX_WINDOW_EVENTS;
use crate::protocol::connector::Notice;
use crate::protocol::connector::Purpose;
use crate::protocol::connector::Window;
use crate::protocol::connector::close_code;
use crate::protocol::frame;

/// Most messages beside events that wait for a connector: results of calls, cancellations, pongs.
const OTHER_MESSAGES: usize = 256;

/// How long it is told to other nodes what a connection continues.
const NEW: Duration = Duration::from_secs(30);

/// What a connector has asked for, within what it may have.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How much may be on its way to it.
    pub window: Window,
    /// Longest attempt.
    pub longest_attempt: Duration,
    /// The connection that this one continues.
    pub replaces: Option<Session>,
    /// The events of that one which are still in work.
    pub pending: Vec<String>,
}

/// Until when an event may be written to its connector.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Permit {
    /// While this incarnation of this node has a lease.
    Incarnation(u32),
    /// Until the clock of this node's lease guard says so: another node owns the tunnel.
    Until(Duration),
}

/// A message on its way to a connector.
#[derive(Debug)]
pub enum Out {
    /// A frame.
    Frame(Bytes),
    /// An event, unless its attempt has ended or this node no longer owns its tunnel when its turn comes.
    Event {
        /// Its frame.
        frame: Bytes,
        /// Its id.
        id: Box<str>,
        /// Tells its attempt from others.
        number: FlightId,
        /// Until when it may be written.
        permit: Permit,
        /// Its part of the window in bytes, until it is written.
        unsent: OwnedSemaphorePermit,
    },
    /// The result of a call.
    Result {
        /// Its frame.
        frame: Bytes,
        /// Its part of the window in bytes, until it is written.
        unsent: OwnedSemaphorePermit,
        /// The place of the call among those in work, which another may have once this is written.
        place: OwnedSemaphorePermit,
    },
    /// The end.
    Close(u16, Cow<'static, str>),
}

/// Where the edge takes the messages for a connector.
pub type Outbox = mpsc::Receiver<Out>;

/// A connector that may join, and its messages.
pub type Accepted = (Arc<Link>, Outbox);

/// A connection of a connector.
#[derive(Debug)]
pub struct Link {
    /// This connection.
    pub session: Session,
    /// The process at its other end.
    pub instance: Instance,
    /// The tenant whose key it has.
    pub tenant: TenantId,
    /// That key.
    pub key_fingerprint: u32,
    /// The events that it takes.
    pub take: Take,
    purpose: Purpose,
    longest_attempt: Duration,
    window: Window,
    begun: Instant,
    replaces: Option<Session>,
    pending: Mutex<HashSet<String>>,
    outbox: mpsc::Sender<Out>,
    pub(super) events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    shut: CancellationToken,
    has_complained: AtomicBool,
}

impl Link {
    /// A connection with these `terms`.
    pub fn new(
        (session, instance): (Session, Instance),
        (tenant, key_fingerprint): (TenantId, u32),
        (take, purpose): (Take, Purpose),
        terms: &Terms,
    ) -> Accepted {
        let (events, bytes) = (terms.window.events as usize, Self::permits(terms.window.bytes) as usize);
        let (outbox, messages) = mpsc::channel(2 * events + OTHER_MESSAGES);
        let link = Self {
            session,
            instance,
            tenant,
            key_fingerprint,
            take,
            purpose,
            longest_attempt: terms.longest_attempt,
            window: terms.window,
            begun: Instant::now(),
            replaces: terms.replaces,
            pending: Mutex::new(terms.pending.iter().cloned().collect()),
            outbox,
            events: Arc::new(Semaphore::new(events)),
            bytes: Arc::new(Semaphore::new(bytes)),
            shut: CancellationToken::new(),
            has_complained: AtomicBool::new(false),
        };
        (Arc::new(link), messages)
    }

    /// The window that is granted to a connector that asks for `wanted`.
    pub fn grant(wanted: Window, outbox_bytes: usize) -> Window {
        let bytes = wanted.bytes.clamp(1, outbox_bytes as u64);
        Window { events: wanted.events.clamp(1, MAX_WINDOW_EVENTS), bytes }
    }

    /// The longest attempt at a connector that asks for `wanted`.
    pub fn longest_attempt(purpose: Purpose, wanted: Option<Duration>, webhook_timeout: Duration) -> Duration {
        let most = match purpose {
            Purpose::Listen => MAX_LISTEN_ATTEMPT,
            Purpose::Serve => webhook_timeout,
        };
        wanted.unwrap_or(webhook_timeout).clamp(Duration::from_millis(1), most)
    }

    /// Its purpose.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The connection that it continues.
    pub(super) fn replaces(&self) -> Option<Session> {
        self.replaces
    }

    /// The events that it has brought along from there.
    pub(super) fn pending(&self) -> Vec<String> {
        self.pending.lock().iter().cloned().collect()
    }

    /// Whether an event is one of these.
    pub(super) fn is_pending(&self, id: &str) -> bool {
        self.pending.lock().contains(id)
    }

    /// Takes an event out of these; false if it is none of them.
    pub(super) fn take_pending(&self, id: &str) -> bool {
        self.pending.lock().remove(id)
    }

    /// Whether other nodes may not know yet what it continues.
    pub(super) fn is_new(&self) -> bool {
        self.begun.elapsed() < NEW
    }

    /// How many events may be unanswered.
    pub(super) fn window_events(&self) -> u32 {
        self.window.events
    }

    /// How long one attempt may take.
    pub fn attempt_limit(&self) -> Duration {
        self.longest_attempt
    }

    /// Queues a message that is no event. A connector that reads nothing is closed.
    pub fn tell(&self, head: &[u8], body: &[u8]) {
        self.queue(Out::Frame(frame(head, body)));
    }

    /// Queues the result of a call when there is room for it in the window. The call keeps its `place` until it is written, so that
    /// a connector that reads no results can make no more calls.
    pub async fn answer_call(&self, result: &CallResult, body: Bytes, place: OwnedSemaphorePermit) {
        let head = result.head();
        // If the connection ends, nothing takes it.
        let Some(unsent) = self.room_for(head.len() + body.len()).await else { return };
        self.queue(Out::Result { frame: frame(&head, &body), unsent, place });
    }

    /// Queues any frame, as [`tell`](Self::tell).
    pub fn send_frame(&self, frame: Bytes) {
        self.queue(Out::Frame(frame));
    }

    /// Closes the connection after what is queued.
    pub fn close(&self, code: u16, reason: impl Into<Cow<'static, str>>) {
        // A full queue means that the other end does not read: the edge sees that it is shut.
        let _ = self.outbox.try_send(Out::Close(code, reason.into()));
        self.shut();
    }

    /// Takes no more events.
    pub(super) fn shut(&self) {
        self.events.close();
        self.bytes.close();
        self.shut.cancel();
    }

    /// Waits until it takes no more events.
    pub async fn until_shut(&self) {
        self.shut.cancelled().await;
    }

    /// Waits for room in the window for so many unsent bytes; `None` if the connection ends.
    pub(super) async fn room_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = Self::permits((bytes as u64).min(self.window.bytes));
        Arc::clone(&self.bytes).acquire_many_owned(permits).await.ok()
    }

    /// Queues a message; false if it cannot be queued.
    pub(super) fn queue(&self, out: Out) -> bool {
        match self.outbox.try_send(out) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                tracing::info!(tenant.id = %self.tenant, "connector closed: it does not read");
                self.close(close_code::SLOW, "messages of the gateway are not read");
                false
            }
        }
    }

    /// Tells the person in front of it, once, that its window is full.
    pub(super) fn complain_of_full_window(&self) {
        if !self.has_complained.swap(true, Ordering::Relaxed) {
            let notice = Notice {
                code: "window_full".into(),
                message: format!("{} events are unanswered: further ones wait at the gateway", self.window.events),
                fix: "answer them, or ask for a larger window".into(),
            };
            self.tell(&notice.head(), b"");
        }
    }

    /// Semaphores count at most this many bytes.
    fn permits(bytes: u64) -> u32 {
        u32::try_from(bytes.min(Semaphore::MAX_PERMITS as u64)).unwrap_or(u32::MAX)
    }
}

/// A message as a frame: of text, unless its body is none.
pub(super) fn frame(head: &[u8], body: &[u8]) -> Bytes {
    match (str::from_utf8(head), str::from_utf8(body)) {
        (Ok(head), Ok(body)) => frame::text(head, body),
        _ => frame::binary(&[head, body].concat()),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn results_wait_until_a_connector_reads_those_before() {
        let terms = Terms {
            window: Window { events: 1, bytes: 100 },
            longest_attempt: Duration::from_secs(1),
            replaces: None,
            pending: vec![],
        };
        let take = Take::Named("ann".parse().expect("a name"));
        let instance = Instance::parse(&"0".repeat(32)).expect("128 bits");
        let (link, mut outbox) =
            Link::new((Session(1), instance), (TenantId::new("t"), 0), (take, Purpose::Listen), &terms);
        let places = Arc::new(Semaphore::new(2));
        let place = || Arc::clone(&places).try_acquire_owned().expect("a place");
        let result = CallResult { id: "7".into(), status: 200 };

        let body = || Bytes::from_static(&[b'x'; 70]);
        assert!(link.answer_call(&result, body(), place()).now_or_never().is_some());
        let mut second = Box::pin(link.answer_call(&result, body(), place()));
        assert!((&mut second).now_or_never().is_none(), "there is no room for its bytes");
        assert_eq!(places.available_permits(), 0, "the first keeps its place until it is written");

        drop(outbox.try_recv().expect("the first result"));
        assert_eq!(places.available_permits(), 1);
        assert!(second.now_or_never().is_some());
        drop(outbox.try_recv().expect("the second result"));
        assert_eq!(places.available_permits(), 2);
    }
}

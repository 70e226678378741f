//! The undelivered events of one tunnel.

use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::tunnel_info::About;
use super::tunnel_info::Native;
use super::tunnel_info::TunnelInfo;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::delivery::Lane;
use crate::id::TunnelId;
use crate::protocol::connector::ConnectorName;
use crate::protocol::native::Name;
use crate::protocol::native::Trace;
use crate::protocol::ticket;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::tenant::Tenant;
use crate::timeline::Record;
use crate::timeline::Timeline;

/// The beginning of the reason why an event waits that no connector takes.
pub(super) const NO_CONNECTOR: &str = "no connector";

/// The events of one tunnel and the data to deliver them. It outlives the socket until all events are settled.
#[derive(Debug)]
pub struct EventQueue {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Its tenant.
    pub tenant: Arc<Tenant>,
    /// The endpoint of its events.
    pub endpoint: Arc<Endpoint>,
    /// The tenant key that signs them.
    pub key_fingerprint: u32,
    /// The incarnation of this node that owns the tunnel.
    pub incarnation: u32,
    /// The connector that its events go to, if not to the endpoint.
    pub connector: Option<ConnectorName>,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) lane: Lane,
    /// Whether a delivery task is running.
    pub(super) is_running: bool,
    /// Whether the last attempt timed out: the next one lets others go first.
    pub(super) is_late: bool,
    sequence: u64,
    /// Woken when there is room.
    reader: Option<Waker>,
    is_closed: bool,
    /// Data for CloudEvents and descriptions.
    pub(super) about: Option<Box<About>>,
}

impl EventQueue {
    /// An empty queue of a new tunnel.
    pub fn new(tunnel: TunnelId, tenant: Arc<Tenant>, endpoint: Arc<Endpoint>, key_fingerprint: u32) -> Self {
        tenant.usage.add_tunnel();
        let state = State {
            lane: Lane::default(),
            is_running: false,
            is_late: false,
            is_closed: false,
            sequence: 0,
            reader: None,
            about: None,
        };
        Self { tunnel, tenant, endpoint, key_fingerprint, incarnation: 0, connector: None, state: Mutex::new(state) }
    }

    /// Sets the connector that its events go to, if there is one.
    pub fn to_connector(mut self, connector: Option<ConnectorName>) -> Self {
        self.connector = connector;
        self
    }

    /// Sets the owning incarnation.
    pub fn of_incarnation(mut self, incarnation: u32) -> Self {
        self.incarnation = incarnation;
        self
    }

    /// Marks the tunnel as closed. Its events are still delivered.
    pub fn close(&self) {
        if !std::mem::replace(&mut self.state.lock().is_closed, true) {
            self.tenant.usage.close_tunnel();
        }
    }

    /// Whether the client must not be read for now.
    pub fn is_full(&self, limit_bytes: usize) -> bool {
        self.state.lock().lane.bytes() >= limit_bytes
    }

    /// Ready when there is room again.
    pub fn poll_room(&self, cx: &Context<'_>, limit_bytes: usize) -> Poll<()> {
        let mut state = self.state.lock();
        if state.lane.bytes() < limit_bytes {
            return Poll::Ready(());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Queued bytes, with overhead.
    pub fn bytes(&self) -> usize {
        self.state.lock().lane.bytes()
    }

    /// Queued events, including one in flight.
    pub fn len(&self) -> usize {
        self.state.lock().lane.len()
    }

    /// Whether all events are delivered or given up.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Queues an event; true if the caller must start a delivery task.
    pub(super) fn push(&self, kind: EventKind, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.sequence += 1;
        let event = Event { kind, sequence: state.sequence, received: now.into_std(), held_ms: 0 };
        state.lane.push(event);
        !std::mem::replace(&mut state.is_running, true)
    }

    /// Changes the state, and wakes a reader that waits for room.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        if let Some(reader) = state.reader.take() {
            drop(state);
            reader.wake();
        }
        result
    }
}

impl EventQueue {
    /// Makes it the queue of a native tunnel with the data of its request.
    pub fn native(self, requested: ticket::About, opened: Instant, opened_unix: Duration) -> Self {
        self.being(Native::new(requested, opened, opened_unix))
    }

    /// Makes it the queue of another node's native tunnel that ended at this time, by both clocks, for its `close`
    /// event only.
    pub fn adopted(self, user: Option<Name>, trace: Option<Trace>, ended: Instant, ended_unix: Duration) -> Self {
        let requested = ticket::About { user, trace, ..ticket::About::default() };
        self.being(Native { is_adopted: true, ..Native::new(requested, ended, ended_unix) })
    }

    fn being(mut self, native: Native) -> Self {
        self.state.get_mut().about = Some(Box::new(About { native: Some(Box::new(native)), last_error: None }));
        self
    }

    /// Whether events are CloudEvents.
    pub fn is_native(&self) -> bool {
        self.state.lock().native().is_some()
    }

    /// Sets the user. Wafer webhooks have no user, so a Wafer tunnel does not store it.
    pub fn set_user(&self, user: &Name) {
        if let Some(native) = self.state.lock().native_mut() {
            native.user = Some(user.clone());
        }
    }

    /// The user of a native tunnel, if any.
    pub fn user(&self) -> Option<Name> {
        self.state.lock().native().and_then(|native| native.user.clone())
    }

    /// Stores how many other tunnels of its user are open, for the `close` event.
    pub fn set_user_tunnels_left(&self, tunnels: usize) {
        if let Some(native) = self.state.lock().native_mut() {
            native.user_tunnels_left = u64::try_from(tunnels).ok();
        }
    }

    /// Counts a message pushed to the client.
    pub fn count_pushed(&self) {
        if let Some(native) = self.state.lock().native_mut() {
            native.messages_out += 1;
        }
    }

    /// The trace of its events.
    pub fn trace(&self) -> Trace {
        self.state.lock().trace(self.tunnel)
    }

    /// A record of the tunnel.
    pub fn record(&self, timeline: &Timeline, kind: Kind, reason: Reason, unix_time: Duration) -> Record {
        let tenant = timeline.tenant(&self.tenant.number, &self.tenant.id);
        let record = Record::new(kind, reason, unix_time).of(tenant, self.tunnel).to(self.endpoint.word(timeline));
        self.connector.as_ref().map_or(record, |name| record.by_connector(timeline.connector(name)))
    }

    /// The description of the tunnel.
    pub fn known(&self) -> TunnelInfo {
        let state = self.state.lock();
        TunnelInfo {
            metadata: state.native().and_then(|native| native.requested.metadata.clone()),
            last_error: state.about.as_ref().and_then(|about| about.last_error.as_deref()).map(str::to_owned),
        }
    }

    /// Stores the reason of a failed attempt or action.
    pub fn note_error(&self, reason: &str) {
        self.state.lock().about.get_or_insert_default().last_error = Some(reason.into());
    }

    /// Stores why an event expired, together with the reason of the last failed attempt; returns both.
    pub(super) fn note_expired(&self, reason: &str) -> String {
        let mut state = self.state.lock();
        let last_error = &mut state.about.get_or_insert_default().last_error;
        *last_error = match last_error.take() {
            Some(noted) if noted.starts_with(reason) => Some(noted),
            Some(absent) if absent.starts_with(NO_CONNECTOR) => Some(format!("{reason}; {absent}").into()),
            Some(failed) => Some(format!("{reason}; the last attempt: {failed}").into()),
            None => Some(reason.into()),
        };
        last_error.as_deref().unwrap_or_default().to_owned()
    }
}

impl State {
    pub(super) fn native(&self) -> Option<&Native> {
        self.about.as_ref()?.native.as_deref()
    }

    pub(super) fn trace(&self, tunnel: TunnelId) -> Trace {
        self.native().and_then(|native| native.requested.trace).unwrap_or_else(|| Trace::of_tunnel(tunnel))
    }

    fn native_mut(&mut self) -> Option<&mut Native> {
        self.about.as_mut()?.native.as_deref_mut()
    }
}

impl Drop for EventQueue {
    /// The socket has ended and all events are settled.
    fn drop(&mut self) {
        self.close();
        self.tenant.usage.settle_tunnel();
    }
}

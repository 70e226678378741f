//! What one tunnel's client has said and its business server has not got yet.

use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::native::About;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::delivery::Lane;
use crate::id::TunnelId;
use crate::tenant::Tenant;

/// The queue of one tunnel's events, and what is needed to deliver them. It outlives the socket until all is settled.
#[derive(Debug)]
pub struct EventQueue {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Whose it is.
    pub tenant: Arc<Tenant>,
    /// Where its events go.
    pub endpoint: Arc<Endpoint>,
    /// Which of the tenant's keys signs them.
    pub key_fingerprint: u32,
    /// The life of this node that the tunnel belongs to.
    pub incarnation: u32,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) lane: Lane,
    /// Whether a task is at work on the lane.
    pub(super) is_running: bool,
    /// Whether the last attempt took all of its time: the next one lets others go first.
    pub(super) is_late: bool,
    sequence: u64,
    /// Who waits for room.
    reader: Option<Waker>,
    is_closed: bool,
    /// What the tunnel knows of itself.
    pub(super) about: Option<Box<About>>,
}

impl EventQueue {
    /// The empty event queue of a tunnel that opens.
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
        Self { tunnel, tenant, endpoint, key_fingerprint, incarnation: 0, state: Mutex::new(state) }
    }

    /// The same, of a tunnel that belongs to another life of this node than its first.
    pub fn of_incarnation(mut self, incarnation: u32) -> Self {
        self.incarnation = incarnation;
        self
    }

    /// The tunnel is no longer open. Its events are still delivered.
    pub fn close(&self) {
        if !std::mem::replace(&mut self.state.lock().is_closed, true) {
            self.tenant.usage.close_tunnel();
        }
    }

    /// Whether its client should not be read at present.
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

    /// How much waits, in bytes, bookkeeping included.
    pub fn bytes(&self) -> usize {
        self.state.lock().lane.bytes()
    }

    /// How many events wait, one in flight included.
    pub fn len(&self) -> usize {
        self.state.lock().lane.len()
    }

    /// Whether all is delivered or given up.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Queues an event, and says whether the caller must set a task to work.
    pub(super) fn push(&self, kind: EventKind, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.sequence += 1;
        let event = Event { kind, sequence: state.sequence, received: now.into_std() };
        state.lane.push(event);
        !std::mem::replace(&mut state.is_running, true)
    }

    /// Changes the lane, and wakes whoever waits for room in it.
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

impl Drop for EventQueue {
    /// The socket has ended and all events are settled.
    fn drop(&mut self) {
        self.close();
        self.tenant.usage.settle_tunnel();
    }
}

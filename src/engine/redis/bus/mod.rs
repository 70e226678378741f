//! Requests between nodes, over one channel per node: an answer or a progress report arrives in time, or the request fails.

mod answering;
mod asking;
mod patience;
mod recent;
mod requests;
mod senders;
mod turns;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use redis::PushInfo;
use redis::PushKind;
use redis::RedisError;
use redis::Value;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Duration;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout_at;

use super::connection::OnPush;
use super::connection::ReconnectingConnection;
use super::explain::Explained;
use super::keys::Keys;
use super::message::Kind;
use super::message::Message;
use super::message::Rejection;
use super::signing::Signing;
use super::time::EngineTime;
use super::url::RedisUrl;
use super::url::Topology;
use crate::engine::ClusterNode;
use crate::engine::Installation;
use crate::engine::MemoryEngine;
use crate::id::NodeId;
use crate::lease_guard::LeaseGuard;
use crate::metrics::Metrics;
use crate::share::Pot;
use recent::Recent;
use requests::Requests;
pub(super) use turns::Flow;
use turns::Turns;

/// Timeout for the first answer or progress report, and for turns.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Answers in progress, beside those ready at once; one tenant may hold half of what the others leave. More would finish too
/// late.
const WORKS: u64 = 512;
/// Interval of probes from a node to itself.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The same while another node is silent: its answers may not arrive.
const PROBE_SOON: Duration = Duration::from_millis(250);
/// Capacity of the receive queue.
const BACKLOG: usize = 1_024;

/// An event on the receiving connection.
enum Pushed {
    /// A message with its time of arrival.
    Message(Bytes, Instant),
    /// The connection with this number has closed.
    Disconnected(u64),
}

/// How messages are addressed, signed, sent and dated.
pub(super) struct Way {
    pub(super) keys: Keys,
    pub(super) signing: Signing,
    /// The engine's sending link, separate from the receiving one.
    pub(super) sending: Arc<ReconnectingConnection>,
    pub(super) time: Arc<EngineTime>,
}

/// The channel of this node, and the way to the others.
pub(super) struct Bus {
    way: Way,
    receiving: ReconnectingConnection,
    pushed: Mutex<Option<mpsc::Receiver<Pushed>>>,
    is_cluster: bool,
    me: watch::Receiver<NodeId>,
    /// Tokens used on this node.
    own: Arc<MemoryEngine>,
    sequence: AtomicU64,
    /// Pending requests by number; a change to `None` reports progress.
    waiting: DashMap<u64, watch::Sender<Option<Bytes>>>,
    turns: Turns,
    /// Requests received from other nodes.
    requests: Requests,
    /// Requests received a moment ago, and their answers.
    recent: Mutex<Recent>,
    /// Budget of answers in progress.
    works: Pot<Flow>,
    /// The number of the last probe received.
    probed: AtomicU64,
    /// Notified when a probe arrives.
    has_probed: Notify,
    /// Notified when another node is silent.
    is_silent: Notify,
    /// Whether messages reach this node.
    is_reached: AtomicBool,
    metrics: Metrics,
}

impl Bus {
    pub(super) fn new(
        url: RedisUrl,
        way: Way,
        me: watch::Receiver<NodeId>,
        own: Arc<MemoryEngine>,
        metrics: Metrics,
    ) -> Self {
        Rejection::ALL.iter().for_each(|reason| metrics.node_message_droppable(reason.as_str()));
        let (sender, pushed) = mpsc::channel(BACKLOG);
        let is_cluster = url.topology == Topology::Cluster;
        let dropped = metrics.clone();
        let on_push: OnPush = Arc::new(move |number, info| {
            if let Some(pushed) = read_push(number, info)
                && sender.try_send(pushed).is_err()
            {
                dropped.node_message_dropped(Rejection::Overload.as_str());
            }
        });
        Self {
            way,
            receiving: ReconnectingConnection::new(url, Some(on_push)),
            pushed: Mutex::new(Some(pushed)),
            is_cluster,
            me,
            own,
            sequence: AtomicU64::new(0),
            waiting: DashMap::new(),
            turns: Turns::default(),
            requests: Requests::default(),
            recent: Mutex::default(),
            works: Pot::of(WORKS),
            probed: AtomicU64::new(0),
            has_probed: Notify::new(),
            is_silent: Notify::new(),
            is_reached: AtomicBool::new(false),
            metrics,
        }
    }

    /// Updates the signing keys for `installation`; Redis has the id `heard`.
    pub(super) fn belongs_to(&self, installation: Installation, heard: &str) {
        self.way.signing.hear(installation, heard);
    }

    /// Whether messages reach this node.
    pub(super) fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Acquire)
    }

    /// Sends a message; returns the number of receivers known to Redis.
    async fn send(&self, kind: Kind, receiver: NodeId, number: u64, body: Bytes) -> Result<u64, RedisError> {
        let sender = *self.me.borrow();
        self.send_as(sender, kind, receiver, number, body).await
    }

    /// As [`send`](Self::send), from an incarnation that may have ended.
    async fn send_as(
        &self,
        sender: NodeId,
        kind: Kind,
        receiver: NodeId,
        number: u64,
        body: Bytes,
    ) -> Result<u64, RedisError> {
        let message = Message { kind, sender, receiver, sequence: self.next(), number, body };
        let mut command = redis::cmd(if self.is_cluster { "SPUBLISH" } else { "PUBLISH" });
        command.arg(self.way.keys.channel(receiver)).arg(self.way.signing.seal(&message));
        self.way.sending.call(&command).await
    }

    fn next(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Handles messages of other nodes, in order for each tenant, until dropped. Called once.
    ///
    /// Requests have a queue of their own, so that answers to this node arrive even without a valid lease.
    pub(super) async fn receive(self: &Arc<Self>, member: &Arc<dyn ClusterNode>, lease_guard: &Arc<LeaseGuard>) {
        tokio::select! {
            biased;
            () = self.sort(member.as_ref(), lease_guard) => {}
            () = self.answer(member, lease_guard) => {}
        }
    }

    /// Whether probe `number` arrives before `deadline`.
    async fn arrives(&self, number: u64, deadline: Instant) -> bool {
        let arrived = async {
            loop {
                let has_probed = self.has_probed.notified();
                if self.probed.load(Ordering::Acquire) >= number {
                    return;
                }
                has_probed.await;
            }
        };
        timeout_at(deadline, arrived).await.is_ok()
    }

    /// Waits until another node is silent, at least until `soon`.
    async fn is_silent_at(&self, soon: Instant) {
        self.is_silent.notified().await;
        sleep_until(soon).await;
    }

    /// Keeps the channel of the current incarnation subscribed, until dropped.
    ///
    /// A subscription can be lost silently, so the node probes itself.
    pub(super) async fn stay_subscribed(&self) {
        let mut me = self.me.clone();
        let mut subscribed = None;
        // Log only after a known failure.
        let mut has_told = false;
        loop {
            let (number, mut connection) = self.receiving.connection().await;
            let node = *me.borrow_and_update();
            if subscribed != Some((number, node)) {
                if let Some((_, old)) = subscribed.filter(|(same, _)| *same == number) {
                    // Late messages there would be dropped anyway.
                    let _ = connection.unsubscribe(&self.way.keys.channel(old)).await;
                }
                subscribed = match connection.subscribe(&self.way.keys.channel(node)).await {
                    Ok(()) => Some((number, node)),
                    Err(error) => {
                        self.is_reached.store(false, Ordering::Release);
                        tell_once(&mut has_told, &error);
                        self.receiving.replace(number);
                        continue;
                    }
                };
            }
            let probe = self.next();
            let soon = Instant::now() + PROBE_SOON;
            let sent = self.send(Kind::Probe, node, probe, Bytes::new()).await;
            let wait_until = Instant::now() + PROBE_EVERY;
            if self.arrives(probe, wait_until).await {
                self.is_reached.store(true, Ordering::Release);
            }
            let is_changed = tokio::select! {
                biased;
                () = sleep_until(wait_until) => false,
                () = self.is_silent_at(soon) => false,
                () = self.receiving.replaced(number) => true,
                _ = me.changed() => true,
            };
            let arrived = self.probed.load(Ordering::Acquire) >= probe;
            self.is_reached.store(arrived && !is_changed, Ordering::Release);
            match &sent {
                Ok(_) if arrived && has_told => {
                    has_told = false;
                    tracing::info!("reachable by other nodes again");
                }
                Err(error) => tell_once(&mut has_told, error),
                Ok(_) => {}
            }
            if !is_changed && sent.is_ok() && !arrived {
                tracing::debug!("messages to this node do not arrive, subscribing again");
                self.receiving.replace(number);
            }
        }
    }
}

/// Logs once that other nodes do not reach this one.
fn tell_once(has_told: &mut bool, error: &RedisError) {
    let error = Explained(error);
    if !std::mem::replace(has_told, true) {
        tracing::warn!(%error, "not reachable by other nodes: their pushes to tunnels here fail");
    } else {
        tracing::debug!(%error, "still not reachable by other nodes");
    }
}

fn read_push(number: u64, info: PushInfo) -> Option<Pushed> {
    match info.kind {
        PushKind::Disconnection => Some(Pushed::Disconnected(number)),
        PushKind::Message | PushKind::SMessage => match info.data.into_iter().nth(1) {
            Some(Value::BulkString(bytes)) => Some(Pushed::Message(bytes.into(), Instant::now())),
            _ => None,
        },
        _ => None,
    }
}

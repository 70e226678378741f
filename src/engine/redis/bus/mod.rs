//! Questions between nodes, over a channel for each: whoever asks learns the answer, or within a second that there is none. A node
//! that takes longer says so now and then.

mod answering;
mod questions;
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
use tokio::time::timeout;
use tokio::time::timeout_at;

use super::advice::Advised;
use super::keys::Keys;
use super::link::Link;
use super::link::OnPush;
use super::message;
use super::message::Kind;
use super::message::Message;
use super::message::Rejection;
use super::signing::Signing;
use super::time::EngineTime;
use super::url::Form;
use super::url::Place;
use crate::engine::ClusterNode;
use crate::engine::EngineError;
use crate::engine::Installation;
use crate::engine::MemoryEngine;
use crate::fair_semaphore::FairPermit;
use crate::id::NodeId;
use crate::lease_guard::LeaseGuard;
use crate::metrics::Metrics;
use crate::share::Pot;
use questions::Questions;
pub(super) use turns::Flow;
use turns::Turns;

/// Longest wait for an answer, or for a word that it is being worked on.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest work on an answer: less than a call with an `Idempotency-Key` may run.
const LONGEST_WORK: Duration = Duration::from_secs(20);
/// Most answers that are being worked on, of which one tenant alone may have half, beside those that are known at once. With more of
/// them none would be done in time.
const WORKS: u64 = 512;
/// How often a node asks itself whether it is reached.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Most messages that wait to be handled.
const BACKLOG: usize = 1_024;

/// What Redis says on the receiving connection.
enum Pushed {
    /// A message, and when it came.
    Message(Bytes, Instant),
    /// The connection with this number is gone.
    Disconnected(u64),
}

/// How the other nodes are reached, and how they know what comes from whom and when.
pub(super) struct Way {
    pub(super) keys: Keys,
    pub(super) signing: Signing,
    /// The engine's own link, which is not slowed down by what is received.
    pub(super) sending: Arc<Link>,
    pub(super) time: Arc<EngineTime>,
}

/// The channel of this node, and the way to the others'.
pub(super) struct Bus {
    way: Way,
    receiving: Link,
    pushed: Mutex<Option<mpsc::Receiver<Pushed>>>,
    is_cluster: bool,
    me: watch::Receiver<NodeId>,
    /// What this node has used up.
    own: Arc<MemoryEngine>,
    sequence: AtomicU64,
    /// Who waits for an answer; it changes to none when it is being worked on.
    waiting: DashMap<u64, watch::Sender<Option<Bytes>>>,
    turns: Turns,
    /// What others have asked this node.
    questions: Questions,
    /// Room for answers to be worked on.
    works: Pot<Flow>,
    /// The number of the last probe that arrived.
    probed: AtomicU64,
    /// Told when one has.
    has_probed: Notify,
    /// Whether messages to this node arrive.
    is_reached: AtomicBool,
    metrics: Metrics,
}

impl Bus {
    pub(super) fn new(
        place: Place,
        way: Way,
        me: watch::Receiver<NodeId>,
        own: Arc<MemoryEngine>,
        metrics: Metrics,
    ) -> Self {
        let (sender, pushed) = mpsc::channel(BACKLOG);
        let is_cluster = place.form == Form::Cluster;
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
            receiving: Link::new(place, Some(on_push)),
            pushed: Mutex::new(Some(pushed)),
            is_cluster,
            me,
            own,
            sequence: AtomicU64::new(0),
            waiting: DashMap::new(),
            turns: Turns::default(),
            questions: Questions::default(),
            works: Pot::of(WORKS),
            probed: AtomicU64::new(0),
            has_probed: Notify::new(),
            is_reached: AtomicBool::new(false),
            metrics,
        }
    }

    /// Redis has the id `heard`; this node belongs to `installation` for now.
    pub(super) fn belongs_to(&self, installation: Installation, heard: &str) {
        self.way.signing.hear(installation, heard);
    }

    /// Whether messages to this node arrive.
    pub(super) fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Acquire)
    }

    /// Waits until it is this tenant's turn to ask `node` something of so many bytes.
    ///
    /// # Errors
    ///
    /// If that takes so long that the answer would come too late.
    pub(super) async fn turn(&self, node: NodeId, flow: Flow, bytes: usize) -> Result<FairPermit<Flow>, EngineError> {
        timeout(ANSWER_TIMEOUT, self.turns.ask(node, flow, bytes)).await.map_err(|_| EngineError)
    }

    /// Waits until it is this tenant's turn to have Redis take so many bytes.
    ///
    /// # Errors
    ///
    /// If that takes as long as a call may take.
    pub(super) async fn turn_to_write(&self, tenant: &str, bytes: usize) -> Result<FairPermit<Flow>, EngineError> {
        timeout(ANSWER_TIMEOUT, self.turns.write(tenant.into(), bytes)).await.map_err(|_| EngineError)
    }

    /// Asks `node`, and waits for its answer; `turn` is over with its first word.
    pub(super) async fn ask(
        &self,
        node: NodeId,
        question: Bytes,
        turn: FairPermit<Flow>,
    ) -> Result<Bytes, EngineError> {
        self.ask_as(Kind::Question, node, question, Some(turn)).await
    }

    /// Asks `node` what it has used up, and waits for its answer.
    pub(super) async fn ask_known(&self, node: NodeId, question: Bytes) -> Result<Bytes, EngineError> {
        self.ask_as(Kind::Known, node, question, None).await
    }

    async fn ask_as(
        &self,
        kind: Kind,
        node: NodeId,
        question: Bytes,
        mut turn: Option<FairPermit<Flow>>,
    ) -> Result<Bytes, EngineError> {
        let asked = Instant::now();
        let mut deadline = asked + ANSWER_TIMEOUT;
        let number = message::question_number(self.way.time.now_ms(), self.next());
        let (sender, mut reply) = watch::channel(None);
        self.waiting.insert(number, sender);
        let _forget = Forget(self, number);
        match timeout_at(deadline, self.send(kind, node, number, question)).await {
            // In a Cluster the count is that of one server only.
            Ok(Ok(0)) if !self.is_cluster => return Err(EngineError),
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(EngineError),
        }
        loop {
            match timeout_at(deadline, reply.changed()).await {
                Ok(Ok(())) => deadline = (Instant::now() + ANSWER_TIMEOUT).min(asked + LONGEST_WORK),
                Ok(Err(_)) | Err(_) => return Err(EngineError),
            }
            drop(turn.take());
            if let Some(answer) = &*reply.borrow_and_update() {
                return Ok(answer.clone());
            }
        }
    }

    /// Sends a message, and says how many received it, as far as Redis knows.
    async fn send(&self, kind: Kind, receiver: NodeId, number: u64, body: Bytes) -> Result<u64, RedisError> {
        let sender = *self.me.borrow();
        let message = Message { kind, sender, receiver, sequence: self.next(), number, body };
        let mut command = redis::cmd(if self.is_cluster { "SPUBLISH" } else { "PUBLISH" });
        command.arg(self.way.keys.channel(receiver)).arg(self.way.signing.seal(&message));
        self.way.sending.call(&command).await
    }

    fn next(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Handles what comes from the other nodes, each tenant's questions in the order in which they come, until it is dropped. To be
    /// called once.
    ///
    /// Questions have a queue of their own: what this node has asked itself is answered also while it may not speak.
    pub(super) async fn receive(self: &Arc<Self>, member: &Arc<dyn ClusterNode>, lease_guard: &Arc<LeaseGuard>) {
        tokio::select! {
            biased;
            () = self.sort(member.as_ref()) => {}
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

    /// Sees to it that this node is reached on the channel of its present life, until it is dropped.
    ///
    /// A subscription can be lost without a word, so the node writes to itself now and then.
    pub(super) async fn stay_subscribed(&self) {
        let mut me = self.me.clone();
        let mut subscribed = None;
        // Nothing is said before it is known that it is not.
        let mut has_told = false;
        loop {
            let (number, mut connection) = self.receiving.connection().await;
            let node = *me.borrow_and_update();
            if subscribed != Some((number, node)) {
                if let Some((_, old)) = subscribed.filter(|(same, _)| *same == number) {
                    // What still comes there is dropped anyway.
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
            let sent = self.send(Kind::Probe, node, probe, Bytes::new()).await;
            let wait_until = Instant::now() + PROBE_EVERY;
            if self.arrives(probe, wait_until).await {
                self.is_reached.store(true, Ordering::Release);
            }
            let is_changed = tokio::select! {
                biased;
                () = sleep_until(wait_until) => false,
                () = self.receiving.replaced(number) => true,
                _ = me.changed() => true,
            };
            let arrived = self.probed.load(Ordering::Acquire) >= probe;
            self.is_reached.store(arrived && !is_changed, Ordering::Release);
            match &sent {
                Ok(_) if arrived && has_told => {
                    has_told = false;
                    tracing::info!("the other nodes reach this one again");
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

/// Forgets a question when it is answered or given up.
struct Forget<'a>(&'a Bus, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.waiting.remove(&self.1);
    }
}

/// Says that the other nodes do not reach this one, unless that was said before.
fn tell_once(has_told: &mut bool, error: &RedisError) {
    let error = Advised(error);
    if !std::mem::replace(has_told, true) {
        tracing::warn!(%error, "the other nodes do not reach this one: what they push to its tunnels fails");
    } else {
        tracing::debug!(%error, "the other nodes still do not reach this one");
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

//! Questions between nodes, over a channel for each: whoever asks learns the answer, or within a second that there is none. A node
//! that takes longer says so now and then.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use dashmap::DashMap;
use futures_util::FutureExt;
use parking_lot::Mutex;
use redis::PushInfo;
use redis::PushKind;
use redis::RedisError;
use redis::Value;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Duration;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio::time::timeout_at;

use super::super::EngineError;
use super::super::Installation;
use super::super::Member;
use super::super::MemoryEngine;
use super::advice::Advised;
use super::keys::Keys;
use super::link::Link;
use super::link::OnPush;
use super::message;
use super::message::Drop;
use super::message::Kind;
use super::message::Message;
use super::message::Taken;
use super::once;
use super::signing::Signing;
use super::time::EngineTime;
use super::url::Form;
use super::url::Place;
use crate::clock::millis;
use crate::fence::Fence;
use crate::id::NodeId;
use crate::marks::Mark;
use crate::metrics::Metrics;

/// Longest wait for an answer, or for a word that it is being worked on.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// No question is begun that was asked so long ago: what is done and not answered in time is asked for again, and done twice.
const TOO_OLD: Duration = Duration::from_millis(800);
/// How often a node says that it works on an answer.
const WORKING_EVERY: Duration = Duration::from_millis(300);
/// Longest work on an answer: less than a call with an `Idempotency-Key` may run.
const LONGEST_WORK: Duration = Duration::from_secs(20);
/// Most answers that are being worked on, beside those that are known at once. With more of them none would be done in time.
const WORKS: usize = 256;
/// How often a node asks itself whether it is reached.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How often it is told that a node has another key.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// Of how many nodes it is remembered which of their messages have been taken.
const SENDERS: usize = 1_024;
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
    /// Room for answers to be worked on.
    works: Arc<Semaphore>,
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
                dropped.node_message_dropped(Drop::Overload.as_str());
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
            works: Arc::new(Semaphore::new(WORKS)),
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

    /// Asks `node`, and waits for its answer.
    pub(super) async fn ask(&self, node: NodeId, question: Bytes) -> Result<Bytes, EngineError> {
        self.ask_as(Kind::Question, node, question).await
    }

    /// Asks `node` what it has used up, and waits for its answer.
    pub(super) async fn ask_known(&self, node: NodeId, question: Bytes) -> Result<Bytes, EngineError> {
        self.ask_as(Kind::Known, node, question).await
    }

    async fn ask_as(&self, kind: Kind, node: NodeId, question: Bytes) -> Result<Bytes, EngineError> {
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

    /// Handles what comes from the other nodes, in the order in which it comes, until it is dropped. To be called once.
    ///
    /// Questions have a queue of their own: what this node has asked itself is answered also while it may not speak.
    pub(super) async fn receive(self: &Arc<Self>, member: &Arc<dyn Member>, fence: &Arc<Fence>) {
        let (asked, questions) = mpsc::channel(BACKLOG);
        tokio::select! {
            () = self.sort(&asked) => {}
            () = self.answer(questions, member, fence) => {}
        }
    }

    async fn sort(self: &Arc<Self>, asked: &mpsc::Sender<(Message, Instant)>) {
        let Some(mut pushed) = self.pushed.lock().take() else { return };
        let mut senders = Senders::default();
        let mut last_stranger: Option<Instant> = None;
        while let Some(pushed) = pushed.recv().await {
            let (bytes, came) = match pushed {
                Pushed::Message(bytes, came) => (bytes, came),
                Pushed::Disconnected(number) => {
                    self.receiving.replace(number);
                    continue;
                }
            };
            match self.check(&bytes, &mut senders) {
                // Whoever asked has given up.
                Ok(message) if message.kind == Kind::Known && self.is_too_old(&message, came) => {
                    self.metrics.node_message_dropped(Drop::Overload.as_str());
                }
                Ok(message) if message.kind == Kind::Question => {
                    if asked.try_send((message, came)).is_err() {
                        self.metrics.node_message_dropped(Drop::Overload.as_str());
                    }
                }
                Ok(message) => self.take(message),
                Err(reason) => {
                    if reason == Drop::Signature && last_stranger.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
                        last_stranger = Some(Instant::now());
                        tracing::warn!(
                            "a node on this Redis signs with another server.ticket_key, or for another installation: no push of it reaches tunnels here, and none from \
                             here reaches its tunnels (or somebody else writes to our channel)"
                        );
                    }
                    self.metrics.node_message_dropped(reason.as_str());
                }
            }
        }
    }

    fn check(&self, bytes: &Bytes, senders: &mut Senders) -> Result<Message, Drop> {
        let message = self.way.signing.open(bytes)?;
        if message.receiver != *self.me.borrow() {
            return Err(Drop::Receiver);
        }
        let is_first = senders.take(message.sender, message.sequence);
        if is_first { Ok(message) } else { Err(Drop::Repeated) }
    }

    fn take(self: &Arc<Self>, message: Message) {
        match message.kind {
            Kind::Probe => {
                self.probed.fetch_max(message.number, Ordering::AcqRel);
                self.has_probed.notify_waiters();
            }
            Kind::Answer => {
                if let Some((_, waiting)) = self.waiting.remove(&message.number) {
                    waiting.send_replace(Some(message.body));
                }
            }
            Kind::Working => {
                if let Some(waiting) = self.waiting.get(&message.number) {
                    waiting.send_replace(None);
                }
            }
            Kind::Known => {
                let Some(answer) = once::answer(&self.own, &message.body) else {
                    return self.metrics.node_message_dropped(Drop::Version.as_str());
                };
                let bus = Arc::clone(self);
                // If it does not arrive, the other node says so.
                tokio::spawn(async move { bus.send(Kind::Answer, message.sender, message.number, answer).await });
            }
            // They have a queue of their own.
            Kind::Question => {}
        }
    }

    /// Answers questions in the order in which they came, while this node may speak.
    async fn answer(
        self: &Arc<Self>,
        mut questions: mpsc::Receiver<(Message, Instant)>,
        member: &Arc<dyn Member>,
        fence: &Arc<Fence>,
    ) {
        while let Some((message, came)) = questions.recv().await {
            Mark::Asked.pass();
            fence.opened().await;
            let epoch = fence.epoch();
            if message.receiver != *self.me.borrow() {
                self.metrics.node_message_dropped(Drop::Receiver.as_str());
            } else if self.is_too_old(&message, came) {
                // Nobody waits for its answer any more. What it asks for has been called undone, and whoever works on such questions is
                // late for the next ones too.
                self.metrics.node_message_dropped(Drop::Overload.as_str());
            } else {
                self.answer_one(message, member, fence, epoch);
            }
        }
    }

    /// Whether the node that asked has given up by now, by when the question was asked, or else by when it came.
    fn is_too_old(&self, question: &Message, came: Instant) -> bool {
        let age =
            question.asked_ms().zip(self.way.time.now_ms()).map(|(asked_ms, now_ms)| now_ms.saturating_sub(asked_ms));
        age.is_some_and(|age_ms| age_ms >= millis(TOO_OLD)) || came.elapsed() >= TOO_OLD
    }

    fn answer_one(self: &Arc<Self>, message: Message, member: &Arc<dyn Member>, fence: &Arc<Fence>, epoch: u32) {
        let (asker, number) = (message.sender, message.number);
        let answer = Arc::clone(member).answer(message.body);
        let mut answer = AssertUnwindSafe(answer).catch_unwind().map(|answer| {
            answer.unwrap_or_else(|_| {
                tracing::error!("the answer to another node's question has failed by an error in the gateway");
                None
            })
        });
        // Begun here, so that questions are answered in the order in which they came.
        let at_once = (&mut answer).now_or_never();
        let room = at_once.is_none().then(|| Arc::clone(&self.works).try_acquire_owned());
        if matches!(room, Some(Err(_))) {
            return self.metrics.node_message_dropped(Drop::Overload.as_str());
        }
        let (bus, fence) = (Arc::clone(self), Arc::clone(fence));
        tokio::spawn(async move {
            let answer = match at_once {
                Some(answer) => answer,
                None => bus.work_on(answer, asker, number).await,
            };
            drop(room);
            Mark::Answer.pass();
            match answer {
                // What this node has seen may be others' now: silence says that it is not known.
                Some(_) if !fence.permits(epoch) => bus.metrics.node_message_dropped(Drop::Receiver.as_str()),
                // If it does not arrive, the other node says so.
                Some(answer) => drop(bus.send(Kind::Answer, asker, number, answer.into()).await),
                None => bus.metrics.node_message_dropped(Drop::Version.as_str()),
            }
        });
    }

    /// Waits for an answer, and tells who asked for it that it is being worked on.
    async fn work_on<T>(&self, answer: impl Future<Output = T>, asker: NodeId, number: u64) -> T {
        let tell = async {
            loop {
                sleep(WORKING_EVERY).await;
                // If it does not arrive, the other node waits in vain, and says so.
                let _ = self.send(Kind::Working, asker, number, Bytes::new()).await;
            }
        };
        tokio::select! {
            answer = answer => answer,
            never = tell => never,
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

/// What has been taken of each sender: of so many nodes, and of all that were heard not long ago.
#[derive(Default)]
struct Senders {
    taken: HashMap<NodeId, (Taken, u64)>,
    /// How many messages have come.
    count: u64,
}

impl Senders {
    /// Whether message `sequence` of `sender` is taken now for the first time.
    fn take(&mut self, sender: NodeId, sequence: u64) -> bool {
        self.count += 1;
        if self.taken.len() >= SENDERS
            && !self.taken.contains_key(&sender)
            && let Some(silent) = self.taken.iter().min_by_key(|(_, (_, heard))| *heard).map(|(node, _)| *node)
        {
            // One that has come and gone since the start, most likely: the others' messages are still known.
            self.taken.remove(&silent);
        }
        let (taken, heard) = self.taken.entry(sender).or_default();
        *heard = self.count;
        taken.take(sequence)
    }
}

/// Forgets a question when it is answered or given up.
struct Forget<'a>(&'a Bus, u64);

impl std::ops::Drop for Forget<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_sender_makes_no_other_ones_messages_new_again() {
        let node = |number: u128| NodeId::from_bytes(number.to_be_bytes());
        let mut senders = Senders::default();
        for number in 0..SENDERS as u128 {
            assert!(senders.take(node(number), 1));
        }
        assert!(!senders.take(node(0), 1), "it has been heard just now");

        assert!(senders.take(node(u128::MAX), 1));

        for number in (0..SENDERS as u128).filter(|number| *number != 1) {
            assert!(!senders.take(node(number), 1), "{number}");
        }
        assert!(senders.take(node(1), 1), "it had been silent for longest");
    }
}

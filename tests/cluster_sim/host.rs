//! What a gateway does with its engine: handshakes, events, pushes and groups, in the same order of its questions to engine and lease guard as
//! `gateway::connect`, `webhook::attempt` and `gateway::cluster` have, without their sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::channel;
use tokio::time::sleep;
use wafergate::engine::Announcement;
use wafergate::engine::Claim;
use wafergate::engine::ClaimStore as _;
use wafergate::engine::Closed;
use wafergate::engine::Cluster as _;
use wafergate::engine::ClusterNode;
use wafergate::engine::ClusterUsage;
use wafergate::engine::EngineError;
use wafergate::engine::GroupIndex as _;
use wafergate::engine::Heir;
use wafergate::engine::Record;
use wafergate::engine::RedisEngine;
use wafergate::engine::Token;
use wafergate::engine::TunnelIndex as _;
use wafergate::engine::TunnelRegistry as _;
use wafergate::id::NodeId;
use wafergate::id::TunnelId;
use wafergate::protocol::close::CloseReason;
use wafergate::protocol::native::Audience;
use wafergate::protocol::native::Name;

use crate::dice::Dice;
use crate::history::Answer;
use crate::history::Call;
use crate::history::Event;
use crate::history::Process;
use crate::history::Shared;

const TENANT: &str = "shop";
/// Wait before the engine is queried again for a connecting client.
const ENGINE_RETRY: Duration = Duration::from_millis(500);
/// More than any client sends.
const MOST_EVENTS: usize = 10_000;

/// The gateway of one process.
pub(crate) struct Host {
    process: Process,
    engine: Arc<RedisEngine>,
    history: Shared,
    dice: Mutex<Dice>,
    open: Mutex<BTreeMap<TunnelId, Open>>,
    /// An injected fault: the lease guard is checked before a wait, and not after it.
    asks_once: bool,
    me: Weak<Self>,
}

/// Which nodes a push has asked.
#[derive(Default)]
struct Asked {
    denied: Vec<NodeId>,
    silent: Vec<NodeId>,
}

/// A tunnel that is open here.
struct Open {
    incarnation: u32,
    group: Option<usize>,
    sent: u32,
    events: Sender<Event>,
}

/// State of a client that disconnects during its handshake, unless it connects.
struct AtTheDoor<'a> {
    host: &'a Host,
    tunnel: TunnelId,
    token: Token,
    life: Duration,
    gives_back: bool,
    is_registered: bool,
}

impl Drop for AtTheDoor<'_> {
    fn drop(&mut self) {
        if self.is_registered {
            self.host.engine.unregister(self.tunnel);
        }
        if self.gives_back {
            self.host.engine.release(self.tunnel, self.token, self.life);
        }
    }
}

pub(crate) fn audience(group: usize) -> Audience {
    Audience::Group(Name::new(&format!("room{group}")).expect("a name"))
}

impl Host {
    pub(crate) fn new(
        process: Process,
        engine: Arc<RedisEngine>,
        history: Shared,
        dice: Dice,
        asks_once: bool,
    ) -> Arc<Self> {
        let (open, dice) = (Mutex::default(), Mutex::new(dice));
        Arc::new_cyclic(|me| Self { process, engine, history, dice, open, asks_once, me: me.clone() })
    }

    fn drawn(&self, draw: impl FnOnce(&mut Dice) -> Duration) -> Duration {
        draw(&mut self.dice.lock())
    }

    /// A client comes with a connect URL that is good until `until_ms`.
    pub(crate) async fn handshake(self: Arc<Self>, tunnel: TunnelId, group: Option<usize>, until_ms: u64) {
        let (token, first_life) = (self.dice.lock().bytes(), self.engine.lease_guard().incarnation());
        self.history.lock().story(tunnel).tried_on.push(self.process);
        let mut door =
            AtTheDoor { host: &self, tunnel, token, life: Duration::ZERO, gives_back: false, is_registered: false };
        loop {
            let left = Duration::from_millis(until_ms.saturating_sub(self.history.lock().now_ms));
            if left.is_zero() {
                return;
            }
            (door.life, door.gives_back) = (left, true);
            let registered = match self.engine.claim(tunnel, token, left).await {
                Ok(Claim::Used) => {
                    door.gives_back = false;
                    return;
                }
                Ok(Claim::Granted) => self.register(tunnel, group).await,
                Err(away) => Err(away),
            };
            if let Ok((incarnation, entered)) = registered {
                door.is_registered = true;
                // The answer to the handshake is made; nothing waits here.
                (door.is_registered, door.gives_back) = (false, false);
                self.attach(tunnel, group, incarnation);
                drop(entered);
                return;
            }
            if self.engine.lease_guard().incarnation() != first_life {
                door.gives_back = false;
                return;
            }
            sleep(left.min(ENGINE_RETRY)).await;
        }
    }

    async fn register(
        &self,
        tunnel: TunnelId,
        group: Option<usize>,
    ) -> Result<(u32, Option<Announcement>), EngineError> {
        let life = self.engine.lease_guard().incarnation();
        let entered = match group {
            Some(group) => Some(self.engine.announce(TENANT, &audience(group)).await?),
            None => None,
        };
        let record = Record {
            tenant: TENANT.to_owned(),
            receive_url: "http://shop/".to_owned(),
            key_fingerprint: 1,
            native: None,
            connector: None,
            closed: None,
        };
        let incarnation = self.engine.register(tunnel, record).await?;
        if incarnation == life {
            return Ok((incarnation, entered));
        }
        self.engine.unregister(tunnel);
        Err(EngineError::NotMember)
    }

    fn attach(self: &Arc<Self>, tunnel: TunnelId, group: Option<usize>, incarnation: u32) {
        let (events, waiting) = channel(MOST_EVENTS);
        let _ = events.try_send(Event::Connect);
        self.history.lock().opened(tunnel, self.process);
        self.open.lock().insert(tunnel, Open { incarnation, group, sent: 0, events });
        tokio::spawn(Arc::clone(self).dispatch(tunnel, incarnation, waiting, false));
        if incarnation != self.engine.lease_guard().incarnation() {
            self.cut_off();
        }
    }

    /// The client of a tunnel sends something.
    pub(crate) fn message(&self, tunnel: TunnelId) {
        if let Some(open) = self.open.lock().get_mut(&tunnel) {
            open.sent += 1;
            let _ = open.events.try_send(Event::Message(open.sent));
        }
    }

    /// The client of a tunnel hangs up.
    pub(crate) fn hang_up(&self, tunnel: TunnelId) {
        let Some(open) = self.detach(tunnel, false) else { return };
        self.engine.set_closed(tunnel, Closed { reason: CloseReason::Drain, unix_ms: 1 });
        let _ = open.events.try_send(Event::Close);
    }

    fn detach(&self, tunnel: TunnelId, is_cut_off: bool) -> Option<Open> {
        let mut all = self.open.lock();
        let open = all.remove(&tunnel)?;
        self.history.lock().ended(tunnel, self.process, is_cut_off);
        if let Some(group) = open.group.filter(|group| all.values().all(|other| other.group != Some(*group))) {
            self.engine.withdraw(TENANT, &audience(group));
        }
        Some(open)
    }

    /// Posts the events of a tunnel, one after the other.
    async fn dispatch(
        self: Arc<Self>,
        tunnel: TunnelId,
        incarnation: u32,
        mut events: Receiver<Event>,
        is_adopted: bool,
    ) {
        let lease_guard = self.engine.lease_guard();
        while let Some(event) = events.recv().await {
            loop {
                if !lease_guard.valid_for(incarnation).await {
                    return;
                }
                // For a permit, or the breaker.
                sleep(self.drawn(|dice| if dice.once_in(12) { dice.millis(100, 12_000) } else { Duration::ZERO }))
                    .await;
                if !self.asks_once && !lease_guard.is_valid_for(incarnation) {
                    continue;
                }
                self.history.lock().posted(tunnel, self.process, event, is_adopted);
                sleep(self.drawn(|dice| if dice.once_in(20) { dice.millis(100, 4_000) } else { dice.millis(1, 80) }))
                    .await;
                if !lease_guard.valid_for(incarnation).await {
                    return;
                }
                if self.dice.lock().once_in(10) {
                    // 503: once more, after the first delay of a retry; time is simulated here.
                    sleep(Duration::from_millis(100)).await;
                } else {
                    break;
                }
            }
            if event == Event::Close {
                self.history.lock().settled(tunnel, self.process);
                self.engine.unregister(tunnel);
                return;
            }
        }
    }

    /// Pushes to a tunnel, wherever it is.
    pub(crate) async fn push(self: Arc<Self>, tunnel: TunnelId) {
        let began_ms = self.history.lock().now_ms;
        self.engine.lease_guard().valid().await;
        let number = self.history.lock().pushes(self.process);
        let answer = if self.has(tunnel) {
            self.pushed(number);
            Answer::Accepted
        } else {
            self.push_elsewhere(tunnel, number).await
        };
        {
            let mut history = self.history.lock();
            let now_ms = history.now_ms;
            history.push(number).answer = Some((now_ms, answer));
        }
        self.answered(began_ms, tunnel, answer);
    }

    /// A push has reached its tunnel here.
    fn pushed(&self, number: u64) {
        let mut history = self.history.lock();
        let now_ms = history.now_ms;
        history.push(number).done_by.push((now_ms, self.process));
    }

    /// The same to a tunnel that is not here, without a hint.
    pub(crate) async fn push_cold(self: Arc<Self>, tunnel: TunnelId) {
        let began_ms = self.history.lock().now_ms;
        let number = self.history.lock().pushes(self.process);
        let answer = self.push_by_index(tunnel, number, &mut Asked::default()).await;
        self.answered(began_ms, tunnel, answer);
    }

    async fn push_elsewhere(&self, tunnel: TunnelId, number: u64) -> Answer {
        // The hint of an earlier push, sometimes a wrong one.
        let has_hint = self.dice.lock().once_in(4);
        let mut asked = Asked::default();
        if has_hint
            && let Some(node) = self.engine.others().first()
            && self.ask_for(tunnel, number, vec![*node], &mut asked).await
        {
            return Answer::Accepted;
        }
        self.push_by_index(tunnel, number, &mut asked).await
    }

    async fn push_by_index(&self, tunnel: TunnelId, number: u64, asked: &mut Asked) -> Answer {
        let others = self.engine.others();
        let located = self.engine.locate(&[tunnel]).await;
        let is_located = located.is_ok();
        let mut nodes: Vec<NodeId> = located.map_or(others, |located| located.nodes(0).collect());
        if self.ask_for(tunnel, number, nodes.clone(), asked).await {
            return Answer::Accepted;
        }
        if !is_located {
            return Answer::Error;
        }
        if nodes.iter().any(|node| !asked.denied.contains(node)) {
            match self.engine.all_others().await {
                // A node that is not alive has no tunnels.
                Ok(all) => nodes.retain(|node| all.contains(node)),
                Err(_) => return Answer::Error,
            }
        }
        if nodes.iter().all(|node| asked.denied.contains(node)) { Answer::Invalid } else { Answer::Error }
    }

    /// Whether one of these nodes has a tunnel; those that were asked before are not asked again.
    async fn ask_for(&self, tunnel: TunnelId, number: u64, mut nodes: Vec<NodeId>, asked: &mut Asked) -> bool {
        nodes.retain(|node| !asked.denied.contains(node) && !asked.silent.contains(node));
        let question: Bytes = [b"p", &number.to_be_bytes()[..], &tunnel.to_bytes()].concat().into();
        let ask = async |node: NodeId| (node, self.engine.ask(node, "t", question.clone()).await);
        let mut is_accepted = false;
        for (node, answer) in join_all(nodes.into_iter().map(ask)).await {
            match answer.as_deref() {
                Ok(b"y") => is_accepted = true,
                Ok(_) => asked.denied.push(node),
                Err(_) => asked.silent.push(node),
            }
        }
        is_accepted
    }

    /// Looks for the node of a tunnel by its group; `home` is that node.
    pub(crate) async fn find(self: Arc<Self>, tunnel: TunnelId, group: usize) {
        let began_ms = self.history.lock().now_ms;
        let found = self.engine.nodes_with(TENANT, &audience(group)).await;
        let answer = match found {
            _ if self.has(tunnel) => Answer::Found,
            Err(_) => Answer::Error,
            Ok(homes) => {
                let mut question = b"g".to_vec();
                question.extend(tunnel.to_bytes());
                let asked = homes.into_iter().map(|node| self.engine.ask(node, "t", question.clone().into()));
                let answers = join_all(asked).await;
                if answers.iter().any(|answer| answer.as_deref() == Ok(b"y")) {
                    Answer::Found
                } else if answers.iter().any(Result::is_err) {
                    Answer::Error
                } else {
                    Answer::Missing
                }
            }
        };
        self.answered(began_ms, tunnel, answer);
    }

    fn answered(&self, began_ms: u64, tunnel: TunnelId, answer: Answer) {
        let mut history = self.history.lock();
        let call = Call { began_ms, ended_ms: history.now_ms, tunnel, answer };
        history.calls.push(call);
    }

    fn has(&self, tunnel: TunnelId) -> bool {
        self.open.lock().get(&tunnel).is_some_and(|open| open.incarnation == self.engine.lease_guard().incarnation())
    }
}

impl ClusterNode for Host {
    fn answer(self: Arc<Self>, question: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        let id = question[question.len() - 16..].try_into().expect("an id");
        let has = self.has(TunnelId::from_bytes(id));
        if has && question[0] == b'p' && question.len() == 25 {
            self.pushed(u64::from_be_bytes(question[1..9].try_into().expect("a number")));
        }
        Box::pin(async move { Some(if has { b"y".to_vec() } else { b"n".to_vec() }) })
    }

    fn flow_of(&self, _: &[u8]) -> Option<Arc<str>> {
        None
    }

    fn has_tunnels(&self, _: &str, audience: &Audience) -> bool {
        self.open.lock().values().any(|open| open.group.map(self::audience).as_ref() == Some(audience))
    }

    fn status(&self) -> String {
        format!("{{\" node\":{},\"{TENANT}\":{}}}", self.process, self.open.lock().len())
    }

    fn heard(&self, _: &ClusterUsage) {}

    fn heir(&self, _: &Record) -> Heir {
        Heir::This
    }

    fn configuration(&self) -> u64 {
        0
    }

    fn adopt(&self, tunnel: TunnelId, record: Record) {
        if record.closed.is_none() {
            self.engine.set_closed(tunnel, Closed { reason: CloseReason::NodeLost, unix_ms: 1 });
        }
        let (events, waiting) = channel(MOST_EVENTS);
        let _ = events.try_send(Event::Close);
        let me = self.me.upgrade().expect("it is asked");
        tokio::spawn(me.dispatch(tunnel, self.engine.lease_guard().incarnation(), waiting, true));
    }

    fn cut_off(&self) {
        let incarnation = self.engine.lease_guard().incarnation();
        let others: Vec<TunnelId> = self
            .open
            .lock()
            .iter()
            .filter(|(_, open)| open.incarnation != incarnation)
            .map(|(tunnel, _)| *tunnel)
            .collect();
        others.into_iter().for_each(|tunnel| drop(self.detach(tunnel, true)));
    }
}

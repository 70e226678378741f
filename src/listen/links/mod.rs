//! The connections to the gateway as a state machine: when to dial, what to send, what to say about it.
//!
//! At most one connection is ready for events. A second one is dialled beside it when it falls silent or its node leaves; the one that is
//! replaced stays until its events are answered.

mod ending;
mod health;
#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use super::pause::pause;
use super::unconfirmed::Done;
use super::unconfirmed::Unconfirmed;
use crate::clock::millis;
use crate::protocol::connector::Drain;
use crate::protocol::connector::Event;
use crate::protocol::connector::FromGateway;
use crate::protocol::connector::Hello;
use crate::protocol::connector::MAX_PENDING;
use crate::protocol::connector::Notice;
use crate::protocol::connector::Purpose;
use crate::protocol::connector::Take;
use crate::protocol::connector::VERSION;
use crate::protocol::connector::Welcome;
use crate::protocol::connector::Window;
use crate::protocol::connector::close_code;

/// How long the events in flight are waited for at the end.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// A connection that lived for so long has worked. One that ended sooner is a failure, as one that was never made.
const STEADY: Duration = Duration::from_secs(10);
/// Failures in a row that still count behind a `welcome`, so that connections that end at once are not made again without a pause.
const REMEMBERED_FAILURES: u32 = 3;
/// How often the clocks are compared.
const TICK: Duration = Duration::from_secs(1);

/// What a listener is called, and what it wants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name.
    pub name: String,
    /// 128 random bits in hexadecimal.
    pub instance: String,
    /// The window that is asked for.
    pub window: Window,
    /// Longest attempt.
    pub attempt: Duration,
    /// Program and version.
    pub agent: String,
    /// How long to be without a connection at most.
    pub give_up_after: Option<Duration>,
}

/// Number of a connection.
pub type Link = u32;

/// Why a connection could not be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// The network, in words.
    Network(String),
    /// The gateway or a proxy cannot take it now; not before this pause.
    Later(String, Duration),
    /// It makes no sense to dial again.
    Final(Ended),
}

/// Why it ends, in words where there are some.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// As asked for: a signal, or enough events.
    Drained,
    /// A second signal, or answers that did not come in time.
    Stopped,
    /// No connection for as long as was allowed.
    GaveUp(String),
    /// Refused for now.
    Limited(String),
    /// Not allowed.
    Denied(String),
    /// Not possible with this URL or these settings.
    Wrong(String),
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Open this connection.
    Dial(Link),
    /// Stop opening or using it.
    Drop(Link),
    /// Send a message.
    Send(Link, Vec<u8>, Bytes),
    /// Send a ping with this number.
    Ping(Link, u64),
    /// Send a close frame with this code, then drop it.
    Close(Link, u16),
    /// Forward an event to the business server.
    Forward(Box<Event>, Bytes),
    /// Stop forwarding this attempt, for this reason: the answer would come too late.
    Abandon(String, u32, String),
    /// Tell the person in front of it.
    Report(Report),
    /// End the program.
    End(Ended),
}

/// What the person should know.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Connected; after how long without, if it was before. Without a `welcome` it is the same connection, which works again.
    Ready(Option<Box<Welcome>>, Option<Duration>),
    /// Not connected for this reason; the pause until the next try.
    Offline(String, Duration),
    /// Words of the gateway.
    Notice(Notice),
}

/// The state of one connection.
#[derive(Debug, Eq, PartialEq)]
enum State {
    /// Being opened.
    Dialled,
    /// Open, `welcome` is missing.
    Greeted,
    /// Ready for events.
    Ready,
    /// Replaced: only its events in flight are answered on it.
    Leaving,
}

#[derive(Debug)]
struct Connection {
    state: State,
    /// The time of the handshake, then that of the `welcome`.
    since: Instant,
    heard: Instant,
    pinged: Option<Instant>,
}

/// All connections of a listener.
#[derive(Debug)]
pub struct Links {
    settings: Settings,
    links: HashMap<Link, Connection>,
    next_link: Link,
    next_ping: u64,
    /// The session that the next `hello` continues.
    session: Option<String>,
    /// Events that are being forwarded: by id the attempt, and the connection that it came on.
    in_flight: HashMap<String, (u32, Link)>,
    unconfirmed: Unconfirmed,
    failures: u32,
    /// When to dial again.
    dial_at: Option<Instant>,
    /// Since when no connection is ready, and whether that was said.
    away_since: Option<Instant>,
    was_ready: bool,
    said: Option<String>,
    /// Draining: until when at the latest, and the ping behind which no event follows.
    ending: Option<(Instant, Option<(Link, u64)>)>,
    /// The last look at both clocks.
    clocks: (Instant, Duration),
    actions: VecDeque<Action>,
    is_over: bool,
}

impl Links {
    /// A listener that dials at once. `wall` is the time since 1970.
    pub fn new(settings: Settings, now: Instant, wall: Duration) -> Self {
        Self {
            settings,
            links: HashMap::new(),
            next_link: 1,
            next_ping: 1,
            session: None,
            in_flight: HashMap::new(),
            unconfirmed: Unconfirmed::default(),
            failures: 0,
            dial_at: Some(now),
            away_since: Some(now),
            was_ready: false,
            said: None,
            ending: None,
            clocks: (now, wall),
            actions: VecDeque::new(),
            is_over: false,
        }
    }

    /// The next thing to do; none: wait until [`deadline`](Self::deadline), or for something to happen.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`tick`](Self::tick) at the latest.
    pub fn deadline(&self) -> Instant {
        let tick = self.clocks.0 + TICK;
        self.dial_at.map_or(tick, |at| at.min(tick))
    }

    /// The handshake of a connection is done.
    pub fn connected(&mut self, link: Link, now: Instant) {
        if self.ending.is_some() {
            // Nothing new is wanted.
            self.links.remove(&link);
        }
        let pending: Vec<String> = match self.session {
            Some(_) => {
                let ids = self.in_flight.keys().map(String::as_str).chain(self.unconfirmed.ids());
                ids.take(MAX_PENDING).map(str::to_owned).collect()
            }
            None => vec![],
        };
        let Some(connection) = self.links.get_mut(&link) else { return self.act(Action::Drop(link)) };
        (connection.state, connection.since, connection.heard) = (State::Greeted, now, now);
        let hello = Hello {
            v: VERSION,
            name: self.settings.name.clone(),
            instance: self.settings.instance.clone(),
            purpose: Purpose::Listen,
            take: Take::Named,
            window: self.settings.window,
            attempt_ms: Some(millis(self.settings.attempt)),
            session: self.session.clone(),
            pending,
            agent: self.settings.agent.clone(),
        };
        self.act(Action::Send(link, hello.head(), Bytes::new()));
    }

    /// A connection could not be made. `jitter` is a random number from 0 to 1.
    pub fn failed(&mut self, link: Link, trouble: Trouble, now: Instant, jitter: f64) {
        if self.links.remove(&link).is_none() {
            return;
        }
        match trouble {
            Trouble::Network(words) => self.dial_later(&words, Duration::ZERO, false, now, jitter),
            Trouble::Later(words, wait) => self.dial_later(&words, wait, true, now, jitter),
            Trouble::Final(ended) => self.end(ended),
        }
    }

    /// A message came.
    pub fn message(&mut self, link: Link, message: FromGateway, body: Bytes, now: Instant, jitter: f64) {
        self.drop_silent(now, jitter);
        let Some(connection) = self.links.get_mut(&link) else { return };
        connection.heard = now;
        match message {
            FromGateway::Welcome(welcome) => self.welcome(link, *welcome, now),
            FromGateway::Event(event) => self.event(link, event, body),
            FromGateway::Cancel(cancel) => {
                if self.in_flight.get(&cancel.id).is_some_and(|(attempt, _)| *attempt == cancel.attempt) {
                    self.in_flight.remove(&cancel.id);
                    let words = format!("the gateway has cancelled it: {}", cancel.reason);
                    self.act(Action::Abandon(cancel.id, cancel.attempt, words));
                }
            }
            FromGateway::Drain(_) => self.leave(link, now),
            FromGateway::Notice(notice) => self.act(Action::Report(Report::Notice(notice))),
            FromGateway::Result(_) | FromGateway::Unknown => {}
        }
        self.settle(now);
    }

    /// A ping came, or a pong to the ping with this number.
    pub fn heard(&mut self, link: Link, pong: Option<u64>, now: Instant, jitter: f64) {
        self.drop_silent(now, jitter);
        let Some(connection) = self.links.get_mut(&link) else { return };
        connection.heard = now;
        if let Some(number) = pong {
            self.unconfirmed.confirm(link, number);
            if let Some((_, barrier)) = &mut self.ending
                && matches!(barrier, Some((on, ping)) if *on == link && *ping <= number)
            {
                *barrier = None;
            }
        }
        self.settle(now);
    }

    /// A connection has ended, with this close code if a close frame came.
    pub fn lost(&mut self, link: Link, code: Option<u16>, words: &str, now: Instant, jitter: f64) {
        let Some(connection) = self.links.remove(&link) else { return };
        match code {
            Some(close_code::KEY_WITHDRAWN) => {
                return self.end(Ended::Denied(format!("the gateway has withdrawn the key: {words}")));
            }
            Some(close_code::REFUSED) => return self.end(Ended::Denied(words.to_owned())),
            // By the one that is being made.
            Some(close_code::REPLACED) if self.is_dialling() => return,
            Some(close_code::REPLACED) => self.session = None,
            _ => {}
        }
        if connection.state != State::Leaving {
            if connection.state == State::Ready && now.saturating_duration_since(connection.since) >= STEADY {
                self.failures = 0;
            }
            self.dial_later(words, Duration::ZERO, true, now, jitter);
        }
        self.settle(now);
    }

    /// An attempt is over. Whether the gateway still waits for it.
    pub fn done(&mut self, done: Done, now: Instant) -> bool {
        let (id, attempt) = done.key();
        let Some((_, link)) = self.in_flight.get(id).filter(|(own, _)| *own == attempt).copied() else { return false };
        self.in_flight.remove(id);
        let link = if self.links.get(&link).is_some_and(Connection::can_send) { Some(link) } else { self.ready() };
        if let Some(link) = link {
            let (head, body) = done.message();
            self.act(Action::Send(link, head, body));
        }
        self.unconfirmed.push(done, link.map(|link| (link, self.next_ping)));
        self.settle(now);
        true
    }

    /// The connection that is ready.
    fn ready(&self) -> Option<Link> {
        self.links.iter().find_map(|(link, connection)| (connection.state == State::Ready).then_some(*link))
    }

    fn is_dialling(&self) -> bool {
        self.links.values().any(|connection| matches!(connection.state, State::Dialled | State::Greeted))
    }

    fn dial(&mut self, now: Instant) {
        self.dial_at = None;
        if self.is_dialling() || self.ending.is_some() {
            return;
        }
        let link = self.next_link;
        self.next_link += 1;
        let connection = Connection { state: State::Dialled, since: now, heard: now, pinged: None };
        self.links.insert(link, connection);
        self.act(Action::Dial(link));
    }

    fn dial_later(&mut self, words: &str, wait: Duration, was_answered: bool, now: Instant, jitter: f64) {
        self.failures += 1;
        let wait = pause(self.failures, was_answered, jitter).max(wait);
        self.away_since.get_or_insert(now);
        self.dial_at = Some(now + wait);
        self.offline(words, wait);
    }

    /// Says it once for each reason.
    fn offline(&mut self, words: &str, wait: Duration) {
        if self.said.as_deref() != Some(words) {
            self.said = Some(words.to_owned());
            self.act(Action::Report(Report::Offline(words.to_owned(), wait)));
        }
    }

    fn welcome(&mut self, link: Link, welcome: Welcome, now: Instant) {
        if let Some(old) = self.ready().filter(|old| *old != link) {
            // Its session goes on here, so nothing else comes on it.
            self.links.remove(&old);
            self.act(Action::Close(old, close_code::LEAVING));
        }
        if let Some(connection) = self.links.get_mut(&link) {
            (connection.state, connection.since) = (State::Ready, now);
        }
        self.session = Some(welcome.session.clone());
        self.failures = self.failures.min(REMEMBERED_FAILURES);
        (self.dial_at, self.said) = (None, None);
        let away = self.away_since.take().filter(|_| self.was_ready).map(|since| now.saturating_duration_since(since));
        let is_first = !std::mem::replace(&mut self.was_ready, true);
        if is_first || away.is_some() {
            self.act(Action::Report(Report::Ready(Some(Box::new(welcome)), away)));
        }
        let links = &self.links;
        let again = self.unconfirmed.resend((link, self.next_ping), |own| links.contains_key(&own));
        self.in_flight.values_mut().filter(|(_, own)| !links.contains_key(own)).for_each(|(_, own)| *own = link);
        again.into_iter().for_each(|(head, body)| self.act(Action::Send(link, head, body)));
        self.ping(link, now);
    }

    fn event(&mut self, link: Link, event: Box<Event>, body: Bytes) {
        self.unconfirmed.forget(&event.id);
        match self.in_flight.insert(event.id.clone(), (event.attempt, link)) {
            // Its tunnel has another node, which counts anew: the attempt that runs is answered there.
            Some((attempt, _)) if attempt == event.attempt => return,
            Some((attempt, _)) => {
                self.act(Action::Abandon(event.id.clone(), attempt, "a later attempt has come".to_owned()));
            }
            None => {}
        }
        self.act(Action::Forward(event, body));
    }

    /// The node of a connection leaves: another one is dialled first.
    fn leave(&mut self, link: Link, now: Instant) {
        let Some(connection) = self.links.get_mut(&link) else { return };
        connection.state = State::Leaving;
        self.act(Action::Send(link, Drain { within_ms: millis(DRAIN_WITHIN) }.head(), Bytes::new()));
        // A new session: the old one ends with its own connection.
        self.session = None;
        self.dial(now);
    }

    fn ping(&mut self, link: Link, now: Instant) -> u64 {
        let number = self.next_ping;
        self.next_ping += 1;
        if let Some(connection) = self.links.get_mut(&link) {
            connection.pinged = Some(now);
        }
        self.act(Action::Ping(link, number));
        number
    }

    fn end(&mut self, ended: Ended) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.actions.push_back(Action::End(ended));
        }
    }

    fn act(&mut self, action: Action) {
        if !self.is_over {
            self.actions.push_back(action);
        }
    }
}

impl Connection {
    fn can_send(&self) -> bool {
        matches!(self.state, State::Ready | State::Leaving)
    }
}

//! The separate logs of a run: clients, business servers, pushes, and the gateway's own reports.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::Event;
use crate::support::Outcome;

/// All logs of one run, complete: nothing is under way any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logs {
    pub(crate) clients: Vec<ClientLog>,
    /// In the order of their arrival.
    pub(crate) attempts: Vec<Attempt>,
    /// In the order of their answers.
    pub(crate) pushes: Vec<Push>,
    pub(crate) given_up: Vec<GivenUp>,
    /// Why events failed that were tried again, in the gateway's words.
    pub(crate) failures: Vec<String>,
    /// None if the metrics could not be read at the end.
    pub(crate) counted: Option<Counted>,
    pub(crate) leaks: Vec<Leak>,
    pub(crate) rules: Rules,
}

/// The settings that a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// `webhook.timeout_ms`.
    pub(crate) timeout: Duration,
    /// `webhook.message_ttl_secs`.
    pub(crate) message_ttl: Duration,
}

/// One tunnel as its client saw it. Messages in each direction are numbered from 1.
#[derive(Clone, Debug)]
pub(crate) struct ClientLog {
    pub(crate) tunnel: String,
    /// When it began its handshake.
    pub(crate) dialed: Instant,
    /// When it knew that its tunnel was open.
    pub(crate) opened: Instant,
    /// Until when its tunnel was surely open.
    pub(crate) open_until: Instant,
    /// When each message went out, in their order.
    pub(crate) sent: Vec<Instant>,
    /// How many of them the gateway has surely read. Those behind may have got lost with the connection.
    pub(crate) certain: usize,
    /// The received messages, in order.
    pub(crate) received: Vec<u64>,
    /// Whether it read on until the gateway said goodbye in order: then nothing accepted may be missing.
    pub(crate) has_read_all: bool,
    /// When its node was killed: undelivered messages are lost with it, from some message on.
    pub(crate) lost_at: Option<Instant>,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum What {
    Connect,
    Message(u64),
    Close,
}

/// One attempt to deliver an event, as the business server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) tunnel: String,
    pub(crate) what: What,
    /// Its `webhook-id`.
    pub(crate) id: String,
    pub(crate) at: Instant,
    pub(crate) settled: Option<Instant>,
    pub(crate) outcome: Outcome,
}

/// One message pushed to one tunnel.
#[derive(Clone, Debug)]
pub(crate) struct Push {
    pub(crate) tunnel: String,
    pub(crate) number: u64,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// Whether the tunnel was among the invalid ones.
    pub(crate) is_invalid: bool,
    /// Whether the answer was an error: then it may have arrived all the same, once, and as late as it likes.
    pub(crate) is_unknown: bool,
}

/// An event that the gateway says it gave up, in its log.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp {
    pub(crate) tunnel: String,
    pub(crate) kind: String,
    /// The event's number on its tunnel: 1 is `connect`, message `n` is `n + 1`.
    pub(crate) sequence: u64,
    pub(crate) reason: String,
    pub(crate) at: Instant,
}

/// The gateway's metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Events given up, after a final answer or at the end of their time.
    pub(crate) given_up: u64,
    /// Tunnels ended.
    pub(crate) closes: u64,
}

/// Something that a run had to give back, and did not.
#[derive(Clone, Debug)]
pub(crate) struct Leak {
    pub(crate) what: &'static str,
    pub(crate) before: usize,
    pub(crate) after: usize,
}

impl Default for Rules {
    /// The defaults of the configuration.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), message_ttl: Duration::from_secs(60) }
    }
}

impl Logs {
    /// Adds a record of a business server.
    pub(crate) fn add_events(&mut self, events: &[Event]) {
        self.attempts.extend(events.iter().map(Attempt::of));
        self.attempts.sort_by_key(|attempt| attempt.at);
    }
}

impl Attempt {
    fn of(event: &Event) -> Self {
        let what = match event.kind.as_str() {
            "connect" => What::Connect,
            "close" => What::Close,
            _ => What::Message(number(event.content.as_deref().unwrap_or_default())),
        };
        Self {
            tunnel: event.tunnel.clone(),
            what,
            id: event.id.clone(),
            at: event.at,
            settled: event.settled,
            outcome: event.outcome,
        }
    }
}

impl GivenUp {
    /// Its kind.
    pub(crate) fn what(&self) -> What {
        match self.kind.as_str() {
            "connect" => What::Connect,
            "close" => What::Close,
            _ => What::Message(self.sequence - 1),
        }
    }
}

/// The content of the message with this number, of about `bytes` bytes.
pub(crate) fn content(number: u64, bytes: usize) -> String {
    format!("{number}:{}", "x".repeat(bytes))
}

/// The number in a message's content; zero if there is none.
pub(crate) fn number(content: &str) -> u64 {
    content.split_once(':').and_then(|(number, _)| number.parse().ok()).unwrap_or_default()
}

//! The history of all events, kept outside the simulated machines, so that it survives their crashes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

/// Messages that each phone wants to get through, each way.
pub(crate) const QUOTA: usize = 12;

/// The journal of one simulation.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) tunnels: BTreeMap<String, Tunnel>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) pushes: Vec<Push>,
    pub(crate) shops: Vec<BusinessServer>,
    pub(crate) phones: Vec<Client>,
    counter: u64,
}

/// One tunnel, as its client saw it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) shop: usize,
    pub(crate) phone: usize,
    /// Whether the gateway opened it.
    pub(crate) is_attached: bool,
    /// Whether the gateway that had it was killed.
    pub(crate) is_lost: bool,
    /// Messages written by the client, whole or in part.
    pub(crate) sent: Vec<String>,
    /// How many of them the gateway surely read: it answered a later ping.
    pub(crate) acked: usize,
    pub(crate) received: Vec<String>,
    pub(crate) end: Option<End>,
}

/// How a tunnel ended for its client; none: the machine crashed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// It said goodbye, and the gateway answered.
    Confirmed,
    /// It closed its side, and then the gateway did.
    HalfClosed,
    /// The gateway closed it with this code.
    Closed(u16),
    /// It hung up, vanished, or lost the connection.
    Lost,
}

/// One attempt to deliver an event, as the business server saw it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) shop: usize,
    pub(crate) tunnel: String,
    pub(crate) sequence: u64,
    pub(crate) kind: String,
    pub(crate) content: String,
    pub(crate) began: Duration,
    /// When it was accepted, if it was.
    pub(crate) accepted: Option<Duration>,
    /// Whether the business server misbehaved on purpose.
    pub(crate) is_spoilt: bool,
}

/// One push.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) tunnels: Vec<String>,
    /// None: an order to close.
    pub(crate) content: Option<String>,
    /// The ids that are not open, once the answer is there.
    pub(crate) invalid: Option<Vec<String>>,
}

/// State of a business server.
#[derive(Debug, Default)]
pub(crate) struct BusinessServer {
    /// Tunnels between their `connect` and their `close`.
    pub(crate) open: BTreeSet<String>,
    /// Pending pushes: tunnels and content.
    pub(crate) queue: VecDeque<(Vec<String>, Option<String>)>,
}

/// How far a phone has come, over all its tunnels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) acked: usize,
    pub(crate) received: usize,
    /// How often its machine has started.
    pub(crate) starts: u64,
}

impl Client {
    pub(crate) fn is_done(&self) -> bool {
        self.acked >= QUOTA && self.received >= QUOTA
    }
}

impl History {
    pub(crate) fn new(shops: usize, phones: usize) -> Self {
        let mut journal = Self::default();
        journal.shops.resize_with(shops, BusinessServer::default);
        journal.phones.resize(phones, Client::default());
        journal
    }

    /// A number that was never used before.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(crate) fn issued(&mut self, id: &str, shop: usize, phone: usize) {
        let tunnel = Tunnel {
            shop,
            phone,
            is_attached: false,
            is_lost: false,
            sent: vec![],
            acked: 0,
            received: vec![],
            end: None,
        };
        assert!(self.tunnels.insert(id.to_owned(), tunnel).is_none(), "{id} was issued twice");
    }

    pub(crate) fn attached(&mut self, id: &str) {
        self.tunnel(id).is_attached = true;
    }

    /// The gateway answered a ping that was sent behind `count` messages.
    pub(crate) fn acked(&mut self, id: &str, count: usize) {
        let tunnel = self.tunnel(id);
        let (phone, more) = (tunnel.phone, count - tunnel.acked);
        tunnel.acked = count;
        self.phones[phone].acked += more;
    }

    pub(crate) fn received(&mut self, id: &str, content: &str) {
        let tunnel = self.tunnel(id);
        tunnel.received.push(content.to_owned());
        let phone = tunnel.phone;
        self.phones[phone].received += 1;
    }

    pub(crate) fn tunnel(&mut self, id: &str) -> &mut Tunnel {
        self.tunnels.get_mut(id).expect("issued")
    }
}

//! How business servers and clients reach the gateway: its one node, or whichever node a load balancer chooses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Error;

use crate::support::Issued;
use crate::support::TestClient;
use crate::support::Wafer;
use crate::support::within;

/// A node in use: it is not taken out before this is dropped.
pub(crate) type Busy = watch::Receiver<()>;

/// A tunnel that was granted, and the node that is to be dialled.
pub(crate) struct Granted {
    pub(crate) issued: Issued,
    pub(crate) busy: Busy,
}

/// An answer that says that something cannot be done at present.
#[derive(Clone, Debug)]
pub(crate) struct Excuse {
    /// The node that said so.
    pub(crate) node: SocketAddr,
    pub(crate) code: i64,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// Targets of the push; empty if it was not a push.
    pub(crate) targets: Vec<String>,
}

/// One node, or several. Clones are the same.
#[derive(Clone)]
pub(crate) struct Way {
    nodes: Arc<Vec<Node>>,
    turn: Arc<AtomicUsize>,
    shared: Arc<Mutex<Shared>>,
}

struct Node {
    wafer: Wafer,
    is_in: AtomicBool,
    busy: watch::Sender<()>,
}

#[derive(Default)]
struct Shared {
    dialled: HashMap<String, SocketAddr>,
    issued: Vec<Issued>,
    excuses: Vec<Excuse>,
}

impl From<&Wafer> for Way {
    fn from(wafer: &Wafer) -> Self {
        Self::new(vec![wafer.clone()])
    }
}

impl From<&Way> for Way {
    fn from(way: &Way) -> Self {
        way.clone()
    }
}

impl Way {
    /// The nodes that these talk to; each serves in its turn.
    pub(crate) fn new(wafers: Vec<Wafer>) -> Self {
        let node = |wafer| Node { wafer, is_in: AtomicBool::new(true), busy: watch::Sender::default() };
        let nodes = Arc::new(wafers.into_iter().map(node).collect());
        Self { nodes, turn: Arc::default(), shared: Arc::default() }
    }

    /// Stops sending clients to a node, and waits until those already sent have been served.
    pub(crate) async fn take_out(&self, node: usize) {
        self.nodes[node].is_in.store(false, Ordering::Release);
        within("a node that is not busy", self.nodes[node].busy.closed()).await;
    }

    /// Sends clients to a node again.
    pub(crate) fn put_back(&self, node: usize) {
        self.nodes[node].is_in.store(true, Ordering::Release);
    }

    /// Which node a tunnel's client dialled.
    pub(crate) fn dialled(&self, tunnel: &str) -> Option<SocketAddr> {
        self.shared.lock().dialled.get(tunnel).copied()
    }

    /// Dials each connect URL again at another node; returns the tunnels that open a second time.
    pub(crate) async fn reused(&self) -> Vec<String> {
        let all = self.shared.lock().issued.clone();
        let mut opened = vec![];
        for mut issued in all {
            let (elsewhere, _busy) = self.next();
            issued.connect_url = issued.connect_url.replace(issued.parts().1, &elsewhere.gateway.to_string());
            match TestClient::dial(&issued).await {
                Ok(_) => opened.push(issued.tunnel),
                Err(Error::Http(refusal)) => {
                    assert!([409, 410, 503].contains(&refusal.status().as_u16()), "{refusal:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        opened
    }

    /// All answers that something cannot be done at present.
    pub(crate) fn excuses(&self) -> Vec<Excuse> {
        self.shared.lock().excuses.clone()
    }

    /// Asks for a tunnel until it is granted; its client is sent to any node.
    pub(crate) async fn issue(&self, receive_url: &str) -> Granted {
        loop {
            let (wafer, _busy) = self.next();
            let began = Instant::now();
            let answer = wafer.try_issue(receive_url).await;
            if self.is_excuse(&answer, &wafer, began, &[]) {
                // As a client of the SDK asks again.
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            let mut issued = wafer.issued(&answer);
            let (dialled, busy) = self.next();
            if self.nodes.len() > 1 {
                issued.connect_url = issued.connect_url.replace(issued.parts().1, &dialled.gateway.to_string());
            }
            let mut shared = self.shared.lock();
            shared.dialled.insert(issued.tunnel.clone(), dialled.gateway);
            shared.issued.push(issued.clone());
            return Granted { issued, busy };
        }
    }

    /// Pushes packets to these tunnels; returns the invalid ones, or `None` if the outcome is unknown.
    pub(crate) async fn push(&self, tunnels: &[String], packets: &Value) -> Option<Vec<String>> {
        let (wafer, _busy) = self.next();
        let began = Instant::now();
        let answer = wafer.call("/ws/push", &packets.to_string()).await;
        if self.is_excuse(&answer, &wafer, began, tunnels) {
            return None;
        }
        Some(wafer.invalid(&answer))
    }

    /// Closes an open tunnel; again if it is not known whether it was closed.
    pub(crate) async fn close(&self, tunnel: &str) {
        let tunnels = [tunnel.to_owned()];
        let packets = json!([{"tunnelIds": tunnels, "type": "close"}]);
        let mut is_known = true;
        loop {
            match self.push(&tunnels, &packets).await {
                Some(invalid) => return assert!(!is_known || invalid.is_empty(), "an open tunnel can be closed"),
                None => is_known = false,
            }
        }
    }

    fn next(&self) -> (Wafer, Busy) {
        let count = self.nodes.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut nodes = (0..count).map(|step| &self.nodes[(turn + step) % count]);
        let busy = |node: &Node| (node.wafer.clone(), node.busy.subscribe());
        // Marked as busy before it is inspected, so that removing the node waits for it.
        nodes
            .find_map(|node| Some(busy(node)).filter(|_| node.is_in.load(Ordering::Acquire)))
            .expect("some node is there")
    }

    /// One node has no excuse.
    fn is_excuse(&self, answer: &Value, wafer: &Wafer, began: Instant, targets: &[String]) -> bool {
        let code = answer["code"].as_i64().expect("an integer");
        if code == 0 || self.nodes.len() == 1 {
            return false;
        }
        let excuse = Excuse { node: wafer.gateway, code, began, ended: Instant::now(), targets: targets.to_vec() };
        self.shared.lock().excuses.push(excuse);
        true
    }
}

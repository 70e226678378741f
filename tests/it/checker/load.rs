//! A load of numbered messages in both directions over many tunnels.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::interval;

use super::client;
use super::client::Leave;
use super::client::Meanwhile;
use super::client::Script;
use super::connection::Granted;
use super::connection::Way;
use super::logs::ClientLog;
use super::logs::Push;
use super::logs::content;
use super::seed::Seed;
use crate::support::Gate;

/// How many tunnels a push goes to.
const GROUP: usize = 3;

/// Every way for a client to leave by itself.
pub(crate) const LEAVES: &[Leave] =
    &[Leave::ClosePacket, Leave::CloseFrame, Leave::Fin, Leave::Reset, Leave::ResetAtOnce, Leave::PushedClose];

/// How much is said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) tunnels: usize,
    /// Messages of each client.
    pub(crate) messages: u64,
    /// Messages to each client.
    pub(crate) pushes: u64,
    /// Longest message, in bytes; the shortest has half of it.
    pub(crate) bytes: usize,
    /// Longest pause between two messages.
    pub(crate) pace: Duration,
    /// How clients leave.
    pub(crate) leaves: &'static [Leave],
}

impl Default for Load {
    fn default() -> Self {
        Self { tunnels: 6, messages: 8, pushes: 8, bytes: 100, pace: Duration::from_millis(8), leaves: LEAVES }
    }
}

/// Numbers tunnels in the order in which they were requested, because their ids are random.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster(Arc<Mutex<HashMap<String, u64>>>);

/// The content of a message.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    pub(crate) clients: Vec<ClientLog>,
    pub(crate) pushes: Vec<Push>,
}

impl Roster {
    /// The number of a tunnel.
    pub(crate) fn number(&self, tunnel: &str) -> u64 {
        self.0.lock().get(tunnel).copied().unwrap_or(u64::MAX)
    }

    /// Takes a tunnel in, under a number of the caller's.
    pub(crate) fn add(&self, tunnel: &str, number: u64) {
        self.0.lock().insert(tunnel.to_owned(), number);
    }
}

impl Talk {
    /// Both together.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.clients.extend(other.clients);
        self.pushes.extend(other.pushes);
        self
    }
}

impl Load {
    /// Puts the load on a gateway, for tunnels of this receive URL; ends when every client has left.
    pub(crate) async fn run(self, way: impl Into<Way>, url: &str, seed: Seed, roster: &Roster) -> Talk {
        let way = way.into();
        let mut groups = JoinSet::new();
        for first in (0..self.tunnels).step_by(GROUP) {
            let (way, url, roster) = (way.clone(), url.to_owned(), roster.clone());
            let numbers = first..self.tunnels.min(first + GROUP);
            groups.spawn(async move { self.run_group(way, &url, seed, &roster, numbers).await });
        }
        groups.join_all().await.into_iter().fold(Talk::default(), Talk::and)
    }

    async fn run_group(
        self,
        way: Way,
        url: &str,
        seed: Seed,
        roster: &Roster,
        numbers: std::ops::Range<usize>,
    ) -> Talk {
        let mut clients = JoinSet::new();
        let mut tunnels = vec![];
        let pushed = Gate::new();
        let mut gates = vec![];
        for number in numbers.clone() {
            let granted: Granted = way.issue(url).await;
            roster.add(&granted.issued.tunnel, number as u64);
            tunnels.push(granted.issued.tunnel.clone());
            let meanwhile = Meanwhile { opened: Gate::new(), pushed: pushed.clone() };
            gates.push(meanwhile.opened.clone());
            clients.spawn(client::talk(granted, self.script(seed.of(&[number as u64])), way.clone(), meanwhile));
        }
        for gate in gates {
            gate.passed().await;
        }
        let pushes = self.push(&way, &tunnels, seed.of(&[numbers.start as u64, 1])).await;
        pushed.open();
        Talk { clients: clients.join_all().await, pushes }
    }

    fn script(&self, mut seed: Seed) -> Script {
        Script {
            messages: self.messages,
            bytes: length(self.bytes, &mut seed),
            pace: pause(self.pace, &mut seed),
            leave: self.leaves[seed.below(self.leaves.len() as u64) as usize],
            is_patient: seed.percent(70),
        }
    }

    async fn push(&self, way: &Way, tunnels: &[String], mut seed: Seed) -> Vec<Push> {
        let mut pushes = vec![];
        let mut ticks = interval(pause(self.pace, &mut seed));
        for number in 1..=self.pushes {
            ticks.tick().await;
            let content = content(number, length(self.bytes, &mut seed));
            let began = Instant::now();
            let packets = json!([{"tunnelIds": tunnels, "type": "message", "content": content}]);
            let invalid = way.push(tunnels, &packets).await;
            let ended = Instant::now();
            pushes.extend(tunnels.iter().map(|tunnel| {
                let is_invalid = invalid.as_ref().is_some_and(|invalid| invalid.contains(tunnel));
                Push { tunnel: tunnel.clone(), number, began, ended, is_invalid, is_unknown: invalid.is_none() }
            }));
        }
        pushes
    }
}

fn length(longest: usize, seed: &mut Seed) -> usize {
    longest / 2 + seed.below(longest as u64 / 2 + 1) as usize
}

fn pause(longest: Duration, seed: &mut Seed) -> Duration {
    Duration::from_micros(1 + seed.below(longest.as_micros() as u64 + 1))
}

//! One simulation: nodes, their clients, and faults, step by step.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;
use wafergate::id::TunnelId;

use crate::dice::Dice;
use crate::history::History;
use crate::history::Kind;
use crate::history::Process;
use crate::history::Shared;
use crate::network::Loss;
use crate::network::Network;
use crate::node::CONNECT_TTL;
use crate::node::Node;
use crate::oracle;
use crate::oracle::Report;
use crate::redis::Data;
use crate::redis::Planted;

/// How far time goes at once: nothing is quicker on its way.
const STEP_MS: u64 = 50;
/// Clients come and faults happen until here.
const BUSY_MS: u64 = 32_000;
/// By then all that happened must have been made good.
const CALM_MS: u64 = 32_000;
/// When Redis' clock shows the beginning.
const EPOCH_MS: u64 = 1_700_000_000_000;
const GROUPS: usize = 4;

/// A place for a node.
struct Slot {
    node: Option<Node>,
    /// Until when its process is stopped, and since when.
    stopped: Option<(u64, u64)>,
    /// When the next process starts here.
    starts_ms: u64,
}

struct World {
    dice: Dice,
    /// Decides which messages between nodes are lost.
    losses: Dice,
    /// Decides when none of them arrive, and when the clock of Redis is set forward by little; not in every seed.
    subtleties: Option<Dice>,
    now_ms: u64,
    /// Offset of Redis' clock from the time of the simulation.
    clock_ms: u64,
    network: Network,
    slots: Vec<Slot>,
    history: Shared,
    processes: Process,
    snapshot: Data,
    seed: u64,
    planted: Planted,
    /// How often faults happen: once in so many steps, on average.
    fault_every: u64,
}

/// Simulates a seed.
pub(crate) fn simulate(seed: u64, planted: Planted) -> Report {
    let mut dice = Dice::new(seed, 1);
    let slots = usize::try_from(dice.range(2, 4)).expect("few");
    let mut world = World {
        now_ms: 0,
        clock_ms: EPOCH_MS,
        network: Network::new(slots, planted),
        slots: (0..slots).map(|slot| Slot { node: None, stopped: None, starts_ms: 300 * slot as u64 }).collect(),
        history: Arc::new(Mutex::new(History::default())),
        processes: 0,
        snapshot: Data::default(),
        seed,
        planted,
        fault_every: dice.range(50, 250),
        dice,
        losses: Dice::new(seed, 2),
        subtleties: (seed % 5 == 3).then(|| Dice::new(seed, 3)),
    };
    while world.now_ms < BUSY_MS {
        if planted.forgotten_death_is_life {
            world.forget_a_death();
        } else if world.now_ms > 6_000 && world.dice.once_in(world.fault_every) {
            world.fault();
        }
        world.traffic();
        if world.losses.once_in(100) {
            let slot = world.losses.index(world.slots.len());
            world.network.lose_message(slot);
        }
        world.be_subtle();
        world.step();
    }
    while world.now_ms < BUSY_MS + CALM_MS {
        world.step();
    }
    let first_probe = world.history.lock().calls.len();
    world.probe();
    for _ in 0..60 {
        world.step();
    }
    let mut history = world.history.lock();
    history.lost_messages_ms = std::mem::take(&mut world.network.lost_ms);
    let report = oracle::judge(&history, &world.network.data, first_probe);
    Report { digest: world.network.digest(), ..report }
}

impl World {
    fn step(&mut self) {
        self.history.lock().now_ms = self.now_ms;
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if let Some((since, until)) = slot.stopped {
                if self.now_ms < until {
                    continue;
                }
                slot.stopped = None;
                if let Some(node) = &slot.node {
                    node.was_stopped(Duration::from_millis(self.now_ms - since));
                }
            }
            if slot.node.is_none() && slot.starts_ms <= self.now_ms {
                let dice = Dice::new(self.seed, 100 + self.processes as u64);
                let asks_once = self.planted.asks_once;
                slot.node = Some(Node::start(self.processes, at, &self.network, &self.history, dice, asks_once));
                self.processes += 1;
            }
            if let Some(node) = &slot.node {
                node.run(Duration::from_millis(STEP_MS));
            }
        }
        self.now_ms += STEP_MS;
        self.network.step(self.now_ms, self.clock_ms + self.now_ms, &mut self.dice);
        if self.dice.once_in(250) {
            self.snapshot = self.network.data.clone();
        }
    }

    /// A node that runs, if the one that was drawn does.
    fn any_node(&mut self) -> Option<&Node> {
        let at = self.dice.index(self.slots.len());
        self.slots[at].node.as_ref()
    }

    /// Actions of clients and business servers at this time.
    fn traffic(&mut self) {
        if self.dice.once_in(8) {
            let tunnel = TunnelId::from_bytes(self.dice.bytes());
            let group = self.dice.once_in(2).then(|| self.dice.index(GROUPS));
            self.history.lock().issued(tunnel, group);
            self.handshake(tunnel, group);
            if self.dice.once_in(4) {
                // The URL is tried twice.
                self.handshake(tunnel, group);
            }
        }
        let tunnels: Vec<TunnelId> = self.history.lock().stories.keys().copied().collect();
        if tunnels.is_empty() {
            return;
        }
        let tunnel = tunnels[self.dice.index(tunnels.len())];
        let group = self.history.lock().story(tunnel).group;
        match self.dice.range(0, 11) {
            0..=3 => {
                if let Some(node) = self.home(tunnel) {
                    node.host.message(tunnel);
                }
            }
            4 if self.dice.once_in(2) => {
                if let Some(node) = self.home(tunnel) {
                    let host = Arc::clone(&node.host);
                    node.spawn(async move { host.hang_up(tunnel) });
                }
            }
            5 if self.dice.once_in(3) => self.handshake(tunnel, group),
            6..=8 => {
                if let Some(node) = self.any_node() {
                    node.spawn(Arc::clone(&node.host).push(tunnel));
                }
            }
            9..=11 => {
                if let (Some(group), Some(node)) = (group, self.any_node()) {
                    node.spawn(Arc::clone(&node.host).find(tunnel, group));
                }
            }
            _ => {}
        }
    }

    /// The node that has a tunnel open.
    fn home(&self, tunnel: TunnelId) -> Option<&Node> {
        let process = self.history.lock().story(tunnel).open_on()?;
        self.slots.iter().filter_map(|slot| slot.node.as_ref()).find(|node| node.process == process)
    }

    fn handshake(&mut self, tunnel: TunnelId, group: Option<usize>) {
        let patience_ms = if self.dice.once_in(5) { self.dice.range(0, 700) } else { 20_000 };
        let issued_ms = self.history.lock().story(tunnel).issued_ms;
        let until_ms = issued_ms + u64::try_from(CONNECT_TTL.as_millis()).expect("a minute");
        let Some(node) = self.any_node() else { return };
        let work = Arc::clone(&node.host).handshake(tunnel, group, until_ms);
        node.spawn(async move {
            // The client gives up, whatever is being done for it.
            let _ = timeout(Duration::from_millis(patience_ms), work).await;
        });
    }

    /// A rare sequence: a node is stopped, declared dead, and all data is lost before it continues.
    fn forget_a_death(&mut self) {
        match self.now_ms {
            10_000 => self.slots[0].stopped = Some((self.now_ms, self.now_ms + 13_000)),
            20_000 => self.network.data = Data::default(),
            _ => {}
        }
    }

    /// Faults that show nowhere at once: no message reaches a node for a while, as behind a subscription that was lost on the way, or
    /// the clock of Redis is set forward by less than what shows as a gap between renewals.
    fn be_subtle(&mut self) {
        let Some(dice) = self.subtleties.as_mut().filter(|_| self.now_ms > 6_000) else { return };
        if !dice.once_in(self.fault_every) {
            return;
        }
        if dice.once_in(2) {
            let by_ms = dice.range(500, 2_900);
            self.clock_ms += by_ms;
            return self.history.lock().trouble(Kind::Clock, None, by_ms);
        }
        let (at, for_ms) = (dice.index(self.slots.len()), dice.pick(&[300, 1_500, 4_000, 9_000]));
        self.network.deafen(at, self.now_ms + for_ms);
        let process = self.slots[at].node.as_ref().map(|node| node.process);
        self.history.lock().trouble(Kind::Deaf, process, for_ms);
    }

    fn fault(&mut self) {
        let at = self.dice.index(self.slots.len());
        let process = self.slots[at].node.as_ref().map(|node| node.process);
        let until_ms = |dice: &mut Dice, now_ms: u64| now_ms + dice.pick(&[300, 1_500, 4_000, 7_500, 9_000, 13_000]);
        match self.dice.range(0, 13) {
            0 | 1 => {
                let Some(node) = self.slots[at].node.take() else { return };
                self.slots[at].stopped = None;
                self.slots[at].starts_ms = self.now_ms + self.dice.range(50, 15_000);
                drop(node.host);
                self.network.forget(at);
                let mut history = self.history.lock();
                history.trouble(Kind::Crash, process, u64::MAX);
                process.into_iter().for_each(|process| history.crashed(process));
            }
            2..=4 => {
                if process.is_none() || self.slots[at].stopped.is_some() {
                    return;
                }
                let until_ms = until_ms(&mut self.dice, self.now_ms);
                self.slots[at].stopped = Some((self.now_ms, until_ms));
                self.history.lock().trouble(Kind::Pause, process, until_ms - self.now_ms);
            }
            5 | 6 => {
                let until_ms = until_ms(&mut self.dice, self.now_ms);
                self.network.cut(at, until_ms);
                self.history.lock().trouble(Kind::Cut, process, until_ms - self.now_ms);
            }
            7 => {
                let until_ms = until_ms(&mut self.dice, self.now_ms);
                (0..self.slots.len()).for_each(|slot| self.network.cut(slot, until_ms));
                self.history.lock().trouble(Kind::Cut, None, until_ms - self.now_ms);
            }
            8 | 9 => {
                let loss = self.dice.pick(&[Loss::Before, Loss::After]);
                self.network.lose(at, loss);
                self.history.lock().trouble(Kind::Break, process, 0);
            }
            10 => self.lose_keys(),
            11 => {
                let data = if self.dice.once_in(2) { self.snapshot.clone() } else { Data::default() };
                self.network.restart(data, self.now_ms);
                self.history.lock().trouble(Kind::Loss, None, 0);
            }
            12 => {
                self.network.data = Data::default();
                self.history.lock().trouble(Kind::Loss, None, 0);
            }
            _ => {
                let by_ms = self.dice.range(4_000, 6_000);
                let is_forward = self.dice.once_in(2);
                self.clock_ms = if is_forward { self.clock_ms + by_ms } else { self.clock_ms - by_ms };
                self.history.lock().trouble(Kind::Clock, None, by_ms);
            }
        }
    }

    /// Redis evicts a key.
    fn lose_keys(&mut self) {
        let keys: Vec<String> = self.network.data.keys.keys().cloned().collect();
        if keys.is_empty() {
            return;
        }
        // One of those that all share, or any.
        let shared: Vec<&String> = keys.iter().filter(|key| key.contains("{nodes}")).collect();
        let key = if self.dice.once_in(2) && !shared.is_empty() {
            shared[self.dice.index(shared.len())].clone()
        } else {
            keys[self.dice.index(keys.len())].clone()
        };
        self.network.data.del(&key);
        let mut history = self.history.lock();
        history.trouble(Kind::Loss, None, 0);
        history.faults.push(format!("  that was {key}"));
        let now_ms = history.now_ms;
        history
            .lost_claims
            .extend(key.strip_prefix("w:claim:{").map(|tunnel| (tunnel.trim_end_matches('}').to_owned(), now_ms)));
        let lost = |group: &usize| key.ends_with(&format!(":group:room{group}"));
        history.lost_groups.extend((0..GROUPS).filter(lost).map(|group| (group, now_ms)));
    }

    /// Queries each node for each open tunnel.
    fn probe(&mut self) {
        let open: Vec<(TunnelId, Option<usize>)> = {
            let history = self.history.lock();
            let open = history.stories.iter().filter(|(_, story)| story.open_on().is_some());
            open.map(|(tunnel, story)| (*tunnel, story.group)).collect()
        };
        for node in self.slots.iter().filter_map(|slot| slot.node.as_ref()) {
            for (tunnel, group) in &open {
                node.spawn(Arc::clone(&node.host).push(*tunnel));
                if let Some(group) = group {
                    node.spawn(Arc::clone(&node.host).find(*tunnel, *group));
                }
            }
        }
    }
}

//! What standing still and a push cost by the number of nodes, counted at Redis: the same for few and for a thousand.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use wafergate::id::TunnelId;

use crate::dice::Dice;
use crate::history::Answer;
use crate::history::History;
use crate::history::Shared;
use crate::network::Counts;
use crate::network::Network;
use crate::node::Node;
use crate::redis::Planted;

const STEP_MS: u64 = 50;
const EPOCH_MS: u64 = 1_700_000_000_000;
/// By then all nodes know each other, and the data is old enough.
const SETTLED_MS: u64 = 14_000;
/// How long they stand still.
const STILL_SECS: u64 = 5;
const PUSHES: usize = 10;

/// Nodes without faults.
struct Calm {
    network: Network,
    nodes: Vec<Node>,
    history: Shared,
    dice: Dice,
    now_ms: u64,
}

impl Calm {
    fn of(count: usize) -> Self {
        let mut network = Network::new(count, Planted::default());
        let history: Shared = Arc::new(Mutex::new(History::default()));
        let nodes = (0..count)
            .map(|at| Node::start(at, at, &network, &history, Dice::new(7, 100 + at as u64), false))
            .collect();
        network.is_counting = true;
        let mut calm = Self { network, nodes, history, dice: Dice::new(7, 1), now_ms: 0 };
        calm.run(SETTLED_MS);
        calm
    }

    fn run(&mut self, duration_ms: u64) {
        for _ in 0..duration_ms / STEP_MS {
            self.history.lock().now_ms = self.now_ms;
            self.nodes.iter().for_each(|node| node.run(Duration::from_millis(STEP_MS)));
            self.now_ms += STEP_MS;
            self.network.step(self.now_ms, EPOCH_MS + self.now_ms, &mut self.dice);
        }
    }

    /// What is counted while `work` runs.
    fn counted(&mut self, work: impl FnOnce(&mut Self)) -> Counts {
        let before = self.network.counts;
        work(self);
        self.network.counts.since(before)
    }

    /// What pushes to these tunnels cost, one after the other, from a node that has never heard of them: questions and answers
    /// between nodes, and reads of the index.
    fn pushes(&mut self, tunnels: &[TunnelId], expected: Answer) -> (u64, u64) {
        let calls = self.history.lock().calls.len();
        let counts = self.counted(|calm| {
            for tunnel in tunnels {
                let host = Arc::clone(&calm.nodes[1].host);
                calm.nodes[1].spawn(host.push_cold(*tunnel));
                calm.run(500);
            }
        });
        let history = self.history.lock();
        let answers: Vec<Answer> = history.calls[calls..].iter().map(|call| call.answer).collect();
        assert_eq!(answers, vec![expected; tunnels.len()]);
        (counts.messages / tunnels.len() as u64, counts.reads / tunnels.len() as u64)
    }
}

#[derive(Debug, Eq, PartialEq)]
struct Cost {
    /// Messages between nodes, and reads of the index, for a push to a tunnel on another node.
    cold: (u64, u64),
    /// The same for an id that is open nowhere.
    unknown: (u64, u64),
    /// Commands and bytes per node and second while nothing happens.
    still_commands: u64,
    still_bytes: u64,
}

fn cost(nodes: usize) -> Cost {
    let mut calm = Calm::of(nodes);
    let still = calm.counted(|calm| calm.run(STILL_SECS * 1_000));
    let tunnels: Vec<TunnelId> = (0..PUSHES).map(|_| TunnelId::from_bytes(calm.dice.bytes())).collect();
    for (at, tunnel) in tunnels.iter().enumerate() {
        calm.history.lock().issued(*tunnel, None);
        let node = &calm.nodes[2 + at % (nodes - 2)];
        node.spawn(Arc::clone(&node.host).handshake(*tunnel, None, calm.now_ms + 60_000));
    }
    calm.run(1_000);
    let open = calm.history.lock().stories.values().filter(|story| story.open_on().is_some()).count();
    assert_eq!(open, PUSHES);
    let cold = calm.pushes(&tunnels, Answer::Accepted);
    let unknown: Vec<TunnelId> = (0..PUSHES).map(|_| TunnelId::from_bytes(calm.dice.bytes())).collect();
    let unknown = calm.pushes(&unknown, Answer::Invalid);
    let each = nodes as u64 * STILL_SECS;
    let (still_commands, still_bytes) = (still.commands.div_ceil(each), still.bytes.div_ceil(each));
    let cost = Cost { cold, unknown, still_commands, still_bytes };
    println!("{nodes} nodes: {cost:?}");
    cost
}

/// `SIM_NODES` adds one more number.
#[test]
fn a_push_and_standing_still_cost_the_same_whatever_the_number_of_nodes() {
    let few = cost(4);
    assert_eq!((few.cold, few.unknown), ((2, 1), (0, 1)));
    let more = std::env::var("SIM_NODES").ok().map(|nodes| nodes.parse().expect("a number"));
    for nodes in [30, 100].into_iter().chain(more) {
        let many = cost(nodes);
        assert_eq!((many.cold, many.unknown), (few.cold, few.unknown));
        assert!(many.still_commands <= few.still_commands, "{many:?} {few:?}");
        assert!(many.still_bytes <= few.still_bytes + 200, "{many:?} {few:?}");
    }
}

//! Any order of joins, ends, drains and answers: a tunnel has one event out at most, and few tunnels move.
#![expect(clippy::disallowed_methods, reason = "a test may pick its start")]

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::id::TunnelId;
use crate::protocol::connector::ConnectorName;

type Answered = (u8, u32);

/// The event of a tunnel: its number and its attempt, from 1; and where it was begun.
type Lane = (u32, u32, Option<(Session, FlightId)>);

fn name() -> ConnectorName {
    "ann".parse().expect("a name")
}

fn tunnel(number: u8) -> TunnelId {
    TunnelId::from_bytes([number; 16])
}

fn instance(number: u8) -> Instance {
    Instance::parse(&format!("{:032x}", u128::from(number) * 0x1234_5678_9abc_def1)).expect("hexadecimal")
}

fn member(session: u128, number: u8) -> Member<()> {
    let take = Take::Named(name());
    Member { session: Session(session), instance: instance(number), take, is_local: true, is_draining: false, link: () }
}

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// This process connects, and still has its events or not.
    Join { process: u8, still_has_all: bool },
    /// The connection at this place ends.
    Leave(usize),
    /// It takes nothing new.
    Drain(usize),
    /// What is queued for it is sent.
    Send(usize),
    /// This process answers what it has.
    Answer(u8),
    /// A process answers what it never got, or has answered.
    AnswerAgain(u8),
    /// Time passes.
    Pass(u64),
    /// The attempts of this tunnel take too long.
    TimeOut(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4_u8, any::<bool>()).prop_map(|(process, still_has_all)| Step::Join { process, still_has_all }),
        2 => (0..8_usize).prop_map(Step::Leave),
        1 => (0..8_usize).prop_map(Step::Drain),
        4 => (0..8_usize).prop_map(Step::Send),
        4 => (0..4_u8).prop_map(Step::Answer),
        1 => (0..4_u8).prop_map(Step::AnswerAgain),
        3 => (0..400_u64).prop_map(Step::Pass),
        1 => (0..5_u8).prop_map(Step::TimeOut),
    ];
    prop::collection::vec(step, 1..120)
}

/// Five tunnels with endless events, four processes.
struct World {
    fleet: Fleet<(), Answered>,
    now: Instant,
    sessions: u128,
    /// The event of each tunnel.
    lanes: BTreeMap<u8, Lane>,
    /// What each process has and has not answered.
    held: BTreeMap<u8, Vec<(u8, u32, u32)>>,
    /// The last event of each tunnel that was answered.
    answered: BTreeMap<u8, u32>,
}

impl World {
    fn new() -> Self {
        let lanes = (0..5).map(|tunnel| (tunnel, (1, 1, None))).collect();
        let (held, answered) = (BTreeMap::new(), BTreeMap::new());
        Self { fleet: Fleet::default(), now: Instant::now(), sessions: 0, lanes, held, answered }
    }

    fn id(tunnel: u8, event: u32) -> String {
        format!("msg_{tunnel}_{event}")
    }

    fn step(&mut self, step: &Step) {
        let session_at = |world: &Self, at: usize| world.fleet.members.get(at).map(|member| member.session);
        match *step {
            Step::Join { process, still_has_all } => {
                let held = self.held.entry(process).or_default();
                let pending: Vec<_> = held.iter().map(|(tunnel, event, _)| Self::id(*tunnel, *event)).collect();
                if !still_has_all {
                    held.clear();
                }
                self.sessions += 1;
                let is_pending = |id: &str, _: &Answered| still_has_all && pending.iter().any(|pending| pending == id);
                self.fleet.join(member(self.sessions, process), is_pending);
            }
            Step::Leave(at) => {
                let left = session_at(self, at).and_then(|session| self.fleet.leave(session, self.now));
                assert!(left.is_none_or(|left| self.fleet.member(left.session).is_none()));
            }
            Step::Drain(at) => session_at(self, at).into_iter().for_each(|session| self.fleet.drain(session)),
            Step::Send(at) => {
                let Some(member) = self.fleet.members.get(at) else { return };
                let (session, process) = (member.session, (0..4).find(|process| instance(*process) == member.instance));
                for (tunnel, (event, attempt, begun)) in &self.lanes {
                    if let Some((_, number)) = begun.filter(|(at, _)| *at == session)
                        && self.fleet.send(&Self::id(*tunnel, *event), number, session)
                    {
                        self.held.entry(process.expect("one of four")).or_default().push((*tunnel, *event, *attempt));
                    }
                }
            }
            Step::Answer(process) => {
                for (tunnel, event, attempt) in self.held.remove(&process).unwrap_or_default() {
                    let answer = self.fleet.answer(instance(process), &Self::id(tunnel, event), attempt);
                    if let Some(answer) = answer {
                        assert_eq!(answer, (tunnel, event));
                        let last = self.answered.insert(tunnel, event).unwrap_or(0);
                        assert_eq!(event, last + 1, "in order, each once");
                        self.lanes.insert(tunnel, (event + 1, 1, None));
                    }
                }
            }
            Step::AnswerAgain(process) => {
                for (tunnel, event) in self.answered.clone() {
                    assert_eq!(self.fleet.answer(instance(process), &Self::id(tunnel, event), 1), None);
                }
            }
            Step::Pass(ms) => self.now += Duration::from_millis(ms),
            Step::TimeOut(tunnel) => {
                let (event, attempt, begun) = self.lanes[&tunnel];
                if let Some((_, number)) = begun
                    && self.fleet.end(&Self::id(tunnel, event), number).is_some()
                {
                    self.lanes.insert(tunnel, (event, attempt + 1, None));
                }
            }
        }
        self.lanes_go_on();
    }

    /// Each tunnel looks at its attempt, and begins one if it has none.
    fn lanes_go_on(&mut self) {
        for (number, lane) in &mut self.lanes {
            let (name, id) = (name(), Self::id(*number, lane.0));
            let wanted = Wanted::Named(&name);
            if let Some((_, number)) = lane.2
                && let Look::Lost { .. } = self.fleet.look(&id, &wanted, self.now)
            {
                assert!(self.fleet.end(&id, number).is_some());
                *lane = (lane.0, lane.1 + 1, None);
            }
            if lane.2.is_none()
                && let Some(chosen) = self.fleet.choose(tunnel(*number), &wanted).map(|member| member.session)
            {
                let begun = self.fleet.begin(&id, tunnel(*number), lane.1, chosen, (*number, lane.0));
                lane.2 = Some((chosen, begun.expect("one at a time")));
            }
        }
        assert!(self.fleet.flights.len() <= self.lanes.len());
        for number in 0..5 {
            let out = self.fleet.flights.values().filter(|flight| flight.tunnel == tunnel(number)).count();
            assert!(out <= 1, "tunnel {number} has {out} events out");
        }
    }

    /// At the end a fresh connector gets what is left of everything.
    fn settle(&mut self) {
        let before = self.answered.clone();
        for process in 0..4 {
            self.step(&Step::Join { process, still_has_all: false });
        }
        // What a process forgot, while its connection lived on, ends by the time limit of its attempt.
        (0..5).for_each(|tunnel| self.step(&Step::TimeOut(tunnel)));
        for _ in 0..4 {
            self.step(&Step::Pass(400));
            (0..self.fleet.members.len()).for_each(|at| self.step(&Step::Send(at)));
            (0..4).for_each(|process| self.step(&Step::Answer(process)));
        }
        for tunnel in 0..5 {
            let (last, now) = (before.get(&tunnel).unwrap_or(&0), self.answered.get(&tunnel).unwrap_or(&0));
            assert!(now > last, "tunnel {tunnel} is stuck at {last}");
        }
    }
}

proptest! {
    #[test]
    fn a_tunnel_has_one_event_out_and_none_is_stuck_or_skipped(steps in steps()) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        world.settle();
    }

    #[test]
    fn few_tunnels_move_when_a_connector_joins_or_leaves(count in 1..12_u8, tunnels in prop::collection::vec(any::<[u8; 16]>(), 400)) {
        let mut fleet = Fleet::<(), ()>::default();
        (0..count).for_each(|number| fleet.join(member(number.into(), number), |_, ()| false));
        let name = name();
        let chosen = |fleet: &Fleet<(), ()>| -> Vec<Session> {
            let choice = |bytes: &[u8; 16]| fleet.choose(TunnelId::from_bytes(*bytes), &Wanted::Named(&name));
            tunnels.iter().map(|bytes| choice(bytes).expect("there is one").session).collect()
        };
        let before = chosen(&fleet);
        fleet.join(member(99, 99), |_, ()| false);
        let after = chosen(&fleet);

        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        prop_assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == Session(99)));
        let share = tunnels.len() / (usize::from(count) + 1);
        prop_assert!(moved <= 2 * share + 40, "{} of {} moved", moved, tunnels.len());
        fleet.leave(Session(99), Instant::now());
        prop_assert_eq!(chosen(&fleet), before);
    }
}

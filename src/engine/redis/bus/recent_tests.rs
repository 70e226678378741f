//! A repeated request is executed at most once, whatever is lost, late or forgotten.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest::test_runner::RngAlgorithm;
use proptest::test_runner::TestRng;
use proptest::test_runner::TestRunner;

use super::super::answering::LATE;
use super::super::answering::TOO_OLD;
use super::super::patience::Patience;
use super::super::patience::Step;
use super::*;

fn asked(number: u64) -> Asked {
    (NodeId::from_bytes([1; 16]), number)
}

fn given(flow: &Flow) -> Given {
    Given { flow: Flow::clone(flow), answer: Bytes::from_static(b"answer"), incarnation: 0 }
}

#[test]
fn a_repeated_request_is_answered_from_memory() {
    let (mut recent, flow, now): (_, Flow, _) = (Recent::default(), "t".into(), Instant::now());
    assert_eq!(recent.arrives(asked(1), &flow, false, now), Seen::New);
    assert_eq!(recent.arrives(asked(1), &flow, true, now), Seen::InWork);
    assert_eq!(recent.seen(asked(2)), Seen::Forgotten, "it has not come");
    recent.is_answered(asked(1), given(&flow), now);

    assert_eq!(recent.arrives(asked(1), &flow, true, now), Seen::Answered(given(&flow)));
    assert_eq!(recent.seen(asked(1)), Seen::Answered(given(&flow)));
    assert_eq!(recent.arrives(asked(1), &flow, false, now), Seen::Answered(given(&flow)), "its repeat came first");
    let another_node = (NodeId::from_bytes([2; 16]), 1);
    assert_eq!(recent.arrives(another_node, &flow, false, now), Seen::New);
}

#[test]
fn a_request_that_was_lost_or_refused_is_new_when_it_is_repeated() {
    let (mut recent, flow, now): (_, Flow, _) = (Recent::default(), "t".into(), Instant::now());
    assert_eq!(recent.arrives(asked(1), &flow, true, now), Seen::New);
    recent.is_refused(asked(1));

    assert_eq!(recent.arrives(asked(1), &flow, true, now), Seen::New);
}

#[test]
fn a_tenant_with_too_many_requests_is_as_before_and_others_are_remembered() {
    let (mut recent, loud, quiet): (_, Flow, Flow) = (Recent::of(REQUEST_BYTES * 64), "loud".into(), "quiet".into());
    let now = Instant::now();
    assert_eq!(recent.arrives(asked(0), &quiet, false, now), Seen::New);
    for number in 1..=100 {
        assert_eq!(recent.arrives(asked(number), &loud, false, now), Seen::New);
    }
    assert!(recent.requests.len() <= 64 && recent.entries.len() == recent.requests.len());

    assert_eq!(recent.arrives(asked(1), &loud, true, now), Seen::Forgotten, "it may have been executed");
    assert_eq!(recent.arrives(asked(101), &loud, true, now), Seen::Forgotten, "which cannot be told from that");
    assert_eq!(recent.arrives(asked(100), &loud, true, now), Seen::InWork);
    assert_eq!(recent.arrives(asked(0), &quiet, true, now), Seen::InWork);
    assert_eq!(recent.arrives(asked(102), &quiet, true, now), Seen::New);

    let later = now + REMEMBERED_FOR;
    assert_eq!(recent.arrives(asked(103), &loud, true, later), Seen::New);
    assert_eq!((recent.requests.len(), recent.entries.len()), (1, 1), "nothing is remembered for ever");
}

/// What happens to a message: it is lost, or comes so many milliseconds later.
type Fate = Option<u64>;

/// A request, and what happens to its messages in their order.
#[derive(Clone, Debug)]
struct Plan {
    starts_ms: u64,
    tenant: bool,
    work_ms: u64,
    fates: Vec<Fate>,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let fate = prop_oneof![3 => (0_u64..300).prop_map(Some), 1 => (0_u64..1_500).prop_map(Some), 2 => Just(None)];
    let plan = (0_u64..800, any::<bool>(), prop_oneof![Just(0), 0_u64..900], prop::collection::vec(fate, 12));
    let plan = plan.prop_map(|(starts_ms, tenant, work_ms, fates)| Plan { starts_ms, tenant, work_ms, fates });
    prop::collection::vec(plan, 1..10)
}

/// A fault that is put into the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Planted {
    Nothing,
    /// A request that is not remembered is executed.
    ForgottenIsNew,
    /// A repeat is another request.
    NewNumber,
    /// The answers are not remembered.
    NoMemory,
    /// A request is executed that comes behind its repeat, which is forgotten.
    LateIsNew,
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    /// The asking node looks at the clock.
    Looks,
    /// A message with this number arrives at the owner.
    Arrives {
        number: u64,
        is_repeat: bool,
        has_body: bool,
    },
    Executed {
        number: u64,
    },
    Answer,
}

#[derive(Clone, Debug, Default)]
struct Outcome {
    executions: usize,
    is_answered: bool,
    is_given_up: bool,
}

/// One node asks another, over a way on which messages are lost, late, and overtake each other.
struct World {
    start: Instant,
    now_ms: u64,
    recent: Recent,
    plans: Vec<Plan>,
    patience: Vec<Patience>,
    sent: Vec<usize>,
    outcomes: Vec<Outcome>,
    happens: BTreeMap<(u64, usize), (usize, Happens)>,
    turn: usize,
    planted: Planted,
}

impl World {
    fn run(plans: Vec<Plan>, bytes: u64, planted: Planted) -> Vec<Outcome> {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut world = Self {
            start,
            now_ms: 0,
            recent: Recent::of(bytes),
            patience: plans.iter().map(|plan| Patience::new(at(plan.starts_ms), true)).collect(),
            sent: vec![0; plans.len()],
            outcomes: vec![Outcome::default(); plans.len()],
            happens: BTreeMap::new(),
            turn: 0,
            planted,
            plans,
        };
        for request in 0..world.plans.len() {
            world.now_ms = world.plans[request].starts_ms;
            world.send(request, Happens::Arrives { number: request as u64, is_repeat: false, has_body: true });
            world.looks(request);
        }
        while let Some(((now_ms, _), (request, happens))) = world.happens.pop_first() {
            world.now_ms = now_ms;
            world.step(request, happens);
        }
        world.outcomes
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    fn flow(&self, request: usize) -> Flow {
        if self.plans[request].tenant { "one".into() } else { "two".into() }
    }

    fn later(&mut self, ms: u64, request: usize, happens: Happens) {
        self.turn += 1;
        self.happens.insert((self.now_ms + ms, self.turn), (request, happens));
    }

    fn send(&mut self, request: usize, message: Happens) {
        let fate = self.plans[request].fates.get(self.sent[request]).copied().unwrap_or(Some(10));
        self.sent[request] += 1;
        if let Some(delay_ms) = fate {
            self.later(delay_ms, request, message);
        }
    }

    fn looks(&mut self, request: usize) {
        let wait = self.patience[request].until().saturating_duration_since(self.now());
        self.later(u64::try_from(wait.as_millis()).expect("small"), request, Happens::Looks);
    }

    fn step(&mut self, request: usize, happens: Happens) {
        let now = self.now();
        match happens {
            Happens::Looks if self.outcomes[request].is_answered => {}
            Happens::Looks => {
                let has_body = match self.patience[request].step(now) {
                    Step::GiveUp => return self.outcomes[request].is_given_up = true,
                    Step::Look => panic!("this node can repeat"),
                    step => step == Step::Repeat,
                };
                let is_another = self.planted == Planted::NewNumber && has_body;
                let number = request as u64 + if is_another { 1_000 } else { 0 };
                self.send(request, Happens::Arrives { number, is_repeat: true, has_body });
                self.looks(request);
            }
            Happens::Arrives { number, is_repeat, has_body } => {
                let flow = self.flow(request);
                let age = self.now_ms - self.plans[request].starts_ms;
                let is_late = u128::from(age) >= LATE.as_millis() && self.planted != Planted::LateIsNew;
                let seen = if has_body {
                    self.recent.arrives(asked(number), &flow, is_repeat || is_late, now)
                } else {
                    self.recent.seen(asked(number))
                };
                let is_new =
                    seen == Seen::New || seen == Seen::Forgotten && has_body && self.planted == Planted::ForgottenIsNew;
                if is_new && u128::from(age) < TOO_OLD.as_millis() {
                    self.outcomes[request].executions += 1;
                    self.later(self.plans[request].work_ms, request, Happens::Executed { number });
                } else if let Seen::Answered(_) = seen {
                    self.send(request, Happens::Answer);
                }
            }
            Happens::Executed { number } => {
                if self.planted == Planted::NoMemory {
                    self.recent.is_refused(asked(number));
                } else {
                    let given = given(&self.flow(request));
                    self.recent.is_answered(asked(number), given, now);
                }
                self.send(request, Happens::Answer);
            }
            Happens::Answer => self.outcomes[request].is_answered |= !self.outcomes[request].is_given_up,
        }
    }
}

/// What must be so of each request, with little memory.
fn is_executed_once(plans: Vec<Plan>, planted: Planted) -> Result<(), TestCaseError> {
    for outcome in World::run(plans, REQUEST_BYTES * 6, planted) {
        prop_assert!(outcome.executions <= 1, "it was executed twice: {outcome:?}");
        prop_assert!(outcome.is_answered || outcome.is_given_up, "the caller waits for ever");
        prop_assert!(!outcome.is_answered || outcome.executions == 1, "answered, and not done");
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_request_is_executed_at_most_once(plans in plans()) {
        is_executed_once(plans, Planted::Nothing)?;
    }

    /// Only answers are lost, and for less than the asking node waits.
    #[test]
    fn a_request_whose_answers_are_lost_is_answered_in_the_end(
        late_ms in 0_u64..300, work_ms in 0_u64..300, lost in 1_usize..4
    ) {
        // Its own message, its answer, a repeat and its answer, and so on.
        let fates = (0..2 * lost).map(|message| (message % 2 == 0).then_some(late_ms)).collect();
        let plan = Plan { starts_ms: 0, tenant: true, work_ms: work_ms / 2, fates };
        for outcome in World::run(vec![plan], REMEMBERED_BYTES, Planted::Nothing) {
            prop_assert!(outcome.is_answered && outcome.executions == 1, "{:?}", outcome);
        }
    }
}

#[test]
fn faults_that_are_put_in_are_found() {
    for planted in [Planted::ForgottenIsNew, Planted::NewNumber, Planted::NoMemory, Planted::LateIsNew] {
        let config = Config { failure_persistence: None, max_shrink_iters: 0, ..Config::with_cases(20_000) };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let found = runner.run(&plans(), |plans| is_executed_once(plans, planted));
        assert!(found.is_err(), "{planted:?} was not found");
    }
}

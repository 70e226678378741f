//! Lane, retry and breaker against trivial models, on simulated time.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;

use super::Admission;
use super::Breaker;
use super::Event;
use super::EventKind;
use super::Failure;
use super::Health;
use super::Lane;
use super::Step;
use super::Ttl;
use super::Verdict;
use super::lane::EVENT_OVERHEAD_BYTES;
use super::retry;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Content;

const TTL: Ttl = Ttl { message: Duration::from_secs(60), close: Duration::from_secs(300) };

#[derive(Clone, Debug)]
enum LaneOp {
    Push(Kind),
    Wait(u64),
    /// Polls the lane, and answers an attempt with this verdict.
    Poll(Verdict),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Connect,
    Message(usize),
    Close,
}

fn lane_op() -> impl Strategy<Value = LaneOp> {
    let kind = prop_oneof![Just(Kind::Connect), (0..200usize).prop_map(Kind::Message), Just(Kind::Close)];
    let verdict = prop_oneof![
        Just(Verdict::Delivered),
        Just(Verdict::Final),
        Just(Verdict::Refused),
        Just(Verdict::Retry(None)),
        (0..90_000u64).prop_map(|ms| Verdict::Retry(Some(Duration::from_millis(ms)))),
    ];
    prop_oneof![
        2 => kind.prop_map(LaneOp::Push),
        2 => prop_oneof![0..500u64, 0..100_000u64].prop_map(LaneOp::Wait),
        4 => verdict.prop_map(LaneOp::Poll),
    ]
}

/// An event in the model.
struct Waiting {
    sequence: u64,
    deadline: Instant,
    content_bytes: usize,
}

/// The pause after so many failures without jitter: 0, then 100 ms doubling to 10 s.
fn longest_wait(failures: u32) -> Duration {
    let mut wait = Duration::ZERO;
    for failure in 1..failures.min(100) {
        wait = if failure == 1 { Duration::from_millis(100) } else { (wait * 2).min(Duration::from_secs(10)) };
    }
    wait
}

#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
fn start() -> Instant {
    Instant::now()
}

proptest! {
    #[test]
    fn a_lane_is_a_queue_with_one_head(ops in vec(lane_op(), 1..200), jitter in 0.0..=1.0f64) {
        let mut now = start();
        let mut lane = Lane::default();
        let mut model: VecDeque<Waiting> = VecDeque::new();
        let (mut sequence, mut failures, mut not_before) = (0, 0, None);
        for op in ops {
            match op {
                LaneOp::Push(kind) => {
                    sequence += 1;
                    let (kind, ttl, content_bytes) = match kind {
                        Kind::Connect => (EventKind::Connect { subprotocol: None }, TTL.message, 0),
                        Kind::Message(bytes) => {
                            (EventKind::Message(Content::Text("x".repeat(bytes).into())), TTL.message, bytes)
                        }
                        Kind::Close => (EventKind::Close(CloseReason::ClientGone), TTL.close, 0),
                    };
                    lane.push(Event { kind, sequence, received: now, held_ms: 0 });
                    model.push_back(Waiting { sequence, deadline: now + ttl, content_bytes });
                }
                LaneOp::Wait(ms) => now += Duration::from_millis(ms),
                LaneOp::Poll(verdict) => {
                    let pop = match (lane.poll(now, &TTL), model.front()) {
                        (Step::Idle, None) => false,
                        (Step::Expired(event), Some(head)) => {
                            prop_assert_eq!(event.sequence, head.sequence);
                            prop_assert!(now >= head.deadline);
                            true
                        }
                        (Step::WaitUntil(at), Some(head)) => {
                            prop_assert_eq!(Some(at), not_before.map(|not_before: Instant| not_before.min(head.deadline)));
                            prop_assert!(now < at);
                            false
                        }
                        (Step::Send(event), Some(head)) => {
                            prop_assert_eq!(event.sequence, head.sequence);
                            prop_assert!(now < head.deadline && not_before.is_none_or(|at| at <= now));
                            prop_assert_eq!(lane.failures(), failures);
                            lane.handle(verdict, now, jitter);
                            if let Verdict::Retry(asked) = verdict {
                                failures += 1;
                                let wait = retry::wait(failures, jitter);
                                not_before = Some(now + asked.map_or(wait, |asked| asked.max(wait)));
                            }
                            if verdict == Verdict::Refused {
                                (failures, not_before) = (failures + 1, Some(now + retry::wait_refused(1, jitter)));
                            }
                            !matches!(verdict, Verdict::Retry(_) | Verdict::Refused)
                        }
                        (step, head) => {
                            prop_assert!(false, "{step:?} with {:?} at the head", head.map(|head| head.sequence));
                            false
                        }
                    };
                    if pop {
                        model.pop_front();
                        (failures, not_before) = (0, None);
                    }
                }
            }
            prop_assert_eq!(lane.len(), model.len());
            prop_assert_eq!(lane.is_empty(), model.is_empty());
            let bytes: usize = model.iter().map(|waiting| waiting.content_bytes + EVENT_OVERHEAD_BYTES).sum();
            prop_assert_eq!(lane.bytes(), bytes);
        }
    }

    #[test]
    fn batches_lose_nothing_and_an_event_changes_its_name_only_when_it_was_refused_with_others(
        ops in vec(lane_op(), 1..300),
        max_attempts in 0..4u32,
        is_unknown in vec(any::<bool>(), 300),
    ) {
        let mut now = start();
        let mut lane = Lane::default();
        let (mut pushed, mut settled) = (0, 0);
        let mut closes = HashSet::new();
        // The request name under which each event was last sent, and the events of refused batches since.
        let mut names: HashMap<u64, (u64, u64)> = HashMap::new();
        let mut refused = HashSet::new();
        let mut failed: HashMap<u64, u32> = HashMap::new();
        for (op, is_unknown) in ops.into_iter().zip(is_unknown) {
            match op {
                LaneOp::Push(kind) => {
                    pushed += 1;
                    let kind = match kind {
                        Kind::Connect => EventKind::Connect { subprotocol: None },
                        Kind::Message(bytes) => EventKind::Message(Content::Text("x".repeat(200 * bytes).into())),
                        Kind::Close => {
                            closes.insert(pushed);
                            EventKind::Close(CloseReason::ClientGone)
                        }
                    };
                    lane.push(Event { kind, sequence: pushed, received: now, held_ms: 0 });
                }
                LaneOp::Wait(ms) => now += Duration::from_millis(ms),
                LaneOp::Poll(verdict) => match lane.poll(now, &TTL) {
                    Step::Idle => prop_assert_eq!(settled, pushed),
                    Step::WaitUntil(at) => prop_assert!(at > now),
                    Step::Expired(event) => {
                        settled += 1;
                        prop_assert_eq!(event.sequence, settled);
                    }
                    Step::Send(first) => {
                        let mut sent = vec![first.sequence];
                        sent.extend(lane.companions(true).iter().map(|event| event.sequence));
                        let last = settled + sent.len() as u64;
                        prop_assert_eq!(&sent, &(settled + 1..=last).collect::<Vec<_>>());
                        prop_assert!(sent.len() == 1 || sent.iter().all(|number| !closes.contains(number)));
                        let name = lane.together().unwrap_or((first.sequence, first.sequence));
                        for number in &sent {
                            let before = names.insert(*number, name);
                            let was_refused = refused.remove(number);
                            prop_assert!(before.is_none_or(|before| before == name || was_refused), "{number}: {before:?}, {name:?}");
                            prop_assert!(!was_refused || sent.len() == 1, "it goes on alone");
                        }
                        let verdict = match verdict {
                            Verdict::Final if sent.len() > 1 => Verdict::Split,
                            Verdict::Refused if !closes.contains(&first.sequence) => Verdict::Final,
                            verdict => verdict,
                        };
                        for number in sent.iter().filter(|number| max_attempts > 0 && !closes.contains(number)) {
                            let attempts = failed.entry(*number).or_insert(0);
                            *attempts += u32::from(matches!(verdict, Verdict::Retry(_)));
                            prop_assert!(*attempts <= max_attempts, "{number}: {attempts}");
                        }
                        let verdict = lane.weigh(verdict, Failure { counts: true, is_unknown }, now, max_attempts);
                        lane.handle(verdict, now, 0.5);
                        match verdict {
                            Verdict::Delivered | Verdict::Final => settled = last,
                            Verdict::Split => refused.extend(sent),
                            Verdict::Retry(_) | Verdict::Refused => {}
                        }
                    }
                },
            }
            prop_assert_eq!(lane.len() as u64, pushed - settled);
        }
    }

    #[test]
    fn a_wait_is_at_least_half_of_its_step(failures in prop_oneof![0..40u32, any::<u32>()], jitter in -1.0..2.0f64) {
        let (wait, longest) = (retry::wait(failures, jitter), longest_wait(failures));
        prop_assert!(longest / 2 <= wait && wait <= longest, "{wait:?} of {longest:?}");
    }

    #[test]
    fn a_breaker_opens_after_ten_and_probes_alone(
        ops in vec((0..4u8, 0..3u8, 0..3_000u64), 1..300),
    ) {
        let mut now = start();
        let mut breaker = Breaker::default();
        // The model: consecutive failures while closed; else the time of the next probe and the last pause.
        let mut failures = 0;
        let mut open: Option<(Instant, Duration)> = None;
        let mut is_probing = false;
        for (op, health, ms) in ops {
            if op == 0 {
                now += Duration::from_millis(ms);
                continue;
            }
            if op == 1 {
                let expected = match open {
                    None => Admission::Go,
                    Some(_) if is_probing => Admission::WaitForProbe,
                    Some((until, _)) if now < until => Admission::WaitUntil(until),
                    Some(_) => Admission::Go,
                };
                prop_assert_eq!(breaker.admit(now), expected);
                is_probing |= open.is_some() && expected == Admission::Go;
                continue;
            }
            // Attempts from before the opening may end at any time.
            let health = [Health::Up, Health::Down, Health::Unknown][usize::from(health)];
            let must_tell = open.is_some() && (health == Health::Up || is_probing);
            prop_assert_eq!(breaker.record(health, now), must_tell);
            match (health, open) {
                (Health::Up, _) => (failures, open, is_probing) = (0, None, false),
                (Health::Down, None) => {
                    failures += 1;
                    if failures == 10 {
                        open = Some((now + Duration::from_secs(1), Duration::from_secs(1)));
                    }
                }
                (Health::Down, Some((_, pause))) if is_probing => {
                    let pause = (pause * 2).min(Duration::from_secs(10));
                    (open, is_probing) = (Some((now + pause, pause)), false);
                }
                (Health::Unknown, Some((_, pause))) if is_probing => {
                    (open, is_probing) = (Some((now + pause, pause)), false);
                }
                _ => {}
            }
            prop_assert_eq!(breaker.is_open(), open.is_some());
        }
    }
}

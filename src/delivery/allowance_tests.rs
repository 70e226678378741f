//! The allowance on simulated time.
#![expect(clippy::disallowed_methods, reason = "a test may pick its start")]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);
const CAP: usize = 256;
const QUICK: Strain = Strain::Answered(Duration::from_millis(1));

fn tunnel(number: u8) -> TunnelId {
    TunnelId::from_bytes([number; 16])
}

/// An attempt at the limit, with more waiting.
fn ended(allowance: &Allowance, strain: Strain, number: u8) -> Ended {
    Ended { strain, tunnel: tunnel(number), in_flight: allowance.limit(), is_wanted: true }
}

fn grown(now: Instant) -> Allowance {
    let mut allowance = Allowance::new(CAP, TIMEOUT);
    while allowance.limit() < CAP {
        allowance.handle(&ended(&allowance, QUICK, 1), now);
    }
    allowance
}

#[test]
fn a_fast_server_has_the_cap_after_as_many_answers() {
    let now = Instant::now();
    let mut allowance = Allowance::new(CAP, TIMEOUT);
    assert_eq!(allowance.limit(), 8);

    for _ in 0..CAP - START {
        allowance.handle(&ended(&allowance, QUICK, 1), now);
    }

    assert_eq!(allowance.limit(), CAP);
    assert_eq!(Allowance::new(3, TIMEOUT).limit(), 3);
}

#[test]
fn what_nobody_wants_does_not_grow() {
    let now = Instant::now();
    let mut allowance = Allowance::new(CAP, TIMEOUT);
    for _ in 0..10_000 {
        let quiet = Ended { is_wanted: false, ..ended(&allowance, QUICK, 1) };
        allowance.handle(&quiet, now);
    }

    assert_eq!(allowance.limit(), 8);
}

/// The limit after so many responses, each with this duration at so many in flight.
fn after(answers: usize, latency: impl Fn(usize) -> Duration) -> usize {
    let mut now = Instant::now();
    let mut allowance = Allowance::new(CAP, TIMEOUT);
    for _ in 0..answers {
        let latency = latency(allowance.limit());
        now += latency / allowance.limit() as u32;
        allowance.handle(&ended(&allowance, Strain::Answered(latency), 1), now);
        assert!(latency < TIMEOUT, "{} in flight", allowance.limit());
    }
    allowance.limit()
}

#[test]
fn steadily_slow_answers_get_all_and_those_that_wait_for_one_another_do_not() {
    for secs in [1, 3, 6] {
        assert_eq!(after(5_000, |_| Duration::from_secs(secs)), CAP, "{secs} s");
    }
    // A queue: twice as many requests take twice as long.
    for per_second in [1, 2, 10, 100] {
        let limit = after(5_000, |limit| Duration::from_secs(limit as u64) / per_second);
        let bound = (7 * per_second as usize).max(8);
        assert!((FEW..=bound).contains(&limit), "{limit} at {per_second} a second");
    }
}

#[test]
fn timeouts_of_two_tunnels_halve_it_once_within_an_attempts_time() {
    let start = Instant::now();
    let mut allowance = grown(start);
    for _ in 0..100 {
        allowance.handle(&ended(&allowance, QUICK, 1), start);
    }

    for _ in 0..8 {
        assert!(!allowance.handle(&ended(&allowance, Strain::TimedOut, 1), start), "they may be the tunnel's own");
    }
    assert!(allowance.handle(&ended(&allowance, Strain::TimedOut, 2), start));
    for number in 3..100 {
        assert!(!allowance.handle(&ended(&allowance, Strain::TimedOut, number), start));
    }
    assert_eq!(allowance.limit(), CAP / 2);

    let later = start + TIMEOUT;
    allowance.handle(&ended(&allowance, Strain::TimedOut, 1), later);
    assert!(allowance.handle(&ended(&allowance, Strain::TimedOut, 2), later));
    assert_eq!(allowance.limit(), CAP / 4);
}

#[test]
fn a_quarter_of_all_attempts_halves_it_though_they_are_one_tunnels() {
    let start = Instant::now();
    for (answers, is_halved) in [(2, false), (3, true), (4, false)] {
        let mut allowance = grown(start);
        let now = start + TIMEOUT;
        for _ in 0..answers {
            allowance.handle(&ended(&allowance, QUICK, 1), now);
        }
        assert_eq!(allowance.handle(&ended(&allowance, Strain::TimedOut, 2), now), is_halved, "{answers}");
    }
}

#[test]
fn one_poisonous_message_takes_nothing_from_its_neighbours() {
    let mut now = Instant::now();
    let mut allowance = grown(now);
    for _ in 0..1_000 {
        for _ in 0..100 {
            allowance.handle(&ended(&allowance, QUICK, 1), now);
        }
        allowance.handle(&ended(&allowance, Strain::TimedOut, 2), now);
        now += TIMEOUT;
    }

    assert_eq!(allowance.limit(), CAP);
}

/// Some requests hang and some are refused, whatever the others do; under a low limit the hanging ones would hold all
/// slots.
#[test]
fn a_few_troubles_among_very_many_take_nothing() {
    let mut now = Instant::now();
    let mut allowance = grown(now);
    let mut least = CAP;
    for number in 0..100_000_u32 {
        let strain = match number % 100 {
            17 => Strain::TimedOut,
            50 | 80 => Strain::Refused,
            _ => QUICK,
        };
        allowance.handle(&ended(&allowance, strain, number as u8), now);
        least = least.min(allowance.limit());
        now += Duration::from_millis(1);
    }

    assert_eq!(least, CAP);
}

#[test]
fn refusals_find_how_many_are_too_many() {
    let now = Instant::now();
    for workers in 1..=64 {
        let mut allowance = Allowance::new(CAP, TIMEOUT);
        let mut refused = 0;
        // Start as many as allowed, end each of them, repeat.
        for _ in 0..200 {
            let sent = allowance.limit();
            for number in 0..sent {
                let strain = if number < sent.saturating_sub(workers) { Strain::Refused } else { QUICK };
                refused += usize::from(strain == Strain::Refused);
                let ended = Ended { strain, tunnel: tunnel(number as u8), in_flight: sent - number, is_wanted: true };
                allowance.handle(&ended, now);
            }
        }
        let limit = allowance.limit();
        // One in sixteen may be refused.
        let most = workers + workers / 15 + 2;
        assert!((workers / 2).max(1) <= limit && limit <= most, "{limit} of {workers}");
        assert!(refused <= 20 * workers + 40, "{refused} of {workers}");
    }
}

#[test]
fn a_server_that_was_left_alone_gets_one_two_four() {
    let now = Instant::now();
    let mut allowance = grown(now);
    allowance.restart();

    let mut rounds = vec![];
    while allowance.limit() < CAP {
        rounds.push(allowance.limit());
        (0..allowance.limit()).for_each(|_| {
            allowance.handle(&ended(&allowance, QUICK, 1), now);
        });
    }
    assert_eq!(rounds, [1, 2, 4, 8, 16, 32, 64, 128]);
}

fn strain() -> impl Strategy<Value = Strain> {
    prop_oneof![
        3 => (0..20_000u64).prop_map(|ms| Strain::Answered(Duration::from_millis(ms))),
        1 => Just(Strain::Refused),
        1 => Just(Strain::TimedOut),
        1 => Just(Strain::Unknown),
    ]
}

proptest! {
    #[test]
    fn it_stays_between_one_and_its_cap_and_is_halved_rarely(
        cap in 0..300usize,
        ops in vec((strain(), any::<u8>(), 0..600usize, any::<bool>(), 0..3_000u64, 0..40u8), 0..400),
    ) {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(cap, TIMEOUT);
        let mut halved: Option<Instant> = None;
        for (strain, number, in_flight, is_wanted, ms, restart) in ops {
            now += Duration::from_millis(ms);
            let before = allowance.limit();
            if restart == 0 {
                allowance.restart();
                continue;
            }
            let is_halved = allowance.handle(&Ended { strain, tunnel: tunnel(number), in_flight, is_wanted }, now);
            let limit = allowance.limit();
            prop_assert!(1 <= limit && limit <= cap.max(1), "{limit} of {cap}");
            if is_halved {
                prop_assert!(halved.is_none_or(|halved| now - halved >= TIMEOUT));
                prop_assert_eq!(limit, (before / 2).max(1));
                halved = Some(now);
            } else {
                prop_assert!(before - 1 <= limit && limit <= 2 * before, "{before} to {limit}");
            }
        }
    }
}

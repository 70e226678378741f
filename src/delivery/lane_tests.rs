//! Scenarios of a lane on simulated time, against a scripted business server.
#![expect(clippy::disallowed_methods, reason = "a test may pick its start")]

use std::time::Duration;

use super::*;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Content;

const TTL: Ttl = Ttl { message: Duration::from_secs(60), close: Duration::from_secs(86_400) };

fn event(sequence: u64, kind: EventKind, received: Instant) -> Event {
    Event { kind, sequence, received, held_ms: 0 }
}

fn message(sequence: u64, received: Instant) -> Event {
    event(sequence, EventKind::Message(Content::Text("hello".into())), received)
}

/// Drives `lane` until it is idle, with `answer` for each attempt; returns what was sent and what expired, with times.
fn drive(lane: &mut Lane, mut now: Instant, mut answer: impl FnMut(u64) -> Verdict) -> (Vec<u64>, Vec<u64>, Instant) {
    let (mut sent, mut expired) = (vec![], vec![]);
    for _ in 0..100_000 {
        match lane.poll(now, &TTL) {
            Step::Send(event) => {
                sent.push(event.sequence);
                lane.handle(answer(event.sequence), now, 0.0);
            }
            Step::WaitUntil(at) => {
                assert!(at > now, "a wait must lead somewhere");
                now = at;
            }
            Step::Expired(event) => expired.push(event.sequence),
            Step::Idle => return (sent, expired, now),
        }
    }
    panic!("the lane never came to rest");
}

#[test]
fn events_leave_in_order() {
    let now = Instant::now();
    let mut lane = Lane::default();
    (1..=100).for_each(|sequence| lane.push(message(sequence, now)));

    let (sent, expired, _) = drive(&mut lane, now, |_| Verdict::Delivered);

    assert_eq!(sent, (1..=100).collect::<Vec<_>>());
    assert!(expired.is_empty());
    assert_eq!(lane.bytes(), 0);
    assert!(lane.0.is_none(), "an empty lane owns nothing");
}

#[test]
fn an_event_that_waits_alone_has_no_queue_behind_it() {
    let now = Instant::now();
    let mut lane = Lane::default();
    (1..=100).for_each(|sequence| lane.push(message(sequence, now)));
    let bytes = lane.bytes();
    assert!(bytes > 100 * 2 * size_of::<Event>(), "places are counted twice: {bytes}");

    for left in (1..100).rev() {
        lane.handle(Verdict::Delivered, now, 0.0);
        assert_eq!((lane.len(), lane.bytes()), (left, bytes / 100 * left));
    }

    assert_eq!(lane.0.as_ref().expect("one event").others.capacity(), 0);
}

#[test]
fn a_failing_event_holds_back_those_behind_it_until_it_expires() {
    let start = Instant::now();
    let mut lane = Lane::default();
    lane.push(message(1, start));
    lane.push(event(2, EventKind::Close(CloseReason::ClientGone), start));

    let (sent, expired, end) = drive(&mut lane, start, |sequence| match sequence {
        1 => Verdict::Retry(None),
        _ => Verdict::Delivered,
    });

    assert_eq!(sent.last(), Some(&2), "the close event comes all the same");
    assert_eq!(sent.len(), 14, "at once, at once, then 100 ms doubling to 10 s within 60 s");
    assert_eq!(expired, [1]);
    assert_eq!(end - start, TTL.message);
}

#[test]
fn a_final_answer_lets_the_next_one_go() {
    let now = Instant::now();
    let mut lane = Lane::default();
    lane.push(event(1, EventKind::Connect { subprotocol: None }, now));
    lane.push(message(2, now));

    let (sent, expired, end) = drive(&mut lane, now, |sequence| match sequence {
        1 => Verdict::Final,
        _ => Verdict::Delivered,
    });

    assert_eq!((sent, expired, end), (vec![1, 2], vec![], now));
}

#[test]
fn retry_after_is_obeyed_but_not_beyond_the_ttl() {
    let start = Instant::now();
    let mut lane = Lane::default();
    lane.push(message(1, start));

    let Step::Send(_) = lane.poll(start, &TTL) else { panic!("must send") };
    lane.handle(Verdict::Retry(Some(Duration::from_secs(5))), start, 0.0);
    let Step::WaitUntil(at) = lane.poll(start, &TTL) else { panic!("must wait") };
    assert_eq!(at, start + Duration::from_secs(5));

    let Step::Send(_) = lane.poll(at, &TTL) else { panic!("must send") };
    lane.handle(Verdict::Retry(Some(Duration::from_secs(3_600))), at, 0.0);
    let Step::WaitUntil(at) = lane.poll(at, &TTL) else { panic!("must wait") };
    assert_eq!(at, start + TTL.message);
    assert!(matches!(lane.poll(at, &TTL), Step::Expired(_)));
}

#[test]
fn a_ttl_runs_while_an_event_waits_behind_others() {
    let start = Instant::now();
    let mut lane = Lane::default();
    lane.push(message(1, start));
    lane.push(message(2, start + Duration::from_secs(1)));

    let (sent, expired, end) = drive(&mut lane, start, |_| Verdict::Retry(None));

    assert_eq!(expired, [1, 2]);
    assert_eq!(end, start + Duration::from_secs(61));
    assert!(sent.iter().filter(|sequence| **sequence == 2).count() <= 5, "it has a second left, not another minute");
}

#[test]
fn a_day_of_close_retries_is_bounded() {
    let start = Instant::now();
    let mut lane = Lane::default();
    lane.push(event(1, EventKind::Close(CloseReason::Heartbeat), start));

    let (sent, expired, end) = drive(&mut lane, start, |_| Verdict::Retry(None));

    assert_eq!(expired, [1]);
    assert_eq!(end - start, TTL.close);
    assert!((8_640..8_660).contains(&sent.len()), "one attempt every ten seconds: {}", sent.len());
}

#[test]
fn what_waits_travels_together_and_stays_together() {
    let now = Instant::now();
    let mut lane = Lane::default();
    (1..=3).for_each(|sequence| lane.push(message(sequence, now)));
    let numbers = |events: Vec<Event>| events.iter().map(|event| event.sequence).collect::<Vec<_>>();

    let Step::Send(first) = lane.poll(now, &TTL) else { panic!("must send") };
    assert_eq!((first.sequence, numbers(lane.companions(true))), (1, vec![2, 3]));
    lane.push(message(4, now));
    lane.handle(Verdict::Retry(None), now, 0.0);
    let Step::Send(first) = lane.poll(now, &TTL) else { panic!("must send again") };
    assert_eq!(
        (first.sequence, numbers(lane.companions(false))),
        (1, vec![2, 3]),
        "the same request under the same id"
    );

    lane.handle(Verdict::Delivered, now, 0.0);
    let Step::Send(next) = lane.poll(now, &TTL) else { panic!("must send the rest") };
    assert_eq!((next.sequence, numbers(lane.companions(true))), (4, vec![]));
    lane.handle(Verdict::Final, now, 0.0);
    assert!(lane.is_empty());
}

#[test]
fn a_batch_is_bounded_in_events_and_bytes() {
    let now = Instant::now();
    let mut lane = Lane::default();
    (1..=150).for_each(|sequence| lane.push(message(sequence, now)));
    assert_eq!(lane.companions(true).len(), 99);

    let mut lane = Lane::default();
    let content = Content::Text("x".repeat(30 * 1024).into());
    (1..=5).for_each(|sequence| lane.push(event(sequence, EventKind::Message(content.clone()), now)));
    assert_eq!(lane.companions(true).len(), 1);
}

fn close(sequence: u64, received: Instant) -> Event {
    event(sequence, EventKind::Close(CloseReason::ClientGone), received)
}

const ANSWERED: Failure = Failure { counts: true, is_unknown: false };
const TIMED_OUT: Failure = Failure { counts: true, is_unknown: true };
const NOT_REACHED: Failure = Failure { counts: false, is_unknown: false };

/// Sends the next request at `now`; returns the numbers of its events, and those that name the request.
fn send(lane: &mut Lane, now: Instant) -> (Vec<u64>, Option<(u64, u64)>) {
    let Step::Send(first) = lane.poll(now, &TTL) else { panic!("must send") };
    let companions = lane.companions(true);
    let sent = std::iter::once(first).chain(companions).map(|event| event.sequence).collect();
    (sent, lane.together())
}

#[test]
fn a_close_travels_alone() {
    let now = Instant::now();
    let mut lane = Lane::default();
    (1..=3).for_each(|sequence| lane.push(message(sequence, now)));
    lane.push(close(4, now));

    assert_eq!(send(&mut lane, now), (vec![1, 2, 3], Some((1, 3))));
    lane.handle(Verdict::Delivered, now, 0.0);
    assert_eq!(send(&mut lane, now), (vec![4], None));
}

#[test]
fn what_is_refused_together_is_sent_again_one_by_one_and_then_together_again() {
    let now = Instant::now();
    let mut lane = Lane::default();
    (1..=3).for_each(|sequence| lane.push(message(sequence, now)));
    assert_eq!(send(&mut lane, now).0, [1, 2, 3]);
    assert!(lane.is_untried());
    (4..=5).for_each(|sequence| lane.push(message(sequence, now)));

    lane.handle(Verdict::Split, now, 0.0);

    for (number, verdict) in [(1, Verdict::Delivered), (2, Verdict::Final), (3, Verdict::Delivered)] {
        assert!(!lane.is_untried());
        assert_eq!(send(&mut lane, now), (vec![number], None));
        lane.handle(verdict, now, 0.0);
    }
    assert_eq!(send(&mut lane, now), (vec![4, 5], Some((4, 5))));
}

#[test]
fn a_batch_goes_on_under_its_name_when_its_first_event_expires() {
    let start = Instant::now();
    let mut lane = Lane::default();
    lane.push(message(1, start));
    lane.push(message(2, start + Duration::from_secs(9)));
    lane.push(message(3, start + Duration::from_secs(9)));
    let mut now = start + Duration::from_secs(10);
    let mut expired = vec![];
    assert_eq!(send(&mut lane, now), (vec![1, 2, 3], Some((1, 3))));
    lane.handle(Verdict::Retry(None), now, 0.0);
    lane.push(message(4, now));

    while expired.is_empty() {
        match lane.poll(now, &TTL) {
            Step::Send(_) => {
                assert_eq!(send(&mut lane, now), (vec![1, 2, 3], Some((1, 3))));
                lane.handle(Verdict::Retry(None), now, 0.0);
            }
            Step::WaitUntil(at) => now = at,
            Step::Expired(event) => expired.push(event.sequence),
            Step::Idle => panic!("there is more"),
        }
    }

    assert_eq!((expired, now), (vec![1], start + TTL.message));
    let Step::WaitUntil(at) = lane.poll(now, &TTL) else { panic!("it was tried a moment ago") };
    assert_eq!(send(&mut lane, at), (vec![2, 3], Some((1, 3))), "the same request, as far as it is still wanted");
    lane.handle(Verdict::Delivered, at, 0.0);
    assert_eq!(send(&mut lane, at), (vec![4], None));
}

#[test]
fn a_refused_close_is_repeated_for_ten_minutes() {
    let start = Instant::now();
    let mut lane = Lane::default();
    lane.push(close(1, start));
    let (mut now, mut sent) = (start, vec![]);
    loop {
        match lane.poll(now, &TTL) {
            Step::Send(_) => {
                sent.push((now - start).as_secs());
                let verdict = lane.weigh(Verdict::Refused, ANSWERED, now, 1);
                lane.handle(verdict, now, 0.0);
            }
            Step::WaitUntil(at) => now = at,
            Step::Expired(_) => panic!("it has a day"),
            Step::Idle => break,
        }
    }

    assert_eq!(sent, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363, 423, 483, 543, 603]);
}

#[test]
fn another_failure_between_refusals_gives_ten_minutes_more() {
    let start = Instant::now();
    let mut lane = Lane::default();
    lane.push(close(1, start));

    for (secs, verdict) in
        [(0, Verdict::Refused), (599, Verdict::Refused), (600, Verdict::Retry(None)), (900, Verdict::Refused)]
    {
        assert_eq!(lane.weigh(verdict, ANSWERED, start + Duration::from_secs(secs), 0), verdict, "{secs}");
    }
    let end = start + Duration::from_secs(1500);
    assert_eq!(lane.weigh(Verdict::Refused, ANSWERED, end, 0), Verdict::Final);
}

#[test]
fn attempts_that_count_have_a_bound_and_a_close_has_none() {
    let now = Instant::now();
    let retry = Verdict::Retry(None);
    let mut lane = Lane::default();
    lane.push(message(1, now));
    lane.push(message(2, now));

    for failure in [ANSWERED, NOT_REACHED, TIMED_OUT, NOT_REACHED] {
        assert_eq!(lane.weigh(retry, failure, now, 3), retry);
        lane.handle(retry, now, 0.0);
    }
    assert_eq!(lane.weigh(retry, ANSWERED, now, 3), Verdict::Final);
    lane.handle(Verdict::Final, now, 0.0);
    assert_eq!(lane.weigh(retry, ANSWERED, now, 3), retry, "the next event has its own");
    assert_eq!(lane.weigh(retry, ANSWERED, now, 0), retry, "there is no bound");

    let mut lane = Lane::default();
    lane.push(close(1, now));
    for _ in 0..100 {
        assert_eq!(lane.weigh(retry, ANSWERED, now, 1), retry);
    }
}

#[test]
fn each_event_of_a_batch_has_its_last_attempt_alone_unless_it_may_have_been_handled() {
    let now = Instant::now();
    let retry = Verdict::Retry(None);
    for (first, second) in [(ANSWERED, Verdict::Split), (TIMED_OUT, retry)] {
        let mut lane = Lane::default();
        (1..=3).for_each(|sequence| lane.push(message(sequence, now)));
        send(&mut lane, now);

        assert_eq!(lane.weigh(retry, first, now, 3), retry);
        lane.handle(retry, now, 0.0);
        assert_eq!(lane.weigh(retry, ANSWERED, now, 3), second);
        lane.handle(second, now, 0.0);

        let alone = if second == Verdict::Split { 3 } else { 1 };
        for left in (0..alone).rev() {
            assert_eq!(lane.weigh(retry, ANSWERED, now, 3), Verdict::Final, "its third");
            lane.handle(Verdict::Final, now, 0.0);
            assert_eq!(lane.len(), left);
        }
        lane.push(message(4, now));
        assert_eq!(lane.weigh(retry, ANSWERED, now, 3), retry, "the next one has its own");
    }
}

#[test]
fn the_time_of_events_behind_one_in_a_debugger_stands_still() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let ttl = Ttl { message: Duration::from_secs(60), close: Duration::from_secs(600) };
    let mut lane = Lane::default();
    lane.push(message(1, start));
    lane.push(message(2, start));
    lane.push(message(3, at(50)));

    lane.stood_still(at(10), at(100));
    lane.handle(Verdict::Delivered, at(100), 0.0);

    assert!(matches!(lane.poll(at(100), &ttl), Step::Send(event) if event.sequence == 2));
    assert!(matches!(lane.poll(at(149), &ttl), Step::Send(event) if event.sequence == 2), "10 s had passed before");
    assert!(matches!(lane.poll(at(150), &ttl), Step::Expired(event) if event.sequence == 2));
    assert!(matches!(lane.poll(at(159), &ttl), Step::Send(event) if event.sequence == 3), "it came in between");
    assert!(matches!(lane.poll(at(160), &ttl), Step::Expired(event) if event.sequence == 3));
}

//! Timelines against a log that forgets nothing: what is there is right, and `is_complete` is never wrong.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::id::TunnelId;
use crate::reason::Kind;
use crate::reason::Reason;

const SHOP: TenantNumber = TenantNumber(1);
/// When all of it begins, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_800_000_000_000;

fn tunnel(number: u8) -> TunnelId {
    TunnelId::from_bytes([number + 1; 16])
}

fn question(number: u8, limit: usize) -> Question {
    Question { tenant: SHOP, tunnel: tunnel(number), audiences: vec![], before_us: None, limit }
}

fn small(capacity: usize, workers: usize, now_ms: u64) -> Timeline {
    let timeline = Timeline::new(capacity * workers * size_of::<Record>(), workers, Duration::from_millis(now_ms));
    assert_eq!(timeline.tenant(&AtomicU32::new(0), &TenantId::new("shop")), SHOP);
    timeline
}

/// One step: on which node and worker, of which tunnel, how the clock moves before it, and whether that is noticed before it.
#[derive(Clone, Debug)]
struct Write {
    node: usize,
    worker: usize,
    tunnel: u8,
    later_ms: i64,
    is_noticed: bool,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let onward = || prop_oneof![10 => 0_i64..4, 2 => 1_000_i64..20_000];
    let set = prop_oneof![10 => onward(), 1 => -5_000_i64..0, 1 => -40_000_i64..-5_000];
    prop_oneof![steps(onward()), steps(set)]
}

fn steps(step: impl Strategy<Value = i64>) -> impl Strategy<Value = Vec<Write>> {
    let write = (0_usize..2, 0_usize..3, 0_u8..5, step, any::<bool>());
    let write = write.prop_map(|(node, worker, tunnel, later_ms, is_noticed)| Write {
        node,
        worker,
        tunnel,
        later_ms,
        is_noticed,
    });
    prop::collection::vec(write, 1..120)
}

/// One step of a tunnel and its groups; the clock moves one millisecond before each.
#[derive(Clone, Debug)]
enum Step {
    Join(u8, u8),
    Leave(u8, u8),
    SetUser(u8, u8),
    Close(u8),
    /// To a group, or to a user.
    Push(u8, bool),
    /// To those named by the bits.
    PushNamed(u8),
    /// Another text is kept.
    Word(u16),
}

fn group_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u8..3, 0_u8..3).prop_map(|(tunnel, group)| Step::Join(tunnel, group)),
        2 => (0_u8..3, 0_u8..3).prop_map(|(tunnel, group)| Step::Leave(tunnel, group)),
        1 => (0_u8..3, 0_u8..2).prop_map(|(tunnel, user)| Step::SetUser(tunnel, user)),
        1 => (0_u8..3).prop_map(Step::Close),
        4 => (0_u8..3, any::<bool>()).prop_map(|(name, is_group)| Step::Push(name, is_group)),
        2 => (0_u8..8).prop_map(Step::PushNamed),
        2 => any::<u16>().prop_map(Step::Word),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Two nodes with small rings and clocks that differ, and are set.
    #[test]
    fn a_node_that_is_said_to_be_complete_is(
        writes in writes(),
        capacity in 1_usize..12,
        skew_ms in -9_000_i64..9_000,
    ) {
        let nodes = [small(capacity, 3, BEGIN_MS), small(capacity, 3, BEGIN_MS)];
        let mut log: Vec<(usize, u8, u32)> = vec![];
        let mut now_ms = BEGIN_MS.cast_signed();
        for (number, write) in (1..).zip(&writes) {
            now_ms += write.later_ms;
            let is_first = !log.iter().any(|(_, tunnel, _)| *tunnel == write.tunnel);
            let at_ms = if write.node == 0 { now_ms } else { now_ms + skew_ms };
            if write.is_noticed {
                nodes[write.node].check_clock(Duration::from_millis(at_ms.cast_unsigned()));
            }
            let kind = if is_first { Kind::Requested } else { Kind::Push };
            let record = Record::new(kind, Reason::None, Duration::from_millis(at_ms.cast_unsigned()));
            let record = record.of(SHOP, tunnel(write.tunnel)).with_bytes(number as usize);
            nodes[write.node].record_on(write.worker, record);
            log.push((write.node, write.tunnel, number));
        }
        for number in 0..5 {
            let set_back_ms: i64 = writes.iter().map(|write| write.later_ms.min(0)).sum();
            let requested_on = log.iter().find(|(_, tunnel, _)| *tunnel == number).map(|(node, ..)| *node);
            let parts = nodes.iter().map(|node| Part { node: None, answer: Ok(node.story(&question(number, 1_000))) });
            let merged = merge(parts.collect(), 1_000);
            for (node, covered) in merged.nodes.iter().enumerate() {
                let own = nodes[node].story(&question(number, 1_000)).rows;
                let wanted: Vec<u32> = log
                    .iter()
                    .filter(|(of, tunnel, _)| *of == node && *tunnel == number)
                    .map(|(_, _, number)| *number)
                    .collect();
                let mut found: Vec<u32> = own.iter().map(|row| row.bytes).collect();
                prop_assert!(found.iter().all(|number| wanted.contains(number)), "what was never written");
                found.sort_unstable();
                // Clocks that are set back further than two nodes may differ are noticed on the node of the request only.
                if covered.is_complete && (requested_on == Some(node) || set_back_ms > -1_000) {
                    prop_assert_eq!(&found, &wanted, "tunnel {} of node {}", number, node);
                }
            }
        }
    }

    /// Pushes to groups, users and named tunnels; names are forgotten before the records.
    #[test]
    fn a_push_to_many_is_in_the_story_of_each_of_them(
        steps in group_steps(),
        capacity in 1_usize..200,
        words in 2_u32..40,
    ) {
        let timeline = Timeline { words: Words::of(words), ..small(capacity, 1, BEGIN_MS) };
        let mut inside: [BTreeSet<String>; 3] = Default::default();
        let mut expected: [Vec<u32>; 3] = Default::default();
        let mut requested = BTreeSet::new();
        for (number, step) in (1_u32..).zip(&steps) {
            let time = Duration::from_millis(BEGIN_MS + u64::from(number));
            let new = |kind, reason, of: &u8| Record::new(kind, reason, time).of(SHOP, tunnel(*of));
            let change = |record: Record, name: &str| timeline.record(record.changing(timeline.audience(name)));
            let named = |bits: u8| (0..3).filter(move |of| bits >> of & 1 == 1);
            let about: Vec<u8> = match step {
                Step::Join(of, _) | Step::Leave(of, _) | Step::SetUser(of, _) | Step::Close(of) => vec![*of],
                Step::PushNamed(bits) => named(*bits).collect(),
                Step::Push(..) | Step::Word(_) => vec![],
            };
            for of in about.into_iter().filter(|of| requested.insert(*of)) {
                timeline.record(new(Kind::Requested, Reason::None, &of));
            }
            match step {
                Step::Join(of, group) => {
                    let group = group_words(&group.to_string());
                    change(new(Kind::Action, Reason::Joined, of), &group);
                    inside[usize::from(*of)].insert(group);
                }
                Step::Leave(of, group) => {
                    let group = group_words(&group.to_string());
                    change(new(Kind::Action, Reason::Left, of), &group);
                    inside[usize::from(*of)].remove(&group);
                }
                Step::SetUser(of, user) => {
                    let user = user_words(&user.to_string());
                    change(new(Kind::Action, Reason::UserSet, of), &user);
                    inside[usize::from(*of)].retain(|name| !name.starts_with("user "));
                    inside[usize::from(*of)].insert(user);
                }
                Step::Close(of) => {
                    timeline.record(new(Kind::Closed, Reason::None, of));
                    inside[usize::from(*of)].clear();
                }
                Step::Push(name, is_group) => {
                    let name = if *is_group { group_words(&name.to_string()) } else { user_words(&name.to_string()) };
                    let push = Record::new(Kind::Push, Reason::Accepted, time).of_tenant(SHOP);
                    let push = push.with_bytes(number as usize).with_words(timeline.word(&name));
                    timeline.record(push.to_many(100, 99, Some(timeline.audience(&name))));
                    for (inside, expected) in inside.iter().zip(&mut expected) {
                        if inside.contains(&name) {
                            expected.push(number);
                        }
                    }
                }
                Step::PushNamed(bits) => {
                    let ids: Vec<TunnelId> = named(*bits).map(tunnel).collect();
                    let push = Record::new(Kind::Push, Reason::Accepted, time).of_tenant(SHOP);
                    timeline.record(push.with_bytes(number as usize).to_targets(&ids));
                    named(*bits).for_each(|of| expected[usize::from(of)].push(number));
                }
                Step::Word(text) => {
                    timeline.word(&text.to_string());
                }
            }
        }
        for (of, expected) in (0_u8..).zip(&expected) {
            let story = timeline.story(&question(of, 1_000));
            let merged = merge(vec![Part { node: None, answer: Ok(story) }], 1_000);
            let is_push = |(_, row): &&(String, Row)| row.kind() == Some(Kind::Push);
            let pushes: Vec<u32> = merged.rows.iter().filter(is_push).map(|(_, row)| row.bytes).collect();
            if merged.nodes[0].is_complete {
                prop_assert_eq!(&pushes, expected, "tunnel {}", of);
            }
        }
    }

    /// Pages of any length, one behind the other, have all that is left, once.
    #[test]
    fn pages_have_everything_once(writes in writes(), limit in 1_usize..7) {
        let timeline = small(50, 3, BEGIN_MS);
        let mut now_ms = BEGIN_MS;
        for (number, write) in (1..).zip(&writes) {
            now_ms += write.later_ms.max(0).cast_unsigned();
            let record = Record::new(Kind::Push, Reason::None, Duration::from_millis(now_ms)).of(SHOP, tunnel(write.tunnel));
            timeline.record_on(write.worker, record.with_bytes(number));
        }
        let whole = timeline.story(&question(0, 10_000));
        let (mut pages, mut before_us) = (vec![], None);
        loop {
            let part = Part { node: None, answer: Ok(timeline.story(&Question { before_us, ..question(0, limit) })) };
            let merged = merge(vec![part], limit);
            let Some((_, first)) = merged.rows.first() else { break };
            before_us = Some(first.unix_us);
            pages.splice(0..0, merged.rows.iter().map(|(_, row)| row.bytes));
            if !merged.has_more {
                break;
            }
        }
        prop_assert_eq!(pages, whole.rows.iter().map(|row| row.bytes).collect::<Vec<_>>());
    }
}

#[test]
fn a_record_is_never_torn_however_many_write_and_read() {
    let timeline = small(500, 4, BEGIN_MS);
    let is_over = AtomicBool::new(false);
    let check = |record: &Record| {
        let number = record.sequence;
        assert_eq!((record.bytes, record.took_us, record.trace()), (number, number, u64::from(number)));
        assert!(record.is_of(TunnelId::from_bytes(u128::from(number).to_be_bytes())));
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=6_u32)
            .map(|writer| {
                let timeline = &timeline;
                scope.spawn(move || {
                    for step in 0..20_000 {
                        let number = writer * 1_000_000 + step;
                        let tunnel = TunnelId::from_bytes(u128::from(number).to_be_bytes());
                        let time = Duration::from_millis(BEGIN_MS + u64::from(step));
                        let record = Record::new(Kind::Push, Reason::None, time).of(SHOP, tunnel);
                        let record = record.event(About::Message, number.into(), 1).with_bytes(number as usize);
                        timeline.record(record.took(Duration::from_micros(number.into())).traced(number.into()));
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Acquire) {
                        timeline
                            .scan(100, None, |record| record.kind() == Some(Kind::Push))
                            .records
                            .iter()
                            .for_each(check);
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        is_over.store(true, Ordering::Release);
        readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
    });
    assert_eq!(timeline.scan(10_000, None, |record| record.kind().is_some()).records.len(), 2_000);
}

#[test]
fn what_is_switched_off_takes_no_memory_and_says_so() {
    let timeline = Timeline::off();
    timeline.record(Record::new(Kind::Push, Reason::None, Duration::from_secs(1)));

    assert!(!timeline.is_on() && timeline.scan(10, None, |_| true).records.is_empty());
    let merged = merge(vec![Part { node: None, answer: Ok(timeline.story(&question(1, 10))) }], 10);
    assert_eq!((merged.nodes[0].gap, merged.nodes[0].is_complete), (Some(Gap::Off), false));
}

#[test]
fn a_push_to_a_group_is_in_the_story_of_those_that_were_in_it_then() {
    let timeline = small(100, 1, BEGIN_MS);
    let write = |ms: u64, record: Record| timeline.record(record.at(Duration::from_millis(BEGIN_MS + ms)));
    let new = |kind, reason| Record::new(kind, reason, Duration::ZERO);
    let group = timeline.audience(&group_words("g"));
    let change = |reason, number| new(Kind::Action, reason).of(SHOP, tunnel(number)).changing(group);
    let joins = |ms, number| write(ms, change(Reason::Joined, number));
    let push = |ms, bytes| {
        write(ms, new(Kind::Push, Reason::Accepted).of_tenant(SHOP).to_many(100, 99, Some(group)).with_bytes(bytes));
    };
    push(1, 1);
    joins(2, 0);
    push(3, 2);
    write(4, change(Reason::Left, 0));
    push(5, 3);
    let pushes = |question: &Question| {
        let rows = timeline.story(question).rows;
        rows.iter().filter(|row| row.many.is_some()).map(|row| row.bytes).collect::<Vec<_>>()
    };

    assert_eq!(pushes(&question(0, 100)), [2]);
    assert!(pushes(&question(1, 100)).is_empty(), "it was never in it");
    let long = new(Kind::Push, Reason::Accepted).of_tenant(SHOP).to_many(100, 99, Some(group)).with_bytes(4);
    write(6, long.took(Duration::from_millis(2)));
    assert_eq!(pushes(&question(0, 100)), [2, 4], "it left while the push went on");
    write(7, change(Reason::Joined, 2).took(Duration::from_micros(1_500)));
    assert_eq!(pushes(&question(2, 100)), [4], "it came while the push went on");
    let now_in = Question { audiences: vec![group_words("g")], ..question(1, 100) };
    assert_eq!(pushes(&now_in), [1, 2, 3, 4], "its coming was overwritten");
}

#[test]
fn a_record_that_is_late_makes_nothing_unsure_and_a_clock_that_was_set_back_does() {
    let timeline = small(100, 1, BEGIN_MS);
    let at = |ms: u64| Duration::from_millis(BEGIN_MS + ms);
    timeline.record(Record::new(Kind::Requested, Reason::None, at(30_000)).of(SHOP, tunnel(0)));
    timeline.record(Record::new(Kind::Push, Reason::Accepted, at(1_000)).of(SHOP, tunnel(0)));
    let is_complete = || {
        let part = Part { node: None, answer: Ok(timeline.story(&question(0, 10))) };
        merge(vec![part], 10).nodes[0].is_complete
    };

    timeline.check_clock(at(30_000));
    assert!(is_complete(), "a push that took half a minute");
    let rows = timeline.story(&question(0, 10)).rows;
    assert!(rows[0].unix_us <= rows[1].unix_us && rows[1].kind() == Some(Kind::Push));

    timeline.check_clock(at(2_000));
    assert!(!is_complete());
    timeline.record(Record::new(Kind::Push, Reason::Accepted, at(2_000)).of(SHOP, tunnel(0)));
    assert_eq!(timeline.story(&question(0, 10)).rows[0].unix_us, (BEGIN_MS + 2_000) * 1_000);
}

#[test]
fn a_dead_node_is_named_on_every_page() {
    let timeline = small(100, 1, BEGIN_MS);
    let at = |ms: u64| Duration::from_millis(BEGIN_MS + ms);
    let dead = NodeId::from_bytes([9; 16]);
    let peer = timeline.peer(dead);
    let new = |kind, reason, ms| Record::new(kind, reason, at(ms)).of(SHOP, tunnel(0));
    timeline.record(new(Kind::Push, Reason::PassedOn, 1).with_peer(peer));
    timeline.record(new(Kind::Closed, Reason::NodeLost, 2));
    timeline.record(new(Kind::Attempt, Reason::Delivered, 3));
    let gaps = |own: &[NodeId]| {
        let part = |node: Option<NodeId>| Part { node, answer: Ok(timeline.story(&question(0, 1))) };
        let merged = merge(own.iter().map(|node| part(Some(*node))).collect(), 1);
        assert_eq!(merged.rows.len(), own.len());
        merged.nodes.into_iter().filter_map(|node| node.gap.zip(Some(node.node))).collect::<Vec<_>>()
    };

    let own = NodeId::from_bytes([1; 16]);
    assert_eq!(gaps(&[own]), [(Gap::Gone, Some(dead.to_string()))]);
    assert_eq!(gaps(&[own, dead]), [(Gap::Gone, None)], "another one, which took no push");
}

#[test]
fn refusals_do_not_make_others_forgotten() {
    let timeline = small(1_000, 1, BEGIN_MS);
    let time = Duration::from_millis(BEGIN_MS);
    timeline.record(Record::new(Kind::Requested, Reason::None, time).of(SHOP, tunnel(0)));

    let used = Record::new(Kind::Refused, Reason::TicketUsed, time).of(TenantNumber(2), tunnel(1));
    for number in 0..10_000 {
        let stranger = Record::new(Kind::Refused, Reason::TicketUnknown, time);
        timeline.record_refused(stranger, &number.to_string());
        timeline.record_refused(used, &number.to_string());
    }
    timeline.record_refused(used.of(SHOP, tunnel(0)), "used");

    let rows = timeline.story(&question(0, 10)).rows;
    assert_eq!((rows.len(), rows[1].words.as_deref()), (2, Some("used")));
    let refused = timeline.scan(10_000, None, |record| record.kind() == Some(Kind::Refused));
    assert_eq!(refused.records.len(), 2 * (refusals::MAX_REFUSALS as usize + 1) + 1);
    let last = timeline
        .text(timeline.scan(1, None, |record| record.tenant == TenantNumber(2)).records.last().expect("some").words);
    assert_eq!(last.as_deref(), Some(refusals::MORE));
}

#[test]
fn dead_and_silent_nodes_are_named() {
    let timeline = small(100, 1, BEGIN_MS);
    let (dead, silent) = (NodeId::from_bytes([9; 16]), NodeId::from_bytes([8; 16]));
    let time = Duration::from_millis(BEGIN_MS + 1);
    timeline.record(Record::new(Kind::Requested, Reason::None, time).of(SHOP, tunnel(0)));
    let passed_on = Record::new(Kind::Push, Reason::PassedOn, time).of(SHOP, tunnel(0));
    timeline.record(passed_on.with_peer(timeline.peer(dead)));
    let parts = || {
        let own = Part { node: None, answer: Ok(timeline.story(&question(0, 10))) };
        vec![own, Part { node: Some(silent), answer: Err(Gap::NoAnswer) }]
    };

    let gaps = |merged: Merged| merged.nodes.into_iter().map(|node| (node.node, node.gap)).collect::<Vec<_>>();
    let expected = [
        (Some(String::new()), None),
        (Some(silent.to_string()), Some(Gap::NoAnswer)),
        (Some(dead.to_string()), Some(Gap::Gone)),
    ];
    assert_eq!(gaps(merge(parts(), 10)), expected);

    timeline.record(Record::new(Kind::Closed, Reason::NodeLost, time).of(SHOP, tunnel(1)));
    let part = Part { node: None, answer: Ok(timeline.story(&question(1, 10))) };
    assert_eq!(gaps(merge(vec![part], 10))[1], (None, Some(Gap::Gone)), "its name is not known");
}

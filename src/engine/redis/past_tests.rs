use super::*;

const AN_HOUR: Duration = Duration::from_secs(3_600);

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn heard<'a>(living: &'a [NodeId], sets: &'a [NodeId]) -> Heard<'a> {
    Heard {
        is_whole: true,
        lease_end_ms: 1,
        age: AN_HOUR,
        living,
        sets,
        dead: &[],
        is_first: false,
        answering: living,
        is_unsure: false,
        may_have_died: false,
    }
}

fn buried(past: &Past) -> Vec<(NodeId, Burial)> {
    past.to_bury(Instant::now()).into_iter().map(|(node, burial, _)| (node, burial)).collect()
}

#[test]
fn a_node_is_gone_when_nothing_is_left_of_it() {
    let (past, now) = (Past::default(), Instant::now());
    past.hear(&heard(&[node(1), node(2)], &[node(1), node(2)]), now);
    past.hear(&Heard { dead: &[(node(2), Duration::ZERO)], ..heard(&[node(1)], &[node(1), node(2)]) }, now);
    assert!(!past.is_gone(node(2)), "it is dead, and its close events are not finished");
    past.haunt();
    assert_eq!(buried(&past), [(node(2), Burial::Dead)]);
    past.takes_over(node(2));
    assert_eq!(buried(&past), [(node(2), Burial::Mine)]);
    past.are_buried();

    past.hear(&heard(&[node(1)], &[node(1)]), now);
    assert!(past.is_gone(node(2)));
    past.hear(&heard(&[node(1), node(2)], &[node(1), node(2)]), now);
    assert!(past.is_gone(node(2)), "its name is not used again");

    assert!(buried(&past).is_empty());
    past.haunt();
    assert_eq!(buried(&past), [(node(2), Burial::Gone)]);
    past.are_buried();
    assert!(buried(&past).is_empty());
}

#[test]
fn who_is_missing_after_a_loss_is_awaited_and_not_gone() {
    let (past, now) = (Past::default(), Instant::now());
    let all = [node(1), node(2), node(3)];
    past.hear(&heard(&all, &all), now);
    assert!(!past.awaits_others(&[node(1)], now));

    past.hear(&Heard { is_whole: false, age: Duration::ZERO, ..heard(&[node(1)], &[node(1)]) }, now);
    past.hear(&heard(&[node(1), node(2)], &[]), now);
    past.hear(&heard(&[node(1)], &[]), now);
    past.hear(&heard(&[node(1), node(2)], &[]), now);
    assert!(!past.is_gone(node(2)) && !past.is_gone(node(3)), "missing is not dead");
    assert!(past.awaits_others(&[node(1), node(2)], now));
    assert!(!past.awaits_others(&all, now), "it has come back since");
    assert!(!past.awaits_others(&[node(1), node(2)], now + RETURN_WITHIN), "it is dead");
}

#[test]
fn young_data_and_lost_data_are_doubtful_for_a_while() {
    let (past, now) = (Past::default(), Instant::now() + AN_HOUR);
    let minute = Duration::from_secs(60);
    past.hear(&Heard { age: 2 * minute, ..heard(&[], &[]) }, now);
    assert!(!past.is_doubtful(now, minute));
    assert!(past.is_doubtful(now, 3 * minute));

    past.doubt(now);
    assert!(past.is_doubtful(now + minute - Duration::from_secs(1), minute));
    assert!(!past.is_doubtful(now + minute, minute));
}

#[test]
fn those_are_asked_that_may_remember_and_can_answer() {
    let (past, now) = (Past::default(), Instant::now());
    let (me, all) = (node(1), [node(1), node(2), node(3)]);
    past.hear(&Heard { answering: &[node(1), node(2)], ..heard(&all, &all) }, now);
    assert_eq!(past.may_remember(me), [node(2)], "the third is of the last release");

    past.hear(&Heard { is_whole: false, ..heard(&[node(1)], &[node(1)]) }, now);
    assert_eq!(past.may_remember(me), [node(2)], "it has not come back yet");
}

#[test]
fn a_loss_during_the_mending_of_another_is_mended_too() {
    let past = Past::default();
    assert_eq!(past.losses_to_mend(), None);
    past.lose();
    assert_eq!(past.losses_to_mend(), Some(1));
    past.lose();
    past.mended(1);
    assert_eq!(past.losses_to_mend(), Some(2));
    past.mended(2);
    assert_eq!(past.losses_to_mend(), None);
}

#[test]
fn only_so_many_are_remembered() {
    let past = Past::default();
    for number in 0..=MAX_NODES {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        past.is_emptied(NodeId::from_bytes(bytes));
    }

    past.haunt();
    assert_eq!(buried(&past).len(), MAX_NODES);
    assert!(!past.is_gone(node(0)), "the oldest is forgotten");
}

#[test]
fn who_was_away_and_finds_other_data_may_be_dead_until_all_others_have_had_their_say() {
    let (past, now) = (Past::default(), Instant::now());
    let all = [node(1), node(2)];
    past.hear(&heard(&all, &all), now);
    assert!(!past.may_be_dead());

    let young = |age| Heard { age, ..heard(&all[..1], &[]) };
    past.hear(&Heard { is_whole: false, may_have_died: true, ..young(Duration::ZERO) }, now);
    past.hear(&young(SETTLED_AFTER), now);
    assert!(past.may_be_dead(), "the other one has not come back");
    past.hear(&Heard { age: SETTLED_AFTER / 2, ..heard(&all, &[]) }, now);
    assert!(past.may_be_dead(), "one that came meanwhile may know");
    past.hear(&Heard { is_unsure: true, ..heard(&all, &[]) }, now);
    assert!(past.may_be_dead(), "it has not written all that it knows");
    past.hear(&heard(&all, &[]), now);
    assert!(!past.may_be_dead());
}

#[test]
fn all_that_have_lived_since_are_known_or_it_is_said_that_they_are_not() {
    let (past, start) = (Past::default(), Instant::now() + AN_HOUR);
    let me = node(1);
    let secs = Duration::from_secs;
    let (alone, both) = ([me], [me, node(2)]);
    past.hear(&Heard { is_first: true, age: secs(100), dead: &[(node(9), secs(30))], ..heard(&both, &[]) }, start);
    let (mut lived, are_all) = past.lived_since(start - secs(50), me);
    lived.sort();
    assert_eq!((lived, are_all), (vec![node(2), node(9)], true));
    assert_eq!(past.lived_since(start - secs(20), me), (vec![node(2)], true));
    assert!(!past.lived_since(start - secs(101), me).1, "that was before the data");
    assert_eq!(past.lived_since(start + secs(9), me).0, [node(2)], "it lived at the last renewal");

    past.hear(&Heard { dead: &[(node(2), secs(1)), (node(3), secs(2))], ..heard(&[me], &[]) }, start + secs(5));
    assert_eq!(past.lived_since(start + secs(1), me), (vec![node(3)], true), "it came and left");

    let lost = Heard { is_whole: false, age: secs(2), ..heard(&alone, &[]) };
    past.hear(&lost, start + secs(6));
    assert!(past.lived_since(start, me).1, "it was there all the time");
    past.hear(&lost, start + secs(60));
    assert!(!past.lived_since(start + secs(50), me).1, "it was away");
    assert!(past.lived_since(start + secs(58), me).1);

    past.begin_again(me);
    past.hear(&Heard { is_first: true, ..heard(&[node(4)], &[]) }, start + secs(61));
    assert!(past.lived_since(start + secs(60), node(4)).0.is_empty(), "it was this node itself");
}

#[test]
fn what_was_issued_before_a_loss_is_vouched_for_only_by_a_node_that_missed_nothing() {
    let (past, start) = (Past::default(), Instant::now() + AN_HOUR);
    let secs = Duration::from_secs;
    assert!(past.can_vouch_for(start), "nothing is missing");
    assert!(!past.has_lost_since(start));

    past.hear(&Heard { is_first: true, age: secs(100), ..heard(&[node(1)], &[]) }, start);
    assert!(past.can_vouch_for(start - secs(50)), "the data was there before");
    assert!(!past.can_vouch_for(start - secs(101)), "that was before the data");

    past.doubt(start + secs(5));
    assert!(past.has_lost_since(start) && !past.has_lost_since(start + secs(6)));
    assert!(past.can_vouch_for(start), "it has known all nodes since");

    past.hear(&Heard { is_whole: false, age: secs(1), ..heard(&[node(1)], &[]) }, start + secs(60));
    assert!(!past.can_vouch_for(start + secs(50)), "one may have come and died meanwhile");
    assert!(past.can_vouch_for(start + secs(61)), "it is issued behind the loss");
}

#[test]
fn a_node_that_answered_once_is_asked_whatever_a_redis_from_the_past_knows_of_it() {
    let (past, now) = (Past::default(), Instant::now() + AN_HOUR);
    let both = [node(1), node(2)];
    past.hear(&heard(&both, &[]), now);
    past.hear(&Heard { is_whole: false, answering: &[], ..heard(&both, &[]) }, now);
    assert_eq!(past.lived_since(now, node(1)).0, [node(2)]);

    past.hear(&Heard { answering: &both[..1], ..heard(&[node(1), node(3)], &[]) }, now);
    assert_eq!(past.lived_since(now, node(1)).0, [node(2)], "the third is of the last release");
}

#[test]
fn another_life_has_no_lease_and_no_charges_and_its_name_is_none_of_the_others() {
    let (past, now) = (Past::default(), Instant::now());
    past.hear(&Heard { may_have_died: true, is_whole: false, ..heard(&[node(1), node(2)], &[]) }, now);
    past.takes_over(node(3));
    assert_eq!((past.lease_end_ms(), past.may_be_dead()), (1, true));

    past.begin_again(node(1));
    assert_eq!((past.lease_end_ms(), past.may_be_dead()), (0, false));
    past.haunt();
    assert_eq!(buried(&past), [(node(1), Burial::Dead)], "others look after what it had");
    assert!(past.lived_since(now, node(2)).0.is_empty());
}

#[test]
fn the_dead_are_buried_with_the_time_of_their_death() {
    let (past, now) = (Past::default(), Instant::now() + AN_HOUR);
    let secs = Duration::from_secs;
    past.hear(&Heard { dead: &[(node(2), secs(30))], ..heard(&[node(1)], &[node(2)]) }, now);
    assert!(past.to_bury(now).is_empty() && !past.is_haunted(), "Redis knows it");

    past.haunt();
    assert!(past.is_haunted());
    assert_eq!(past.to_bury(now + secs(5)), [(node(2), Burial::Dead, secs(35))]);
    past.are_buried();
    assert!(!past.is_haunted());
}

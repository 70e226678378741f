use super::*;
use crate::protocol::native::Name;

fn entry(number: usize) -> IndexEntry {
    ("t".into(), Audience::Group(Name::new(&number.to_string()).expect("a name")))
}

/// The audiences with tunnels.
#[derive(Default)]
struct Members(BTreeSet<IndexEntry>);

impl Members {
    fn take(&self, entries: &IndexState) -> Changes {
        entries.take(|entry| self.0.contains(entry))
    }
}

fn is_notified(waiting: Option<oneshot::Receiver<()>>) -> bool {
    waiting.is_none_or(|mut waiting| waiting.try_recv().is_ok())
}

#[test]
fn the_first_waits_until_it_is_written_and_the_next_does_not() {
    let (entries, mut members) = (Arc::new(IndexState::default()), Members::default());
    let (hold, mut first) = entries.reserve(entry(1));
    let changes = members.take(&entries);
    assert_eq!((&changes.put[..], changes.delete.len()), (&[entry(1)][..], 0));
    assert!(first.as_mut().expect("it waits").try_recv().is_err(), "it is not written yet");
    entries.done(changes);
    assert!(is_notified(first));
    members.0.insert(entry(1));
    drop(hold);

    let (_hold, second) = entries.reserve(entry(1));
    assert!(second.is_none());
    assert_eq!(members.take(&entries).put, []);
    assert!(entries.is_written());
}

#[test]
fn a_place_is_kept_while_somebody_is_about_to_come() {
    let (entries, members) = (Arc::new(IndexState::default()), Members::default());
    let (hold, _) = entries.reserve(entry(1));
    entries.done(members.take(&entries));
    entries.vacate(entry(1));
    assert_eq!(members.take(&entries).delete, []);

    drop(hold);
    let changes = members.take(&entries);
    assert_eq!(changes.delete, [entry(1)], "no tunnel joined");
    entries.done(changes);
    assert!(entries.is_empty());
}

#[test]
fn who_comes_while_a_place_is_given_up_waits_until_it_is_there_again() {
    let (entries, members) = (Arc::new(IndexState::default()), Members::default());
    drop(entries.reserve(entry(1)));
    entries.done(members.take(&entries));
    drop(entries.reserve(entry(2)));
    entries.done(members.take(&entries));
    let (hold, _) = entries.reserve(entry(1));
    entries.done(members.take(&entries));
    drop(hold);
    let leaving = members.take(&entries);
    assert_eq!(leaving.delete, [entry(1)]);

    let (_hold, waiting) = entries.reserve(entry(1));
    entries.done(leaving);
    let mut waiting = waiting.expect("it waits");
    assert!(waiting.try_recv().is_err());
    let changes = members.take(&entries);
    assert_eq!(changes.put, [entry(1)]);
    entries.done(changes);
    assert!(waiting.try_recv().is_ok());
}

#[test]
fn what_failed_is_written_in_its_state_of_then() {
    let (entries, mut members) = (Arc::new(IndexState::default()), Members::default());
    let (hold, _) = entries.reserve(entry(1));
    let changes = members.take(&entries);
    entries.back(changes);
    drop(hold);
    let changes = members.take(&entries);
    assert_eq!(changes.delete, [entry(1)], "Redis may have it");

    members.0.insert(entry(1));
    entries.back(changes);
    assert_eq!(members.take(&entries).put, [entry(1)]);
    assert!(!entries.is_written());
}

#[test]
fn all_is_written_again_when_redis_has_lost_it() {
    let (entries, mut members) = (Arc::new(IndexState::default()), Members::default());
    for number in 0..=CHUNK {
        members.0.insert(entry(number));
        drop(entries.reserve(entry(number)));
    }
    while !entries.is_written() {
        entries.done(members.take(&entries));
    }

    assert!(!entries.is_rewriting());

    entries.write_all();
    let (_hold, waiting) = entries.reserve(entry(0));
    assert!(waiting.is_some(), "the old entry does not count");
    let (first, last) = (members.take(&entries), members.take(&entries));
    assert_eq!((first.put.len(), last.put.len()), (CHUNK, 1));
    entries.back(first);
    entries.done(last);
    assert!(entries.is_rewriting(), "one part failed");
    entries.done(members.take(&entries));
    assert!(!entries.is_rewriting());
}

#[test]
fn another_life_begins_with_nothing() {
    let (entries, members) = (Arc::new(IndexState::default()), Members::default());
    let (_hold, before) = entries.reserve(entry(1));
    let changes = members.take(&entries);
    entries.begin_again(NodeId::from_bytes([1; 16]));
    assert!(!entries.is_idle(), "a reservation is pending");
    assert!(before.expect("it waits").try_recv().is_err(), "its node is not there any more");

    let (_hold, after) = entries.reserve(entry(1));
    entries.done(changes);
    assert!(after.expect("it waits").try_recv().is_err(), "that was written in the old name");
    assert_eq!(members.take(&entries).put, [entry(1)]);
}

#[test]
fn what_was_written_since_the_last_sign_of_life_is_withdrawn_from_a_life_that_is_over() {
    let dead = NodeId::from_bytes([1; 16]);
    let (entries, members) = (Arc::new(IndexState::default()), Members::default());
    let [_first, _second, _third] = [1, 2, 3].map(|number| {
        let (hold, _) = entries.reserve(entry(number));
        let changes = members.take(&entries);
        match number {
            1 => entries.done(changes),
            _ => entries.back(changes),
        }
        if number == 1 {
            entries.was_alive_after(entries.finished());
        }
        hold
    });
    let in_hand = members.take(&entries);

    entries.begin_again(dead);
    entries.done(in_hand);
    let (name, mut withdrawn) = entries.withdrawn().expect("some");
    withdrawn.sort_by_key(|(_, audience)| format!("{audience:?}"));
    assert_eq!((name, withdrawn), (dead, vec![entry(2), entry(3)]));
    assert_eq!(entries.withdrawn(), None);
    assert_eq!(members.take(&entries).put.len(), 3, "all of them are still coming");
}

#[test]
fn nobody_waits_behind_those_who_come_later() {
    let (entries, members) = (Arc::new(IndexState::default()), Members::default());
    let enter =
        |numbers: std::ops::Range<usize>| numbers.map(|number| entries.reserve(entry(number))).collect::<Vec<_>>();
    let first = enter(0..10 * CHUNK);
    let mut later = vec![];
    for turn in 10..20 {
        entries.done(members.take(&entries));
        later.extend(enter(turn * CHUNK..(turn + 1) * CHUNK));
    }

    assert!(first.into_iter().all(|(_hold, waiting)| is_notified(waiting)));
    assert!(!later.into_iter().any(|(_hold, waiting)| is_notified(waiting)));
    assert!(!entries.is_idle());
}

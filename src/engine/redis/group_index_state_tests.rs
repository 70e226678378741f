use super::*;
use crate::protocol::native::Name;

fn place(number: usize) -> Place {
    ("t".into(), Audience::Group(Name::new(&number.to_string()).expect("a name")))
}

/// Who is where.
#[derive(Default)]
struct Members(BTreeSet<Place>);

impl Members {
    fn take(&self, places: &Places) -> Changes {
        places.take(|place| self.0.contains(place))
    }
}

fn is_told(waiting: Option<oneshot::Receiver<()>>) -> bool {
    waiting.is_none_or(|mut waiting| waiting.try_recv().is_ok())
}

#[test]
fn the_first_waits_until_it_is_written_and_the_next_does_not() {
    let (places, mut members) = (Arc::new(Places::default()), Members::default());
    let (hold, mut first) = places.enter(place(1));
    let changes = members.take(&places);
    assert_eq!((&changes.put[..], changes.delete.len()), (&[place(1)][..], 0));
    assert!(first.as_mut().expect("it waits").try_recv().is_err(), "it is not written yet");
    places.done(changes);
    assert!(is_told(first));
    members.0.insert(place(1));
    drop(hold);

    let (_hold, second) = places.enter(place(1));
    assert!(second.is_none());
    assert_eq!(members.take(&places).put, []);
    assert!(places.is_written());
}

#[test]
fn a_place_is_kept_while_somebody_is_about_to_come() {
    let (places, members) = (Arc::new(Places::default()), Members::default());
    let (hold, _) = places.enter(place(1));
    places.done(members.take(&places));
    places.emptied(place(1));
    assert_eq!(members.take(&places).delete, []);

    drop(hold);
    let changes = members.take(&places);
    assert_eq!(changes.delete, [place(1)], "nobody came");
    places.done(changes);
    assert!(places.is_empty());
}

#[test]
fn who_comes_while_a_place_is_given_up_waits_until_it_is_there_again() {
    let (places, members) = (Arc::new(Places::default()), Members::default());
    drop(places.enter(place(1)));
    places.done(members.take(&places));
    drop(places.enter(place(2)));
    places.done(members.take(&places));
    let (hold, _) = places.enter(place(1));
    places.done(members.take(&places));
    drop(hold);
    let leaving = members.take(&places);
    assert_eq!(leaving.delete, [place(1)]);

    let (_hold, waiting) = places.enter(place(1));
    places.done(leaving);
    let mut waiting = waiting.expect("it waits");
    assert!(waiting.try_recv().is_err());
    let changes = members.take(&places);
    assert_eq!(changes.put, [place(1)]);
    places.done(changes);
    assert!(waiting.try_recv().is_ok());
}

#[test]
fn what_failed_is_written_in_its_state_of_then() {
    let (places, mut members) = (Arc::new(Places::default()), Members::default());
    let (hold, _) = places.enter(place(1));
    let changes = members.take(&places);
    places.back(changes);
    drop(hold);
    let changes = members.take(&places);
    assert_eq!(changes.delete, [place(1)], "Redis may have it");

    members.0.insert(place(1));
    places.back(changes);
    assert_eq!(members.take(&places).put, [place(1)]);
    assert!(!places.is_written());
}

#[test]
fn all_is_written_again_when_redis_has_lost_it() {
    let (places, mut members) = (Arc::new(Places::default()), Members::default());
    for number in 0..=CHUNK {
        members.0.insert(place(number));
        drop(places.enter(place(number)));
    }
    while !places.is_written() {
        places.done(members.take(&places));
    }

    assert!(!places.is_rewriting());

    places.write_all();
    let (_hold, waiting) = places.enter(place(0));
    assert!(waiting.is_some(), "nobody may rely on what was");
    let (first, last) = (members.take(&places), members.take(&places));
    assert_eq!((first.put.len(), last.put.len()), (CHUNK, 1));
    places.back(first);
    places.done(last);
    assert!(places.is_rewriting(), "one part failed");
    places.done(members.take(&places));
    assert!(!places.is_rewriting());
}

#[test]
fn another_life_begins_with_nothing() {
    let (places, members) = (Arc::new(Places::default()), Members::default());
    let (_hold, before) = places.enter(place(1));
    let changes = members.take(&places);
    places.begin_again(NodeId::from_bytes([1; 16]));
    assert!(!places.is_idle(), "somebody is still coming");
    assert!(before.expect("it waits").try_recv().is_err(), "its node is not there any more");

    let (_hold, after) = places.enter(place(1));
    places.done(changes);
    assert!(after.expect("it waits").try_recv().is_err(), "that was written in the old name");
    assert_eq!(members.take(&places).put, [place(1)]);
}

#[test]
fn what_was_written_since_the_last_sign_of_life_is_withdrawn_from_a_life_that_is_over() {
    let dead = NodeId::from_bytes([1; 16]);
    let (places, members) = (Arc::new(Places::default()), Members::default());
    let [_first, _second, _third] = [1, 2, 3].map(|number| {
        let (hold, _) = places.enter(place(number));
        let changes = members.take(&places);
        match number {
            1 => places.done(changes),
            _ => places.back(changes),
        }
        if number == 1 {
            places.was_alive_after(places.finished());
        }
        hold
    });
    let in_hand = members.take(&places);

    places.begin_again(dead);
    places.done(in_hand);
    let (name, mut withdrawn) = places.withdrawn().expect("some");
    withdrawn.sort_by_key(|(_, audience)| format!("{audience:?}"));
    assert_eq!((name, withdrawn), (dead, vec![place(2), place(3)]));
    assert_eq!(places.withdrawn(), None);
    assert_eq!(members.take(&places).put.len(), 3, "all of them are still coming");
}

#[test]
fn nobody_waits_behind_those_who_come_later() {
    let (places, members) = (Arc::new(Places::default()), Members::default());
    let enter = |numbers: std::ops::Range<usize>| numbers.map(|number| places.enter(place(number))).collect::<Vec<_>>();
    let first = enter(0..10 * CHUNK);
    let mut later = vec![];
    for turn in 10..20 {
        places.done(members.take(&places));
        later.extend(enter(turn * CHUNK..(turn + 1) * CHUNK));
    }

    assert!(first.into_iter().all(|(_hold, waiting)| is_told(waiting)));
    assert!(!later.into_iter().any(|(_hold, waiting)| is_told(waiting)));
    assert!(!places.is_idle());
}

//! Which connections are closed for which.
#![expect(clippy::disallowed_methods, reason = "a test may pick its start")]

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::*;

struct Connection {
    wait: Option<Wait>,
    is_closed: AtomicBool,
}

impl Closable for Connection {
    fn waits(&self) -> Option<Wait> {
        self.wait.filter(|_| !self.is_closed.load(Ordering::Relaxed))
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

fn source(last: u8) -> Source {
    std::net::IpAddr::from([192, 0, 2, last]).into()
}

/// The connections of one listener in a test.
#[derive(Default)]
struct Crowd {
    all: Arc<Connections>,
    members: Vec<(u8, Arc<Connection>, Entry)>,
}

impl Crowd {
    /// Adds `count` connections from `from`, waiting since `since` or not waiting.
    fn come(&mut self, from: u8, count: usize, since: Option<Instant>) {
        for _ in 0..count {
            let connection = Arc::new(Connection { wait: since.map(Wait::since), is_closed: AtomicBool::new(false) });
            let weak: Weak<dyn Closable> = Arc::<Connection>::downgrade(&connection);
            let entry = self.all.add(source(from), weak);
            self.members.push((from, connection, entry));
        }
    }

    /// Those that were told to close are gone.
    fn depart(&mut self) {
        self.members.retain(|(_, one, _)| !one.is_closed.load(Ordering::Relaxed));
    }

    fn closed(&self, of: u8) -> usize {
        let is_closed =
            |(from, one, _): &&(u8, Arc<Connection>, Entry)| *from == of && one.is_closed.load(Ordering::Relaxed);
        self.members.iter().filter(is_closed).count()
    }
}

#[test]
fn those_who_have_waited_longest_of_the_largest_source_go_first() {
    let start = Instant::now();
    let waiting = [(1, 3, 5, 10), (2, 2, 0, 20), (1, 3, 3, 11), (1, 3, 4, 12), (2, 2, 1, 21)]
        .map(|(from, size, secs, number)| (source(from), size, start + Duration::from_secs(secs), number));

    assert_eq!(choose(waiting.into_iter(), 2, 0), [11, 20], "source 2 has as many by then");
    assert_eq!(choose(waiting.into_iter(), 9, 0).len(), 5);
    assert_eq!(choose(waiting.into_iter(), 9, 1), [11, 20, 12], "one is left to each");
    assert!(choose([].into_iter(), 9, 0).is_empty());
    let busy = waiting.map(|(from, size, since, number)| (from, size + 10, since, number));
    assert_eq!(choose(busy.into_iter(), 9, 0).len(), 5, "others of theirs do not wait");
}

#[test]
fn one_goes_for_each_that_comes_and_busy_ones_stay() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    crowd.come(1, 1, None);
    crowd.come(2, 1, Some(start + Duration::from_millis(500)));
    crowd.come(3, 40, Some(start));
    let now = start + PATIENCE;

    crowd.all.make_room(source(3), now);
    assert_eq!(crowd.closed(3), AT_A_TIME);
    (1..AT_A_TIME).for_each(|_| crowd.all.make_room(source(3), now));
    assert_eq!(crowd.closed(3), AT_A_TIME, "each of those that came had its room");
    crowd.all.make_room(source(3), now);

    assert_eq!([crowd.closed(1), crowd.closed(2), crowd.closed(3)], [0, 0, 40]);
    assert_eq!(crowd.all.waiting.load(Ordering::Relaxed), 42);
    crowd.members.clear();
    assert!(crowd.all.known.lock().members.is_empty() && crowd.all.known.lock().counts.is_empty());
    assert_eq!(crowd.all.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn a_newcomer_takes_the_place_of_one_whose_source_has_more() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    crowd.come(1, 100, Some(start));
    crowd.come(2, 1, Some(start));

    assert_eq!(crowd.all.make_room_for(Some(source(3)), start), Room::Soon);
    assert_eq!([crowd.closed(1), crowd.closed(2)], [AT_A_TIME, 0]);
    assert_eq!(crowd.all.make_room_for(Some(source(1)), start), Room::Soon, "none has gone");
    crowd.depart();
    assert_eq!(crowd.all.make_room_for(Some(source(1)), start), Room::Refused, "it has most");
    assert_eq!(crowd.all.make_room_for(None, start), Room::Soon, "a proxy has not said for whom");
}

/// Whoever waited for it would keep all behind it waiting.
#[test]
fn room_that_others_have_taken_is_not_promised_again() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    crowd.come(1, 100, Some(start));
    assert_eq!(crowd.all.make_room_for(Some(source(2)), start), Room::Soon);

    crowd.depart();
    crowd.come(1, AT_A_TIME, Some(start));

    assert_eq!(crowd.all.make_room_for(Some(source(1)), start), Room::Refused);
    assert_eq!(crowd.closed(1), 0, "and no other is closed for it");
}

#[test]
fn those_that_do_not_go_are_not_waited_for() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    crowd.come(1, 100, Some(start));
    assert_eq!(crowd.all.make_room_for(Some(source(2)), start), Room::Soon);
    assert_eq!(crowd.all.make_room_for(Some(source(2)), start + GOES_WITHIN / 2), Room::Soon);
    assert_eq!(crowd.closed(1), AT_A_TIME);

    assert_eq!(crowd.all.make_room_for(Some(source(2)), start + GOES_WITHIN), Room::Soon);

    assert_eq!(crowd.closed(1), 2 * AT_A_TIME);
}

#[test]
fn a_search_in_vain_promises_no_room() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    crowd.come(1, 3, Some(start));
    let newcomer = |at| crowd.all.make_room_for(Some(source(2)), at);
    assert_eq!(newcomer(start), Room::Soon);
    newcomer(start + GOES_WITHIN);
    assert_eq!(crowd.closed(1), 3);

    let late = start + 2 * GOES_WITHIN;
    assert_eq!([newcomer(late), newcomer(late + IN_VAIN / 2)], [Room::None; 2]);
}

#[test]
fn a_connection_that_closes_still_closes_when_its_source_is_known() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    crowd.come(1, 2, Some(start));
    assert_eq!(crowd.all.make_room_for(Some(source(2)), start), Room::Soon);

    crowd.members.iter().for_each(|(_, _, entry)| entry.comes_from(source(3)));

    assert_eq!(crowd.all.make_room_for(Some(source(2)), start), Room::Soon);
    assert_eq!(crowd.closed(1), 1, "no other one is closed for it");
}

#[test]
fn a_crowd_of_strangers_waits_for_each_other_until_one_has_waited_for_too_long() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    (1..50).for_each(|from| crowd.come(from, 1, Some(start)));

    let just_before = start + PATIENCE / 4 - Duration::from_millis(1);
    assert_eq!(crowd.all.make_room_for(Some(source(99)), just_before), Room::None);
    assert_eq!(crowd.all.make_room_for(Some(source(99)), start + PATIENCE / 4 + IN_VAIN), Room::Soon);
}

#[test]
fn of_many_that_have_equally_many_none_keeps_others_waiting() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    (1..100).for_each(|from| crowd.come(from, 2, Some(start)));

    assert_eq!(crowd.all.make_room_for(Some(source(1)), start), Room::Refused, "it would have more than the others");
    assert_eq!(crowd.all.make_room_for(Some(source(200)), start), Room::Soon);
}

#[test]
fn who_has_most_displaces_none_but_its_own() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    crowd.come(1, 5, Some(start));
    crowd.come(2, 50, Some(start + PATIENCE));

    crowd.all.make_room(source(2), start + PATIENCE);
    assert_eq!(crowd.all.make_room_for(Some(source(2)), start + PATIENCE), Room::Refused);
    assert_eq!([crowd.closed(1), crowd.closed(2)], [0, 0], "although they have waited for so long");
    assert_eq!(crowd.all.make_room_for(Some(source(2)), start + 2 * PATIENCE), Room::Soon);
    assert_eq!([crowd.closed(1), crowd.closed(2)], [0, AT_A_TIME]);
}

/// A load balancer that does not name its clients.
#[test]
fn a_source_that_is_alone_takes_the_places_of_its_own() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    crowd.come(1, 60, Some(start));

    assert_eq!(crowd.all.make_room_for(Some(source(1)), start), Room::Refused, "others may wait behind it");
    assert_eq!(crowd.all.make_room_for(Some(source(1)), start + PATIENCE / 4), Room::Soon);
}

#[test]
fn nothing_that_is_being_answered_makes_room() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    crowd.come(1, 60, None);

    assert_eq!(crowd.all.make_room_for(Some(source(2)), start + PATIENCE), Room::None);
    assert_eq!(crowd.all.make_room_for(Some(source(1)), start + PATIENCE), Room::Refused);
}

#[test]
fn a_connection_counts_for_the_client_that_its_proxy_names() {
    let start = Instant::now();
    let mut crowd = Crowd::default();
    crowd.come(1, 30, Some(start));
    crowd.members.iter().for_each(|(.., entry)| entry.comes_from(source(7)));

    assert_eq!(crowd.all.known.lock().counts, [(source(7), 30)].into());
    assert_eq!(crowd.all.make_room_for(Some(source(1)), start), Room::Soon);
}

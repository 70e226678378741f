//! The descriptors of this process, and the part of them that clients cannot take.
//!
//! The system gives out the lowest number that is free, so one number tells how many are in use, unless one below it has just been
//! given back. How many tunnels are open is known besides.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

/// Fewest and most descriptors that are kept from clients.
const RESERVE: std::ops::RangeInclusive<u64> = 16..=256;

/// Fewest requests to business servers that may be in flight, however full the node is.
const FEWEST_REQUESTS: u64 = 16;

/// How many descriptors there may be, and who may have the last of them.
///
/// From the top: a reserve for webhooks, the admin listener and files; then as many for requests of business servers, so that
/// they can push to tunnels that are open; below them is room for tunnels.
#[derive(Debug)]
pub struct Descriptors {
    marks: Marks,
    /// How many were in use at the start.
    at_start: u64,
    /// Duplicated to learn which number is free.
    probe: OwnedFd,
    /// The number of the client that came last.
    latest: AtomicU64,
    /// How many connections would make room for tunnels.
    waiting: Arc<AtomicI64>,
}

/// How many descriptors there are for connections to business servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Room {
    /// For those of all tenants.
    pub all: u64,
    /// For those of one of them.
    pub each: u64,
}

/// Numbers from which on something is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Marks {
    limit: u64,
    /// No connect URLs are given out.
    issue: u64,
    /// Nobody is let in with a connect URL.
    connect: u64,
    /// Nobody is accepted.
    accept: u64,
}

impl Descriptors {
    /// Those of this process, with the limit that holds now.
    ///
    /// # Errors
    ///
    /// If there is not one left.
    pub fn of_this_process() -> io::Result<Self> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Ok(Self::with(limit, File::open("/dev/null")?.into()))
    }

    /// How many there may be.
    pub fn limit(&self) -> u64 {
        self.marks.limit
    }

    /// About how many tunnels there may be.
    pub fn tunnels(&self) -> u64 {
        self.marks.issue
    }

    /// Whether one more connect URL may be given out, while so many tunnels are open and so many clients are on their way to theirs.
    pub fn has_room(&self, tunnels: u64, expected: u64) -> bool {
        let beside = |number: u64| number.max(self.at_start + tunnels).saturating_add(expected);
        if beside(self.latest.load(Ordering::Relaxed)) < self.marks.issue / 2 {
            // Nothing takes half of all descriptors between two clients.
            return true;
        }
        // As many as that have room of their own.
        let reserve = self.marks.accept - self.marks.issue;
        let waiting = u64::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(0).saturating_sub(reserve);
        let without = |free: u64| beside(free.saturating_sub(waiting));
        self.probe.try_clone().is_ok_and(|free| without(number(free.as_raw_fd())) < self.marks.issue)
    }

    /// Where those are counted that would make room: connections that are no tunnels and wait for their clients. What they take is no
    /// reason to refuse a tunnel.
    pub(super) fn waiting(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.waiting)
    }

    /// Whether a client may come in who has a connect URL, while so many tunnels are open. What webhooks need for a moment does
    /// not count: a client that is refused may hang for ever.
    pub fn admits(&self, tunnels: u64) -> bool {
        self.at_start + tunnels < self.marks.connect
    }

    /// How many connections to business servers there may be, while so many tunnels are open: half of what these leave, at most a
    /// quarter of all. What clients, business servers and operators ask for meanwhile needs the rest.
    pub fn room_for_requests(&self, tunnels: u64) -> Room {
        let left = self.marks.limit.saturating_sub(self.at_start.saturating_add(tunnels));
        let all = (left / 2).min(self.marks.limit / 4).max(FEWEST_REQUESTS);
        Room { all, each: (self.marks.limit / 16).max(1) }
    }

    /// Whether the descriptor of a client that comes shows that half of all are in use.
    pub(super) fn run_short(&self, descriptor: RawFd) -> bool {
        number(descriptor) >= self.marks.limit / 2
    }

    /// Whether the descriptor of a client that comes is one of those that clients cannot have.
    pub(super) fn reserves(&self, descriptor: RawFd) -> bool {
        let number = number(descriptor);
        self.latest.store(number, Ordering::Relaxed);
        number >= self.marks.accept
    }

    fn with(limit: u64, probe: OwnedFd) -> Self {
        let at_start = number(probe.as_raw_fd());
        let (latest, waiting) = (AtomicU64::new(u64::MAX), Arc::default());
        Self { marks: Marks::new(limit), at_start, probe, latest, waiting }
    }
}

impl Marks {
    fn new(limit: u64) -> Self {
        let reserve = (limit / 8).clamp(*RESERVE.start(), *RESERVE.end()).min(limit / 4);
        let accept = limit - reserve;
        Self { limit, issue: accept - reserve, connect: accept - reserve / 2, accept }
    }
}

fn number(descriptor: RawFd) -> u64 {
    u64::try_from(descriptor).expect("open descriptors are not negative")
}

/// Lets this process have as many descriptors as it may ask for: what shells give is meant for programs that need few.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Then the old limit holds on.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limit: u64) -> Descriptors {
        let descriptors = Descriptors::with(limit, File::open("/dev/null").expect("open").into());
        Descriptors { at_start: 10, ..descriptors }
    }

    #[test]
    fn the_last_descriptors_are_not_for_tunnels() {
        let of = |limit| {
            let Marks { issue, connect, accept, .. } = Marks::new(limit);
            (issue, connect, accept)
        };

        assert_eq!(of(128), (96, 104, 112));
        assert_eq!(of(1_024), (768, 832, 896));
        assert_eq!(of(20_000), (19_488, 19_616, 19_744));
        assert_eq!(of(u64::MAX).2, u64::MAX - 256);
        assert_eq!(of(0), (0, 0, 0));
    }

    #[test]
    fn a_process_with_none_left_has_no_room() {
        let descriptors = of(0);

        assert!(!descriptors.has_room(0, 0));
        assert!(!descriptors.admits(0));
        assert!(descriptors.reserves(3));
    }

    #[test]
    fn tunnels_and_those_who_are_expected_need_room_whatever_number_is_free() {
        let descriptors = of(128);

        // What is really in use is far below in a test.
        assert!(!descriptors.reserves(20));
        assert!(descriptors.has_room(0, 0) && descriptors.has_room(85, 0) && descriptors.has_room(43, 42));
        assert!(!descriptors.has_room(86, 0) && !descriptors.has_room(43, 43) && !descriptors.has_room(0, 96));
        assert!(descriptors.reserves(127));
        assert!(descriptors.has_room(85, 0), "the client that came last may have gone");
    }

    #[test]
    fn what_would_make_room_is_no_reason_to_refuse() {
        let of_few = Descriptors { at_start: 0, ..of(4) };
        assert!(!of_few.reserves(2));
        assert!(!of_few.has_room(0, 0));

        of_few.waiting().store(1_000_000, Ordering::Relaxed);

        assert!(of_few.has_room(0, 0));
        assert!(!of_few.has_room(2, 0), "tunnels do not");
    }

    #[test]
    fn whoever_has_a_connect_url_is_let_in_somewhat_longer() {
        assert!(of(128).admits(93));
        assert!(!of(128).admits(94));
    }

    #[test]
    fn requests_have_a_part_of_what_tunnels_leave() {
        let room = |limit, tunnels| {
            let Room { all, each } = of(limit).room_for_requests(tunnels);
            (all, each)
        };

        assert_eq!(room(1_024, 0), (256, 64));
        assert_eq!(room(1_024, 700), (157, 64));
        assert_eq!(room(20_000, 19_480), (255, 1_250));
        assert_eq!(room(128, 128), (16, 8), "whatever happens");
        assert_eq!(room(0, 0), (16, 1));
    }

    #[test]
    fn the_system_is_asked_only_when_half_is_in_use() {
        let of_few = Descriptors { at_start: 0, ..of(4) };

        assert!(!of_few.reserves(0));
        assert!(of_few.has_room(0, 0));
        assert!(!of_few.reserves(2));
        assert!(!of_few.has_room(0, 0), "the system gives none below 3");
    }
}

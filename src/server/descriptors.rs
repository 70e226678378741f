//! The descriptors of this process, and the part of them that clients cannot take.
//!
//! The system gives out the lowest number that is free, so one number tells how many are in use. Nothing has to be counted.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

/// Fewest and most descriptors that are kept from clients.
const RESERVE: std::ops::RangeInclusive<u64> = 16..=256;

/// How much room there is for more clients.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Room {
    /// Not even for those who have a connect URL already.
    None,
    /// For requests of business servers and for connect URLs that are out, not for more of them.
    Scarce,
    /// For everybody.
    Plenty,
}

/// How many descriptors there may be, and who may have the last of them.
///
/// From the top: a reserve for webhooks, the admin listener and files; then as many for requests of business servers, so that
/// they can push to tunnels that are open; below them is room for tunnels.
#[derive(Debug)]
pub struct Descriptors {
    marks: Marks,
    /// Duplicated to learn which number is free.
    probe: OwnedFd,
    /// The number of the client that came last.
    latest: AtomicU64,
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
        let probe = File::open("/dev/null")?.into();
        Ok(Self { marks: Marks::new(limit), probe, latest: AtomicU64::new(u64::MAX) })
    }

    /// How many there may be.
    pub fn limit(&self) -> u64 {
        self.marks.limit
    }

    /// About how many tunnels there may be.
    pub fn tunnels(&self) -> u64 {
        self.marks.issue
    }

    /// How much room there is at this moment, beside `expected` clients who are on their way.
    pub fn room(&self, expected: u64) -> Room {
        if self.latest.load(Ordering::Relaxed).saturating_add(expected) < self.marks.issue / 2 {
            // Nothing takes half of all descriptors between two clients.
            return Room::Plenty;
        }
        self.probe
            .try_clone()
            .map_or(Room::None, |free| self.marks.room(number(free.as_raw_fd()).saturating_add(expected)))
    }

    /// Whether the descriptor of a client that comes is one of those that clients cannot have.
    pub(super) fn reserves(&self, descriptor: RawFd) -> bool {
        let number = number(descriptor);
        self.latest.store(number, Ordering::Relaxed);
        number >= self.marks.accept
    }
}

impl Marks {
    fn new(limit: u64) -> Self {
        let reserve = (limit / 8).clamp(*RESERVE.start(), *RESERVE.end()).min(limit / 4);
        let accept = limit - reserve;
        Self { limit, issue: accept - reserve, connect: accept - reserve / 2, accept }
    }

    fn room(self, free: u64) -> Room {
        match free {
            free if free >= self.connect => Room::None,
            free if free >= self.issue => Room::Scarce,
            _ => Room::Plenty,
        }
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
        let probe = File::open("/dev/null").expect("open").into();
        Descriptors { marks: Marks::new(limit), probe, latest: AtomicU64::new(u64::MAX) }
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
    fn the_number_that_is_free_tells_how_many_are_in_use() {
        let marks = Marks::new(128);

        assert_eq!(marks.room(95), Room::Plenty);
        assert_eq!(marks.room(96), Room::Scarce);
        assert_eq!(marks.room(103), Room::Scarce);
        assert_eq!(marks.room(104), Room::None);
    }

    #[test]
    fn a_process_with_none_left_has_no_room() {
        let descriptors = of(0);

        assert_eq!(descriptors.room(0), Room::None);
        assert!(descriptors.reserves(3));
        assert_eq!(descriptors.room(0), Room::None);
    }

    #[test]
    fn the_system_is_asked_only_when_half_is_in_use() {
        let descriptors = of(128);
        let plenty = |number| {
            descriptors.reserves(number);
            descriptors.room(0)
        };
        // What is really in use is far below in a test.
        assert_eq!([plenty(3), plenty(47), plenty(48), plenty(127)], [Room::Plenty; 4]);
        assert_eq!(descriptors.room(96), Room::Scarce, "those who are expected need room too");

        let of_few = of(4);
        assert!(!of_few.reserves(0));
        assert_eq!(of_few.room(0), Room::Plenty);
        assert!(!of_few.reserves(2));
        assert_eq!(of_few.room(0), Room::None, "the system gives none below 3");
    }
}

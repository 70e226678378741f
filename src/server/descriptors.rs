//! The file descriptors of this process, and the part of them reserved from clients.
//!
//! The system always hands out the lowest free number, so one number estimates how many are in use, unless a lower one was freed
//! just before. The number of open tunnels is known exactly.

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

/// Smallest and largest reserve.
const RESERVE: std::ops::RangeInclusive<u64> = 16..=256;

/// Fewest concurrent requests to business servers, however full the node is.
const FEWEST_REQUESTS: u64 = 16;

/// Fewest connections of the admin listener: probes, metrics, and an operator.
const FEWEST_OPERATORS: usize = 8;

/// The descriptor limit and its thresholds.
///
/// From the top: a reserve for webhooks, the admin listener and files; then the same number for requests from business servers,
/// so that they can push to open tunnels; the rest is for tunnels.
#[derive(Debug)]
pub struct Descriptors {
    marks: Marks,
    /// Number in use at the start.
    at_start: u64,
    /// Duplicated to learn the lowest free number.
    probe: OwnedFd,
    /// Descriptor number of the newest client.
    latest: AtomicU64,
    /// Number of connections that would make room for tunnels.
    waiting: Arc<AtomicI64>,
}

/// Descriptors available for connections to business servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Room {
    /// For all tenants together.
    pub all: u64,
    /// For one tenant.
    pub each: u64,
}

/// Descriptor thresholds, lowest first: stop issuing, stop connecting, stop accepting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Marks {
    limit: u64,
    /// No connect URLs are issued.
    issue: u64,
    /// No clients with connect URLs are admitted.
    connect: u64,
    /// No connections are accepted.
    accept: u64,
}

impl Descriptors {
    /// The descriptors of this process, with its current limit.
    ///
    /// # Errors
    ///
    /// If no descriptor is free.
    pub fn of_this_process() -> io::Result<Self> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Ok(Self::with(limit, File::open("/dev/null")?.into()))
    }

    /// The open-file limit.
    pub fn limit(&self) -> u64 {
        self.marks.limit
    }

    /// Approximate tunnel capacity.
    pub fn tunnels(&self) -> u64 {
        self.marks.issue
    }

    /// Whether one more connect URL may be issued, with `tunnels` open and `expected` clients about to connect.
    pub fn has_room(&self, tunnels: u64, expected: u64) -> bool {
        let beside = |number: u64| number.max(self.at_start + tunnels).saturating_add(expected);
        if beside(self.latest.load(Ordering::Relaxed)) < self.marks.issue / 2 {
            // A single client cannot have taken half of all descriptors.
            return true;
        }
        // A range of the same size is set aside for them.
        let reserve = self.marks.accept - self.marks.issue;
        let waiting = u64::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(0).saturating_sub(reserve);
        let without = |free: u64| beside(free.saturating_sub(waiting));
        self.probe.try_clone().is_ok_and(|free| without(number(free.as_raw_fd())) < self.marks.issue)
    }

    /// Counter of connections that are not tunnels and wait for their clients. They can be closed, so their descriptors are no
    /// reason to refuse a tunnel.
    pub(super) fn waiting(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.waiting)
    }

    /// Whether a client with a connect URL is admitted, with `tunnels` open. The short-lived needs of webhooks do not count: some
    /// clients hang forever when refused.
    pub fn admits(&self, tunnels: u64) -> bool {
        self.at_start + tunnels < self.marks.connect
    }

    /// Connections to business servers allowed with `tunnels` open: half of the remaining descriptors, at most a quarter of all.
    /// Requests of clients, business servers and operators need the rest.
    pub fn room_for_requests(&self, tunnels: u64) -> Room {
        let left = self.marks.limit.saturating_sub(self.at_start.saturating_add(tunnels));
        let all = (left / 2).min(self.marks.limit / 4).max(FEWEST_REQUESTS);
        Room { all, each: (self.marks.limit / 16).max(1) }
    }

    /// Connections that the admin listener may have: a part of the reserve.
    pub fn for_operators(&self) -> usize {
        let reserve = self.marks.limit - self.marks.accept;
        usize::try_from(reserve / 4).unwrap_or(usize::MAX).max(FEWEST_OPERATORS)
    }

    /// Whether the descriptor of a new client shows that half of all are in use.
    pub(super) fn run_short(&self, descriptor: RawFd) -> bool {
        number(descriptor) >= self.marks.limit / 2
    }

    /// Whether the descriptor of a new client belongs to the reserve.
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

/// Raises the open-file limit to the maximum allowed: the defaults of shells are meant for small programs.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // On failure the old limit stays.
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
    fn operators_have_a_part_of_the_reserve() {
        assert_eq!([0, 128, 1_024, 20_000].map(|limit| of(limit).for_operators()), [8, 8, 32, 64]);
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

        // A test process uses far fewer descriptors.
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

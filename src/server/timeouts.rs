//! The deadline of a connection in each state. Time is an argument.

use std::time::Duration;
use std::time::Instant;

/// Time limits for clients, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a TLS handshake.
    pub tls_handshake: Duration,
    /// For the head of a request.
    pub header: Duration,
    /// Between two requests.
    pub keep_alive: Duration,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Activity {
    /// It waits for a request head, and may have read a part of it.
    Head {
        /// Start of the wait.
        since: Instant,
    },
    /// A request is being answered.
    Request,
    /// It waits for the first byte of the next request.
    Idle {
        /// Start of the wait.
        since: Instant,
    },
}

impl Activity {
    /// Bytes from the client have been read.
    pub(super) fn read(&mut self, now: impl FnOnce() -> Instant) {
        if matches!(self, Self::Idle { .. }) {
            *self = Self::Head { since: now() };
        }
    }

    /// When it became idle, if it is.
    pub(super) fn idle_since(self) -> Option<Instant> {
        match self {
            Self::Idle { since } => Some(since),
            Self::Head { .. } | Self::Request => None,
        }
    }

    /// The deadline of the current state.
    pub(super) fn deadline(self, timeouts: &Timeouts) -> Option<Instant> {
        match self {
            Self::Head { since } => Some(since + timeouts.header),
            Self::Request => None,
            Self::Idle { since } => Some(since + timeouts.keep_alive),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test may pick its start")]

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        tls_handshake: Duration::from_secs(30),
        header: Duration::from_secs(10),
        keep_alive: Duration::from_secs(620),
    };

    #[test]
    fn a_head_has_its_time_from_its_first_byte_and_dripping_does_not_prolong_it() {
        let start = Instant::now();
        let later = |secs| start + Duration::from_secs(secs);
        let mut activity = Activity::Idle { since: start };
        assert_eq!(activity.deadline(&TIMEOUTS), Some(later(620)));

        activity.read(|| later(100));
        activity.read(|| later(105));

        assert_eq!(activity, Activity::Head { since: later(100) });
        assert_eq!(activity.deadline(&TIMEOUTS), Some(later(110)));
    }

    #[test]
    fn a_request_has_no_deadline_here() {
        let mut activity = Activity::Request;

        activity.read(Instant::now);

        assert_eq!((activity, activity.deadline(&TIMEOUTS)), (Activity::Request, None));
    }
}

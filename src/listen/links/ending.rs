//! The end: what is in flight is finished first.

use std::time::Instant;

use bytes::Bytes;

use super::Action;
use super::Connection;
use super::DRAIN_WITHIN;
use super::Ended;
use super::Link;
use super::Links;
use super::State;
use crate::clock::millis;
use crate::protocol::connector::Drain;
use crate::protocol::connector::close_code;

impl Links {
    /// It has done what it was started for: it ends as at the first signal, unless it ends already.
    pub fn finish(&mut self, now: Instant) {
        if self.ending.is_none() {
            self.interrupt(now);
        }
    }

    /// The person wants it to end: what is in flight is finished first, at the second time it is not.
    pub fn interrupt(&mut self, now: Instant) {
        if self.ending.is_some() {
            return self.end(Ended::Stopped);
        }
        let Some(link) = self.ready() else { return self.end(Ended::Drained) };
        let drain = Drain { within_ms: millis(DRAIN_WITHIN) };
        self.act(Action::Send(link, drain.head(), Bytes::new()));
        let ping = self.ping(link, now);
        self.ending = Some((now + DRAIN_WITHIN, Some((link, ping))));
    }

    /// Closes connections that have done their work, and ends when all have.
    pub(super) fn settle(&mut self, now: Instant) {
        let is_used = |link: &Link| self.in_flight.values().any(|(_, own)| own == link);
        let idle = |(link, connection): (&Link, &Connection)| {
            (connection.state == State::Leaving && !is_used(link)).then_some(*link)
        };
        // Events that the leaving node had sent before it read the drain may still come: it closes by itself.
        if self.ready().is_some() {
            let done: Vec<Link> = self.links.iter().filter_map(idle).collect();
            for link in done {
                if self
                    .links
                    .get(&link)
                    .is_some_and(|connection| connection.pinged.is_some_and(|at| connection.heard > at))
                {
                    self.links.remove(&link);
                    self.act(Action::Close(link, close_code::LEAVING));
                }
            }
        }
        let Some((until, barrier)) = &self.ending else { return };
        let is_done = barrier.is_none() && self.in_flight.is_empty();
        let is_alone = self.ready().is_none() && !self.links.values().any(|own| own.state == State::Leaving);
        if is_done || is_alone {
            if let Some(link) = self.ready() {
                self.act(Action::Close(link, close_code::LEAVING));
            }
            self.end(Ended::Drained);
        } else if *until <= now {
            self.end(Ended::Stopped);
        }
    }
}

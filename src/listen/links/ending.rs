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
        // One that leaves has its events in flight still.
        let can_send = |(link, connection): (&Link, &Connection)| connection.can_send().then_some(*link);
        let Some(link) = self.ready().or_else(|| self.links.iter().find_map(can_send)) else {
            return self.end(self.without_connection());
        };
        let drain = Drain { within_ms: millis(DRAIN_WITHIN) };
        self.act(Action::Send(link, drain.head(), Bytes::new()));
        let ping = self.ping(link, now);
        self.ending = Some((now + DRAIN_WITHIN, Some((link, ping))));
    }

    /// How it ends when no connection is left: as asked for, unless the gateway waits for an answer.
    fn without_connection(&self) -> Ended {
        match self.in_flight.is_empty() && !self.unconfirmed.has_unsent() {
            true => Ended::Drained,
            false => Ended::Stopped,
        }
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
                let is_empty = |connection: &Connection| connection.pinged.is_some_and(|at| connection.heard > at);
                if self.links.get(&link).is_some_and(is_empty) {
                    self.links.remove(&link);
                    self.act(Action::Close(link, close_code::LEAVING));
                }
            }
        }
        let Some((until, barrier)) = &self.ending else { return };
        if barrier.is_none() && self.in_flight.is_empty() {
            let open: Vec<Link> =
                self.links.iter().filter_map(|(link, connection)| connection.can_send().then_some(*link)).collect();
            open.into_iter().for_each(|link| self.act(Action::Close(link, close_code::LEAVING)));
            self.end(Ended::Drained);
        } else if !self.links.values().any(Connection::can_send) {
            self.end(self.without_connection());
        } else if *until <= now {
            self.end(Ended::Stopped);
        }
    }
}

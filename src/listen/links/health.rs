//! Whether a connection still lives: pings, silence, and a machine that slept.

use std::time::Duration;
use std::time::Instant;

use super::Action;
use super::Connection;
use super::Ended;
use super::Link;
use super::Links;
use super::Report;
use super::State;
use crate::protocol::connector::SILENCE;

/// How often this side pings.
const PING_EVERY: Duration = Duration::from_secs(5);
/// A connection on which nothing comes for so long behind a ping is suspected to be dead.
const SUSPECT_AFTER: Duration = Duration::from_secs(3);
/// How long a gateway may take from the handshake to its `welcome`.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// A jump of the wall clock by so much against the monotonic one: this machine slept, and what it was connected to is gone.
const JUMP: Duration = Duration::from_secs(15);

impl Links {
    /// Time has passed. `wall` is the time since 1970.
    pub fn tick(&mut self, now: Instant, wall: Duration, jitter: f64) {
        let (before, wall_before) = std::mem::replace(&mut self.clocks, (now, wall));
        let passed = now.saturating_duration_since(before);
        if wall.saturating_sub(wall_before) > passed + JUMP {
            self.woke_up(now);
        }
        self.drop_silent(now, jitter);
        self.suspect(now);
        if self.dial_at.is_some_and(|at| at <= now) {
            self.dial(now);
        }
        if let (Some(longest), Some(since)) = (self.settings.give_up_after, self.away_since)
            && now.saturating_duration_since(since) >= longest
        {
            let words = self.said.clone().unwrap_or_else(|| "no connection yet".to_owned());
            self.end(Ended::GaveUp(words));
        }
        self.settle(now);
    }

    /// This machine slept.
    fn woke_up(&mut self, now: Instant) {
        let links: Vec<Link> = self.links.drain().map(|(link, _)| link).collect();
        links.into_iter().for_each(|link| self.act(Action::Drop(link)));
        self.failures = 0;
        self.away_since.get_or_insert(now);
        self.offline("this machine was asleep", Duration::ZERO);
        self.dial(now);
    }

    /// Drops connections that were silent for too long, also while this process was stopped: what they brought meanwhile is out of date.
    pub(super) fn drop_silent(&mut self, now: Instant, jitter: f64) {
        let is_silent = |connection: &Connection| match connection.state {
            State::Dialled => false,
            State::Greeted => now.saturating_duration_since(connection.since) > WELCOME_WITHIN,
            State::Ready | State::Leaving => now.saturating_duration_since(connection.heard) > SILENCE,
        };
        let silent: Vec<Link> =
            self.links.iter().filter_map(|(link, connection)| is_silent(connection).then_some(*link)).collect();
        for link in silent {
            self.act(Action::Drop(link));
            let words = match self.links.get(&link).map(|connection| &connection.state) {
                Some(State::Greeted) => "the gateway has accepted the connection, but said no welcome within 10 s",
                _ => "nothing came from the gateway for 45 s",
            };
            self.lost(link, None, words, now, jitter);
        }
    }

    /// Pings, and dials beside a connection that does not respond.
    fn suspect(&mut self, now: Instant) {
        let due = |since: Option<Instant>, after| since.is_none_or(|at| now.saturating_duration_since(at) >= after);
        let pingable = |connection: &&mut Connection| matches!(connection.state, State::Ready | State::Leaving);
        let mut to_ping = vec![];
        let mut is_suspect = false;
        for (link, connection) in &mut self.links {
            if !pingable(&connection) {
                continue;
            }
            let is_unanswered = connection.pinged.is_some_and(|at| connection.heard < at);
            if !is_unanswered && due(connection.pinged, PING_EVERY) {
                to_ping.push(*link);
            }
            is_suspect |= connection.state == State::Ready && is_unanswered && due(connection.pinged, SUSPECT_AFTER);
        }
        to_ping.sort_unstable();
        for link in to_ping {
            self.ping(link, now);
        }
        if self.ready().is_none() {
            return;
        }
        if is_suspect {
            if self.away_since.is_none() {
                self.away_since = Some(now);
                self.offline("the gateway does not respond", Duration::ZERO);
            }
            if self.dial_at.is_none() {
                self.dial(now);
            }
        } else if self.away_since.is_some() {
            self.back(now);
        }
    }

    /// The connection that was suspected works: the one that is dialled beside it is not needed.
    fn back(&mut self, now: Instant) {
        let dialled = |connection: &Connection| matches!(connection.state, State::Dialled | State::Greeted);
        let links: Vec<Link> =
            self.links.iter().filter_map(|(link, connection)| dialled(connection).then_some(*link)).collect();
        // A `hello` may be on its way, which ends the old connection: then the new one counts.
        if links.iter().any(|link| self.links[link].state == State::Greeted) {
            return;
        }
        for link in links {
            self.links.remove(&link);
            self.act(Action::Drop(link));
        }
        let away = self.away_since.take().map(|since| now.saturating_duration_since(since));
        (self.failures, self.dial_at, self.said) = (0, None, None);
        self.act(Action::Report(Report::Ready(None, away)));
    }
}

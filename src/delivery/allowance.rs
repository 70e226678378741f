//! Adaptive limit of requests in flight to one receive URL, found by probing what its server can handle.

use std::time::Duration;
use std::time::Instant;

use crate::id::TunnelId;

/// The initial limit.
const START: usize = 8;

/// Rounds between attempts to grow, at most, after growth has not helped.
const LONGEST_PATIENCE: usize = 16;

/// Below this limit growth is always tried, and slow responses do not reduce it.
const FEW: usize = START / 2;

/// The minimum number of responses in a round.
const SHORTEST_ROUND: usize = 4;

/// The minimum number of attempts for a share of troubles.
const FEWEST_ATTEMPTS: u32 = 4;

/// Rarer troubles say nothing about capacity: among very many requests some hang or are refused.
const RARE: f64 = 1.0 / 16.0;

/// Window of attempts over which that share is measured.
const RECENT: u32 = 64;

/// What the end of an attempt says about the server's capacity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strain {
    /// No strain: it responded after this time.
    Answered(Duration),
    /// It responded with 503.
    Refused,
    /// It timed out.
    TimedOut,
    /// Unknown.
    Unknown,
}

/// An attempt that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// How it ended.
    pub strain: Strain,
    /// Its tunnel.
    pub tunnel: TunnelId,
    /// Requests in flight until then, itself included.
    pub in_flight: usize,
    /// Whether more requests were waiting for the limit.
    pub is_wanted: bool,
}

/// The limit of requests in flight: from 1 to a cap, and no more than needed.
///
/// While responses are fast it grows with each of them until the first strain, then by one per round. While they are
/// slow, growth must raise the rate of responses, or it is undone: it would only lengthen the server's queue. Timeouts
/// and 503s of several tunnels halve it, unless they are rare.
#[derive(Debug)]
pub struct Allowance {
    limit: usize,
    cap: usize,
    /// The timeout of an attempt.
    timeout: Duration,
    /// Up to here it grows with each fast response.
    good: usize,
    /// Up to here it grows even with slow responses, since it has worked before.
    trusted: usize,
    round: Round,
    /// The limit before the last growth, and the rate of responses per second then.
    before: Option<(usize, f64)>,
    /// Rounds between attempts to grow, and those still to wait.
    patience: usize,
    rest: usize,
    /// When it was last halved.
    halved: Option<Instant>,
    troubles: Troubles,
    /// The share of recent attempts with trouble, and their number.
    share: f64,
    recent: u32,
}

/// Responses since the last evaluation of the limit.
#[derive(Debug, Default)]
struct Round {
    since: Option<Instant>,
    answers: usize,
    slowest: Duration,
}

/// Troubles within one timeout.
#[derive(Debug, Default)]
struct Troubles {
    since: Option<Instant>,
    attempts: u32,
    failed: u32,
    /// The first tunnel with trouble.
    tunnel: Option<TunnelId>,
    /// Whether another tunnel has trouble too.
    is_of_several: bool,
}

impl Allowance {
    /// Starts with eight, at most `cap`, for attempts of at most `timeout`.
    pub fn new(cap: usize, timeout: Duration) -> Self {
        let cap = cap.max(1);
        Self {
            limit: START.min(cap),
            cap,
            timeout,
            good: cap,
            trusted: START.min(cap),
            round: Round::default(),
            before: None,
            patience: 1,
            rest: 0,
            halved: None,
            troubles: Troubles::default(),
            share: 0.0,
            recent: 0,
        }
    }

    /// The current limit.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Restarts after a pause: 1, then 2, 4 and so on.
    pub fn restart(&mut self) {
        self.good = self.cap;
        self.trusted = self.before.map_or(self.limit / 2, |(before, _)| before).max(1);
        self.set(1);
        self.rest = 0;
    }

    /// Takes the end of an attempt; true if the limit has been halved.
    pub fn handle(&mut self, ended: &Ended, now: Instant) -> bool {
        let is_trouble = matches!(ended.strain, Strain::Refused | Strain::TimedOut);
        self.troubles.count(ended, is_trouble, now, self.timeout);
        self.recent = (self.recent + 1).min(RECENT);
        self.share += (f64::from(is_trouble) - self.share) / f64::from(self.recent);
        match ended.strain {
            Strain::Unknown => false,
            Strain::Answered(latency) => {
                self.answered(latency, ended.is_wanted, now);
                false
            }
            Strain::Refused | Strain::TimedOut if !self.troubles.are_of_the_server(self.share < RARE) => false,
            Strain::Refused => self.refused(ended.in_flight, now),
            Strain::TimedOut => {
                let is_halved = self.halve(now);
                if is_halved {
                    self.trust(self.limit);
                }
                is_halved
            }
        }
    }

    fn answered(&mut self, latency: Duration, is_wanted: bool, now: Instant) {
        if !is_wanted {
            // An unused limit says nothing.
            self.round = Round::default();
            return;
        }
        let is_fast = latency <= self.timeout / 16;
        if self.limit < self.trusted || (is_fast && self.limit < self.good) {
            return self.set(self.limit + 1);
        }
        let Some(since) = self.round.since else {
            self.round.since = Some(now);
            return;
        };
        self.round.answers += 1;
        self.round.slowest = self.round.slowest.max(latency);
        if self.round.answers < self.limit.max(SHORTEST_ROUND) {
            return;
        }
        let rate = self.round.answers as f64 / now.saturating_duration_since(since).as_secs_f64().max(1e-9);
        let slowest = std::mem::replace(&mut self.round, Round { since: Some(now), ..Round::default() }).slowest;
        if slowest <= self.timeout / 16 {
            self.grow_by_one();
        } else {
            self.try_more(rate, slowest);
        }
    }

    /// Growth with fast responses.
    fn grow_by_one(&mut self) {
        self.before = None;
        if self.rest > 0 {
            self.rest -= 1;
        } else if self.limit < self.cap {
            self.limit += 1;
            self.good = self.good.max(self.limit);
            self.patience = (self.patience / 2).max(1);
            self.rest = self.patience - 1;
        }
    }

    /// Growth with slow responses, due to slow requests or to a queue.
    fn try_more(&mut self, rate: f64, slowest: Duration) {
        if let Some((before, rate_before)) = self.before.take() {
            let hoped_for = 1.0 + (self.limit as f64 / before as f64 - 1.0) / 2.0;
            if rate < rate_before * hoped_for {
                self.patience = (self.patience * 2).min(LONGEST_PATIENCE);
                self.rest = self.patience;
                self.trust(before);
                return self.set(before);
            }
            self.good = self.good.max(self.limit);
            self.trusted = self.limit;
            self.patience = (self.patience / 2).max(1);
        }
        if slowest > self.timeout.mul_f64(0.7) && self.limit > FEW {
            self.trust(self.limit - 1);
            return self.set(self.limit - 1);
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        // Even if the server handles requests one by one, all must end before the timeout.
        let most = (self.limit as f64 * 0.85 * self.timeout.as_secs_f64() / slowest.as_secs_f64()) as usize;
        let most = most.max(if self.limit < FEW { self.limit + 1 } else { 0 });
        let step = if self.limit < self.good { self.limit / 2 } else { self.limit / 4 };
        let more = (self.limit + step.max(1)).min(most).min(self.cap);
        if more > self.limit {
            self.before = Some((self.limit, rate));
            self.limit = more;
        }
    }

    fn trust(&mut self, limit: usize) {
        self.good = limit.max(1);
        self.trusted = self.good;
    }

    fn set(&mut self, limit: usize) {
        self.limit = limit.clamp(1, self.cap);
        self.round = Round::default();
        self.before = None;
    }

    /// A 503 reflects this moment, unlike a timeout: it shows how many requests are too many.
    fn refused(&mut self, in_flight: usize, now: Instant) -> bool {
        let before = self.limit;
        if self.halve(now) {
            self.trust(before - 1);
            return true;
        }
        if in_flight > self.limit {
            self.trust(self.good.min(in_flight - 1));
        } else {
            self.set(self.limit - 1);
            self.trust(self.limit);
            self.patience = (self.patience * 4).min(LONGEST_PATIENCE);
            self.rest = self.patience;
        }
        false
    }

    /// Halves the limit, unless that was done within one timeout: earlier requests reflect the old limit.
    fn halve(&mut self, now: Instant) -> bool {
        if self.halved.is_some_and(|halved| now.saturating_duration_since(halved) < self.timeout) {
            return false;
        }
        self.halved = Some(now);
        self.set(self.limit / 2);
        true
    }
}

impl Troubles {
    fn count(&mut self, ended: &Ended, is_trouble: bool, now: Instant, period: Duration) {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= period) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        self.attempts = self.attempts.saturating_add(1);
        if is_trouble {
            self.failed = self.failed.saturating_add(1);
            self.is_of_several |= *self.tunnel.get_or_insert(ended.tunnel) != ended.tunnel;
        }
    }

    /// Whether the troubles are the server's: of two tunnels and not rare, or a quarter of all attempts.
    fn are_of_the_server(&self, are_rare: bool) -> bool {
        (self.is_of_several && !are_rare)
            || (self.attempts >= FEWEST_ATTEMPTS && self.failed >= self.attempts.div_ceil(4))
    }
}

#[cfg(test)]
#[path = "allowance_tests.rs"]
mod tests;

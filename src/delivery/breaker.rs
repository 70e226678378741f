//! A circuit breaker for one receive URL: pauses requests to a business server that is down.

use std::time::Duration;
use std::time::Instant;

/// Consecutive failures that open the breaker.
const FAILURES_TO_OPEN: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What an attempt says about the business server as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// It responded, even with an error: one bad message must not stop the others.
    Up,
    /// It was unreachable, timed out, or responded with 503.
    Down,
    /// The connection broke: no verdict.
    Unknown,
}

/// Whether an attempt may start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// Yes.
    Go,
    /// Not before this time.
    WaitUntil(Instant),
    /// Not before the current probe has ended.
    WaitForProbe,
}

/// Closed while the server is up; open after too many failures; then one probe at a time decides.
#[derive(Debug, Default)]
pub struct Breaker {
    state: State,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, pause: Duration },
    Probing { pause: Duration },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Requests an attempt. After [`Admission::Go`] its outcome must be recorded.
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Go,
            State::Open { until, .. } if now < until => Admission::WaitUntil(until),
            State::Open { pause, .. } => {
                self.state = State::Probing { pause };
                Admission::Go
            }
            State::Probing { .. } => Admission::WaitForProbe,
        }
    }

    /// Records the end of an attempt; true if waiting attempts should ask again.
    pub fn record(&mut self, health: Health, now: Instant) -> bool {
        match (&mut self.state, health) {
            (State::Closed { failures }, Health::Down) => {
                *failures += 1;
                if *failures >= FAILURES_TO_OPEN {
                    self.state = State::Open { until: now + FIRST_PAUSE, pause: FIRST_PAUSE };
                }
                false
            }
            (State::Closed { failures }, Health::Up) => {
                *failures = 0;
                false
            }
            (State::Closed { .. } | State::Open { .. }, Health::Unknown) | (State::Open { .. }, Health::Down) => false,
            (State::Open { .. } | State::Probing { .. }, Health::Up) => {
                self.state = State::default();
                true
            }
            (State::Probing { pause }, Health::Down) => {
                let pause = (*pause * 2).min(LONGEST_PAUSE);
                self.state = State::Open { until: now + pause, pause };
                true
            }
            (State::Probing { pause }, Health::Unknown) => {
                let pause = *pause;
                self.state = State::Open { until: now + pause, pause };
                true
            }
        }
    }

    /// Whether the breaker is open.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(breaker.admit(now), Admission::Go);
            breaker.record(Health::Down, now);
        }
        breaker
    }

    #[test]
    fn ten_failures_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = opened(now);

        assert!(breaker.is_open());
        assert_eq!(breaker.admit(now), Admission::WaitUntil(now + FIRST_PAUSE));
    }

    #[test]
    fn any_answer_starts_the_count_again() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for round in 0..100 {
            breaker.record(if round % 10 == 9 { Health::Up } else { Health::Down }, now);
        }

        assert!(!breaker.is_open());
    }

    #[test]
    fn one_probe_at_a_time_with_pauses_that_double_to_ten_seconds() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for pause_secs in [1, 2, 4, 8, 10, 10] {
            assert_eq!(breaker.admit(now), Admission::WaitUntil(now + Duration::from_secs(pause_secs)));
            now += Duration::from_secs(pause_secs);
            assert_eq!(breaker.admit(now), Admission::Go);
            assert_eq!(breaker.admit(now), Admission::WaitForProbe);
            assert!(breaker.record(Health::Down, now), "waiting attempts must ask again");
        }

        now += LONGEST_PAUSE;
        assert_eq!(breaker.admit(now), Admission::Go);
        assert!(breaker.record(Health::Up, now));
        assert_eq!(breaker.admit(now), Admission::Go);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_probe_that_breaks_off_decides_nothing() {
        let now = Instant::now() + FIRST_PAUSE;
        let mut breaker = opened(now - FIRST_PAUSE);
        assert_eq!(breaker.admit(now), Admission::Go);

        breaker.record(Health::Unknown, now);

        assert_eq!(breaker.admit(now), Admission::WaitUntil(now + FIRST_PAUSE));
    }
}

//! When a request to a silent node is repeated, and when the asking node gives up. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::ANSWER_TIMEOUT;
use super::answering::TOO_OLD;

/// Silence after which a request is repeated.
const REPEAT_AFTER: Duration = Duration::from_millis(400);
/// Longest silence of a node that answers a repeated request from memory.
const SILENCE: Duration = Duration::from_secs(2);
/// Time limit of work on an answer: less than a call with an `Idempotency-Key` may run.
const LONGEST_WORK: Duration = Duration::from_secs(20);
/// A deadline that is noticed so much later has passed while this process was stopped.
const LATE: Duration = Duration::from_millis(100);

/// What to do when nothing has come in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Send the request again.
    Repeat,
    /// Send its number again: it is too late to start, and the node may remember its answer.
    RepeatNumber,
    /// Look once more at what has arrived.
    Look,
    /// The outcome is unknown.
    GiveUp,
}

/// The patience of one request.
#[derive(Debug)]
pub(super) struct Patience {
    started: Instant,
    /// The last sign of the node, or the start.
    heard: Instant,
    /// When the request or its last repeat was sent.
    sent: Instant,
    /// Whether the node remembers requests.
    can_repeat: bool,
    /// Once the process was stopped until after the deadline: the new deadline.
    extended: Option<Instant>,
}

impl Patience {
    pub(super) fn new(started: Instant, can_repeat: bool) -> Self {
        Self { started, heard: started, sent: started, can_repeat, extended: None }
    }

    /// Notes a report of progress.
    pub(super) fn hears(&mut self, now: Instant) {
        (self.heard, self.sent) = (now, now);
    }

    /// How long to wait for an answer before the next [`step`](Self::step).
    pub(super) fn until(&self) -> Instant {
        if self.can_repeat { (self.sent + REPEAT_AFTER).min(self.deadline()) } else { self.deadline() }
    }

    /// What to do at `now`, as nothing has come.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let late = now.saturating_duration_since(self.deadline());
        if now >= self.deadline() && (late < LATE || self.extended.is_some()) {
            return Step::GiveUp;
        }
        if !late.is_zero() {
            self.extended = Some(now + if self.can_repeat { ANSWER_TIMEOUT } else { LATE });
        }
        self.sent = now;
        match self.can_repeat {
            false => Step::Look,
            true if now.saturating_duration_since(self.started) < TOO_OLD => Step::Repeat,
            true => Step::RepeatNumber,
        }
    }

    fn deadline(&self) -> Instant {
        let silence = if self.can_repeat { SILENCE } else { ANSWER_TIMEOUT };
        self.extended.unwrap_or((self.heard + silence).min(self.started + LONGEST_WORK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_silent_node_is_asked_again_until_it_is_given_up() {
        let start = Instant::now();
        let mut patience = Patience::new(start, true);
        let mut steps = vec![];
        loop {
            let now = patience.until();
            let step = patience.step(now);
            steps.push((u64::try_from((now - start).as_millis()).expect("small"), step));
            if step == Step::GiveUp {
                break;
            }
        }

        let number = Step::RepeatNumber;
        assert_eq!(
            steps,
            [(400, Step::Repeat), (800, number), (1_200, number), (1_600, number), (2_000, Step::GiveUp)]
        );
    }

    #[test]
    fn a_node_that_reports_progress_has_time_but_not_for_ever() {
        let start = Instant::now();
        let mut patience = Patience::new(start, true);
        for turn in 1..60 {
            assert!(patience.until() > after(start, 300 * turn));
            patience.hears(after(start, 300 * turn));
        }
        patience.hears(after(start, 19_000));
        assert_eq!(patience.step(after(start, 19_400)), Step::RepeatNumber);
        assert_eq!(patience.step(after(start, 19_800)), Step::RepeatNumber);
        assert_eq!(patience.until(), after(start, 20_000));
        assert_eq!(patience.step(after(start, 20_000)), Step::GiveUp);
    }

    #[test]
    fn a_node_of_the_last_release_is_asked_once() {
        let start = Instant::now();
        let mut patience = Patience::new(start, false);
        assert_eq!(patience.until(), start + ANSWER_TIMEOUT);
        assert_eq!(patience.step(start + ANSWER_TIMEOUT), Step::GiveUp);
    }

    #[test]
    fn what_has_come_while_the_process_was_stopped_is_seen() {
        let start = Instant::now();
        for (can_repeat, step) in [(true, Step::RepeatNumber), (false, Step::Look)] {
            let mut patience = Patience::new(start, can_repeat);
            assert_eq!(patience.step(after(start, 10_000)), step);
            assert!(patience.until() > after(start, 10_000));
            assert_eq!(patience.step(after(start, 20_000)), Step::GiveUp, "once");
        }
    }
}

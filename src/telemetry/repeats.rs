//! Decides which of many similar lines are shown: limits for each kind, for each party that causes lines, and for all parties
//! together. Time is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use std::time::Instant;

use crate::share::Shares;

/// Lines shown of one kind in a window.
const SHOWN: u32 = 5;

/// Length of a window, from the first line of its kind.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// Most kinds tracked at a time.
const MAX_KINDS: usize = 1_024;

/// Lines shown of one party in a window, over all kinds.
const SHOWN_OF_PARTY: u64 = 20;
/// Lines shown of all parties in a window; one party cannot exceed the rest.
const SHOWN_OF_PARTIES: u64 = 200;
/// Lines without a party shown in a window.
const SHOWN_OF_NONE: u64 = 200;

/// The windows of all kinds, and the recent lines of parties.
pub(super) struct Repeats<K, P> {
    windows: HashMap<K, Window>,
    budget: Budget<P>,
    /// End of the first window with suppressed lines.
    deadline: Option<Instant>,
}

struct Window {
    began: Instant,
    shown: u32,
    left_out: u64,
}

/// Suppressed lines.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct LeftOut<K> {
    /// Their kind.
    pub(super) kind: K,
    /// Their number.
    pub(super) lines: u64,
    /// Time since the first line of that kind.
    pub(super) within: Duration,
}

/// A line, as far as the limits are concerned.
pub(super) struct Line<K, P> {
    /// The line's message and subject.
    pub(super) kind: K,
    /// The kind shared by all lines of this party at this place in the code.
    pub(super) of_party: K,
    /// The kind shared by all lines at this place in the code.
    pub(super) of_place: K,
    /// The external party that causes it.
    pub(super) party: Option<P>,
}

/// Lines shown in a window.
struct Budget<P> {
    began: Option<Instant>,
    of_parties: Shares<P>,
    of_none: u64,
}

/// Why a line exceeds the budget.
enum Over {
    /// Its party has used its share.
    Party,
    /// All parties together have used theirs.
    All,
}

impl<P: Clone + Eq + Hash> Budget<P> {
    fn new() -> Self {
        Self { began: None, of_parties: Shares::of(SHOWN_OF_PARTIES), of_none: 0 }
    }

    fn take(&mut self, party: Option<&P>, now: Instant) -> Result<(), Over> {
        if self.began.is_none_or(|began| now >= began + WINDOW) {
            *self = Self { began: Some(now), ..Self::new() };
        }
        match party {
            None if self.of_none < SHOWN_OF_NONE => self.of_none += 1,
            None => return Err(Over::All),
            Some(party) if self.of_parties.holds(party) >= SHOWN_OF_PARTY => return Err(Over::Party),
            Some(party) if self.of_parties.take(party, 1) => {}
            Some(_) => return Err(Over::All),
        }
        Ok(())
    }
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, shown: 0, left_out: 0 }
    }

    fn end(&self) -> Instant {
        self.began + WINDOW
    }
}

impl<K: Clone + Eq + Hash, P: Clone + Eq + Hash> Repeats<K, P> {
    /// No lines yet.
    pub(super) fn new() -> Self {
        Self { windows: HashMap::new(), budget: Budget::new(), deadline: None }
    }

    /// Whether a line is shown. A new kind beyond the limit counts as the kind of its place in the code, as does a line whose
    /// party, or all parties together, exceeded the budget.
    pub(super) fn shows(&mut self, line: Line<K, P>, now: Instant) -> bool {
        let Line { kind, of_party, of_place, party } = line;
        let kind = if self.windows.contains_key(&kind) || self.has_room(now) { kind } else { of_place.clone() };
        let window = self.windows.entry(kind.clone()).or_insert_with(|| Window::new(now));
        // A window with suppressed lines stays until its summary is written.
        if now >= window.end() && window.left_out == 0 {
            *window = Window::new(now);
        }
        if window.shown >= SHOWN {
            window.left_out += 1;
            let end = window.end();
            self.awaits(end);
            return false;
        }
        let Err(over) = self.budget.take(party.as_ref(), now) else {
            window.shown += 1;
            return true;
        };
        if window.shown == 0 && window.left_out == 0 {
            self.windows.remove(&kind);
        }
        let kind = match over {
            Over::Party => of_party,
            Over::All => of_place,
        };
        let window = self.windows.entry(kind).or_insert_with(|| Window::new(now));
        window.left_out += 1;
        let end = window.end();
        self.awaits(end);
        false
    }

    fn awaits(&mut self, end: Instant) {
        self.deadline = Some(self.deadline.map_or(end, |deadline| deadline.min(end)));
    }

    /// When the next summary is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Closes the windows that are over, and returns their suppressed lines.
    pub(super) fn ended(&mut self, now: Instant) -> Vec<LeftOut<K>> {
        self.end(now, |window| now >= window.end())
    }

    /// Closes all windows, and returns their suppressed lines.
    pub(super) fn end_all(&mut self, now: Instant) -> Vec<LeftOut<K>> {
        self.end(now, |_| true)
    }

    fn end(&mut self, now: Instant, is_over: impl Fn(&Window) -> bool) -> Vec<LeftOut<K>> {
        let mut left_out = vec![];
        self.windows.retain(|kind, window| {
            let is_over = is_over(window);
            if is_over && window.left_out > 0 {
                let within = now.saturating_duration_since(window.began);
                left_out.push(LeftOut { kind: kind.clone(), lines: window.left_out, within });
            }
            !is_over
        });
        self.deadline = self.windows.values().filter(|window| window.left_out > 0).map(Window::end).min();
        left_out
    }

    fn has_room(&mut self, now: Instant) -> bool {
        if self.windows.len() >= MAX_KINDS {
            self.windows.retain(|_, window| window.left_out > 0 || now < window.end());
        }
        self.windows.len() < MAX_KINDS
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    type Numbered = Repeats<i32, i32>;

    /// Kind -1 is the kind of the place in the code.
    const ANY: i32 = -1;

    /// A line without a party.
    fn shows(repeats: &mut Numbered, kind: i32, now: Instant) -> bool {
        shows_of(repeats, kind, None, now)
    }

    /// Party 7 has the kinds 7,000 to 7,999, and -7,000 as the common one.
    fn shows_of(repeats: &mut Numbered, kind: i32, party: Option<i32>, now: Instant) -> bool {
        let of_party = party.map_or(ANY, |party| -1_000 * party);
        repeats.shows(Line { kind, of_party, of_place: ANY, party }, now)
    }

    fn shown(repeats: &mut Numbered, kind: i32, lines: u32, now: Instant) -> u32 {
        (0..lines).filter(|_| shows(repeats, kind, now)).count() as u32
    }

    #[test]
    fn the_first_lines_of_a_window_are_shown_and_the_others_counted() {
        let mut repeats = Numbered::new();
        let start = Instant::now();

        assert_eq!(shown(&mut repeats, 1, 300, start), SHOWN);
        assert_eq!(shown(&mut repeats, 1, 17, start + 9 * SECOND), 0);

        assert_eq!(repeats.deadline(), Some(start + WINDOW));
        assert_eq!(repeats.ended(start + 9 * SECOND), []);
        let lines = 317 - u64::from(SHOWN);
        assert_eq!(repeats.ended(start + WINDOW), [LeftOut { kind: 1, lines, within: WINDOW }]);
        assert_eq!((repeats.deadline(), repeats.ended(start + WINDOW)), (None, vec![]), "once");
    }

    #[test]
    fn what_comes_now_and_then_is_always_shown() {
        let mut repeats = Numbered::new();
        let start = Instant::now();

        for n in 0..100 {
            assert!(shows(&mut repeats, 1, start + n * 3 * SECOND), "line {n}");
        }
        assert_eq!(repeats.deadline(), None);
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_other() {
        let mut repeats = Numbered::new();
        let start = Instant::now();
        shown(&mut repeats, 1, 1_000, start);

        assert!(shows(&mut repeats, 2, start));
    }

    #[test]
    fn nothing_is_forgotten_when_the_end_of_a_window_is_told_late() {
        let mut repeats = Numbered::new();
        let start = Instant::now();
        shown(&mut repeats, 1, SHOWN + 1, start);

        assert!(!shows(&mut repeats, 1, start + 12 * SECOND));

        assert_eq!(repeats.ended(start + 13 * SECOND), [LeftOut { kind: 1, lines: 2, within: 13 * SECOND }]);
        assert!(shows(&mut repeats, 1, start + 13 * SECOND), "a new window");
    }

    #[test]
    fn too_many_kinds_are_counted_together() {
        let mut repeats = Numbered::new();
        let start = Instant::now();
        let kinds = i32::try_from(MAX_KINDS).expect("not that many");
        for kind in 0..kinds {
            assert!(shows_of(&mut repeats, kind, Some(kind), start));
            repeats.budget = Budget::new();
        }

        assert!(!(0..9).all(|kind| shows(&mut repeats, kinds + kind, start)), "only so many of the others");

        assert!(shows(&mut repeats, 0, start), "a known kind is still one of its own");
        assert!(repeats.windows.len() <= MAX_KINDS + 1);
        let left_out = repeats.end_all(start + SECOND);
        assert_eq!(left_out, [LeftOut { kind: ANY, lines: 1, within: SECOND }]);
    }

    #[test]
    fn one_party_is_shown_with_so_many_lines_whatever_they_say() {
        let mut repeats = Numbered::new();
        let start = Instant::now();

        let lines = (7_000..8_000).filter(|kind| shows_of(&mut repeats, *kind, Some(7), start)).count();

        assert_eq!(lines as u64, SHOWN_OF_PARTY);
        assert!(shows_of(&mut repeats, 9_000, Some(9), start), "another party");
        assert!(shows(&mut repeats, 1, start), "the gateway's own");
        assert_eq!(repeats.deadline(), Some(start + WINDOW));
        let left_out = LeftOut { kind: -7_000, lines: 1_000 - SHOWN_OF_PARTY, within: WINDOW };
        assert_eq!(repeats.ended(start + WINDOW), [left_out]);
        assert!(shows_of(&mut repeats, 7_000, Some(7), start + WINDOW), "a new window");
    }

    #[test]
    fn a_thousand_parties_leave_lines_to_those_that_come_later() {
        let mut repeats = Numbered::new();
        let start = Instant::now();
        let mut lines = 0;
        for party in 0..1_000 {
            lines += (0..100).filter(|kind| shows_of(&mut repeats, party * 1_000 + kind, Some(party), start)).count();
        }

        assert!((100..=SHOWN_OF_PARTIES as usize).contains(&lines), "{lines}");
        let left_out: u64 = repeats.end_all(start + SECOND).iter().map(|left_out| left_out.lines).sum();
        assert_eq!(lines as u64 + left_out, 100_000, "nothing is dropped in silence");
    }

    #[test]
    fn lines_that_no_party_causes_are_bounded_too() {
        let mut repeats = Numbered::new();
        let start = Instant::now();

        let lines = (0..1_000).filter(|kind| shows(&mut repeats, *kind, start)).count();

        assert_eq!(lines as u64, SHOWN_OF_NONE);
        assert_eq!(repeats.end_all(start + SECOND), [LeftOut { kind: ANY, lines: 800, within: SECOND }]);
    }

    #[test]
    fn kinds_of_a_quiet_time_make_room() {
        let mut repeats = Numbered::new();
        let start = Instant::now();
        let kinds = i32::try_from(MAX_KINDS).expect("not that many");
        for kind in 0..kinds {
            assert!(shows(&mut repeats, kind, start));
            repeats.budget = Budget::new();
        }

        assert!(shows(&mut repeats, kinds, start + WINDOW));
        assert_eq!(repeats.windows.len(), 1);
    }
}

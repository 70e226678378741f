//! Which of many like lines are shown, and how many are left out. Time is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use std::time::Instant;

/// How many lines of a kind are shown in a window.
const SHOWN: u32 = 5;

/// How long a window is, from the first line of its kind.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// How many kinds are told apart at a time.
const MAX_KINDS: usize = 256;

/// The windows of all kinds of lines.
pub(super) struct Repeats<K> {
    windows: HashMap<K, Window>,
    /// When the first window ends in which a line was left out.
    deadline: Option<Instant>,
}

struct Window {
    began: Instant,
    shown: u32,
    left_out: u64,
}

/// Lines that were not shown.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct LeftOut<K> {
    /// Of which kind.
    pub(super) kind: K,
    /// How many.
    pub(super) lines: u64,
    /// Since the first line of that kind.
    pub(super) within: Duration,
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, shown: 0, left_out: 0 }
    }

    fn end(&self) -> Instant {
        self.began + WINDOW
    }
}

impl<K: Clone + Eq + Hash> Repeats<K> {
    /// No lines so far.
    pub(super) fn new() -> Self {
        Self { windows: HashMap::new(), deadline: None }
    }

    /// Whether a line of this kind is shown. When there are too many kinds, a new one counts as the `wider` one it belongs to.
    pub(super) fn shows(&mut self, kind: K, wider: impl FnOnce(&K) -> K, now: Instant) -> bool {
        let kind = if self.windows.contains_key(&kind) || self.has_room(now) { kind } else { wider(&kind) };
        let window = self.windows.entry(kind).or_insert_with(|| Window::new(now));
        // One in which lines were left out lasts until that is told.
        if now >= window.end() && window.left_out == 0 {
            *window = Window::new(now);
        }
        if window.shown < SHOWN {
            window.shown += 1;
            return true;
        }
        window.left_out += 1;
        let end = window.end();
        self.deadline = Some(self.deadline.map_or(end, |deadline| deadline.min(end)));
        false
    }

    /// When there is something to tell, if nothing else happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Ends the windows that are over, and returns what was left out in them.
    pub(super) fn ended(&mut self, now: Instant) -> Vec<LeftOut<K>> {
        self.end(now, |window| now >= window.end())
    }

    /// Ends all windows, and returns what was left out in them.
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

    /// Kinds below zero are wide ones.
    fn shows(repeats: &mut Repeats<i32>, kind: i32, now: Instant) -> bool {
        repeats.shows(kind, |_| -1, now)
    }

    fn shown(repeats: &mut Repeats<i32>, kind: i32, lines: u32, now: Instant) -> u32 {
        (0..lines).filter(|_| shows(repeats, kind, now)).count() as u32
    }

    #[test]
    fn the_first_lines_of_a_window_are_shown_and_the_others_counted() {
        let mut repeats = Repeats::new();
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
        let mut repeats = Repeats::new();
        let start = Instant::now();

        for n in 0..100 {
            assert!(shows(&mut repeats, 1, start + n * 3 * SECOND), "line {n}");
        }
        assert_eq!(repeats.deadline(), None);
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_other() {
        let mut repeats = Repeats::new();
        let start = Instant::now();
        shown(&mut repeats, 1, 1_000, start);

        assert!(shows(&mut repeats, 2, start));
    }

    #[test]
    fn nothing_is_forgotten_when_the_end_of_a_window_is_told_late() {
        let mut repeats = Repeats::new();
        let start = Instant::now();
        shown(&mut repeats, 1, SHOWN + 1, start);

        assert!(!shows(&mut repeats, 1, start + 12 * SECOND));

        assert_eq!(repeats.ended(start + 13 * SECOND), [LeftOut { kind: 1, lines: 2, within: 13 * SECOND }]);
        assert!(shows(&mut repeats, 1, start + 13 * SECOND), "a new window");
    }

    #[test]
    fn too_many_kinds_are_counted_together() {
        let mut repeats = Repeats::new();
        let start = Instant::now();
        let kinds = i32::try_from(MAX_KINDS).expect("not that many");

        let lines = (0..10 * kinds).filter(|kind| shows(&mut repeats, *kind, start)).count();

        assert_eq!(lines, MAX_KINDS + SHOWN as usize);
        assert!(shows(&mut repeats, 0, start), "a known kind is still one of its own");
        assert!(repeats.windows.len() <= MAX_KINDS + 1);
        let left_out = repeats.end_all(start + SECOND);
        assert_eq!(left_out, [LeftOut { kind: -1, lines: 9 * 256 - u64::from(SHOWN), within: SECOND }]);
        assert!(shows(&mut repeats, 10 * kinds, start + SECOND), "room again");
    }

    #[test]
    fn kinds_of_a_quiet_time_make_room() {
        let mut repeats = Repeats::new();
        let start = Instant::now();
        let kinds = i32::try_from(MAX_KINDS).expect("not that many");
        (0..kinds).for_each(|kind| assert!(shows(&mut repeats, kind, start)));

        assert!(shows(&mut repeats, kinds, start + WINDOW));
        assert_eq!(repeats.windows.len(), 1);
    }
}

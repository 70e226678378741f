//! The last chat lines, for people who join later.

use std::collections::VecDeque;

use serde::Serialize;

use super::name::Name;

/// Most lines kept.
const MAX_LINES: usize = 50;

/// Most text kept, in bytes: bounds the welcome message.
const MAX_BYTES: usize = 64 * 1024;

/// One chat line, as it is sent to everyone.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    /// Id of the speaker.
    pub(super) id: u64,
    /// Name and colour of the speaker at that time.
    pub(super) who: Face,
    /// Its text.
    pub(super) word: String,
    /// When, in milliseconds since 1970. Strictly increasing, so it also names the line.
    pub(super) time_ms: u64,
}

/// The visible properties of a person.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Face {
    /// The name.
    pub(super) name: Name,
    /// Colour of the avatar, in degrees.
    pub(super) hue: u16,
}

/// The last lines, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl History {
    /// Adds a line and forgets the oldest ones that no longer fit.
    pub(super) fn add(&mut self, line: Line) {
        self.bytes += line.word.len();
        self.lines.push_back(line);
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.word.len();
        }
    }

    /// The lines, oldest first.
    pub(super) fn lines(&self) -> &VecDeque<Line> {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time_ms: u64, word: String) -> Line {
        let name = Name::parse("小明").unwrap();
        let hue = name.hue();
        Line { id: 1, who: Face { name, hue }, word, time_ms }
    }

    #[test]
    fn the_oldest_lines_go_first() {
        let mut history = History::default();
        for n in 0..60 {
            history.add(line(n, "hi".to_owned()));
        }

        assert_eq!(history.lines().len(), 50);
        assert_eq!(history.lines()[0].time_ms, 10);
    }

    #[test]
    fn long_lines_leave_room_for_fewer() {
        let mut history = History::default();
        for n in 0..50 {
            history.add(line(n, "木".repeat(2_000)));
        }

        assert_eq!(history.lines().len(), MAX_BYTES / 6_000);
        assert_eq!(history.lines().back().map(|line| line.time_ms), Some(49));
        assert!(history.bytes <= MAX_BYTES);
    }
}

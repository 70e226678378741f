//! Contents that say who sent them and the how-manieth they are, and whether all arrived, once and in order.

use serde::Serialize;

/// How long a mark is.
pub(crate) const MARK_BYTES: usize = 18;

/// A mark that has not been written yet.
pub(crate) const BLANK: &str = "#00000#0000000000#";

/// Who sent a message, and how many it had sent before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mark {
    /// The number of its sender.
    pub(crate) source: usize,
    /// Its own number, from zero.
    pub(crate) number: u64,
}

impl Mark {
    /// The mark as it is written.
    pub(crate) fn text(self) -> [u8; MARK_BYTES] {
        let mut text = *BLANK.as_bytes().first_chunk().expect("as long as that");
        write_digits(&mut text[1..6], self.source as u64);
        write_digits(&mut text[7..17], self.number);
        text
    }

    /// The first mark in a text, and where it begins.
    pub(crate) fn find(text: &[u8]) -> Option<(Self, usize)> {
        let at = text.iter().position(|byte| *byte == b'#')?;
        let mark = text.get(at..at + MARK_BYTES)?;
        let source = usize::try_from(read_digits(&mark[1..6])?).ok()?;
        Some((Self { source, number: read_digits(&mark[7..17])? }, at))
    }
}

fn write_digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

/// A JSON message of a certain length with a mark in it.
#[derive(Clone)]
pub(crate) struct Pattern {
    text: Vec<u8>,
    at: usize,
}

impl Pattern {
    /// A content of exactly `bytes` bytes, at least 64.
    pub(crate) fn content(bytes: usize) -> Self {
        let head = format!(r#"{{"type":"speak","content":"{BLANK}"#);
        let text = format!(r#"{head}{}"}}"#, "x".repeat(bytes.saturating_sub(head.len() + 2)));
        Self::new(text)
    }

    /// The packet that carries this content.
    pub(crate) fn packet(&self) -> Self {
        Self::new(format!("message:{}", self.text()))
    }

    fn new(text: String) -> Self {
        let at = text.find(BLANK).expect("it has a mark");
        Self { text: text.into(), at }
    }

    /// The text, with the mark that was written last.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.text).expect("made of text")
    }

    /// The text with this mark.
    pub(crate) fn stamp(&mut self, mark: Mark) -> &[u8] {
        self.text[self.at..self.at + MARK_BYTES].copy_from_slice(&mark.text());
        &self.text
    }

    /// The mark of a text that is like this one in every other byte.
    pub(crate) fn read(&self, text: &[u8]) -> Option<Mark> {
        let end = self.at + MARK_BYTES;
        let is_alike =
            text.len() == self.text.len() && text[..self.at] == self.text[..self.at] && text[end..] == self.text[end..];
        is_alike.then(|| Mark::find(&text[self.at..end])).flatten().map(|(mark, _)| mark)
    }
}

/// What must all be zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct Faults {
    /// Never arrived.
    pub(crate) lost: u64,
    /// Arrived again.
    pub(crate) duplicated: u64,
    /// Arrived behind a later one.
    pub(crate) reordered: u64,
    /// Arrived changed, unsigned, merged or at the wrong place.
    pub(crate) wrong: u64,
}

impl Faults {
    /// How many there are altogether.
    pub(crate) fn total(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.wrong
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            wrong: self.wrong + other.wrong,
        }
    }
}

/// What each receiver expects next of each sender.
#[derive(Default)]
pub(crate) struct Ledger {
    next: Vec<u64>,
    sources: usize,
    /// What was not as expected.
    pub(crate) faults: Faults,
}

impl Ledger {
    /// Nobody has received anything.
    pub(crate) fn new(receivers: usize, sources: usize) -> Self {
        Self { next: vec![0; receivers * sources], sources, faults: Faults::default() }
    }

    /// Receiver gets the message `number` of `source`; returns whether it gets it for the first time.
    pub(crate) fn take(&mut self, receiver: usize, source: usize, number: u64) -> bool {
        let next = &mut self.next[receiver * self.sources + source];
        if number >= *next {
            self.faults.lost += number - *next;
            *next = number + 1;
        } else if self.faults.lost > 0 {
            self.faults.lost -= 1;
            self.faults.reordered += 1;
        } else {
            self.faults.duplicated += 1;
            return false;
        }
        true
    }
}

//! Message contents with sender and sequence number, and checks that all arrive once and in order.

use serde::Serialize;

/// Length of a mark.
pub(crate) const MARK_BYTES: usize = 18;

/// A placeholder for a mark.
pub(crate) const BLANK: &str = "#00000#0000000000#";

/// Sender and sequence number of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SequenceMark {
    /// Number of the sender.
    pub(crate) source: usize,
    /// Sequence number, from zero.
    pub(crate) number: u64,
}

impl SequenceMark {
    /// The mark as text.
    pub(crate) fn text(self) -> [u8; MARK_BYTES] {
        let mut text = *BLANK.as_bytes().first_chunk().expect("as long as that");
        write_digits(&mut text[1..6], self.source as u64);
        write_digits(&mut text[7..17], self.number);
        text
    }

    /// The first mark in a text, and its position.
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

/// A JSON message of fixed length that contains a mark.
#[derive(Clone)]
pub(crate) struct Pattern {
    text: Vec<u8>,
    at: usize,
}

impl Pattern {
    /// A message of exactly `bytes` bytes, at least 64.
    pub(crate) fn content(bytes: usize) -> Self {
        let head = format!(r#"{{"type":"speak","content":"{BLANK}"#);
        let text = format!(r#"{head}{}"}}"#, "x".repeat(bytes.saturating_sub(head.len() + 2)));
        Self::new(text)
    }

    /// The packet with this message.
    pub(crate) fn packet(&self) -> Self {
        Self::new(format!("message:{}", self.text()))
    }

    fn new(text: String) -> Self {
        let at = text.find(BLANK).expect("it has a mark");
        Self { text: text.into(), at }
    }

    /// The text with the current mark.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.text).expect("made of text")
    }

    /// Sets the mark and returns the text.
    pub(crate) fn stamp(&mut self, mark: SequenceMark) -> &[u8] {
        self.text[self.at..self.at + MARK_BYTES].copy_from_slice(&mark.text());
        &self.text
    }

    /// The mark of a text that otherwise equals this one.
    pub(crate) fn read(&self, text: &[u8]) -> Option<SequenceMark> {
        let end = self.at + MARK_BYTES;
        let is_alike =
            text.len() == self.text.len() && text[..self.at] == self.text[..self.at] && text[end..] == self.text[end..];
        is_alike.then(|| SequenceMark::find(&text[self.at..end])).flatten().map(|(mark, _)| mark)
    }
}

/// Faults; all must be zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct Faults {
    /// Never arrived.
    pub(crate) lost: u64,
    /// Arrived again.
    pub(crate) duplicated: u64,
    /// Arrived after a later one.
    pub(crate) reordered: u64,
    /// Arrived altered, unsigned, merged or at the wrong receiver.
    pub(crate) wrong: u64,
}

impl Faults {
    /// The total.
    pub(crate) fn total(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.wrong
    }

    /// The sum of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            wrong: self.wrong + other.wrong,
        }
    }
}

/// The next expected number of each sender at each receiver.
#[derive(Default)]
pub(crate) struct Ledger {
    next: Vec<u64>,
    sources: usize,
    /// Deviations so far.
    pub(crate) faults: Faults,
}

impl Ledger {
    /// Nothing received yet.
    pub(crate) fn new(receivers: usize, sources: usize) -> Self {
        Self { next: vec![0; receivers * sources], sources, faults: Faults::default() }
    }

    /// Records message `number` of `source` at `receiver`; returns whether it arrives for the first time.
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

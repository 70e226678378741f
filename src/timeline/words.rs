//! Texts of records: a bounded ring of them, each once while it is fresh.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::record::Word;

/// Longest text, in bytes.
const MAX_WORD_BYTES: usize = 200;

/// The newest texts.
#[derive(Debug)]
pub(super) struct Words {
    capacity: u32,
    state: Mutex<State>,
    /// The number of the next word, for those that look without the lock.
    next: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    slots: Vec<(u32, Arc<str>)>,
    by_text: HashMap<Arc<str>, u32>,
}

impl Words {
    /// Room for so many texts; nothing is allocated before they come.
    pub(super) fn of(capacity: u32) -> Self {
        Self { capacity: capacity.max(1), state: Mutex::default(), next: AtomicU32::new(1) }
    }

    /// The number of a text, whose first 200 bytes are kept until as many others have come as there is room for.
    pub(super) fn word(&self, text: &str) -> Word {
        let text = cut(text);
        if text.is_empty() {
            return Word::default();
        }
        let mut state = self.state.lock();
        if let Some(known) = state.by_text.get(text).copied().filter(|known| self.is_fresh(*known)) {
            return Word(known);
        }
        let number = self.next.load(Ordering::Relaxed);
        // Zero means none, also after four billion.
        self.next.store(number.checked_add(1).unwrap_or(1), Ordering::Relaxed);
        let (slot, text) = (self.slot(number), Arc::<str>::from(text));
        let entry = (number, Arc::clone(&text));
        match state.slots.get_mut(slot) {
            Some(old) => {
                let (old_number, old_text) = std::mem::replace(old, entry);
                if state.by_text.get(&old_text) == Some(&old_number) {
                    state.by_text.remove(&old_text);
                }
            }
            None => {
                // The first number is one: its slot has one before it.
                while state.slots.len() < slot {
                    state.slots.push((0, Arc::from("")));
                }
                state.slots.push(entry);
            }
        }
        state.by_text.insert(text, number);
        Word(number)
    }

    /// The same with its number remembered in `mark`, which a caller keeps beside the text: no look-up while it is fresh.
    pub(super) fn marked(&self, mark: &AtomicU32, text: &str) -> Word {
        let known = mark.load(Ordering::Relaxed);
        if known != 0 && self.is_fresh(known) {
            return Word(known);
        }
        let word = self.word(text);
        mark.store(word.0, Ordering::Relaxed);
        word
    }

    /// The text with this number, if it is still there.
    pub(super) fn text(&self, Word(number): Word) -> Option<Arc<str>> {
        if number == 0 {
            return None;
        }
        let state = self.state.lock();
        let (kept, text) = state.slots.get(self.slot(number))?;
        (*kept == number).then(|| Arc::clone(text))
    }

    /// Whether a word will stay for at least half of the ring.
    fn is_fresh(&self, number: u32) -> bool {
        self.next.load(Ordering::Relaxed).wrapping_sub(number) <= self.capacity / 2
    }

    fn slot(&self, number: u32) -> usize {
        (number % self.capacity) as usize
    }
}

/// The part of a text that is kept: its beginning, cut between characters.
pub(super) fn cut(text: &str) -> &str {
    if text.len() <= MAX_WORD_BYTES {
        return text;
    }
    let end = (0..=MAX_WORD_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_kept_once() {
        let words = Words::of(8);
        let first = words.word("connection refused");

        assert_eq!(words.word("connection refused"), first);
        assert_eq!(words.text(first).as_deref(), Some("connection refused"));
        assert_eq!((words.word(""), words.text(Word(0)), words.text(Word(7))), (Word(0), None, None));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let words = Words::of(8);
        let word = words.word(&"信".repeat(100));

        assert_eq!(words.text(word).as_deref(), Some("信".repeat(66).as_str()));
    }

    #[test]
    fn a_marked_text_is_found_without_a_look_up_and_comes_again_when_it_gets_old() {
        let (words, mark) = (Words::of(8), AtomicU32::new(0));
        let first = words.marked(&mark, "http://h/");
        assert_eq!(words.marked(&mark, "not looked at"), first);

        (0..6).for_each(|number| {
            words.word(&number.to_string());
        });
        let again = words.marked(&mark, "http://h/");

        assert_ne!(again, first);
        assert_eq!(words.text(again).as_deref(), Some("http://h/"));
    }

    proptest! {
        /// A number never shows another text than its own, and there are never more than there is room for.
        #[test]
        fn a_number_has_its_own_text_or_none(texts in prop::collection::vec("[a-h]{1,2}", 1..200), capacity in 1_u32..12) {
            let words = Words::of(capacity);
            let numbers: Vec<_> = texts.iter().map(|text| (words.word(text), text)).collect();

            for (word, text) in &numbers {
                if let Some(kept) = words.text(*word) {
                    prop_assert_eq!(&*kept, text.as_str());
                }
            }
            let (last, text) = numbers.last().expect("one at least");
            let kept = words.text(*last);
            prop_assert_eq!(kept.as_deref(), Some(text.as_str()));
            let state = words.state.lock();
            prop_assert!(state.slots.len() <= capacity as usize && state.by_text.len() <= capacity as usize);
        }
    }
}

//! Names of people in the room: normalised, bounded, never empty.

use serde::Serialize;

/// Longest name, in characters.
const MAX_CHARS: usize = 24;

/// A displayable name.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Name(String);

/// Why a name is refused, with advice.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum NameError {
    /// Nothing visible.
    #[error("请先填写名字 (please send a name: GET /chat/tunnel?name=NAME)")]
    Empty,
    /// Too long to display beside a message.
    #[error("名字最多 {MAX_CHARS} 个字，请换一个短一点的 (please choose a name of at most {MAX_CHARS} characters)")]
    TooLong,
}

impl Name {
    /// Normalises user input into a name.
    pub(super) fn parse(text: &str) -> Result<Self, NameError> {
        let shown: String = text.chars().filter(|&c| !c.is_control() && !is_unseen(c)).collect();
        let name = shown.trim();
        if name.chars().all(is_joiner) {
            return Err(NameError::Empty);
        }
        if name.chars().count() > MAX_CHARS {
            return Err(NameError::TooLong);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The same name with a number appended.
    pub(super) fn numbered(&self, number: usize) -> Self {
        Self(format!("{} {number}", self.0))
    }

    /// A form that is equal for names that look the same to readers.
    pub(super) fn folded(&self) -> String {
        self.0.to_lowercase().split_whitespace().collect()
    }

    /// Colour of the avatar, in degrees: the same name always has the same (FNV-1a, as in the page).
    pub(super) fn hue(&self) -> u16 {
        let hash =
            self.0.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        (hash % 360) as u16
    }
}

/// Invisible characters and those that change the text direction: no name needs them.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Parts of an emoji that are invisible by themselves.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_and_rid_of_what_cannot_be_seen() {
        let name = Name::parse(" \u{202e}小\n明\u{200b} ").unwrap();

        assert_eq!(name, Name("小明".to_owned()));
    }

    #[test]
    fn a_name_that_shows_nothing_is_empty() {
        for text in ["", "   ", "\t\r\n", "\u{200b}", "\u{200d}\u{fe0f}", "\u{3000}"] {
            assert_eq!(Name::parse(text), Err(NameError::Empty), "{text:?}");
        }
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert!(Name::parse(&"木".repeat(24)).is_ok());
        assert_eq!(Name::parse(&"木".repeat(25)), Err(NameError::TooLong));
    }

    #[test]
    fn hues_are_those_the_page_computes() {
        assert_eq!(Name::parse("a").unwrap().hue(), (0xe40c_292c_u32 % 360) as u16);
        assert_ne!(Name::parse("青松").unwrap().hue(), Name::parse("白桦").unwrap().hue());
    }
}

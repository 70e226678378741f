//! Why something happened, in words: one table for timelines, logs and answers, in English and Chinese.
//!
//! A [`Kind`] says what happened, a [`Reason`] why. Both have a number, which travels between nodes, and a stable name for programs.

mod kind;
mod table;

pub use kind::Kind;
pub use table::Reason;

/// A language of the table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

/// One reason in one language.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Words {
    /// What happened.
    pub sentence: &'static str,
    /// What to do about it; empty if nothing is wrong.
    pub fix: &'static str,
}

/// What a reason says about the outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// As it should be.
    Fine,
    /// Something did not work.
    Failed,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// The language of a tag such as `zh-CN`, or of an `Accept-Language` header that begins with it; English otherwise.
    pub fn of(tag: &str) -> Self {
        let first = tag.trim_start().get(..2).unwrap_or_default();
        if first.eq_ignore_ascii_case("zh") { Self::Chinese } else { Self::English }
    }

    /// Its tag.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }
}

impl Reason {
    /// Sentence and fix in one line of a log or an answer.
    pub fn text(self) -> String {
        let Words { sentence, fix } = self.words(Language::English);
        if fix.is_empty() { sentence.to_owned() } else { format!("{sentence}: {fix}") }
    }

    /// The same as it stands behind the name of a protocol, such as `TLS: ...`.
    pub fn advice(self) -> String {
        let Words { sentence, fix } = self.words(Language::English);
        format!("{sentence}; {fix}")
    }

    /// The English sentence, for the log.
    pub fn sentence(self) -> &'static str {
        self.words(Language::English).sentence
    }

    /// The English fix, for the log.
    pub fn fix(self) -> &'static str {
        self.words(Language::English).fix
    }

    /// Whether something did not work.
    pub fn is_failure(self) -> bool {
        self.outcome() == Outcome::Failed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn is_name(name: &str) -> bool {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'0'..=b'9' | b'_'))
    }

    #[test]
    fn every_number_and_name_is_there_once_and_read_back() {
        let numbers: HashSet<u8> = Reason::ALL.iter().map(|reason| *reason as u8).collect();
        let codes: HashSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();

        assert_eq!((numbers.len(), codes.len()), (Reason::ALL.len(), Reason::ALL.len()));
        for reason in Reason::ALL {
            assert_eq!(Reason::of(*reason as u8), Some(*reason));
            assert!(*reason == Reason::None || is_name(reason.code()), "{reason:?}");
        }
        assert_eq!(Reason::of(255), None, "of a newer version");
    }

    #[test]
    fn every_reason_has_a_sentence_and_every_failure_a_fix_in_both_languages() {
        for reason in Reason::ALL.iter().filter(|reason| **reason != Reason::None) {
            for language in Language::ALL {
                let Words { sentence, fix } = reason.words(language);
                assert!(!sentence.is_empty(), "{reason:?}");
                assert_eq!(!fix.is_empty(), reason.is_failure(), "{reason:?} in {language:?}");
                assert!(!sentence.ends_with(['.', '。']) && !fix.ends_with(['.', '。']), "{reason:?}");
                let is_chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..'\u{9fff}').contains(&c));
                assert_eq!(is_chinese(sentence), language == Language::Chinese, "{reason:?}");
                assert_eq!(!fix.is_empty() && is_chinese(fix), language == Language::Chinese && !fix.is_empty());
            }
        }
    }

    #[test]
    fn every_kind_has_a_number_a_name_and_a_word_in_both_languages() {
        let numbers: HashSet<u8> = Kind::ALL.iter().map(|kind| *kind as u8).collect();
        let names: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();

        assert_eq!((numbers.len(), names.len()), (Kind::ALL.len(), Kind::ALL.len()));
        for kind in Kind::ALL {
            assert_eq!((Kind::of(*kind as u8), is_name(kind.as_str())), (Some(*kind), true), "{kind:?}");
            assert!(Language::ALL.iter().all(|language| !kind.word(*language).is_empty()), "{kind:?}");
        }
        assert_eq!((Kind::of(0), Kind::of(255)), (None, None));
    }

    #[test]
    fn a_language_is_found_by_its_tag() {
        for (tag, language) in [
            ("zh", Language::Chinese),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
            ("ZH-tw", Language::Chinese),
            ("en-GB,zh", Language::English),
            ("", Language::English),
            ("é", Language::English),
        ] {
            assert_eq!(Language::of(tag), language, "{tag}");
        }
        assert!(Language::ALL.iter().all(|language| Language::of(language.as_str()) == *language));
    }

    #[test]
    fn a_line_is_sentence_and_fix() {
        assert_eq!(Reason::TicketExpired.text(), "this connect URL has expired: ask for a new tunnel");
        assert_eq!(Reason::BreakerClosed.text(), "the business server responds again");
    }
}

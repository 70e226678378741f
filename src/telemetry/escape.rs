//! Makes a value safe for a log line: one line, no terminal control sequences, bounded length.

use std::fmt;
use std::fmt::Write;

/// Longest field value, in bytes.
const FIELD_BYTES: usize = 256;

/// Longest message, and longest error with its sources, in bytes.
const TEXT_BYTES: usize = 1024;

/// A value as text, cut at a limit.
pub(super) struct Value {
    text: String,
    limit: usize,
    is_cut: bool,
}

impl Value {
    /// An empty value of the field `name`.
    pub(super) fn of_field(name: &str) -> Self {
        let limit = if matches!(name, "message" | "error" | "panic.message") { TEXT_BYTES } else { FIELD_BYTES };
        Self { text: String::new(), limit, is_cut: false }
    }

    /// Appends what `arguments` print, up to the limit.
    pub(super) fn add(mut self, arguments: fmt::Arguments<'_>) -> Self {
        // An error means that the value is full or cannot be formatted: the text so far is used.
        let _ = self.write_fmt(arguments);
        self
    }

    /// The text, with an ellipsis if it was cut.
    pub(super) fn into_text(mut self) -> String {
        if self.is_cut {
            self.text.push('…');
        }
        self.text
    }
}

impl Write for Value {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.limit.saturating_sub(self.text.len());
        let end = text.floor_char_boundary(room);
        self.text.push_str(&text[..end]);
        self.is_cut |= end < text.len();
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Writes `text` on one line.
pub(super) fn line(out: &mut dyn Write, text: &str) -> fmt::Result {
    text.chars().try_for_each(|c| if is_plain(c) { out.write_char(c) } else { write!(out, "{}", c.escape_debug()) })
}

/// Writes `text` so that no part of it looks like another field: quoted unless it is one plain word.
pub(super) fn word(out: &mut dyn Write, text: &str) -> fmt::Result {
    let is_word = |c: char| is_plain(c) && !c.is_whitespace() && !matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(is_word) {
        return out.write_str(text);
    }
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}")?,
            c if is_plain(c) => out.write_char(c)?,
            c => write!(out, "{}", c.escape_debug())?,
        }
    }
    out.write_char('"')
}

/// Writes `text` as a JSON string with invisible characters escaped.
pub(super) fn json(out: &mut dyn Write, text: &str) -> fmt::Result {
    let quoted = serde_json::to_string(text).map_err(|_| fmt::Error)?;
    for c in quoted.chars() {
        if is_plain(c) {
            out.write_char(c)?;
        } else {
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
        }
    }
    Ok(())
}

/// Whether `c` is printed unchanged: not a control character or a bidirectional override.
fn is_plain(c: char) -> bool {
    matches!(c, ' ' | '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "a\r\nb\u{1b}[31m\u{9b}c\u{7f}\u{202e}\u{2028}\0 d=\"e\\";

    fn written(write: fn(&mut dyn Write, &str) -> fmt::Result, text: &str) -> String {
        let mut out = String::new();
        write(&mut out, text).expect("strings take everything");
        out
    }

    #[test]
    fn nothing_breaks_out_of_a_line() {
        for write in [line, word, json] {
            let text = written(write, NASTY);
            assert!(text.chars().all(is_plain), "{text:?}");
        }
        assert_eq!(written(line, "老王 said: \"it's\\ok\""), "老王 said: \"it's\\ok\"");
    }

    #[test]
    fn what_is_not_one_word_is_quoted() {
        assert_eq!(written(word, "plain-词"), "plain-词");
        assert_eq!(written(word, ""), "\"\"");
        assert_eq!(written(word, "a level=error"), "\"a level=error\"");
        assert_eq!(written(word, "a\"b"), r#""a\"b""#);
    }

    #[test]
    fn json_is_read_back_as_it_was() {
        let text = written(json, NASTY);

        assert_eq!(serde_json::from_str::<String>(&text).expect("a JSON string"), NASTY);
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let text = Value::of_field("host").add(format_args!("a{}", "密".repeat(1000))).into_text();

        assert!(text.len() <= FIELD_BYTES + '…'.len_utf8(), "{} bytes", text.len());
        assert!(text.ends_with("密…"), "{text}");
        assert_eq!(
            Value::of_field("host").add(format_args!("{}", "x".repeat(FIELD_BYTES))).into_text().len(),
            FIELD_BYTES
        );
    }
}

//! JSON in ASCII, escaped as PHP does: the Java SDK decodes answers in the charset of its platform.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// `value` as JSON that has only ASCII characters.
pub(super) fn to_ascii<T: Serialize>(value: &T) -> String {
    let mut text = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(&mut text, Ascii)).expect("strings and numbers always serialise");
    String::from_utf8(text).expect("ASCII is UTF-8")
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut units = [0; 2];
        let mut plain = 0;
        for (at, char) in fragment.char_indices() {
            if char.is_ascii() && char != '/' {
                continue;
            }
            writer.write_all(&fragment.as_bytes()[plain..at])?;
            plain = at + char.len_utf8();
            if char == '/' {
                writer.write_all(b"\\/")?;
                continue;
            }
            for unit in char.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        writer.write_all(&fragment.as_bytes()[plain..])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_escaped_as_php_does() {
        assert_eq!(to_ascii(&"三木/😀"), r#""\u4e09\u6728\/\ud83d\ude00""#);
        assert_eq!(to_ascii(&"a\"\\\n\u{1}\u{7f}"), "\"a\\\"\\\\\\n\\u0001\u{7f}\"");
    }

    proptest! {
        #[test]
        fn any_text_is_ascii_and_reads_back(text: String) {
            let written = to_ascii(&text);
            prop_assert!(written.is_ascii());
            prop_assert_eq!(serde_json::from_str::<String>(&written).expect("JSON"), text);
        }
    }
}

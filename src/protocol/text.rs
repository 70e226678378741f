//! Text helpers shared by the protocols.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use data_encoding::HEXLOWER;
use md5::Digest;
use md5::Md5;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;

/// `bytes` as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// MD5 of `text` as 32 lower-case hexadecimal digits: the `tcId` that a Wafer SDK derives from the ServerHost.
///
/// ```
/// assert_eq!(wafergate::protocol::text::md5_hex("127.0.1.11"), "972536d1f67ab5d13fde0b9390e3cd5c");
/// ```
pub fn md5_hex(text: &str) -> String {
    hex(&Md5::digest(text))
}

/// A JSON document without the byte order mark that some programs prepend.
pub fn without_bom(json: &[u8]) -> &[u8] {
    json.strip_prefix("\u{feff}".as_bytes()).unwrap_or(json)
}

/// A JSON string as JavaScript reads it.
///
/// JSON can contain half a surrogate pair (`"\ud800"`), which UTF-8 and thus a WebSocket text frame cannot. Browsers replace it
/// by U+FFFD when sending; so does this type, instead of rejecting the whole document.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Text, E> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Text(text.to_owned())),
            Err(_) => {
                String::from_utf8(replace_surrogates(bytes)).map(Text).map_err(|_| E::custom("text is not UTF-8"))
            }
        }
    }
}

/// Replaces each encoded half of a surrogate pair (`ED A0..BF xx`, invalid in UTF-8) by U+FFFD.
fn replace_surrogates(bytes: &[u8]) -> Vec<u8> {
    let mut text = bytes.to_vec();
    let mut at = 0;
    while let Some([first, second, _]) = text.get(at..at + 3) {
        if *first == 0xed && *second >= 0xa0 {
            text[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
        }
        at += 1;
    }
    text
}

/// Deserialises a JSON object as `T`. serde alone would also accept an array of the field values.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// `text` with everything but printable ASCII escaped, at most `max_bytes` long: safe for any log and charset.
pub fn printable(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut short: String = text.chars().take(max_bytes).flat_map(char::escape_default).collect();
    if short.len() > max_bytes || text.len() > max_bytes {
        short.truncate(max_bytes);
        short.push_str("...");
    }
    Cow::Owned(short)
}

/// Describes a JSON error without any value of the document, which may be a key.
pub fn json_defect(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let Some((found, expected)) = message.split_once(", expected") else {
        return printable(&message, 200).into_owned();
    };
    let kind = found.split(['`', '"']).next().unwrap_or_default().trim_end();
    printable(&format!("{kind}, expected{expected}"), 200).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Text {
        serde_json::from_str(json).expect("valid")
    }

    #[test]
    fn ordinary_text_is_read_as_it_is() {
        assert_eq!(read(r#""a\/\u4e2d\ud83d\ude00\n""#).0, "a/中😀\n");
        assert_eq!(read("\"\"").0, "");
    }

    #[test]
    fn half_a_surrogate_pair_becomes_one_replacement_character() {
        assert_eq!(read(r#""a\ud800b\udfff""#).0, "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn what_is_not_a_string_is_refused() {
        for json in ["1", "null", "{}", "[1,2]", "true"] {
            assert!(serde_json::from_str::<Text>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn printable_text_cannot_break_a_log_line() {
        assert_eq!(printable("plain", 10), "plain");
        assert_eq!(printable("a\r\n\u{1b}[31m中", 100), r"a\r\n\u{1b}[31m\u{4e2d}");
        assert_eq!(printable("abcdef", 3), "abc...");
    }

    #[test]
    fn a_defect_is_described_without_the_value() {
        let defect = |json: &str| json_defect(&serde_json::from_str::<Vec<Text>>(json).expect_err("not strings"));

        assert_eq!(defect("[12345]"), "invalid type: integer, expected a string at line 1 column 6");
        assert_eq!(defect("\"hunter2\""), "invalid type: string, expected a sequence at line 1 column 9");
        assert_eq!(defect("[\"a\""), "EOF while parsing a list at line 1 column 4");
    }

    #[test]
    fn a_tc_id_is_the_md5_of_the_server_host() {
        assert_eq!(md5_hex("127.0.1.13:18013"), "3019aadb33cbbcf215f54263cc3f2e9e");
    }
}

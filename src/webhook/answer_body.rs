//! Parses the body of a 2xx response. Servers add noise to their JSON: a byte order mark, a PHP notice, another
//! encoding. The body is accepted only if it has one possible meaning.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::io::Read;

use flate2::read::DeflateDecoder;
use flate2::read::GzDecoder;
use flate2::read::ZlibDecoder;
use serde::de::IgnoredAny;

use crate::http_client::answer::Answer;
use crate::http_client::answer::Coding;
use crate::http_client::answer::End;
use crate::http_client::answer::MAX_BODY_BYTES;
use crate::protocol::native::Action;
use crate::protocol::wafer;

/// The start of a gzip body, whatever its headers say. No text starts with it.
const GZIP: &[u8] = &[0x1f, 0x8b, 8];

/// Contained in every response with actions.
const ACTIONS: &[u8] = b"actions";

/// The content of a body.
#[derive(Debug, Eq, PartialEq)]
enum Body<'a> {
    /// Nothing for the gateway.
    Nothing,
    /// The only JSON object in the body.
    Object(Cow<'a, [u8]>),
    /// Possibly something, but unreadable for this reason.
    Unreadable(Cow<'static, str>),
}

/// Whether a Wafer business server accepts the event.
///
/// # Errors
///
/// If the body cannot be parsed, with the reason.
pub(super) fn is_accepted(answer: &Answer) -> Result<bool, String> {
    // Fast path for the most common body.
    if wafer::is_accepted(&answer.body) {
        return Ok(true);
    }
    match content(answer) {
        Body::Nothing => Ok(false),
        Body::Object(text) => Ok(wafer::is_accepted(&text)),
        Body::Unreadable(reason) => Err(reason.into_owned()),
    }
}

/// The actions in a response.
///
/// # Errors
///
/// If they cannot be parsed, with the reason; none must be executed then.
pub(super) fn actions(answer: &Answer) -> Result<Vec<Action>, String> {
    let body = answer.body.trim_ascii();
    // Fast path: an ASCII object without the word `actions`.
    let is_silent = matches!(body, [] | [b'{', 1..=0xff, ..]) && !contains(body, ACTIONS);
    if is_silent && matches!(answer.end, End::Whole) {
        return Ok(vec![]);
    }
    match content(answer) {
        Body::Nothing => Ok(vec![]),
        Body::Object(text) => Action::parse_all(&text),
        Body::Unreadable(reason) => Err(reason.into_owned()),
    }
}

/// Why the body of a 2xx response without actions is hardly one of a business server that knows this API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Doubt {
    /// An HTML or XML page.
    Page,
    /// Actions outside of the member `actions`.
    Misplaced,
    /// A JSON array.
    Array,
}

impl Doubt {
    /// Its name in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Misplaced => "misplaced",
            Self::Array => "array",
        }
    }

    /// What is wrong, and what to change.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Page => {
                "the webhook was answered by a web page, as of a login or a proxy: let the URL lead to the handler of events"
            }
            Self::Misplaced => "the response names an action outside of \"actions\": write {\"actions\": [{...}]}",
            Self::Array => "the response is an array: write {\"actions\": [{...}]}",
        }
    }
}

/// The doubt about a response whose [`actions`] are none.
pub(super) fn doubt(answer: &Answer) -> Option<Doubt> {
    /// The members of an action, and near misses of `actions`.
    const MEMBERS: [&str; 6] = ["action", "push", "join", "leave", "user", "close"];
    let body = answer.body.trim_ascii();
    match body.first()? {
        b'<' => Some(Doubt::Page),
        b'[' => {
            let objects: Vec<HashMap<String, IgnoredAny>> = serde_json::from_slice(body).ok()?;
            let names_one = |object: &HashMap<String, _>| MEMBERS.iter().any(|name| object.contains_key(*name));
            objects.iter().any(names_one).then_some(Doubt::Array)
        }
        b'{' => {
            let object: HashMap<String, IgnoredAny> = serde_json::from_slice(body).ok()?;
            let names_one = MEMBERS.iter().any(|name| object.contains_key(*name));
            (names_one && !object.contains_key("actions")).then_some(Doubt::Misplaced)
        }
        _ => None,
    }
}

/// Bytes of the body that parsing takes on; unknown for a packed one, so its limit.
pub(super) fn plain_bytes(answer: &Answer) -> usize {
    let is_packed = answer.coding != Coding::None || answer.body.starts_with(GZIP);
    if is_packed { MAX_BODY_BYTES } else { answer.body.len() }
}

fn content(answer: &Answer) -> Body<'_> {
    let missing = match &answer.end {
        End::Whole => None,
        End::Cut => Some(format!("only its first {MAX_BODY_BYTES} bytes are read")),
        End::Broken(error) => Some(error.reason().into_owned()),
    };
    let plain = match decode(answer.coding, &answer.body) {
        Ok(plain) => plain,
        Err(reason) => return Body::Unreadable(missing.map_or(reason.into(), Cow::Owned)),
    };
    let is_cut = missing.is_some() || plain.len() > MAX_BODY_BYTES;
    let text = match plain {
        Cow::Borrowed(bytes) => as_utf8(bytes),
        Cow::Owned(bytes) => as_utf8(&bytes).map(|text| Cow::Owned(text.into_owned())),
    };
    let text = match text {
        Ok(text) => text,
        Err(reason) => return Body::Unreadable(missing.map_or(reason.into(), Cow::Owned)),
    };
    // The missing part may hold another object, unless a whole one starts the body.
    match only_object(&text) {
        Ok(Some((start, end))) if !is_cut || start == 0 => Body::Object(match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[start..end]),
            Cow::Owned(text) => Cow::Owned(text[start..end].to_vec()),
        }),
        _ if is_cut => {
            Body::Unreadable(missing.unwrap_or_else(|| "it is too long when it is unpacked".to_owned()).into())
        }
        Err(reason) if asks(&text) => Body::Unreadable(reason),
        Ok(None) if asks(&text) => Body::Unreadable("it is not JSON".into()),
        Ok(_) | Err(_) => Body::Nothing,
    }
}

/// The decoded body, limited to a little more than the maximum.
fn decode(coding: Coding, body: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    let unpacked = match coding {
        _ if body.starts_with(GZIP) => unpack(GzDecoder::new(body)),
        // A proxy may have decoded the body without updating the header.
        _ if body.is_empty() || body.trim_ascii().starts_with(b"{") => return Ok(Cow::Borrowed(body)),
        Coding::None | Coding::Gzip => return Ok(Cow::Borrowed(body)),
        Coding::Deflate => unpack(ZlibDecoder::new(body)).or_else(|_| unpack(DeflateDecoder::new(body))),
        Coding::Unknown => return Err("it is in a Content-Encoding that was not asked for"),
    };
    unpacked.map(Cow::Owned).map_err(|_| "it cannot be unpacked")
}

fn unpack(packed: impl Read) -> io::Result<Vec<u8>> {
    let mut plain = vec![];
    packed.take(MAX_BODY_BYTES as u64 + 1).read_to_end(&mut plain)?;
    Ok(plain)
}

/// The body without byte order mark and white space, converted from UTF-16 to UTF-8. Other encodings that contain ASCII
/// stay as they are.
fn as_utf8(body: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    let (unit, body): (fn([u8; 2]) -> u16, _) = match *body {
        [0xff, 0xfe, ref body @ ..] => (u16::from_le_bytes, body),
        [0xfe, 0xff, ref body @ ..] => (u16::from_be_bytes, body),
        [first, 0, ..] if first != 0 => (u16::from_le_bytes, body),
        [0, _, ..] => (u16::from_be_bytes, body),
        _ => {
            let mut text = body.trim_ascii();
            while let Some(rest) = text.strip_prefix("\u{feff}".as_bytes()) {
                text = rest.trim_ascii();
            }
            return Ok(Cow::Borrowed(text));
        }
    };
    let (units, rest) = body.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(units.iter().map(|bytes| unit(*bytes))).collect();
    match text {
        Ok(text) if rest.is_empty() && !text.contains('\0') => {
            Ok(Cow::Owned(text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}').as_bytes().to_vec()))
        }
        _ => Err("it is neither in UTF-8 nor in UTF-16"),
    }
}

/// Start and end of the JSON object in `text`, if there is exactly one.
fn only_object(text: &[u8]) -> Result<Option<(usize, usize)>, Cow<'static, str>> {
    if !text.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        return if text.is_empty() { Ok(None) } else { Err("it is JSON, but no object".into()) };
    }
    let mut found = None;
    let mut at = 0;
    while let Some(start) = text[at..].iter().position(|byte| *byte == b'{').map(|offset| at + offset) {
        at = start + 1;
        // Other braces are not JSON, as in style sheets and dumps.
        if !matches!(text[at..].trim_ascii_start().first(), Some(b'"' | b'}')) {
            continue;
        }
        let mut values = serde_json::Deserializer::from_slice(&text[start..]).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => at = start + values.byte_offset(),
            Some(Err(error)) => return Err(format!("it is not JSON: {error}").into()),
            None => return Err("it is not JSON".into()),
        }
        if found.replace((start, at)).is_some() {
            return Err("there are several JSON objects in it".into());
        }
    }
    Ok(found)
}

/// Whether a text that is not a JSON object seems to contain actions: the word in any quotes before a colon.
fn asks(text: &[u8]) -> bool {
    text.windows(ACTIONS.len()).enumerate().any(|(at, window)| {
        let behind = &text[at + ACTIONS.len()..];
        let mut behind = behind.iter().skip_while(|byte| matches!(byte, b'"' | b'\'' | b'\\' | b' '));
        window == ACTIONS && behind.next() == Some(&b':')
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
#[path = "answer_body_tests.rs"]
mod tests;

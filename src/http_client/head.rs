//! Parses the head of a response, as tolerantly as curl and browsers do. Pure: the caller feeds bytes.
//!
//! Tolerance allows no request smuggling: a connection has one request in flight, and is closed after a defect.

use std::borrow::Cow;

use hyper::StatusCode;

use crate::http_client::answer::Coding;
use crate::http_client::answer::MAX_HEAD_BYTES;
use crate::http_client::malformed::Malformed;

/// Limit of header lines.
const MAX_LINES: usize = 256;

/// The fields of a response head that the gateway needs.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// `Retry-After` as received.
    pub(crate) retry_after: Option<String>,
    /// `Date` as received, if there is a `Retry-After`.
    pub(crate) date: Option<String>,
    pub(crate) framing: Framing,
    pub(crate) coding: Coding,
    /// Whether the connection can be reused after this response.
    pub(crate) may_be_kept: bool,
    /// A defect that was tolerated.
    pub(crate) defect: Option<&'static str>,
    /// Length of the head in bytes.
    pub(crate) length: usize,
}

/// Where the body of a response ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
    /// The length is unreadable, and the connection stays open.
    Unclear,
    /// A body where none is allowed.
    Forbidden,
}

/// Parses the head at the start of `bytes`, once it is complete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut lines = Lines { bytes, at: 0, defect: None };
    let Some(line) = lines.first() else {
        let begun = &bytes[lines.at..];
        let is_http = begun.iter().zip(b"HTTP/").all(|(byte, wanted)| byte.eq_ignore_ascii_case(wanted));
        return match () {
            () if !is_http && begun != b"\r" => Err(Malformed::NotHttp),
            () if bytes.len() >= MAX_HEAD_BYTES => Err(Malformed::HeadTooLarge),
            () => Ok(None),
        };
    };
    let (status, is_http11) = status_line(line, &mut lines.defect).ok_or(Malformed::NotHttp)?;
    let mut fields = Fields::default();
    let mut field: Option<(&[u8], Cow<'_, [u8]>)> = None;
    for _ in 0..=MAX_LINES {
        let Some(line) = lines.next() else {
            return if bytes.len() < MAX_HEAD_BYTES { Ok(None) } else { Err(Malformed::HeadTooLarge) };
        };
        if lines.at > MAX_HEAD_BYTES {
            return Err(Malformed::HeadTooLarge);
        }
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            lines.defect = Some("a folded line");
            if let Some((_, value)) = &mut field {
                value.to_mut().push(b' ');
                value.to_mut().extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        if let Some((name, value)) = field.take() {
            fields.take(name, value, &mut lines.defect);
        }
        if line.is_empty() {
            return Ok(Some(fields.head(status, is_http11, lines)));
        }
        field = split_field(line, &mut lines.defect);
    }
    Err(Malformed::HeadTooLarge)
}

/// The status of an incomplete head, once its status line is complete or longer than a whole head may be. `None` for an
/// interim response.
pub(crate) fn status(bytes: &[u8]) -> Option<StatusCode> {
    let mut lines = Lines { bytes, at: 0, defect: None };
    let line = match lines.first() {
        Some(line) => line,
        None if bytes.len() >= MAX_HEAD_BYTES => &bytes[lines.at..],
        None => return None,
    };
    let (status, _) = status_line(line, &mut lines.defect)?;
    (!is_interim(status)).then_some(status)
}

/// Whether another response follows this one.
pub(crate) fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// The status, and whether the server uses HTTP/1.1.
fn status_line(line: &[u8], defect: &mut Option<&'static str>) -> Option<(StatusCode, bool)> {
    let (name, rest) = line.split_at_checked(5)?;
    let (version, rest) = split_while(rest, |byte| byte.is_ascii_digit() || byte == b'.');
    let (space, rest) = split_while(rest, |byte| matches!(byte, b' ' | b'\t'));
    if !name.eq_ignore_ascii_case(b"HTTP/") || version.is_empty() || space.is_empty() {
        return None;
    }
    let (code, reason) = rest.split_at_checked(3)?;
    if reason.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let is_clean = name == b"HTTP/" && matches!(version, b"1.1" | b"1.0") && space == b" ";
    if !is_clean || !matches!(reason.first(), None | Some(b' ')) || has_control(reason) {
        *defect = Some("an odd status line");
    }
    Some((StatusCode::from_bytes(code).ok()?, version == b"1.1"))
}

/// Name and value of a line; `None` without a name.
fn split_field<'a>(line: &'a [u8], defect: &mut Option<&'static str>) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.unwrap_or(0));
    if colon.is_none() || name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        *defect = Some("a line without a valid name");
    }
    if has_control(value) {
        *defect = Some("a control character in a line");
    }
    let name = name.trim_ascii();
    (!name.is_empty()).then(|| (name, Cow::Borrowed(value[1..].trim_ascii())))
}

fn split_while(bytes: &[u8], is_wanted: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| !is_wanted(*byte)).unwrap_or(bytes.len()))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
}

/// Splits a head into lines.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    defect: Option<&'static str>,
}

impl<'a> Lines<'a> {
    /// The next line without its end, once it is complete.
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        self.at += end + 1;
        let Some(mut line) = rest[..end].strip_suffix(b"\r") else {
            self.defect = Some("a line that ends without CR");
            return Some(&rest[..end]);
        };
        while let Some(shorter) = line.strip_suffix(b"\r") {
            self.defect = Some("a line that ends with several CR");
            line = shorter;
        }
        Some(line)
    }

    /// The first line that is not empty.
    fn first(&mut self) -> Option<&'a [u8]> {
        let mut line = self.next()?;
        while line.is_empty() {
            self.defect = Some("an empty line before the status line");
            line = self.next()?;
        }
        Some(line)
    }
}

/// The header fields.
#[derive(Default)]
struct Fields<'a> {
    retry_after: Option<Cow<'a, [u8]>>,
    date: Option<Cow<'a, [u8]>>,
    length: Length,
    is_chunked: bool,
    /// Whether the transfer coding is not chunked: the body then ends with the connection.
    is_recoded: bool,
    coding: Coding,
    closes: bool,
}

/// The state of `Content-Length`.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Length {
    #[default]
    Absent,
    Known(u64),
    /// Not a number, or several that differ.
    Unclear,
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: &[u8], value: Cow<'a, [u8]>, defect: &mut Option<&'static str>) {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        if is(b"content-length") {
            self.take_length(&value, defect);
        } else if is(b"transfer-encoding") {
            self.take_transfer_encoding(&value, defect);
        } else if is(b"content-encoding") {
            list(&value).for_each(|coding| self.coding = self.coding.within(coding));
        } else if is(b"connection") {
            self.closes |= list(&value).any(|option| option.eq_ignore_ascii_case(b"close"));
        } else if is(b"retry-after") {
            self.retry_after = Some(value);
        } else if is(b"date") {
            self.date = Some(value);
        }
    }

    fn take_length(&mut self, value: &[u8], defect: &mut Option<&'static str>) {
        for part in value.split(|byte| *byte == b',') {
            if self.length != Length::Absent {
                *defect = Some("several lengths");
            }
            self.length = match (self.length, parse_length(part.trim_ascii())) {
                (Length::Absent, Some(length)) => Length::Known(length),
                (Length::Known(known), Some(length)) if known == length => Length::Known(known),
                _ => Length::Unclear,
            };
        }
    }

    fn take_transfer_encoding(&mut self, value: &[u8], defect: &mut Option<&'static str>) {
        if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
            *defect = Some("a Transfer-Encoding other than chunked");
        }
        for coding in list(value) {
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.is_chunked = true;
            } else if !coding.eq_ignore_ascii_case(b"identity") {
                self.is_recoded = true;
                self.coding = self.coding.within(coding);
            }
        }
    }

    fn head(self, status: StatusCode, is_http11: bool, lines: Lines<'_>) -> Head {
        let mut defect = lines.defect;
        let has_no_body =
            matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS);
        if self.is_chunked && self.length != Length::Absent {
            defect = Some("both Content-Length and Transfer-Encoding");
        }
        let has_length = !matches!(self.length, Length::Absent | Length::Known(0));
        let is_forbidden = status == StatusCode::NO_CONTENT && (self.is_chunked || has_length);
        if is_forbidden {
            defect = Some("204 with a body");
        }
        let framing = match self.length {
            _ if is_forbidden => Framing::Forbidden,
            _ if has_no_body => Framing::Length(0),
            _ if self.is_chunked => Framing::Chunked,
            _ if self.is_recoded => Framing::UntilClose,
            Length::Known(length) => Framing::Length(length),
            Length::Unclear if is_http11 && !self.closes => Framing::Unclear,
            Length::Absent | Length::Unclear => Framing::UntilClose,
        };
        let retry_after = self.retry_after.and_then(text);
        Head {
            status,
            date: retry_after.as_ref().and(self.date).and_then(text),
            retry_after,
            framing,
            coding: self.coding,
            // HTTP/1.0 closes, and after a protocol switch the server no longer speaks HTTP.
            may_be_kept: is_http11
                && !self.closes
                && defect.is_none()
                && framing != Framing::Unclear
                && status != StatusCode::SWITCHING_PROTOCOLS,
            defect,
            length: lines.at,
        }
    }
}

fn text(value: Cow<'_, [u8]>) -> Option<String> {
    String::from_utf8(value.into_owned()).ok()
}

/// The non-empty elements of a list.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty())
}

fn parse_length(value: &[u8]) -> Option<u64> {
    // `parse` would also accept a sign.
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;

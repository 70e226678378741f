//! Parses what proxies add about the hops of a request, nearest first: `X-Forwarded-*`, and `Forwarded` of RFC 7239.
//!
//! All lists are read from the right: values that the client wrote are on the left and cannot affect those of the proxies.

use std::borrow::Cow;
use std::iter;
use std::net::IpAddr;

use hyper::HeaderMap;

/// The addresses that proxies received the request from.
pub(super) const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// The schemes of those connections.
pub(super) const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Both in one standard header.
pub(super) const FORWARDED: &str = "forwarded";

/// What a proxy says about the connection that a request arrived on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hop {
    /// The remote address; none if it is hidden, missing or not an IP address.
    pub(super) address: Option<IpAddr>,
    /// Whether it used TLS; none if unknown.
    pub(super) is_tls: Option<bool>,
}

/// The hops of `X-Forwarded-For` and `X-Forwarded-Proto`, matched by position from the right.
///
/// If a proxy overwrites or passes on the scheme, the lists differ in length: then the last scheme applies.
pub(super) fn x_forwarded(headers: &HeaderMap) -> impl Iterator<Item = Hop> {
    let entries = |name| {
        let lines = headers.get_all(name).iter().rev();
        lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(text)
    };
    let (mut addresses, mut schemes) = (entries(X_FORWARDED_FOR), entries(X_FORWARDED_PROTO));
    iter::from_fn(move || {
        let (address, scheme) = (addresses.next(), schemes.next());
        let is_there = address.is_some() || scheme.is_some();
        is_there.then(|| Hop { address: address.and_then(node), is_tls: scheme.map(is_tls) })
    })
}

/// The hops of `Forwarded`. An element that cannot be parsed or has no scheme does not count as TLS.
pub(super) fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = Hop> {
    let elements = headers.get_all(FORWARDED).iter().rev().flat_map(|line| elements(line.as_bytes()));
    elements
        .map(text)
        .filter(|element| !element.is_empty())
        .map(|element| element_hop(element).unwrap_or(Hop { address: None, is_tls: Some(false) }))
}

/// A list entry as text; invalid text counts as unknown.
fn text(entry: &[u8]) -> &str {
    str::from_utf8(entry).unwrap_or("?").trim()
}

fn is_tls(scheme: &str) -> bool {
    ["https", "wss"].iter().any(|tls| tls.eq_ignore_ascii_case(scheme))
}

/// An address, optionally with a port or in brackets.
fn node(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(_, port)| port.is_empty() || port.starts_with(':'))?.0,
        None => text.split_once(':').filter(|(_, port)| !port.contains(':')).map_or(text, |(bare, _)| bare),
    };
    bare.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// The elements of a list, last one first. Commas in quoted strings do not separate.
fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    iter::from_fn(move || {
        let line = rest?;
        let comma = last_comma(line);
        rest = comma.map(|comma| &line[..comma]);
        Some(&line[comma.map_or(0, |comma| comma + 1)..])
    })
}

fn last_comma(line: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    line.iter().enumerate().rev().find_map(|(at, byte)| {
        is_quoted ^= *byte == b'"' && !is_escaped(&line[..at]);
        (*byte == b',' && !is_quoted).then_some(at)
    })
}

/// Whether `before` ends with an odd number of backslashes.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

fn element_hop(element: &str) -> Option<Hop> {
    let (mut address, mut scheme) = (None, None);
    for pair in pairs(element).map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = unquoted(value.trim())?;
        let place = match name.trim().to_ascii_lowercase().as_str() {
            "for" => &mut address,
            "proto" => &mut scheme,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    let is_tls = scheme.is_some_and(|scheme| is_tls(&scheme));
    Some(Hop { address: address.and_then(|address| node(&address)), is_tls: Some(is_tls) })
}

/// The parameters of an element. Semicolons in quoted strings do not separate.
fn pairs(element: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    element.split(move |letter| {
        is_quoted ^= letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && is_quoted && !is_escaped;
        letter == ';' && !is_quoted
    })
}

/// A value without quotes, if it has them.
fn unquoted(value: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = value.strip_prefix('"') else {
        return (!value.contains(['"', '\\'])).then_some(Cow::Borrowed(value));
    };
    let mut letters = rest.strip_suffix('"')?.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return None,
            '\\' => text.push(letters.next()?),
            _ => text.push(letter),
        }
    }
    Some(Cow::Owned(text))
}

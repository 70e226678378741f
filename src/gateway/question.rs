//! What nodes ask each other: to push to the tunnels that they own. In bytes, since one question may be for thousands of tunnels.
//!
//! A byte for the kind (1: push), the tenant, then packets: each an order (0 close, 1 text) with its content, and its tunnel ids,
//! 16 bytes each. Lengths are 4 bytes, big-endian. The answer is one byte for each id, in the same order.

use bytes::Buf;
use bytes::BufMut;

use crate::id::TunnelId;
use crate::protocol::wafer::Order;

const PUSH: u8 = 1;
const CLOSE: u8 = 0;
const TEXT: u8 = 1;

/// What a node says about one target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Said {
    /// It is not open there.
    NotMine,
    /// It has it, and did what was asked.
    Accepted,
    /// It has it, but its client does not read: it is closed.
    Slow,
}

/// A push to another node's tunnels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Question<'a> {
    pub(super) tenant: &'a str,
    pub(super) packets: Vec<(Asked<'a>, Vec<TunnelId>)>,
}

/// An order that borrows its content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked<'a> {
    Message(&'a str),
    Close,
}

impl<'a> From<&'a Order> for Asked<'a> {
    fn from(order: &'a Order) -> Self {
        match order {
            Order::Message(content) => Self::Message(content),
            Order::Close => Self::Close,
        }
    }
}

impl Asked<'_> {
    pub(super) fn to_order(self) -> Order {
        match self {
            Self::Message(content) => Order::Message(content.to_owned()),
            Self::Close => Order::Close,
        }
    }
}

impl<'a> Question<'a> {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = vec![PUSH];
        put(&mut bytes, self.tenant.as_bytes());
        for (order, tunnels) in &self.packets {
            match order {
                Asked::Close => bytes.put_u8(CLOSE),
                Asked::Message(content) => {
                    bytes.put_u8(TEXT);
                    put(&mut bytes, content.as_bytes());
                }
            }
            bytes.put_u32(length(tunnels.len()));
            tunnels.iter().for_each(|tunnel| bytes.extend(tunnel.to_bytes()));
        }
        bytes
    }

    /// Reads what [`write`](Self::write) wrote; none if it is something else, which a newer version may ask.
    pub(super) fn read(mut bytes: &'a [u8]) -> Option<Self> {
        if bytes.try_get_u8().ok()? != PUSH {
            return None;
        }
        let tenant = text(&mut bytes)?;
        let mut packets = vec![];
        while !bytes.is_empty() {
            let order = match bytes.try_get_u8().ok()? {
                CLOSE => Asked::Close,
                TEXT => Asked::Message(text(&mut bytes)?),
                _ => return None,
            };
            let count = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
            let (ids, rest) = bytes.split_at_checked(count.checked_mul(16)?)?;
            bytes = rest;
            let ids = ids.chunks_exact(16).map(|id| TunnelId::from_bytes(id.try_into().expect("16 bytes")));
            packets.push((order, ids.collect()));
        }
        Some(Self { tenant, packets })
    }
}

/// The answer as bytes.
pub(super) fn write_answer(said: impl IntoIterator<Item = Said>) -> Vec<u8> {
    let byte = |said| match said {
        Said::NotMine => 0,
        Said::Accepted => 1,
        Said::Slow => 2,
    };
    said.into_iter().map(byte).collect()
}

/// Reads an answer about `count` targets; none if it is something else.
pub(super) fn read_answer(bytes: &[u8], count: usize) -> Option<Vec<Said>> {
    let said = |byte: &u8| match byte {
        0 => Some(Said::NotMine),
        1 => Some(Said::Accepted),
        2 => Some(Said::Slow),
        _ => None,
    };
    if bytes.len() == count { bytes.iter().map(said).collect() } else { None }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("requests are far shorter")
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.put_u32(length(part.len()));
    bytes.extend(part);
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let count = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    let (part, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    std::str::from_utf8(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_back_as_it_was_written() {
        let tunnels = |count: u8| (0..count).map(|number| TunnelId::from_bytes([number; 16])).collect::<Vec<_>>();
        let question = Question {
            tenant: "972536d1f67ab5d13fde0b9390e3cd5c",
            packets: vec![
                (Asked::Message("三木"), tunnels(3)),
                (Asked::Close, tunnels(1)),
                (Asked::Message(""), vec![]),
            ],
        };
        let bytes = question.write();

        assert_eq!(Question::read(&bytes), Some(question));
        assert!(
            (1..bytes.len()).filter(|cut| Question::read(&bytes[..*cut]).is_some()).count() <= 3,
            "whole packets only"
        );
        assert_eq!(Question::read(&[2]), None);
        assert_eq!(Question::read(&[]), None);
    }

    #[test]
    fn an_answer_says_something_about_each_target() {
        let said = [Said::Accepted, Said::NotMine, Said::Slow];

        assert_eq!(read_answer(&write_answer(said), 3), Some(said.to_vec()));
        assert_eq!(read_answer(&write_answer(said), 4), None);
        assert_eq!(read_answer(&[7], 1), None);
    }
}

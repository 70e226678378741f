//! W3C Trace Context: the trace of a tunnel's events.

use serde::Deserialize;
use serde::Serialize;

use crate::id::TunnelId;
use crate::protocol::text::hex;

/// A trace that the events of a tunnel are part of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Trace {
    id: [u8; 16],
    flags: u8,
}

impl Trace {
    /// The trace of a tunnel requested without one: its id is made from the tunnel id, so that its events share a trace.
    pub fn of_tunnel(tunnel: TunnelId) -> Self {
        Self { id: tunnel.to_bytes(), flags: 1 }
    }

    /// The trace continued by a `traceparent` header; `None` if it is not valid, as the standard requires.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.trim().split('-');
        let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = bytes::<1>(version)?[0];
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let (id, parent) = (bytes::<16>(id)?, bytes::<8>(parent)?);
        if id == [0; 16] || parent == [0; 8] {
            return None;
        }
        Some(Self { id, flags: bytes::<1>(flags)?[0] & 1 })
    }

    /// What timelines keep of the trace and the span with this number: the last four bytes of each. The first ones of a trace are a
    /// time with some tracers.
    pub fn mark(&self, sequence: u64) -> u64 {
        let [.., a, b, c, d] = self.id;
        u64::from(u32::from_be_bytes([a, b, c, d])) << 32 | sequence & 0xffff_ffff
    }

    /// The same of a `traceparent` header: for one that a business server passes on as it came, that of the event.
    pub fn mark_of(traceparent: &str) -> Option<u64> {
        let trace = Self::parse(traceparent)?;
        let parent = traceparent.trim().split('-').nth(2).and_then(bytes::<8>)?;
        Some(trace.mark(u64::from_be_bytes(parent)))
    }

    /// The `traceparent` of the event with this number.
    pub fn parent(&self, sequence: u64) -> String {
        format!("00-{}-{:016x}-{:02x}", hex(&self.id), sequence.max(1), self.flags)
    }
}

fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_with_another_parent() {
        let trace = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").expect("valid");

        assert_eq!(trace.parent(7), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
        assert_eq!(Trace::parse(&trace.parent(7)), Some(trace));
    }

    #[test]
    fn an_event_and_a_push_that_passes_its_trace_on_have_the_same_mark() {
        let trace = Trace::of_tunnel(TunnelId::from_bytes([0xab; 16]));

        assert_eq!(trace.mark(7), 0xabab_abab_0000_0007);
        assert_eq!(Trace::mark_of(&trace.parent(7)), Some(trace.mark(7)));
        assert_eq!(Trace::mark_of("00-1-2-3"), None);
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Trace::mark_of(traceparent), Some(0x0e0e_4736_0ba9_02b7));
    }

    #[test]
    fn a_later_version_is_read_as_this_one() {
        let trace = Trace::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-what-comes-later");
        assert_eq!(trace.expect("valid").parent(1), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-00");
    }

    #[test]
    fn what_the_standard_forbids_is_no_trace() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-é4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Trace::parse(bad), None, "{bad}");
        }
    }
}

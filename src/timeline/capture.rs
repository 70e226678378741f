//! Copies of payloads, for minutes and only where a tenant asks for them.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use parking_lot::RwLock;
use serde::Deserialize;
use serde::Serialize;

use super::record::TenantNumber;
use crate::id::TunnelId;
use crate::protocol::connector::ConnectorName;
use crate::protocol::native::CaptureOf;
use crate::protocol::native::capture::MAX_PAYLOAD_BYTES;
use crate::reason::Kind;

/// Most captures of a tenant at a time, and of all.
const MAX_OF_TENANT: usize = 8;
const MAX_CAPTURES: usize = 64;
/// Memory for all payloads.
const ALL_BYTES: usize = 4 * 1024 * 1024;
/// Overhead of a payload beside its bytes: twice its key, and its entry in a table that is half full.
const OVERHEAD_BYTES: usize = 160;

/// The payloads that a tenant wants copied.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Of {
    /// Those of these tunnels.
    Tunnels(BTreeSet<[u8; 16]>),
    /// Those of all tunnels of this user.
    User(String),
    /// Those of all tunnels whose events go to the connector of this name.
    Connector(String),
}

impl From<CaptureOf> for Of {
    fn from(of: CaptureOf) -> Self {
        match of {
            CaptureOf::Tunnels(tunnels) => Self::Tunnels(tunnels.iter().map(|tunnel| tunnel.to_bytes()).collect()),
            CaptureOf::User(user) => Self::User(user.as_str().to_owned()),
            CaptureOf::Connector(name) => Self::Connector(name.as_str().to_owned()),
        }
    }
}

/// A copy of a payload, or of its beginning.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Payload {
    /// Whether it is not text.
    pub is_binary: bool,
    /// The copied bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// The length of the whole.
    pub length: u32,
}

/// There are too many captures.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{MAX_OF_TENANT} captures of this tenant, or {MAX_CAPTURES} of all, run at present: wait for the end of one, or end all with \"minutes\": 0"
)]
pub struct TooManyCaptures;

/// All captures of a node, and what they have copied.
#[derive(Debug, Default)]
pub struct Captures {
    /// Whether there are any: looked at for every message.
    is_on: AtomicBool,
    running: RwLock<Vec<Capture>>,
    copies: Mutex<Copies>,
}

#[derive(Debug, Default)]
struct Copies {
    payloads: HashMap<Key, Payload>,
    /// The same, the oldest one first.
    order: VecDeque<Key>,
    bytes: usize,
    /// The number of the last copy of a push.
    last_push: u32,
}

#[derive(Debug)]
struct Capture {
    tenant: TenantNumber,
    of: Of,
    until_ms: u64,
    max_bytes: usize,
}

/// Which record a payload belongs to: tunnel, kind, and the number of the event or of the copy.
type Key = (TunnelId, Kind, u32);

impl Captures {
    /// Copies payloads from now on until `until_ms`, at most `max_bytes` of each.
    ///
    /// # Errors
    ///
    /// If too many captures run.
    pub fn begin(
        &self,
        tenant: TenantNumber,
        of: Of,
        until_ms: u64,
        max_bytes: usize,
        now_ms: u64,
    ) -> Result<(), TooManyCaptures> {
        let mut running = self.running.write();
        running.retain(|capture| capture.until_ms > now_ms);
        let own = running.iter().filter(|capture| capture.tenant == tenant).count();
        if own >= MAX_OF_TENANT || running.len() >= MAX_CAPTURES {
            return Err(TooManyCaptures);
        }
        running.push(Capture { tenant, of, until_ms, max_bytes: max_bytes.min(MAX_PAYLOAD_BYTES) });
        self.is_on.store(true, Ordering::Release);
        Ok(())
    }

    /// Ends all captures of a tenant. What they have copied stays in its timelines until others need the place.
    pub fn end(&self, tenant: TenantNumber) {
        self.keep_running(|capture| capture.tenant != tenant);
    }

    fn keep_running(&self, stays: impl Fn(&Capture) -> bool) {
        let mut running = self.running.write();
        running.retain(stays);
        self.is_on.store(!running.is_empty(), Ordering::Release);
    }

    /// Whether any payload may be wanted: cheap.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// How many bytes of a payload of this tunnel are wanted; `user` returns its user.
    pub fn wanted(
        &self,
        tenant: TenantNumber,
        (tunnel, connector): (TunnelId, Option<&ConnectorName>),
        now_ms: u64,
        user: impl FnOnce() -> Option<String>,
    ) -> Option<usize> {
        if !self.is_on() {
            return None;
        }
        let running = self.running.read();
        if running.iter().all(|capture| capture.until_ms <= now_ms) {
            drop(running);
            self.keep_running(|capture| capture.until_ms > now_ms);
            return None;
        }
        let own = || running.iter().filter(|capture| capture.tenant == tenant && capture.until_ms > now_ms);
        let user = if own().any(|capture| matches!(capture.of, Of::User(_))) { user() } else { None };
        let wants = |capture: &&Capture| match &capture.of {
            Of::Tunnels(tunnels) => tunnels.contains(&tunnel.to_bytes()),
            Of::User(name) => user.as_ref() == Some(name),
            Of::Connector(name) => connector.is_some_and(|connector| connector.as_str() == name),
        };
        own().filter(wants).map(|capture| capture.max_bytes).max()
    }

    /// Keeps a payload of an event of this number; the oldest ones make room.
    pub fn keep_event(&self, tunnel: TunnelId, sequence: u64, is_binary: bool, content: &[u8], max_bytes: usize) {
        let sequence = u32::try_from(sequence).unwrap_or(u32::MAX);
        let payload = Payload::of(is_binary, content, max_bytes);
        self.copies.lock().keep((tunnel, Kind::Attempt, sequence), payload);
    }

    /// Keeps a payload of a push, and returns the number under which it is found.
    pub fn keep_push(&self, tunnel: TunnelId, is_binary: bool, content: &[u8], max_bytes: usize) -> u32 {
        let payload = Payload::of(is_binary, content, max_bytes);
        let mut copies = self.copies.lock();
        copies.last_push = copies.last_push.wrapping_add(1);
        let sequence = copies.last_push;
        copies.keep((tunnel, Kind::Push, sequence), payload);
        sequence
    }

    /// The payload of a record, if it is still there.
    pub fn payload(&self, tunnel: TunnelId, kind: Kind, sequence: u32) -> Option<Payload> {
        self.copies.lock().payloads.get(&(tunnel, kind, sequence)).cloned()
    }
}

impl Payload {
    fn of(is_binary: bool, content: &[u8], max_bytes: usize) -> Self {
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        Self { is_binary, bytes: content[..content.len().min(max_bytes)].to_vec(), length }
    }

    /// What it counts for in memory, in bytes.
    fn size(&self) -> usize {
        self.bytes.len() + OVERHEAD_BYTES
    }
}

impl Copies {
    fn keep(&mut self, key: Key, payload: Payload) {
        self.bytes += payload.size();
        match self.payloads.insert(key, payload) {
            Some(before) => self.bytes -= before.size(),
            None => self.order.push_back(key),
        }
        while self.bytes > ALL_BYTES {
            let Some(oldest) = self.order.pop_front().and_then(|key| self.payloads.remove(&key)) else { return };
            self.bytes -= oldest.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: TenantNumber = TenantNumber(1);
    const OTHER: TenantNumber = TenantNumber(2);

    fn tunnel(number: u8) -> TunnelId {
        TunnelId::from_bytes([number; 16])
    }

    fn of_tunnel(number: u8) -> Of {
        Of::Tunnels([[number; 16]].into())
    }

    #[test]
    fn only_what_was_asked_for_is_copied_and_only_for_so_long() {
        let captures = Captures::default();
        let none = || None;
        assert_eq!(captures.wanted(SHOP, (tunnel(1), None), 0, none), None);
        captures.begin(SHOP, of_tunnel(1), 100, 10, 0).expect("room");
        captures.begin(SHOP, Of::User("ann".into()), 50, 20, 0).expect("room");

        assert_eq!(captures.wanted(SHOP, (tunnel(1), None), 1, none), Some(10));
        assert_eq!(captures.wanted(SHOP, (tunnel(2), None), 1, || Some("ann".into())), Some(20));
        assert_eq!(captures.wanted(SHOP, (tunnel(2), None), 1, || Some("bob".into())), None);
        let name: ConnectorName = "ann".parse().expect("a name");
        assert_eq!(captures.wanted(SHOP, (tunnel(2), Some(&name)), 1, none), None, "another kind of name");
        captures.begin(SHOP, Of::Connector("ann".into()), 50, 30, 1).expect("room");
        assert_eq!(captures.wanted(SHOP, (tunnel(2), Some(&name)), 1, none), Some(30));
        assert_eq!(captures.wanted(OTHER, (tunnel(1), None), 1, none), None, "of another tenant");
        assert_eq!(captures.wanted(SHOP, (tunnel(2), None), 50, || Some("ann".into())), None, "its time is over");
        assert_eq!(captures.wanted(SHOP, (tunnel(1), None), 100, none), None);
        assert!(!captures.is_on());
    }

    #[test]
    fn a_payload_is_found_by_its_record_and_cut() {
        let captures = Captures::default();
        captures.keep_event(tunnel(1), 7, false, b"0123456789", 4);
        let number = captures.keep_push(tunnel(1), true, &[0, 255], 4);

        let event = captures.payload(tunnel(1), Kind::Attempt, 7).expect("kept");
        assert_eq!((event.bytes.as_slice(), event.length, event.is_binary), (&b"0123"[..], 10, false));
        assert_eq!(captures.payload(tunnel(1), Kind::Push, number).map(|push| push.bytes), Some(vec![0, 255]));
        assert_eq!(captures.payload(tunnel(2), Kind::Attempt, 7), None);
    }

    #[test]
    fn a_payload_that_comes_again_takes_no_more_room() {
        let captures = Captures::default();
        (0..10).for_each(|_| captures.keep_event(tunnel(1), 7, false, b"0123", 4));

        let copies = captures.copies.lock();
        assert_eq!((copies.payloads.len(), copies.order.len(), copies.bytes), (1, 1, 4 + OVERHEAD_BYTES));
    }

    #[test]
    fn memory_is_bounded_and_so_are_captures() {
        let captures = Captures::default();
        for number in 0..10_000 {
            captures.keep_event(tunnel(1), number, false, &[b'x'; MAX_PAYLOAD_BYTES], MAX_PAYLOAD_BYTES);
        }
        assert!(captures.copies.lock().bytes <= ALL_BYTES);
        assert!(captures.payload(tunnel(1), Kind::Attempt, 9_999).is_some());
        assert!(captures.payload(tunnel(1), Kind::Attempt, 0).is_none());

        for _ in 0..MAX_OF_TENANT {
            captures.begin(SHOP, of_tunnel(1), 100, 10, 0).expect("room");
        }
        assert_eq!(captures.begin(SHOP, of_tunnel(1), 100, 10, 0), Err(TooManyCaptures));
        captures.begin(OTHER, of_tunnel(1), 100, 10, 0).expect("another tenant has its own");
        captures.end(SHOP);
        assert_eq!(captures.wanted(SHOP, (tunnel(1), None), 1, || None), None);
        assert!(captures.is_on(), "the other one's goes on");
    }
}

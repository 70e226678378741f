//! Signs messages between nodes for one installation; other installations with the same `server.ticket_key` are
//! ignored.
//!
//! The last release signed with the shared key. While its nodes are alive this node does too, and it accepts that key
//! as long as such a node may exist; the next release removes this.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::message::Message;
use super::message::Rejection;
use super::message::Signer;
use crate::engine::Installation;

/// The signing keys of this installation.
pub(super) struct Signing {
    shared: Signer,
    keys: ArcSwap<Keys>,
}

struct Keys {
    /// What the keys were derived from.
    of: (Installation, String),
    writes: Signer,
    /// Most likely key first.
    reads: Vec<Signer>,
}

impl Signing {
    /// Starts with the key derived from `server.ticket_key` only.
    pub(super) fn new(ticket_key: &[u8]) -> Self {
        let shared = Signer::new(ticket_key);
        let (writes, reads) = (shared.clone(), vec![shared.clone()]);
        let keys = ArcSwap::from_pointee(Keys { of: (Installation::Unknown, String::new()), writes, reads });
        Self { shared, keys }
    }

    /// Updates the keys: this node belongs to `installation`, and Redis has the id `heard`, which others may already
    /// use.
    pub(super) fn hear(&self, installation: Installation, heard: &str) {
        let of = (installation, heard.to_owned());
        if self.keys.load().of == of {
            return;
        }
        let (mut ids, is_known_to_all, may_be_unknown): (Vec<&str>, _, _) = match &of.0 {
            Installation::Known { ids, is_known_to_all, may_be_unknown } => {
                (ids.iter().map(|id| &**id).collect(), *is_known_to_all, *may_be_unknown)
            }
            Installation::Alone | Installation::Unknown => (vec![], false, true),
        };
        let known = ids.first().filter(|_| is_known_to_all).copied();
        if !ids.contains(&heard) {
            ids.push(heard);
        }
        let mut reads: Vec<Signer> = ids.into_iter().map(|id| self.shared.of_installation(id)).collect();
        if may_be_unknown || !is_known_to_all {
            reads.push(self.shared.clone());
        }
        let writes = known.map_or_else(|| self.shared.clone(), |id| self.shared.of_installation(id));
        self.keys.store(Arc::new(Keys { of, writes, reads }));
    }

    /// Encodes and signs a message.
    pub(super) fn seal(&self, message: &Message) -> Vec<u8> {
        self.keys.load().writes.seal(message)
    }

    /// Verifies and decodes a message of this installation.
    ///
    /// # Errors
    ///
    /// As [`Signer::open`].
    pub(super) fn open(&self, bytes: &Bytes) -> Result<Message, Rejection> {
        let keys = self.keys.load();
        let mut opened = keys.reads.iter().map(|key| key.open(bytes));
        opened.find(|opened| *opened != Err(Rejection::Signature)).unwrap_or(Err(Rejection::Signature))
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Kind;
    use super::*;
    use crate::id::NodeId;

    fn known(ids: &[&str], is_known_to_all: bool, may_be_unknown: bool) -> Installation {
        Installation::Known { ids: ids.iter().map(|id| (*id).into()).collect(), is_known_to_all, may_be_unknown }
    }

    fn of(installation: Installation, heard: &str) -> Signing {
        let signing = Signing::new(b"secret");
        signing.hear(installation, heard);
        signing
    }

    #[test]
    fn who_understands_whom() {
        let message = Message {
            kind: Kind::Request,
            sender: NodeId::from_bytes([1; 16]),
            receiver: NodeId::from_bytes([2; 16]),
            sequence: 7,
            number: 1,
            body: Bytes::from_static(b"body"),
        };
        let (last_release, starts) = (|| Signing::new(b"secret"), || of(Installation::Unknown, "1"));
        let (settled, beside_old, fresh) = (
            || of(known(&["1"], true, false), "1"),
            || of(known(&["1"], false, true), "1"),
            || of(known(&["1"], true, true), "1"),
        );
        let other = || of(known(&["2"], true, true), "2");
        let (understood, strange) = (Ok(message.clone()), Err(Rejection::Signature));
        for (sender, receiver, expected) in [
            (settled(), settled(), &understood),
            (settled(), starts(), &understood),
            (settled(), of(known(&["2", "1"], true, false), "2"), &understood),
            (beside_old(), last_release(), &understood),
            (last_release(), beside_old(), &understood),
            (last_release(), fresh(), &understood),
            (starts(), fresh(), &understood),
            (beside_old(), fresh(), &understood),
            (settled(), last_release(), &strange),
            (last_release(), settled(), &strange),
            (settled(), other(), &strange),
            (other(), settled(), &strange),
        ] {
            assert_eq!(receiver.open(&sender.seal(&message).into()), *expected);
        }
        assert_eq!(settled().open(&Bytes::from_static(b"short")), Err(Rejection::Version));
    }
}

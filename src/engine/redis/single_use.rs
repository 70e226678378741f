//! What may be used once: connect URLs, nonces and calls. Kept in the memory of the node that granted it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::keys::Keys;
use crate::engine::MemoryEngine;
use crate::engine::Token;
use crate::engine::memory::Known;
use crate::id::TunnelId;

/// A claim outlives its connect URL by this margin for clock differences.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// A token for single use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SingleUse<'a> {
    /// A connect URL.
    Claim(TunnelId),
    /// The nonce of a signed request.
    Nonce(&'a str),
    /// A call with an `Idempotency-Key`.
    Call(&'a str),
}

impl<'a> SingleUse<'a> {
    /// Encodes the query sent to another node.
    pub(super) fn write(self) -> Bytes {
        match self {
            Self::Claim(tunnel) => [b"c", &tunnel.to_bytes()[..]].concat(),
            Self::Nonce(name) => [b"n", name.as_bytes()].concat(),
            Self::Call(name) => [b"k", name.as_bytes()].concat(),
        }
        .into()
    }

    /// Its key in Redis.
    pub(super) fn key(self, keys: &Keys) -> String {
        match self {
            Self::Claim(tunnel) => keys.claim(tunnel),
            Self::Nonce(name) => keys.nonce(name),
            Self::Call(name) => keys.call(name),
        }
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let name = || std::str::from_utf8(rest).ok();
        match kind {
            b'c' => Some(Self::Claim(TunnelId::from_bytes(rest.try_into().ok()?))),
            b'n' => name().map(Self::Nonce),
            b'k' => name().map(Self::Call),
            _ => None,
        }
    }
}

/// Answers a query of another node from local memory; `None` for an unknown kind of a newer version.
pub(super) fn answer(own: &MemoryEngine, request: &[u8]) -> Option<Bytes> {
    let known = match SingleUse::read(request)? {
        SingleUse::Claim(tunnel) => own.claims.knows(tunnel),
        SingleUse::Nonce(name) => own.idempotency.knows_nonce(name),
        SingleUse::Call(name) => own.idempotency.knows(name),
    };
    Some(Bytes::from_static(match known {
        Known::No => b"n",
        Known::Yes => b"y",
        Known::Soon => b"s",
    }))
}

/// An entry of local memory that is removed on drop unless granted.
pub(super) struct Provisional<'a> {
    own: &'a Arc<MemoryEngine>,
    once: SingleUse<'a>,
    token: Token,
}

impl<'a> Provisional<'a> {
    pub(super) fn new(own: &'a Arc<MemoryEngine>, once: SingleUse<'a>, token: Token) -> Self {
        Self { own, once, token }
    }

    pub(super) fn granted(&self) {
        self.settle(true);
    }

    fn settle(&self, is_granted: bool) {
        match self.once {
            SingleUse::Claim(tunnel) => self.own.claims.settle(tunnel, self.token, is_granted),
            SingleUse::Nonce(name) => self.own.idempotency.settle_nonce(name, self.token, is_granted),
            SingleUse::Call(name) => self.own.idempotency.settle(name, self.token, is_granted),
        }
    }
}

impl Drop for Provisional<'_> {
    fn drop(&mut self) {
        // A granted entry stays.
        self.settle(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Claim;

    #[test]
    fn what_is_asked_is_read_back() {
        for once in
            [SingleUse::Claim(TunnelId::from_bytes([7; 16])), SingleUse::Nonce("{t}:n"), SingleUse::Call("{t}:k")]
        {
            assert_eq!(SingleUse::read(&once.write()), Some(once));
        }
        assert_eq!(SingleUse::read(b""), None);
        assert_eq!(SingleUse::read(b"c123"), None);
        assert_eq!(SingleUse::read(b"what a newer version asks"), None);
    }

    #[test]
    fn a_node_answers_from_its_memory() {
        let own = Arc::new(MemoryEngine::default());
        let (tunnel, token, life) = (TunnelId::from_bytes([7; 16]), [1; 16], Duration::from_secs(60));
        let asked = |once: SingleUse<'_>| answer(&own, &once.write()).expect("understood");
        assert_eq!(asked(SingleUse::Claim(tunnel)), "n");

        own.claims.take(tunnel, token, life);
        let mine = Provisional::new(&own, SingleUse::Claim(tunnel), token);
        assert_eq!(asked(SingleUse::Claim(tunnel)), "s");
        mine.granted();
        drop(mine);
        assert_eq!(asked(SingleUse::Claim(tunnel)), "y");

        assert_eq!(own.idempotency.claim_nonce("{t}:n", token, life), Ok(Claim::Granted));
        drop(Provisional::new(&own, SingleUse::Nonce("{t}:n"), token));
        assert_eq!(asked(SingleUse::Nonce("{t}:n")), "n", "it was given up");
    }
}

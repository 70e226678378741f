//! Messages between nodes: encoding, signature, replay protection.
//!
//! Version and kind, 1 byte each; sender and receiver, 16 bytes each; the sender's sequence and the request number with
//! its time, 8 bytes each; the body; 32 bytes of HMAC-SHA256 over all. Numbers are big-endian.

use bytes::Bytes;
use hkdf::Hkdf;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use sha2::Sha256;

use crate::id::NodeId;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 50;
const MAC_BYTES: usize = 32;
/// How far messages of one sender may be reordered.
const WINDOW: u64 = 4_096;

/// The kind of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A node to itself: tests whether messages arrive.
    Probe,
    /// A request; expects an answer.
    Request,
    /// The answer to the request with the same number.
    Answer,
    /// The request with the same number is in progress.
    Working,
    /// Whether the receiver remembers a used token, see `once.rs`; expects an answer.
    Known,
    /// Repeats the request with the same number, which may be lost, or its answer; without a body once it is too late to
    /// start. The receiver executes it at most once.
    Repeat,
}

/// The low bits of a request number are a count; the others hold its time, in the engine's milliseconds since 1970.
const COUNT_BITS: u32 = 20;
/// Times before this one, of 2001, are invalid: the number is of an older version, or its sender did not know the
/// engine's time.
const EARLIEST_MS: u64 = 1_000_000_000_000;

/// A request number with the engine's time, if known; `count` makes it unique.
pub(super) fn request_number(now_ms: Option<u64>, count: u64) -> u64 {
    now_ms.unwrap_or(0) << COUNT_BITS | count & ((1 << COUNT_BITS) - 1)
}

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) sender: NodeId,
    pub(super) receiver: NodeId,
    /// Grows with each message of a sender.
    pub(super) sequence: u64,
    /// The number of the request, or of the one it answers.
    pub(super) number: u64,
    pub(super) body: Bytes,
}

impl Message {
    /// When the request was made, in the engine's milliseconds since 1970, if known.
    pub(super) fn asked_ms(&self) -> Option<u64> {
        Some(self.number >> COUNT_BITS).filter(|asked_ms| *asked_ms >= EARLIEST_MS)
    }
}

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rejection {
    /// Truncated, or of another version.
    Version,
    /// Not signed by a node of this gateway.
    Signature,
    /// For another node, or an earlier incarnation of this one.
    Receiver,
    /// A repeat, or too old to tell.
    Repeated,
    /// Too many messages to handle.
    Overload,
    /// Repeats a request that is not remembered, and may have been executed.
    Forgotten,
}

impl Rejection {
    /// Every reason.
    pub(super) const ALL: [Self; 6] =
        [Self::Version, Self::Signature, Self::Receiver, Self::Repeated, Self::Overload, Self::Forgotten];

    /// The word for it in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Signature => "signature",
            Self::Receiver => "receiver",
            Self::Repeated => "repeated",
            Self::Overload => "overload",
            Self::Forgotten => "forgotten",
        }
    }
}

/// Signs messages and verifies signatures.
#[derive(Clone)]
pub(super) struct Signer {
    mac: Hmac<Sha256>,
    ticket_key: Hkdf<Sha256>,
}

impl Signer {
    /// Derives the key from `server.ticket_key`.
    pub(super) fn new(ticket_key: &[u8]) -> Self {
        Self::derive(Hkdf::new(None, ticket_key), &[b"wafergate between nodes v1"])
    }

    /// Derives the key of the installation with this id; other installations with the same `server.ticket_key` cannot
    /// verify it.
    pub(super) fn of_installation(&self, id: &str) -> Self {
        Self::derive(self.ticket_key.clone(), &[b"wafergate between nodes of installation ", id.as_bytes()])
    }

    fn derive(ticket_key: Hkdf<Sha256>, purpose: &[&[u8]]) -> Self {
        let mut key = [0; 32];
        ticket_key.expand_multi_info(purpose, &mut key).expect("32 bytes are a valid length");
        Self { mac: Hmac::new_from_slice(&key).expect("every length is a valid key"), ticket_key }
    }

    /// Encodes and signs a message.
    pub(super) fn seal(&self, message: &Message) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + message.body.len() + MAC_BYTES);
        let kind = match message.kind {
            Kind::Probe => 0,
            Kind::Request => 1,
            Kind::Answer => 2,
            Kind::Working => 3,
            Kind::Known => 4,
            Kind::Repeat => 5,
        };
        bytes.extend([VERSION, kind]);
        bytes.extend(message.sender.to_bytes());
        bytes.extend(message.receiver.to_bytes());
        bytes.extend(message.sequence.to_be_bytes());
        bytes.extend(message.number.to_be_bytes());
        bytes.extend(&message.body);
        let mut mac = self.mac.clone();
        mac.update(&bytes);
        bytes.extend(mac.finalize().into_bytes());
        bytes
    }

    /// Verifies and decodes a message.
    ///
    /// # Errors
    ///
    /// If the version is unknown or the signature is invalid.
    pub(super) fn open(&self, bytes: &Bytes) -> Result<Message, Rejection> {
        if bytes.len() < HEAD_BYTES + MAC_BYTES || bytes[0] != VERSION {
            return Err(Rejection::Version);
        }
        let (signed, signature) = bytes.split_at(bytes.len() - MAC_BYTES);
        let mut mac = self.mac.clone();
        mac.update(signed);
        mac.verify_slice(signature).map_err(|_| Rejection::Signature)?;
        let kind = match signed[1] {
            0 => Kind::Probe,
            1 => Kind::Request,
            2 => Kind::Answer,
            3 => Kind::Working,
            4 => Kind::Known,
            5 => Kind::Repeat,
            _ => return Err(Rejection::Version),
        };
        let node = |at: usize| NodeId::from_bytes(signed[at..at + 16].try_into().expect("16 bytes"));
        let number = |at: usize| u64::from_be_bytes(signed[at..at + 8].try_into().expect("8 bytes"));
        Ok(Message {
            kind,
            sender: node(2),
            receiver: node(18),
            sequence: number(34),
            number: number(42),
            body: bytes.slice(HEAD_BYTES..signed.len()),
        })
    }
}

/// Received messages of one sender: the newest sequence, and a bit for each one before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    newest: u64,
    bits: Vec<u64>,
}

impl Taken {
    /// Whether message `sequence`, counted from 1, arrives for the first time; marks it as received.
    pub(super) fn take(&mut self, sequence: u64) -> bool {
        if self.bits.is_empty() {
            self.bits = vec![0; usize::try_from(WINDOW / 64).expect("small")];
        }
        if sequence == 0 || sequence + WINDOW <= self.newest {
            return false;
        }
        if sequence > self.newest {
            let first = (self.newest + 1).max(sequence.saturating_sub(WINDOW - 1));
            (first..=sequence).for_each(|skipped| *self.word(skipped) &= !(1 << (skipped % 64)));
            self.newest = sequence;
        }
        let bit = 1 << (sequence % 64);
        let word = self.word(sequence);
        let is_first = *word & bit == 0;
        *word |= bit;
        is_first
    }

    fn word(&mut self, sequence: u64) -> &mut u64 {
        let at = usize::try_from(sequence % WINDOW / 64).expect("small");
        &mut self.bits[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            kind: Kind::Request,
            sender: NodeId::from_bytes([1; 16]),
            receiver: NodeId::from_bytes([2; 16]),
            sequence: 7,
            number: u64::MAX,
            body: Bytes::from_static(b"body"),
        }
    }

    #[test]
    fn a_message_is_read_back_as_it_was_sealed() {
        let signer = Signer::new(b"secret");
        for kind in [Kind::Probe, Kind::Request, Kind::Answer, Kind::Working, Kind::Known, Kind::Repeat] {
            for body in [Bytes::new(), Bytes::from_static(b"body")] {
                let message = Message { kind, body, ..message() };
                assert_eq!(signer.open(&signer.seal(&message).into()), Ok(message));
            }
        }
    }

    #[test]
    fn a_request_says_when_it_was_asked_if_that_is_known() {
        let asked = |now_ms, count| Message { number: request_number(now_ms, count), ..message() }.asked_ms();

        assert_eq!(asked(Some(1_900_000_000_123), 1), Some(1_900_000_000_123));
        assert_eq!(asked(Some(1_900_000_000_123), u64::MAX), Some(1_900_000_000_123));
        assert_eq!(asked(None, 5), None);
        assert_eq!(Message { number: 5_000_000, ..message() }.asked_ms(), None, "of an older version");
        assert_ne!(request_number(Some(1_900_000_000_123), 1), request_number(Some(1_900_000_000_123), 2));
    }

    #[test]
    fn a_message_that_was_changed_or_cut_is_dropped() {
        let signer = Signer::new(b"secret");
        let sealed = signer.seal(&message());

        for at in 1..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert_eq!(signer.open(&forged.into()), Err(Rejection::Signature), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(signer.open(&Bytes::copy_from_slice(&sealed[..length])).is_err(), "{length} bytes");
        }
        assert_eq!(Signer::new(b"Secret").open(&sealed.into()), Err(Rejection::Signature));
    }

    #[test]
    fn another_version_is_told_from_a_forgery() {
        let signer = Signer::new(b"secret");
        let mut sealed = signer.seal(&message());
        sealed[0] = 2;

        assert_eq!(signer.open(&sealed.into()), Err(Rejection::Version));
    }

    #[test]
    fn each_message_is_taken_once_also_when_they_overtake_each_other() {
        let mut taken = Taken::default();

        assert!(!taken.take(0));
        for sequence in [1, 3, 2, 100, 99, 4] {
            assert!(taken.take(sequence), "{sequence}");
            assert!(!taken.take(sequence), "{sequence} again");
        }
        assert!(taken.take(50));
    }

    #[test]
    fn what_is_too_old_to_know_is_not_taken() {
        let mut taken = Taken::default();
        assert!(taken.take(5));
        assert!(taken.take(WINDOW + 5));
        assert!(!taken.take(5));
        assert!(taken.take(6));

        assert!(taken.take(10 * WINDOW));
        assert!(!taken.take(6 + WINDOW));
        assert!(taken.take(9 * WINDOW + 1));
        assert!(!taken.take(9 * WINDOW + 1));
        assert!(taken.take(10 * WINDOW - 1));
    }
}

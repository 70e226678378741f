//! One record: 64 bytes that are copied, never followed.

use std::time::Duration;

use crate::id::TunnelId;
use crate::reason::Kind;
use crate::reason::Reason;

/// Microseconds of a millisecond.
const MICROS: u32 = 1_000;

/// What happened to a tunnel, or to all of an audience: numbers only. Texts are [`Word`]s, kept beside the rings.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Record {
    /// The tunnel; zero if it is not one.
    tunnel: [u8; 16],
    /// The trace that it is part of: see [`Record::traced`].
    pub trace: u64,
    /// How long it took, in microseconds.
    pub took_us: u32,
    /// The number of the event on its tunnel, or how many targets a push has.
    pub sequence: u32,
    /// Bytes of the content, or bytes that wait.
    pub bytes: u32,
    /// The tenant; zero if it is unknown.
    pub tenant: TenantNumber,
    /// The receive URL, or how many targets have accepted a push.
    endpoint: u32,
    /// Its detail.
    pub words: Word,
    /// The HTTP status of an answer; zero without one.
    pub status: u16,
    /// The other node that has to do with it; zero without one.
    pub peer: u16,
    /// Microseconds behind `unix_ms`.
    micros: u16,
    /// When it happened, in milliseconds since 1970: 48 bits.
    unix_ms: [u8; 6],
    kind: u8,
    reason: u8,
    /// The number of the attempt, from 1; at most 255.
    pub attempt: u8,
    flags: u8,
}

/// What a timeline costs is this, times its length.
const _: () = assert!(size_of::<Record>() == 64);

/// The number of a tenant in this process; zero for none.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct TenantNumber(pub u32);

/// The number of a text kept beside the rings; zero for none.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Word(pub u32);

/// Which event of a tunnel a record is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum About {
    /// The client has connected.
    Connect = 1,
    /// A message of the client.
    Message = 2,
    /// The end of the tunnel.
    Close = 3,
}

impl About {
    /// Its name, as in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Message => "message",
            Self::Close => "close",
        }
    }
}

/// The bits of `flags` with an [`About`].
const ABOUT: u8 = 0b11;
/// A push to many targets.
const MANY: u8 = 0b100;
/// The content is in the ring of captured payloads.
const CAPTURED: u8 = 0b1000;
/// A push that closes its targets.
const CLOSES: u8 = 0b1_0000;

impl Record {
    /// What happened at this time since 1970.
    pub fn new(kind: Kind, reason: Reason, unix_time: Duration) -> Self {
        Self { kind: kind as u8, reason: reason as u8, ..Self::default() }.at(unix_time)
    }

    /// The same of a tunnel of a tenant.
    pub fn of(self, tenant: TenantNumber, tunnel: TunnelId) -> Self {
        Self { tenant, tunnel: tunnel.to_bytes(), ..self }
    }

    /// The same for another reason.
    pub fn because(self, reason: Reason) -> Self {
        Self { reason: reason as u8, ..self }
    }

    /// The same of a tenant.
    pub fn of_tenant(self, tenant: TenantNumber) -> Self {
        Self { tenant, ..self }
    }

    /// The same at another time.
    pub fn at(self, unix_time: Duration) -> Self {
        let ms = u64::try_from(unix_time.as_millis()).unwrap_or(u64::MAX);
        let micros = u16::try_from(unix_time.subsec_micros() % MICROS).unwrap_or(0);
        self.at_ms(ms, micros)
    }

    pub(super) fn at_ms(self, unix_ms: u64, micros: u16) -> Self {
        let [_, _, ms @ ..] = unix_ms.to_be_bytes();
        Self { unix_ms: ms, micros, ..self }
    }

    /// The same about an event of the tunnel: its number, the attempt from 1, and its trace.
    pub fn event(self, about: About, sequence: u64, attempt: u32) -> Self {
        let attempt = u8::try_from(attempt).unwrap_or(u8::MAX);
        Self { flags: (self.flags & !ABOUT) | about as u8, sequence: short(sequence), attempt, ..self }
    }

    /// The same with the time that it took.
    pub fn took(self, took: Duration) -> Self {
        Self { took_us: u32::try_from(took.as_micros()).unwrap_or(u32::MAX), ..self }
    }

    /// The same with content of this length.
    pub fn with_bytes(self, bytes: usize) -> Self {
        Self { bytes: short(bytes as u64), ..self }
    }

    /// The same with a detail.
    pub fn with_words(self, words: Word) -> Self {
        Self { words, ..self }
    }

    /// The same with the status of an answer.
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The same at a receive URL.
    pub fn to(self, endpoint: Word) -> Self {
        Self { endpoint: endpoint.0, ..self }
    }

    /// The same with another node.
    pub fn with_peer(self, peer: u16) -> Self {
        Self { peer, ..self }
    }

    /// The same in a trace: the last four bytes of its id and of the span that caused it. For an event the span is its number, as in
    /// its `traceparent`.
    pub fn traced(self, trace: u64) -> Self {
        Self { trace, ..self }
    }

    /// The same for a push to so many targets, of which so many have accepted it.
    pub fn to_many(self, targets: usize, accepted: usize) -> Self {
        let (sequence, endpoint) = (short(targets as u64), short(accepted as u64));
        Self { flags: self.flags | MANY, sequence, endpoint, ..self }
    }

    /// The same for a push that closes.
    pub fn closing(self, closes: bool) -> Self {
        if closes { Self { flags: self.flags | CLOSES, ..self } } else { self }
    }

    /// The same with its content captured.
    pub fn captured(self) -> Self {
        Self { flags: self.flags | CAPTURED, ..self }
    }

    /// The same for a push whose content was captured under this number.
    pub fn captured_as(self, number: u32) -> Self {
        Self { sequence: number, ..self }.captured()
    }

    /// The tunnel, if it is of one.
    pub fn tunnel(&self) -> Option<TunnelId> {
        (self.tunnel != [0; 16]).then(|| TunnelId::from_bytes(self.tunnel))
    }

    /// Whether it is of this tunnel.
    pub fn is_of(&self, tunnel: TunnelId) -> bool {
        self.tunnel == tunnel.to_bytes()
    }

    /// When it happened, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        let [a, b, c, d, e, f] = self.unix_ms;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// When it happened, in microseconds since 1970.
    pub fn unix_us(&self) -> u64 {
        self.unix_ms() * 1_000 + u64::from(self.micros)
    }

    pub(super) fn micros(&self) -> u16 {
        self.micros
    }

    /// What happened; `None` for a kind of a newer version.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(self.kind)
    }

    /// Why; `None` for a reason of a newer version.
    pub fn reason(&self) -> Option<Reason> {
        Reason::of(self.reason)
    }

    /// The numbers of kind and reason, for other nodes.
    pub fn numbers(&self) -> (u8, u8) {
        (self.kind, self.reason)
    }

    /// Which event it is about, if any.
    pub fn about(&self) -> Option<About> {
        match self.flags & ABOUT {
            1 => Some(About::Connect),
            2 => Some(About::Message),
            3 => Some(About::Close),
            _ => None,
        }
    }

    /// The targets of a push to many, and how many have accepted it.
    pub fn many(&self) -> Option<(u32, u32)> {
        (self.flags & MANY != 0).then_some((self.sequence, self.endpoint))
    }

    /// The receive URL.
    pub fn endpoint(&self) -> Word {
        if self.flags & MANY == 0 { Word(self.endpoint) } else { Word::default() }
    }

    /// Whether it is a push that closes.
    pub fn is_close(&self) -> bool {
        self.flags & CLOSES != 0
    }

    /// Whether its content is in the ring of captured payloads.
    pub fn is_captured(&self) -> bool {
        self.flags & CAPTURED != 0
    }

    /// Whether something did not work.
    pub fn is_failure(&self) -> bool {
        self.reason().is_none_or(Reason::is_failure)
    }
}

/// A number that is capped, never wrapped.
fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_what_it_is_given() {
        let tunnel = TunnelId::from_bytes([7; 16]);
        let time = Duration::from_micros(1_800_000_000_123_456);
        let record = Record::new(Kind::Attempt, Reason::Timeout, time)
            .of(TenantNumber(3), tunnel)
            .event(About::Close, 9, 300)
            .took(Duration::from_millis(12))
            .to(Word(4))
            .with_words(Word(5))
            .with_status(504)
            .with_bytes(57)
            .with_peer(2)
            .traced(11);

        assert_eq!((record.kind(), record.reason()), (Some(Kind::Attempt), Some(Reason::Timeout)));
        assert_eq!((record.tunnel(), record.is_of(tunnel), record.tenant), (Some(tunnel), true, TenantNumber(3)));
        assert_eq!((record.unix_us(), record.unix_ms()), (1_800_000_000_123_456, 1_800_000_000_123));
        assert_eq!((record.about(), record.sequence, record.attempt), (Some(About::Close), 9, 255));
        assert_eq!((record.took_us, record.status, record.bytes), (12_000, 504, 57));
        assert_eq!((record.endpoint(), record.words, record.peer, record.trace), (Word(4), Word(5), 2, 11));
        assert!(record.is_failure() && record.many().is_none() && !record.is_close());
    }

    #[test]
    fn a_push_to_many_has_counts_and_no_url() {
        let record = Record::new(Kind::Push, Reason::Accepted, Duration::ZERO).to_many(10_000, 9_999).closing(true);

        assert_eq!((record.many(), record.endpoint()), (Some((10_000, 9_999)), Word(0)));
        assert_eq!((record.tunnel(), record.is_close(), record.is_failure()), (None, true, false));
    }

    #[test]
    fn times_of_the_far_future_stay_in_their_bits() {
        assert_eq!(Record::default().at(Duration::from_secs(u64::MAX / 1_000_000_000)).unix_ms() >> 48, 0);
        assert!(Record { reason: 254, ..Record::default() }.is_failure(), "what is not known is shown with failures");
    }
}

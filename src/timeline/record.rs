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
    /// See [`Record::traced`] and [`Record::changing`].
    trace: u64,
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
    /// See [`Record::with_peer`] and [`Record::by_connector`].
    peer: u16,
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

/// The number of a group or user in this process: that of another one is the same once in 2^64.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AudienceNumber(pub(super) u64);

/// The number of a connector's name in this process: that of another one is the same once in 65,535.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectorNumber(pub(super) u16);

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
/// A change of who is in a group or of a user: its number is in the place of the trace.
const CHANGE: u8 = 0b10_0000;
/// Some of the named targets of a push to many: see [`Record::to_targets`].
const TARGETS: u8 = 0b100_0000;
/// Of a tunnel with a connector, whose number is in the place of the other node.
const CONNECTOR: u8 = 0b1000_0000;

/// Named targets in one record.
pub const TARGETS_EACH: usize = 10;

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
        Self { flags: self.flags & !CONNECTOR, peer, ..self }
    }

    /// The same of a tunnel whose events go to this connector.
    pub fn by_connector(self, connector: ConnectorNumber) -> Self {
        Self { flags: self.flags | CONNECTOR, peer: connector.0, ..self }
    }

    /// The other node that has to do with it; zero without one.
    pub fn peer(&self) -> u16 {
        if self.flags & CONNECTOR == 0 { self.peer } else { 0 }
    }

    /// The connector that the events of its tunnel go to.
    pub fn connector(&self) -> Option<ConnectorNumber> {
        (self.flags & CONNECTOR != 0).then_some(ConnectorNumber(self.peer))
    }

    /// The same in a trace: the last four bytes of its id and of the span that caused it. For an event the span is its number, as in
    /// its `traceparent`.
    pub fn traced(self, trace: u64) -> Self {
        Self { trace, ..self }
    }

    /// The same for a push to so many targets, of which so many have accepted it: all of an audience, or named ones.
    pub fn to_many(self, targets: usize, accepted: usize, audience: Option<AudienceNumber>) -> Self {
        let (sequence, endpoint) = (short(targets as u64), short(accepted as u64));
        let mut tunnel = [0; 16];
        tunnel[..8].copy_from_slice(&audience.map_or(0, |number| number.0).to_be_bytes());
        Self { flags: self.flags | MANY, sequence, endpoint, tunnel, ..self }
    }

    /// The same for the first ten of these targets, which have accepted a push to many. Four bytes of each are kept, in the place of
    /// nearly everything else: enough to find the push in the timeline of each, at a tenth of a record.
    pub fn to_targets(self, targets: &[TunnelId]) -> Self {
        let mut marks = [0; TARGETS_EACH];
        marks.iter_mut().zip(targets).for_each(|(mark, tunnel)| *mark = mark_of(*tunnel));
        let [a, b, c, d, e, f, took_us, sequence, endpoint, words] = marks;
        let tunnel = [a, b, c, d].iter().fold(0, |all, mark| all << 32 | u128::from(*mark)).to_be_bytes();
        let trace = u64::from(e) << 32 | u64::from(f);
        Self { flags: self.flags | TARGETS, tunnel, trace, took_us, sequence, endpoint, words: Word(words), ..self }
    }

    /// The same for a tunnel that joins or leaves an audience.
    pub fn changing(self, audience: AudienceNumber) -> Self {
        Self { flags: self.flags | CHANGE, trace: audience.0, ..self }
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
        (self.flags & (MANY | TARGETS) == 0 && self.tunnel != [0; 16]).then(|| TunnelId::from_bytes(self.tunnel))
    }

    /// Whether it is of this tunnel.
    pub fn is_of(&self, tunnel: TunnelId) -> bool {
        self.tunnel == tunnel.to_bytes() && self.flags & (MANY | TARGETS) == 0
    }

    /// The trace that it is part of; zero without one.
    pub fn trace(&self) -> u64 {
        if self.flags & (CHANGE | TARGETS) == 0 { self.trace } else { 0 }
    }

    /// Whether it only names targets: see [`to_targets`](Self::to_targets).
    pub(super) fn is_of_targets(&self) -> bool {
        self.flags & TARGETS != 0
    }

    /// Whether this tunnel is one of its named targets.
    pub(super) fn has_target(&self, tunnel: TunnelId) -> bool {
        self.is_of_targets() && self.marks().contains(&mark_of(tunnel))
    }

    /// The same as a record of this target.
    pub(super) fn of_target(self, tunnel: TunnelId) -> Self {
        let (flags, tunnel) = (self.flags & !TARGETS, tunnel.to_bytes());
        Self { flags, tunnel, trace: 0, took_us: 0, sequence: 0, endpoint: 0, words: Word(0), ..self }
    }

    fn marks(&self) -> [u32; TARGETS_EACH] {
        let tunnel = u128::from_be_bytes(self.tunnel);
        let low = |number: u128| (number & 0xffff_ffff) as u32;
        let [e, f] = [self.trace >> 32, self.trace].map(|number| low(number.into()));
        let [a, b, c] = [96, 64, 32].map(|bits| low(tunnel >> bits));
        [a, b, c, low(tunnel), e, f, self.took_us, self.sequence, self.endpoint, self.words.0]
    }

    /// The audience that a push to many went to, or that the tunnel joins or leaves.
    pub(super) fn audience(&self) -> Option<AudienceNumber> {
        let [first @ .., _, _, _, _, _, _, _, _] = self.tunnel;
        let number = match self.flags & (MANY | CHANGE) {
            MANY => u64::from_be_bytes(first),
            CHANGE => self.trace,
            _ => 0,
        };
        (number != 0).then_some(AudienceNumber(number))
    }

    /// When it began, in microseconds since 1970: it is recorded at its end.
    pub(super) fn began_us(&self) -> u64 {
        self.unix_us().saturating_sub(self.took_us.into())
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
        if self.flags & (MANY | TARGETS) == 0 { Word(self.endpoint) } else { Word::default() }
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

/// The last four bytes of a tunnel's id; not zero.
fn mark_of(tunnel: TunnelId) -> u32 {
    let [.., a, b, c, d] = tunnel.to_bytes();
    u32::from_be_bytes([a, b, c, d]).max(1)
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
        assert_eq!((record.endpoint(), record.words, record.peer(), record.trace()), (Word(4), Word(5), 2, 11));
        assert!(record.is_failure() && record.many().is_none() && !record.is_close());
        let named = record.by_connector(ConnectorNumber(7));
        assert_eq!((named.connector(), named.peer(), record.connector()), (Some(ConnectorNumber(7)), 0, None));
        assert_eq!(named.with_peer(2), record);
    }

    #[test]
    fn a_push_to_many_has_counts_and_no_url() {
        let push = Record::new(Kind::Push, Reason::Accepted, Duration::ZERO).traced(7);
        let record = push.to_many(10_000, 9_999, Some(AudienceNumber(5))).closing(true);

        assert_eq!((record.many(), record.endpoint()), (Some((10_000, 9_999)), Word(0)));
        assert_eq!((record.tunnel(), record.is_close(), record.is_failure()), (None, true, false));
        assert_eq!((record.audience(), record.trace()), (Some(AudienceNumber(5)), 7));
        assert_eq!(push.to_many(17, 17, None).audience(), None);
    }

    #[test]
    fn a_change_names_its_audience_and_has_no_trace() {
        let (tunnel, audience) = (TunnelId::from_bytes([7; 16]), AudienceNumber(u64::MAX));
        let record = Record::new(Kind::Action, Reason::Joined, Duration::ZERO).of(TenantNumber(3), tunnel);
        let record = record.changing(audience).took(Duration::from_micros(4)).at(Duration::from_micros(1_004));

        assert_eq!((record.audience(), record.trace(), record.tunnel()), (Some(audience), 0, Some(tunnel)));
        assert_eq!((record.began_us(), record.unix_us()), (1_000, 1_004));
    }

    #[test]
    fn ten_named_targets_fit_into_a_record() {
        let all: Vec<TunnelId> = (1..=11_u8).map(|number| TunnelId::from_bytes([number; 16])).collect();
        let push = Record::new(Kind::Push, Reason::Accepted, Duration::from_secs(1)).of_tenant(TenantNumber(3));
        let record = push.with_bytes(9).with_peer(2).to_targets(&all);

        assert!(all[..10].iter().all(|target| record.has_target(*target)) && !record.has_target(all[10]));
        let none = TunnelId::from_bytes([0; 16]);
        assert!(!push.to_targets(&all[..9]).has_target(none) && !push.has_target(all[0]));
        assert_eq!((record.tunnel(), record.is_of(all[0]), record.trace()), (None, false, 0));
        assert_eq!((record.endpoint(), record.many()), (Word(0), None));
        assert_eq!(record.of_target(all[3]), push.with_bytes(9).with_peer(2).of(TenantNumber(3), all[3]));
    }

    #[test]
    fn times_of_the_far_future_stay_in_their_bits() {
        assert_eq!(Record::default().at(Duration::from_secs(u64::MAX / 1_000_000_000)).unix_ms() >> 48, 0);
        assert!(Record { reason: 254, ..Record::default() }.is_failure(), "what is not known is shown with failures");
    }
}

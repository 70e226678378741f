//! Limits HTTP/2 frames beside bodies: PING, SETTINGS and resets cost time, and a server can send them unasked.

use std::time::Duration;
use std::time::Instant;

/// Size of a frame header.
const HEADER_BYTES: usize = 9;

/// Frames with bodies, which flow control bounds unless they are empty.
const DATA: u8 = 0;

/// Frames allowed in a burst.
const BURST: i64 = 1_000;

/// Frames allowed per second.
const PER_SECOND: i64 = 100;

/// Frames allowed for each request: the response head, interim ones, window updates, a reset.
const FOR_EACH_REQUEST: i64 = 16;

/// Counts frames in the bytes read, and pauses reading when there are too many.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header read so far.
    filled: usize,
    /// Bytes of the payload still to come.
    payload: usize,
    /// Whether the first frame has arrived: the server's SETTINGS.
    has_first: bool,
    allowed: i64,
    since: Instant,
}

impl Frames {
    /// A new connection.
    pub(super) fn new(now: Instant) -> Self {
        Self { header: [0; HEADER_BYTES], filled: 0, payload: 0, has_first: false, allowed: BURST, since: now }
    }

    /// Whether the first frame has arrived: the server's SETTINGS.
    pub(super) fn has_first(&self) -> bool {
        self.has_first
    }

    /// Counts the bytes read and the requests sent since; returns when reading may resume, unless at once.
    pub(super) fn read(&mut self, bytes: &[u8], requests: u32, now: Instant) -> Option<Instant> {
        let costly = self.count(bytes);
        let passed_ms = i64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(i64::MAX);
        let earned = passed_ms.saturating_mul(PER_SECOND) / 1_000;
        if earned > 0 {
            self.since = now;
        }
        let requests = i64::from(requests) * FOR_EACH_REQUEST;
        self.allowed = self.allowed.saturating_add(earned).saturating_add(requests).min(BURST) - costly;
        (self.allowed < 0).then(|| now + Duration::from_millis((-self.allowed * 1_000 / PER_SECOND) as u64))
    }

    /// The number of frames in `bytes` that carry no body data.
    fn count(&mut self, mut bytes: &[u8]) -> i64 {
        let mut costly = 0;
        while !bytes.is_empty() {
            if self.filled == HEADER_BYTES {
                let skipped = self.payload.min(bytes.len());
                bytes = &bytes[skipped..];
                self.payload -= skipped;
            } else {
                let taken = (HEADER_BYTES - self.filled).min(bytes.len());
                self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled < HEADER_BYTES {
                    break;
                }
                let [a, b, c, kind, ..] = self.header;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                costly += i64::from(kind != DATA || self.payload == 0);
            }
            if self.payload == 0 {
                self.filled = 0;
                self.has_first = true;
            }
        }
        costly
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], &vec![0; payload][..]].concat()
    }

    #[test]
    fn a_flood_is_read_slowly_and_bodies_are_not() {
        let start = Instant::now();
        let mut frames = Frames::new(start);
        let pings = frame(6, 8).repeat(1_000);

        assert_eq!(frames.read(&frame(DATA, 16_384).repeat(1_000), 0, start), None);
        assert_eq!(frames.read(&pings, 0, start), None);
        let until = frames.read(&pings, 0, start).expect("too many");
        assert_eq!(until, start + Duration::from_secs(10));
        assert_eq!(frames.read(&frame(DATA, 5), 0, until), None);
        assert!(frames.read(&frame(DATA, 0), 0, until).is_some(), "an empty frame carries nothing");
    }

    #[test]
    fn requests_pay_for_what_they_bring() {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        for _ in 0..10_000 {
            assert_eq!(frames.read(&frame(1, 50).repeat(16), 1, now), None);
        }
    }

    proptest! {
        #[test]
        fn frames_are_found_however_they_are_cut(
            sent in vec((0..10u8, 0..40usize), 0..50),
            cuts in vec(1..30usize, 1..200),
        ) {
            let bytes: Vec<u8> = sent.iter().flat_map(|(kind, payload)| frame(*kind, *payload)).collect();
            let costly = sent.iter().filter(|(kind, payload)| *kind != DATA || *payload == 0).count();
            let mut frames = Frames::new(Instant::now());
            let (mut rest, mut counted, mut cuts) = (&bytes[..], 0, cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(rest.len().min(*cuts.next().expect("endless")));
                counted += frames.count(piece);
                rest = left;
            }
            prop_assert_eq!(counted, costly as i64);
        }
    }
}

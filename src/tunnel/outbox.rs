//! The outgoing queue of one client: bounded in bytes, with the age of its oldest byte.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Buf;
use bytes::Bytes;

/// Cost of a queued frame beside its bytes: its place in a queue that doubles when it grows, and the buffer's bookkeeping.
const FRAME_OVERHEAD_BYTES: usize = 2 * size_of::<Queued>() + 64;

/// The queue would exceed its limit: the client is a slow consumer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Overflow;

/// Frames that could not be written at once. An empty outbox allocates nothing.
#[derive(Debug, Default)]
pub struct Outbox(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Queued>,
    bytes: usize,
    /// Whether the first frame has been partly written.
    is_front_begun: bool,
}

#[derive(Debug)]
struct Queued {
    frame: Bytes,
    since: Instant,
}

impl Outbox {
    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Queued bytes, including bookkeeping.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// When the oldest queued byte was queued.
    pub fn oldest(&self) -> Option<Instant> {
        Some(self.0.as_ref()?.frames.front()?.since)
    }

    /// Queues a frame whose first `written` bytes have already been sent.
    ///
    /// # Errors
    ///
    /// If the queue would exceed `limit_bytes`; then it is unchanged.
    pub fn push(&mut self, mut frame: Bytes, written: usize, limit_bytes: usize, now: Instant) -> Result<(), Overflow> {
        frame.advance(written);
        let bytes = self.bytes() + frame.len() + FRAME_OVERHEAD_BYTES;
        if bytes > limit_bytes {
            return Err(Overflow);
        }
        let queue = self.0.get_or_insert_default();
        queue.is_front_begun |= written > 0;
        queue.bytes = bytes;
        queue.frames.push_back(Queued { frame, since: now });
        Ok(())
    }

    /// Queues the last frames of a connection, regardless of the limit.
    pub fn push_last(&mut self, frame: Bytes, now: Instant) {
        self.push(frame, 0, usize::MAX, now).expect("there is no limit");
    }

    /// Drops all frames that have not been partly written.
    pub fn discard_unbegun(&mut self) {
        let Some(queue) = &mut self.0 else { return };
        queue.frames.truncate(usize::from(queue.is_front_begun));
        queue.bytes = queue.frames.iter().map(|queued| queued.frame.len() + FRAME_OVERHEAD_BYTES).sum();
        self.free_if_empty();
    }

    /// The first `most` queued bytes, by frame.
    pub fn first_bytes(&self, most: usize) -> impl Iterator<Item = &[u8]> {
        let mut left = most;
        let frames = self.0.iter().flat_map(|queue| queue.frames.iter().map(|queued| &queued.frame[..]));
        let parts = frames.map(move |frame| {
            let part = &frame[..frame.len().min(left)];
            left -= part.len();
            part
        });
        parts.take_while(|part| !part.is_empty())
    }

    /// Removes the first `written` bytes, which have been sent.
    pub fn advance(&mut self, mut written: usize) {
        let Some(queue) = &mut self.0 else { return };
        while let Some(front) = queue.frames.front_mut() {
            if written < front.frame.len() {
                front.frame.advance(written);
                queue.bytes -= written;
                queue.is_front_begun |= written > 0;
                break;
            }
            written -= front.frame.len();
            queue.bytes -= front.frame.len() + FRAME_OVERHEAD_BYTES;
            queue.frames.pop_front();
            queue.is_front_begun = false;
        }
        self.free_if_empty();
    }

    fn free_if_empty(&mut self) {
        if self.0.as_ref().is_some_and(|queue| queue.frames.is_empty()) {
            self.0 = None;
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: usize = 10_000;

    fn contents(outbox: &Outbox) -> Vec<u8> {
        outbox.first_bytes(usize::MAX).flatten().copied().collect()
    }

    #[test]
    fn bytes_leave_in_order_whatever_is_written_at_once() {
        for step in 1..9 {
            let mut outbox = Outbox::default();
            for frame in ["abc", "de", "f"] {
                outbox.push(frame.into(), 0, LIMIT, Instant::now()).expect("room");
            }
            let mut seen = Vec::new();
            while !outbox.is_empty() {
                let waiting = contents(&outbox);
                let written = step.min(waiting.len());
                seen.extend_from_slice(&waiting[..written]);
                outbox.advance(written);
            }
            assert_eq!(seen, b"abcdef", "steps of {step}");
            assert_eq!(outbox.bytes(), 0);
        }
    }

    #[test]
    fn one_write_is_offered_so_many_bytes_and_no_more() {
        let mut outbox = Outbox::default();
        for frame in ["abc", "de", "f"] {
            outbox.push(frame.into(), 0, LIMIT, Instant::now()).expect("room");
        }

        for (most, parts) in [(0, &[][..]), (2, &["ab"]), (3, &["abc"]), (4, &["abc", "d"]), (9, &["abc", "de", "f"])] {
            let first: Vec<_> = outbox.first_bytes(most).collect();
            assert_eq!(first, parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>(), "{most}");
        }
    }

    #[test]
    fn the_limit_holds_and_counts_bookkeeping() {
        let mut outbox = Outbox::default();
        let now = Instant::now();

        let queued = (0..LIMIT).take_while(|_| outbox.push("x".into(), 0, LIMIT, now).is_ok()).count();

        assert_eq!(queued, LIMIT / (1 + FRAME_OVERHEAD_BYTES));
        assert!(outbox.bytes() <= LIMIT);
    }

    #[test]
    fn the_age_is_that_of_the_oldest_byte() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut outbox = Outbox::default();
        outbox.push("abc".into(), 1, LIMIT, start).expect("room");
        outbox.push("de".into(), 0, LIMIT, later).expect("room");

        outbox.advance(1);
        assert_eq!(outbox.oldest(), Some(start));
        outbox.advance(1);
        assert_eq!(outbox.oldest(), Some(later));
        outbox.advance(2);
        assert_eq!(outbox.oldest(), None);
    }

    #[test]
    fn a_begun_frame_is_never_cut_off() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        outbox.push("abc".into(), 1, LIMIT, now).expect("room");
        outbox.push("de".into(), 0, LIMIT, now).expect("room");

        outbox.discard_unbegun();
        outbox.push_last("Z".into(), now);

        assert_eq!(contents(&outbox), b"bcZ");

        let mut outbox = Outbox::default();
        outbox.push("abc".into(), 0, LIMIT, now).expect("room");
        outbox.discard_unbegun();
        assert!(outbox.is_empty());
    }
}

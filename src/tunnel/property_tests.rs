//! Outbox and wheel against trivial models, on explicit time.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::Outbox;
use super::Overflow;
use super::Wheel;

const LIMIT: usize = 2_000;

#[derive(Clone, Debug)]
enum OutboxOp {
    /// A frame of this size, and how many of its bytes are already sent if it is the first in the queue.
    Push(usize, usize),
    PushLast(usize),
    Written(usize),
    Discard,
    Wait(u64),
}

fn outbox_op() -> impl Strategy<Value = OutboxOp> {
    prop_oneof![
        5 => (1..400usize, 0..400usize).prop_map(|(bytes, written)| OutboxOp::Push(bytes, written)),
        1 => (1..100usize).prop_map(OutboxOp::PushLast),
        5 => prop_oneof![0..10usize, 0..900usize].prop_map(OutboxOp::Written),
        1 => Just(OutboxOp::Discard),
        2 => (0..5_000u64).prop_map(OutboxOp::Wait),
    ]
}

#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
fn start() -> Instant {
    Instant::now()
}

proptest! {
    #[test]
    fn an_outbox_is_a_stream_that_knows_its_frames(ops in vec(outbox_op(), 1..200)) {
        let mut now = start();
        let mut outbox = Outbox::default();
        // The model: the rest of each frame, whether it is partly written, and when it was queued.
        let mut model: Vec<(Vec<u8>, bool, Instant)> = vec![];
        let mut next = 0u8;
        // Measures the overhead of a frame once.
        let mut probe = Outbox::default();
        probe.push_last(Bytes::from_static(b"x"), now);
        let overhead = probe.bytes() - 1;
        for op in ops {
            match op {
                OutboxOp::Push(bytes, written) => {
                    let written = if model.is_empty() { written % bytes } else { 0 };
                    next = next.wrapping_add(1);
                    let frame = vec![next; bytes];
                    let queued: usize = model.iter().map(|(left, ..)| left.len() + overhead).sum();
                    let result = outbox.push(frame.clone().into(), written, LIMIT, now);
                    if queued + bytes - written + overhead > LIMIT {
                        prop_assert_eq!(result, Err(Overflow));
                    } else {
                        prop_assert_eq!(result, Ok(()));
                        model.push((frame[written..].to_vec(), written > 0, now));
                    }
                }
                OutboxOp::PushLast(bytes) => {
                    next = next.wrapping_add(1);
                    outbox.push_last(vec![next; bytes].into(), now);
                    model.push((vec![next; bytes], false, now));
                }
                OutboxOp::Written(bytes) => {
                    let mut left = bytes.min(model.iter().map(|(left, ..)| left.len()).sum());
                    outbox.advance(left);
                    while left > 0 {
                        let front = &mut model[0];
                        let taken = left.min(front.0.len());
                        front.0.drain(..taken);
                        front.1 = true;
                        left -= taken;
                        if front.0.is_empty() {
                            model.remove(0);
                        }
                    }
                }
                OutboxOp::Discard => {
                    outbox.discard_unbegun();
                    model.retain(|(_, is_begun, _)| *is_begun);
                }
                OutboxOp::Wait(ms) => now += Duration::from_millis(ms),
            }
            let waiting: Vec<Vec<u8>> = outbox.first_bytes(usize::MAX).map(<[u8]>::to_vec).collect();
            let expected: Vec<Vec<u8>> = model.iter().map(|(left, ..)| left.clone()).collect();
            prop_assert_eq!(waiting, expected);
            prop_assert_eq!(outbox.is_empty(), model.is_empty());
            prop_assert_eq!(outbox.bytes(), model.iter().map(|(left, ..)| left.len() + overhead).sum::<usize>());
            prop_assert_eq!(outbox.oldest(), model.first().map(|(.., since)| *since));
        }
    }

    #[test]
    fn a_wheel_gives_back_what_is_due_in_order(ops in vec((any::<bool>(), 0..50u64), 1..200)) {
        let mut wheel = Wheel::default();
        let mut model: Vec<(u64, usize)> = vec![];
        for (number, (inserts, tick)) in ops.into_iter().enumerate() {
            if inserts {
                wheel.insert(tick, number);
                model.push((tick, number));
                continue;
            }
            let mut due: Vec<_> = model.extract_if(.., |(at, _)| *at <= tick).collect();
            due.sort_by_key(|(at, _)| *at);
            prop_assert_eq!(wheel.expire(tick), due.into_iter().map(|(_, number)| number).collect::<Vec<_>>());
        }
    }
}

//! Queues: frames to a client, events to a business server.

use std::time::Duration;

use bytes::Bytes;
use criterion::Criterion;
use criterion::Throughput;
use wafergate::delivery::Event;
use wafergate::delivery::EventKind;
use wafergate::delivery::Lane;
use wafergate::delivery::Step;
use wafergate::delivery::Ttl;
use wafergate::delivery::Verdict;
use wafergate::protocol::content::Content;
use wafergate::protocol::frame;
use wafergate::tunnel::Outbox;

use crate::content;
use crate::start;

/// Items through a queue in one round.
const ROUND: u64 = 100;

pub(crate) fn benches(criterion: &mut Criterion) {
    let now = start();
    let mut group = criterion.benchmark_group("lane");
    group.throughput(Throughput::Elements(ROUND));
    let message = Content::Text(content(128).into());
    let ttl = Ttl { message: Duration::from_secs(60), close: Duration::from_secs(60) };
    let event = |sequence| Event { kind: EventKind::Message(message.clone()), sequence, received: now, held_ms: 0 };
    let deliver = |lane: &mut Lane| {
        assert!(matches!(lane.poll(now, &ttl), Step::Send(_)));
        lane.handle(Verdict::Delivered, now, 0.5);
    };
    group.bench_function("100 events, one at a time", |bencher| {
        bencher.iter(|| {
            let mut lane = Lane::default();
            for sequence in 0..ROUND {
                lane.push(event(sequence));
                deliver(&mut lane);
            }
        });
    });
    group.bench_function("100 events, all at once", |bencher| {
        bencher.iter(|| {
            let mut lane = Lane::default();
            (0..ROUND).for_each(|sequence| lane.push(event(sequence)));
            (0..ROUND).for_each(|_| deliver(&mut lane));
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("outbox");
    group.throughput(Throughput::Elements(ROUND));
    let frame: Bytes = frame::text("message:", &content(128));
    for (name, frames_a_write) in [("100 frames, one a write", 1), ("100 frames, 50 a write", 50)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut outbox = Outbox::default();
                for _ in 0..ROUND {
                    outbox.push(frame.clone(), 0, usize::MAX, now).expect("room");
                }
                while !outbox.is_empty() {
                    outbox.advance(frames_a_write * frame.len());
                }
            });
        });
    }
    group.finish();
}

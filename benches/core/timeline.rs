//! What records cost where they are written, and what a reader costs.

use std::hint::black_box;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use criterion::Criterion;
use criterion::Throughput;
use wafergate::id::TenantId;
use wafergate::id::TunnelId;
use wafergate::reason::Kind;
use wafergate::reason::Reason;
use wafergate::timeline::About;
use wafergate::timeline::Filter;
use wafergate::timeline::Origin;
use wafergate::timeline::Question;
use wafergate::timeline::Record;
use wafergate::timeline::TenantNumber;
use wafergate::timeline::Timeline;

/// The default of `timeline.bytes`.
const BYTES: usize = 16 * 1024 * 1024;
const NOW: Duration = Duration::from_secs(1_800_000_000);

fn attempt(tenant: TenantNumber, number: u64) -> Record {
    let tunnel = TunnelId::from_bytes(u128::from(number).to_be_bytes());
    Record::new(Kind::Attempt, Reason::Delivered, NOW + Duration::from_micros(number))
        .of(tenant, tunnel)
        .event(About::Message, number, 1)
        .took(Duration::from_millis(3))
        .with_status(200)
        .with_bytes(57)
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timeline");
    group.throughput(Throughput::Elements(1));
    let timeline = Timeline::new(BYTES, 2, NOW);
    let tenant = timeline.tenant(&AtomicU32::new(0), &TenantId::new("shop"));
    let other = timeline.tenant(&AtomicU32::new(0), &TenantId::new("another"));
    let mut number = 0;
    for (name, timeline) in [("a record", &timeline), ("a record, off", &Timeline::off())] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number += 1;
                timeline.record(black_box(attempt(tenant, number)));
            });
        });
    }
    let filter = || Filter { tenant: Some(other), ..Filter::default() };
    let watches: Vec<_> =
        (0..8).map(|_| timeline.watchers().watch(Origin::Here, filter()).expect("there is room")).collect();
    group.bench_function("a record, eight readers of another tenant", |bencher| {
        bencher.iter(|| {
            number += 1;
            timeline.record(black_box(attempt(tenant, number)));
        });
    });
    drop(watches);
    let failed = ["connection refused", "answered 500", "no answer within 10000 ms"];
    group.bench_function("a record with words", |bencher| {
        bencher.iter(|| {
            number += 1;
            let words = timeline.word(failed[(number % 3) as usize]);
            timeline.record(black_box(attempt(tenant, number).with_words(words)));
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("timeline, whole");
    (0..(BYTES / 64) as u64).for_each(|number| timeline.record(attempt(tenant, number)));
    group.bench_function("scan", |bencher| {
        bencher.iter(|| black_box(timeline.scan(100, None, |record| record.attempt == 99)));
    });
    let tunnel = TunnelId::from_bytes(200_000_u128.to_be_bytes());
    let question = Question { tenant, tunnel, audiences: vec![], before_us: None, limit: 100 };
    group.bench_function("story of one tunnel", |bencher| {
        bencher.iter(|| black_box(timeline.story(&question)));
    });
    group.finish();
}

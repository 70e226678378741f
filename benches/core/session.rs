//! The reading side of one socket.

use std::time::Duration;

use criterion::BatchSize;
use criterion::Criterion;
use criterion::Throughput;
use wafergate::limit::Rate;
use wafergate::protocol::content::Profile;
use wafergate::tunnel::Action;
use wafergate::tunnel::Session;
use wafergate::tunnel::SessionLimits;

use crate::content;
use crate::masked;
use crate::start;

/// Messages in one read.
const MESSAGES: usize = 100;

pub(crate) fn benches(criterion: &mut Criterion) {
    let input = masked(&format!("message:{}", content(128))).repeat(MESSAGES);
    let limited = Rate::per_second(1_000_000_000, Duration::from_secs(1_000));
    let now = start();
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    for (name, message_rate) in [("100 messages", None), ("100 messages, rate limit", limited)] {
        let limits = SessionLimits { max_message_bytes: 128 * 1024, message_rate };
        let mut session = Session::new(Profile::Wafer);
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || input.clone(),
                |input| {
                    let mut delivered = 0;
                    let mut count = |action| delivered += usize::from(matches!(action, Action::Deliver(_)));
                    let handled = session.handle_input(input, &limits, now, &mut count);
                    assert_eq!((handled, delivered), (Ok(()), MESSAGES));
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

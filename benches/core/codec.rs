//! Frames and packets.

use std::hint::black_box;

use criterion::BatchSize;
use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use wafergate::protocol::frame;
use wafergate::protocol::frame::Decoded;
use wafergate::protocol::packet;
use wafergate::protocol::packet::Packet;

use crate::content;
use crate::masked;

/// Longest payload that is accepted.
const LIMIT: usize = 128 * 1024;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut decode = criterion.benchmark_group("frame decode");
    for bytes in [128, 1_024, 16_384] {
        let input = masked(&content(bytes));
        decode.throughput(Throughput::Bytes(bytes as u64));
        decode.bench_with_input(BenchmarkId::from_parameter(bytes), &input, |bencher, input| {
            // Unmasking changes the input, so each decode needs its own.
            bencher.iter_batched_ref(
                || input.clone(),
                |input| assert!(matches!(frame::decode(black_box(input), LIMIT), Ok(Decoded::Frame(_)))),
                BatchSize::SmallInput,
            );
        });
    }
    decode.finish();

    let mut encode = criterion.benchmark_group("frame encode");
    for bytes in [128, 1_024, 16_384] {
        let content = content(bytes);
        encode.throughput(Throughput::Bytes(bytes as u64));
        encode.bench_with_input(BenchmarkId::from_parameter(bytes), &content, |bencher, content| {
            bencher.iter(|| frame::text(packet::MESSAGE_PREFIX, black_box(content)));
        });
    }
    encode.finish();

    let packet = format!("message:{}", content(128));
    criterion.bench_function("packet decode", |bencher| {
        bencher.iter(|| matches!(Packet::decode(black_box(&packet)), Packet::Message(_)));
    });
}

//! The Wafer calls and webhooks: parsing, verifying, signing, tickets.

use std::hint::black_box;

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use serde_json::json;
use wafergate::id::TunnelId;
use wafergate::protocol::signature;
use wafergate::protocol::signature::HmacKey;
use wafergate::protocol::ticket::Sealer;
use wafergate::protocol::ticket::Ticket;
use wafergate::protocol::wafer::Envelope;
use wafergate::protocol::wafer::Event;
use wafergate::protocol::wafer::PushPacket;
use wafergate::protocol::wafer::webhook_body;

use crate::content;

const KEY: &str = "a key for measurements";

pub(crate) fn benches(criterion: &mut Criterion) {
    push(criterion);
    webhook(criterion);
    tickets(criterion);
}

/// The `data` of a push of 128 bytes to so many tunnels.
fn push_data(targets: u128) -> String {
    let ids: Vec<String> = (0..targets).map(|id| TunnelId::from_bytes(id.to_be_bytes()).to_string()).collect();
    json!([{"tunnelIds": ids, "type": "message", "content": content(128)}]).to_string()
}

fn push(criterion: &mut Criterion) {
    let mut envelopes = criterion.benchmark_group("envelope parse and verify");
    for targets in [1, 1_000] {
        let data = push_data(targets);
        let body = json!({"data": data, "tcId": "x", "signature": signature::wafer(&data, KEY)}).to_string();
        envelopes.throughput(Throughput::Bytes(body.len() as u64));
        envelopes.bench_with_input(BenchmarkId::from_parameter(targets), &body, |bencher, body| {
            bencher.iter(|| {
                let envelope = Envelope::parse(black_box(body.as_bytes())).expect("valid");
                assert!(signature::wafer_matches(&envelope.data.0, KEY, &envelope.signature.0));
            });
        });
    }
    envelopes.finish();

    let mut pushes = criterion.benchmark_group("push parse");
    for targets in [1, 10, 1_000, 10_000] {
        let data = push_data(targets);
        pushes.throughput(Throughput::Elements(targets as u64));
        pushes.bench_with_input(BenchmarkId::from_parameter(targets), &data, |bencher, data| {
            bencher.iter(|| PushPacket::parse_all(black_box(data)).expect("valid"));
        });
    }
    pushes.finish();
}

fn webhook(criterion: &mut Criterion) {
    let tunnel = TunnelId::from_bytes([7; 16]);
    let message = content(128);
    criterion.bench_function("webhook body, signed", |bencher| {
        bencher.iter(|| webhook_body(tunnel, Event::Message(black_box(&message)), KEY));
    });
    let body = webhook_body(tunnel, Event::Message(&message), KEY);
    let key = HmacKey::new(KEY);
    criterion.bench_function("webhook signature, Standard Webhooks", |bencher| {
        let id = format!("msg_{tunnel}_17");
        bencher.iter(|| key.sign_webhook(&id, 1_700_000_000, black_box(body.as_bytes())));
    });
}

fn tickets(criterion: &mut Criterion) {
    let sealer = Sealer::new(b"a ticket key for measurements, 32");
    let ticket = Ticket {
        tunnel: TunnelId::from_bytes([7; 16]),
        tenant: "972536d1f67ab5d13fde0b9390e3cd5c".into(),
        receive_url: "https://business.example.com/tunnel".into(),
        key_fingerprint: 17,
        expires_unix_ms: 1_700_000_000_000,
        native: None,
        connector: None,
    };
    criterion.bench_function("ticket seal", |bencher| bencher.iter(|| sealer.seal(black_box(&ticket))));
    let text = sealer.seal(&ticket);
    criterion.bench_function("ticket open", |bencher| {
        bencher.iter(|| sealer.open(black_box(&text)).expect("sealed here"));
    });
}

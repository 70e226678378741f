//! The figures of the documentation about the size of Redis.

use wafergate::engine::Record;
use wafergate::engine::TunnelRegistry as _;
use wafergate::id::TunnelId;

use super::Node;
use crate::support::Redis;

/// The number before `words` in a document.
fn said(words: &str) -> f64 {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scale.md")).expect("readable");
    let (before, _) = text.split_once(words).expect("the document says how large it is");
    before.split_whitespace().next_back().and_then(|word| word.parse().ok()).expect("a number")
}

#[tokio::test]
async fn a_tunnel_takes_as_much_of_redis_as_the_document_says() {
    const TUNNELS: u32 = 2_000;
    let redis = Redis::start().await;
    let node = Node::join(&redis.url()).await;

    for _ in 0..TUNNELS {
        let record = Record {
            tenant: "f528764d624db129b32c21fbca0cb8d6".into(),
            receive_url: "http://127.0.0.1:8080/weapp/tunnel".into(),
            key_fingerprint: rand::random(),
            native: None,
            connector: None,
            closed: None,
        };
        node.engine.register(TunnelId::from_bytes(rand::random()), record).await.expect("registered");
    }

    let keys = redis.command(&["KEYS", "wafergate:{records:*"]).await;
    let key = keys.lines().find(|line| line.starts_with("wafergate:")).expect("one set of records");
    let usage = redis.command(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).await;
    let bytes: f64 = usage.trim().trim_start_matches(':').parse().expect("a number");
    // Half of it is for the key that names the node of the tunnel.
    let (each, said) = (bytes / f64::from(TUNNELS), said(" bytes for each open tunnel") / 2.0);
    assert!((said * 0.8..said * 1.2).contains(&each), "{each} bytes for a record, the document says {said}");
}

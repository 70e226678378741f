//! The engines, as the gateway meets them.

mod conformance;

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use wafergate::engine::Answering;
use wafergate::engine::Engine;
use wafergate::engine::Member;
use wafergate::engine::MemoryEngine;
use wafergate::engine::Record;
use wafergate::engine::RedisEngine;
use wafergate::engine::RedisSettings;
use wafergate::id::TunnelId;
use wafergate::metrics::Metrics;
use wafergate::protocol::native::Audience;

use crate::support::Redis;
use crate::support::within;

#[tokio::test]
async fn memory_is_an_engine() {
    let engine = MemoryEngine::default();

    conformance::run(&engine, &engine).await;
}

#[tokio::test]
async fn redis_is_an_engine() {
    let redis = Redis::start().await;
    let (here, _running) = node(&redis.url()).await;
    let (there, _running_too) = node(&redis.url()).await;

    conformance::run(here.as_ref(), there.as_ref()).await;
}

#[tokio::test]
async fn redis_needs_a_password_where_it_has_one() {
    let redis = Redis::with(&["--requirepass", "p@ss"]).await;
    let (here, _running) = node(&format!("redis://:p%40ss@127.0.0.1:{}/0", redis.port)).await;

    conformance::run(here.as_ref(), here.as_ref()).await;
}

/// An engine that has joined, and runs as long as the handle lives.
async fn node(url: &str) -> (Arc<RedisEngine>, AbortOnDropHandle<()>) {
    let settings = RedisSettings { url, prefix: "test", ticket_key: b"key" };
    let engine = RedisEngine::new(&settings, Metrics::default()).expect("a URL");
    let running = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&engine).run(Arc::new(Nobody))));
    within("the engine joins", async {
        while !engine.is_up() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    (engine, running)
}

/// A node without tunnels.
struct Nobody;

impl Member for Nobody {
    fn answer(self: Arc<Self>, _question: &[u8]) -> Option<Answering> {
        None
    }

    fn has_tunnels(&self, _tenant: &str, _audience: &Audience) -> bool {
        false
    }

    fn status(&self) -> String {
        String::new()
    }

    fn heard(&self, _others: &[String]) {}

    fn adopt(&self, _tunnel: TunnelId, _record: Record) {}

    fn cut_off(&self) {}
}

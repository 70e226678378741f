//! Test support: gateways, business servers and clients, all in this process and on loopback addresses.

mod answer;
mod authority;
mod bare;
pub(crate) mod business;
mod client;
pub(crate) mod cluster;
pub(crate) mod connector;
mod event;
mod front;
mod gate;
mod gateway;
mod held;
pub(crate) mod hooks;
pub(crate) mod http;
pub(crate) mod keys;
#[cfg(feature = "mysql")]
pub(crate) mod mariadb;
pub(crate) mod metrics;
pub(crate) mod native;
pub(crate) mod raw;
pub(crate) mod redis;
mod redises;
pub(crate) mod rights;
mod sign;
mod wafer;
pub(crate) mod wechat;
mod world;

use std::future::Future;
use std::time::Duration;

pub(crate) use answer::Answer;
pub(crate) use answer::Outcome;
pub(crate) use authority::Authority;
pub(crate) use bare::bare_gateway;
pub(crate) use business::BusinessServer;
pub(crate) use business::Early;
pub(crate) use client::TestClient;
pub(crate) use client::released;
pub(crate) use cluster::Cluster;
pub(crate) use event::Event;
pub(crate) use front::Certificate;
pub(crate) use front::Front;
pub(crate) use gate::Gate;
pub(crate) use gateway::TestGateway;
pub(crate) use held::HoldingProxy;
pub(crate) use http::HttpAnswer;
pub(crate) use http::request;
pub(crate) use raw::RawClient;
pub(crate) use redis::Redis;
pub(crate) use redises::GuardedSentinel;
pub(crate) use redises::RedisCluster;
pub(crate) use redises::Sentinels;
pub(crate) use sign::sha1_hex;
pub(crate) use sign::standard_signature;
pub(crate) use sign::wafer_signature;
pub(crate) use wafer::Issued;
pub(crate) use wafer::Wafer;
pub(crate) use world::World;

/// How long anything may take that a test waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The key of the tenant that most tests use.
pub(crate) const KEY: &str = "first kéy-密钥 +/= of the tests";

/// Looks until something is so, and fails the test if it takes too long: for what is in another process, which sends no event when
/// it changes.
pub(crate) async fn until_seen(what: &str, is_so: impl AsyncFn() -> bool) {
    let seen = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(what, seen).await;
}

/// Waits for `future`, and fails the test if it takes too long.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

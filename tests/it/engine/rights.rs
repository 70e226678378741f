//! The rights that `deploy/README.md` gives to the gateway's Redis user: sufficient and minimal.

use std::collections::BTreeSet;

use super::Node;
use super::conformance;
use super::declare_dead;
use crate::support::Redis;
use crate::support::RedisCluster;
use crate::support::Sentinels;
use crate::support::rights::Kind;
use crate::support::rights::rule;

/// Commands of the tests themselves, commands that need no right, and those only the first node on a new server may run.
const OTHERS: &[&str] =
    &["acl|log", "acl|setuser", "auth", "config|resetstat", "exists", "hello", "info", "pubsub|channels", "role"];

/// Runs all checks; `servers` are all that the commands may go to.
async fn run(url: &str, servers: &[&Redis], declare_dead: impl AsyncFn(wafergate::id::NodeId)) {
    let (here, there) = (Node::join(url).await, Node::join(url).await);
    conformance::run(&here.ports(), &there.ports()).await;
    conformance::run_shared(&here, &there, declare_dead).await;
    for server in servers {
        assert_eq!(server.denials().await, "");
    }
}

/// The commands that the rule allows.
fn allowed(rule: &[String]) -> BTreeSet<String> {
    let words = rule.iter().filter_map(|word| word.strip_prefix('+'));
    words.filter(|command| !OTHERS.contains(command) || *command == "role").map(str::to_owned).collect()
}

/// The commands that were used on these servers.
async fn used(servers: &[&Redis]) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for server in servers {
        used.extend(server.commands().await);
    }
    used.retain(|command| !OTHERS.contains(&command.as_str()));
    used
}

#[tokio::test]
async fn of_one_server() {
    let redis = Redis::start().await;
    let rule = rule(Kind::Single);
    redis.admit(&rule).await;

    let url = format!("redis://wafergate:password@127.0.0.1:{}", redis.port);
    run(&url, &[&redis], async |node| declare_dead(&redis, node).await).await;

    assert_eq!(used(&[&redis]).await, allowed(&rule));
}

#[tokio::test]
async fn behind_sentinels() {
    let redis = Sentinels::start().await;
    let rule = rule(Kind::Sentinel);
    for server in [&redis.master, &redis.replica] {
        server.admit(&rule).await;
    }

    let url = redis.url().replace("://", "://wafergate:password@");
    run(&url, &[&redis.master, &redis.replica], async |node| declare_dead(&redis.master, node).await).await;

    // Sentinels use commands too.
    let mut expected = allowed(&crate::support::rights::rule(Kind::Single));
    expected.insert("role".to_owned());
    assert_eq!(allowed(&rule), expected);
}

#[tokio::test]
async fn of_a_cluster() {
    let redis = RedisCluster::start().await;
    let rule = rule(Kind::Cluster);
    let servers: Vec<&Redis> = redis.servers.iter().collect();
    for server in &servers {
        server.admit(&rule).await;
    }
    let master = redis.master_of("wafergate:{nodes}:leases").await;

    let url = redis.url().replace("://", "://wafergate:password@");
    run(&url, &servers, async |node| declare_dead(servers[master], node).await).await;

    // Replicas repeat and request the commands of their masters.
    let mut used = used(&servers[..3]).await;
    used.retain(|command| !["psync", "replconf"].contains(&command.as_str()));
    // Any server answers where the slots are, replicas too.
    let where_slots_are = "cluster|slots".to_owned();
    assert!(self::used(&servers).await.contains(&where_slots_are));
    used.insert(where_slots_are);
    // A slot in migration is requested with another command.
    used.insert("asking".to_owned());
    assert_eq!(used, allowed(&rule));
}

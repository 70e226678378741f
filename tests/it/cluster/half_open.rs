//! Half-open connections to Redis: no data arrives, and no side has closed them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::support::Cluster;
use crate::support::cluster::gateway;
use crate::support::within;

/// Everything works again so soon.
const HEALED: Duration = Duration::from_secs(10);

/// Passes bytes on to Redis and back; on the connections on which nodes hear each other it can stop to.
struct Proxy {
    address: SocketAddr,
    /// How many such connections there have been.
    subscriptions: Arc<AtomicUsize>,
    /// The first so many of them are mute.
    muted: watch::Sender<usize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    async fn new(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let (subscriptions, muted) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(0));
        let (count, watching) = (Arc::clone(&subscriptions), muted.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, redis, Arc::clone(&count), watching.subscribe()));
            }
        });
        Self { address, subscriptions, muted, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// From now on nothing arrives on the existing connections, without an error.
    fn mute(&self) {
        self.muted.send_replace(self.subscriptions.load(Ordering::Acquire));
    }
}

/// One connection; replies are swallowed once it is muted.
async fn pass(client: TcpStream, redis: u16, count: Arc<AtomicUsize>, muted: watch::Receiver<usize>) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_redis, mut to_redis) = TcpStream::connect(("127.0.0.1", redis)).await?.into_split();
    let place = AtomicUsize::new(usize::MAX);
    let there = async {
        let mut bytes = vec![0; 65_536];
        loop {
            let read = from_client.read(&mut bytes).await?;
            if read == 0 {
                return to_redis.shutdown().await;
            }
            if bytes[..read].windows(9).any(|word| word == b"SUBSCRIBE") {
                place.store(count.fetch_add(1, Ordering::AcqRel), Ordering::Release);
            }
            to_redis.write_all(&bytes[..read]).await?;
        }
    };
    let back = async {
        let mut bytes = vec![0; 65_536];
        loop {
            let read = from_redis.read(&mut bytes).await?;
            if read == 0 {
                return to_client.shutdown().await;
            }
            if place.load(Ordering::Acquire) >= *muted.borrow() {
                to_client.write_all(&bytes[..read]).await?;
            }
        }
    };
    tokio::try_join!(there, back).map(drop)
}

#[tokio::test]
async fn a_subscription_that_hangs_is_noticed_and_made_again() {
    let mut cluster = Cluster::new(1).await;
    let proxy = Proxy::new(cluster.redis.port).await;
    cluster.nodes.push(gateway(&format!("redis://{}", proxy.address), &[]).await);
    cluster.nodes[1].until_metric("engine_up", 1.0).await;
    cluster.settle().await;
    let mut client = cluster.connect(0, 1).await;
    let tunnel = client.tunnel.clone();
    assert_eq!(cluster.push(0, &[&tunnel], "before").await, [""; 0]);
    client.expect("message:before").await;
    assert_eq!(proxy.subscriptions.load(Ordering::Acquire), 1);

    let muted_at = Instant::now();
    proxy.mute();

    let mut failed = 0;
    let healed = async {
        loop {
            let answer = cluster.try_push(0, &[&tunnel], &format!("turn {failed}")).await;
            if answer["code"] == 0 {
                assert_eq!(answer["data"]["invalidTunnelIds"], json!([]), "a live tunnel was called invalid");
                return;
            }
            assert_eq!(answer["code"], json!(50302), "{answer}");
            failed += 1;
        }
    };
    within("a push that arrives", healed).await;
    assert!(muted_at.elapsed() < HEALED, "{:?}", muted_at.elapsed());
    assert!(failed > 0, "nothing came for a while");
    client.expect(&format!("message:turn {failed}")).await;
    assert_eq!(proxy.subscriptions.load(Ordering::Acquire), 2);
    // It was the engine's own doing: nothing else was wrong.
    assert_eq!(cluster.nodes[1].metric("engine_up").await, 1.0);
}

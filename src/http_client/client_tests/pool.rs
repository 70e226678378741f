//! The pool: which connections are kept, for how long, and how many are made under load.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::task::yield_now;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::http_client::Flights;
use crate::http_client::client_tests::LONG;
use crate::http_client::client_tests::client;
use crate::http_client::client_tests::nets;
use crate::http_client::client_tests::ours;
use crate::http_client::client_tests::post;
use crate::http_client::client_tests::server::EMPTY;
use crate::http_client::client_tests::server::OneAnswer;
use crate::http_client::client_tests::server::TestServer;
use crate::http_client::client_tests::server::read_request;
use crate::http_client::client_tests::server::self_signed;
use crate::http_client::client_tests::watched;
use crate::http_client::connect::Connector;
use crate::http_client::dial::TcpDial;
use crate::http_client::guard::Guard;
use crate::http_client::http1::Http1;
use crate::http_client::lookups::LookUps;
use crate::http_client::pool::Connection;
use crate::http_client::pool::Pool;
use crate::http_client::receive_url::ReceiveUrl;
use crate::http_client::resolve::Resolve;
use crate::http_client::tls::Roots;
use crate::http_client::tls::Tls;
use crate::id::TenantId;
use crate::lease_guard::LeaseGuard;
use crate::server::Room;

fn pool(tls: Tls) -> Arc<Pool> {
    let guard = Guard::new(nets(&["127.0.0.0/8"]));
    pool_with(guard, tls, Flights::unbounded())
}

fn pool_with(guard: Guard, tls: Tls, flights: Flights) -> Arc<Pool> {
    let look_ups = LookUps::new(OneAnswer::new(&["127.0.0.1"]), u64::MAX);
    Pool::new(Connector::new(guard, look_ups, Arc::new(TcpDial), tls, Arc::new(LeaseGuard::forever())), flights)
}

fn http1(connection: Option<Connection>) -> Option<Http1> {
    match connection? {
        Connection::Http1(connection) => Some(connection),
        Connection::Http2(_) => None,
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_six_sweeps() {
    let server = TestServer::answering(EMPTY).await;
    let (pool, url) = (pool(Tls::new(Roots::Given(Vec::new()))), server.url());
    assert!(pool.take(&url).is_none());

    let mut connection = http1(pool.connect(ours().tenant, &url).await.ok());
    for sweeps in [0, 5, 1, 5] {
        pool.keep(ours().tenant, &url, connection.expect("kept"));
        for _ in 0..sweeps {
            pool.sweep();
        }
        connection = http1(pool.take(&url));
    }
    pool.keep(ours().tenant, &url, connection.expect("kept"));
    for _ in 0..6 {
        pool.sweep();
    }

    assert!(pool.take(&url).is_none());
}

#[tokio::test]
async fn an_unused_connection_is_closed_by_itself() {
    let (server, mut closed) = watched(EMPTY.as_bytes()).await;
    let client = client();
    post(&client, &server.url(), LONG).await.expect("answered");

    // All tasks are idle, so that simulated time advances.
    tokio::time::pause();
    let since = Instant::now();
    let closed = timeout(Duration::from_secs(300), closed.recv()).await;
    assert_eq!(closed, Ok(Some(())));

    let kept = since.elapsed();
    assert!(kept > Duration::from_secs(25) && kept < Duration::from_secs(40), "{kept:?}");
}

#[tokio::test]
async fn no_more_than_its_bound_is_kept_for_one_host() {
    let server = TestServer::answering(EMPTY).await;
    let (pool, url) = (pool(Tls::new(Roots::Given(Vec::new()))), server.url());
    let mut connections = Vec::new();
    for _ in 0..260 {
        connections.extend(http1(pool.connect(ours().tenant, &url).await.ok()));
    }

    for connection in connections {
        pool.keep(ours().tenant, &url, connection);
    }

    let mut kept = Vec::new();
    while let Some(connection) = pool.take(&url) {
        kept.push(connection);
    }
    assert_eq!(kept.len(), 256);
}

#[tokio::test]
async fn when_descriptors_run_short_the_unused_connections_of_the_biggest_user_are_closed() {
    let (quiet, loud) = (TenantId::new("quiet"), TenantId::new("loud"));
    let flights = Flights::within(|| Room { all: 24, each: 24 });
    let pool = pool_with(Guard::new(nets(&["127.0.0.0/8"])), Tls::new(Roots::Given(Vec::new())), flights.clone());
    let mut servers = vec![];
    for _ in 0..5 {
        servers.push(TestServer::answering(EMPTY).await);
    }
    let keep = async |tenant: &TenantId, server: &TestServer, count| {
        let mut connections = vec![];
        for _ in 0..count {
            connections.extend(http1(pool.connect(tenant, &server.url()).await.ok()));
        }
        connections.into_iter().for_each(|connection| pool.keep(tenant, &server.url(), connection));
    };
    let kept = |server: &TestServer| std::iter::from_fn(|| http1(pool.take(&server.url()))).collect::<Vec<_>>();

    keep(&quiet, &servers[0], 4).await;
    for server in &servers[1..] {
        keep(&loud, server, 15).await;
    }

    let of_loud: Vec<_> = servers[1..].iter().flat_map(&kept).collect();
    assert!((10..=20).contains(&of_loud.len()), "{}", of_loud.len());
    of_loud.into_iter().for_each(|connection| pool.keep(&loud, &servers[1].url(), connection));
    // Requests need the descriptors.
    let _held: Vec<_> =
        (0..3).filter_map(|_| flights.take(&loud)).chain((0..3).filter_map(|_| flights.take(&quiet))).collect();
    pool.sweep();
    let (of_quiet, of_loud) = (kept(&servers[0]), kept(&servers[1]));
    assert_eq!(of_quiet.len(), 4);
    assert!((8..=14).contains(&of_loud.len()), "{}", of_loud.len());
}

/// A resolver whose `dead` names are never answered.
struct SomeDead;

#[async_trait]
impl Resolve for SomeDead {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if host.starts_with("dead") {
            std::future::pending::<()>().await;
        }
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
}

/// Both URLs name the same server, and one tenant has no look-ups left.
#[tokio::test]
async fn a_tenant_does_not_wait_for_a_connection_that_another_makes() {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    let server = TestServer::new(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await?;
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
            std::future::pending().await
        }
    })
    .await;
    let look_ups = LookUps::new(Arc::new(SomeDead), u64::MAX);
    let (guard, tls) = (Guard::new(nets(&["127.0.0.0/8"])), Tls::new(Roots::Given(vec![root])));
    let connector = Connector::new(guard, look_ups, Arc::new(TcpDial), tls, Arc::new(LeaseGuard::forever()));
    let (pool, url) = (Pool::new(connector, Flights::unbounded()), server.named("https", "tls.test"));
    let (quiet, loud) = (TenantId::new("quiet"), TenantId::new("loud"));
    pool.connect(&quiet, &url).await.map_err(|error| error.reason().into_owned()).expect("connected");

    let mut waiting = JoinSet::new();
    let dead = (0..100).map(|number| ReceiveUrl::parse(&format!("http://dead{number}.test/")).expect("valid"));
    for url in dead.chain([url.clone()]) {
        let (pool, loud) = (Arc::clone(&pool), loud.clone());
        waiting.spawn(async move { pool.connect(&loud, &url).await.is_ok() });
    }
    for _ in 0..200 {
        yield_now().await;
    }

    let connected = timeout(Duration::from_secs(4), pool.connect(&quiet, &url)).await;
    assert!(matches!(connected, Ok(Ok(_))), "it waits for the loud one");
    assert_eq!(waiting.len(), 101);
    assert!(waiting.try_join_next().is_none(), "those still wait");
}

/// Without a limit every failed attempt would leave an entry.
#[tokio::test]
async fn a_host_that_takes_no_connection_leaves_nothing_behind() {
    let pool = pool(Tls::new(Roots::Given(Vec::new())));
    for number in 1..50 {
        let url = ReceiveUrl::parse(&format!("http://127.1.0.{number}:9/")).expect("valid");
        assert!(pool.connect(ours().tenant, &url).await.is_err());
    }

    assert_eq!(pool.hosts(), 0);
}

#[tokio::test]
async fn a_connection_that_spoke_unasked_is_not_used() {
    let (speak, speaks) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (heard, spoken) = (Arc::clone(&speak), Arc::clone(&speaks));
    let server = TestServer::new(move |mut stream, _| {
        let (heard, spoken) = (Arc::clone(&heard), Arc::clone(&spoken));
        async move {
            read_request(&mut stream).await?;
            stream.write_all(EMPTY.as_bytes()).await?;
            heard.notified().await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nforged!").await?;
            spoken.notify_one();
            std::future::pending().await
        }
    })
    .await;
    let client = client();

    for _ in 0..3 {
        let answer = post(&client, &server.url(), LONG).await.expect("answered");
        assert!(answer.body.is_empty(), "{:?}", answer.body);
        speak.notify_one();
        speaks.notified().await;
        // Let the runtime poll its sockets.
        for _ in 0..200 {
            yield_now().await;
        }
    }

    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn of_very_many_connections_that_have_ended_none_is_used() {
    // More than tokio lets a task poll at once.
    const CONNECTIONS: usize = 200;
    let (hang_up, hung_up) = watch::channel(());
    let server = TestServer::new(move |stream, _| {
        let mut hung_up = hung_up.clone();
        async move {
            let _ = hung_up.changed().await;
            drop(stream);
            Ok(())
        }
    })
    .await;
    let (pool, url) = (pool(Tls::new(Roots::Given(Vec::new()))), server.url());
    let mut connections = vec![];
    for _ in 0..CONNECTIONS {
        connections.push(http1(pool.connect(ours().tenant, &url).await.ok()).expect("connected"));
    }
    connections.into_iter().for_each(|connection| pool.keep(ours().tenant, &url, connection));
    while server.connections() < CONNECTIONS {
        yield_now().await;
    }

    drop(hang_up);
    // Let the runtime poll its sockets.
    for _ in 0..1_000 {
        yield_now().await;
    }

    assert!(pool.take(&url).is_none());
}

#[tokio::test]
async fn a_crowd_makes_one_http2_connection_when_the_old_one_ends() {
    let (root, acceptor) = self_signed("tls.test", &[b"h2"]);
    // The first connection ends after its preface, the others stay.
    let server = TestServer::new(move |stream, number| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await?;
            // An empty SETTINGS frame.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
            if number > 0 {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    })
    .await;
    let (pool, url) = (pool(Tls::new(Roots::Given(vec![root]))), server.named("https", "tls.test"));
    // It may end before it is established.
    let _ = pool.connect(ours().tenant, &url).await;
    while pool.take(&url).is_some() {
        yield_now().await;
    }

    let mut crowd = JoinSet::new();
    for _ in 0..20 {
        let (pool, url) = (Arc::clone(&pool), url.clone());
        crowd.spawn(async move { pool.connect(ours().tenant, &url).await.is_ok() });
    }

    assert!(crowd.join_all().await.into_iter().all(|is_connected| is_connected));
    assert_eq!(server.connections(), 2);
}

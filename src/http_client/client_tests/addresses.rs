//! Address checks at the moment of connecting.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::http_client::Flights;
use crate::http_client::client::Client;
use crate::http_client::client::Settings;
use crate::http_client::client_tests::LONG;
use crate::http_client::client_tests::assert_untouched;
use crate::http_client::client_tests::client;
use crate::http_client::client_tests::client_with;
use crate::http_client::client_tests::failure;
use crate::http_client::client_tests::nets;
use crate::http_client::client_tests::post;
use crate::http_client::client_tests::reporting;
use crate::http_client::client_tests::server::EMPTY;
use crate::http_client::client_tests::server::OneAnswer;
use crate::http_client::client_tests::server::TestServer;
use crate::http_client::client_tests::wall_clock;
use crate::http_client::client_tests::watched;
use crate::http_client::dial::Dial;
use crate::http_client::dial::TcpDial;
use crate::http_client::dial::Transport;
use crate::http_client::error::AttemptError;
use crate::http_client::guard::Guard;
use crate::http_client::receive_url::ReceiveUrl;
use crate::http_client::resolve::Resolve;
use crate::http_client::tls::Roots;
use crate::lease_guard::LeaseGuard;

#[tokio::test]
async fn a_name_for_an_inner_address_is_refused_before_anything_connects() {
    let (server, accepted) = reporting().await;
    let resolver = OneAnswer::new(&["127.0.0.1"]);
    let client = client_with(&[], Arc::clone(&resolver) as _, Vec::new());

    for scheme in ["http", "https"] {
        let failure = failure(&client, &server.named(scheme, "business.test"), LONG).await;
        let words = "127.0.0.1 is loopback (127.0.0.0/8); add it to webhook.allow_networks to allow it";
        assert_eq!(failure, ("refused", words.to_owned(), false));
    }

    assert_eq!(*resolver.asked.lock(), ["business.test"], "it is not looked up again at once");
    assert_untouched(accepted, &server).await;
}

#[tokio::test]
async fn a_literal_inner_address_is_refused_without_asking_the_resolver() {
    let (server, accepted) = reporting().await;
    let resolver = OneAnswer::new(&["127.0.0.1"]);
    let client = client_with(&[], Arc::clone(&resolver) as _, Vec::new());

    for host in ["127.0.0.1", "127.1", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]"] {
        let (label, ..) = failure(&client, &server.named("http", host), LONG).await;
        assert_eq!(label, "refused", "{host}");
    }

    assert!(resolver.asked.lock().is_empty());
    assert_untouched(accepted, &server).await;
}

/// 127.0.0.1 stands for a public address, so that no test connects to a real one.
#[tokio::test]
async fn refused_addresses_are_left_out() {
    let server = TestServer::answering(EMPTY).await;
    for answer in
        [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["0.0.0.0", "127.0.0.1"], ["fd00::1", "127.0.0.1"]]
    {
        let dialed = Arc::new(Dialed::default());
        let client = Client::new(Settings {
            guard: nets(&["127.0.0.1/32"]).into(),
            roots: Roots::Given(vec![]),
            resolver: OneAnswer::new(&answer),
            dial: Arc::clone(&dialed) as _,
            wall_clock: Arc::new(wall_clock),
            lease_guard: Arc::new(LeaseGuard::forever()),
            flights: Flights::unbounded(),
        });

        post(&client, &server.named("http", "mixed.test"), LONG).await.expect("answered");

        assert_eq!(*dialed.0.lock(), [server.address], "{answer:?}");
    }
}

/// Records the addresses connected to.
#[derive(Default)]
struct Dialed(Mutex<Vec<SocketAddr>>);

#[async_trait]
impl Dial for Dialed {
    async fn dial(&self, address: SocketAddr) -> io::Result<Transport> {
        self.0.lock().push(address);
        TcpDial.dial(address).await
    }
}

/// Returns a denied address first, and an allowed one from the second look-up on.
#[derive(Default)]
struct Nonsense(AtomicUsize);

#[async_trait]
impl Resolve for Nonsense {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let looked_up = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(vec![if looked_up == 0 { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from([127, 0, 0, 1]) }])
    }
}

#[tokio::test]
async fn a_refused_name_is_looked_up_again_after_ten_seconds() {
    let server = TestServer::answering(EMPTY).await;
    let resolver = Arc::new(Nonsense::default());
    let client = client_with(&["127.0.0.1/32"], Arc::clone(&resolver) as _, Vec::new());
    let url = server.named("http", "business.test");

    tokio::time::pause();
    for _ in 0..99 {
        let error = post(&client, &url, LONG).await.expect_err("refused");
        assert!(matches!(error, AttemptError::NoneAllowed(refusal) if refusal.address.is_unspecified()), "{error:?}");
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert_eq!(resolver.0.load(Ordering::SeqCst), 1);
    tokio::time::advance(Duration::from_millis(100)).await;
    tokio::time::resume();

    post(&client, &url, LONG).await.expect("answered");
    assert_eq!(resolver.0.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_looks_its_name_up_once() {
    let server = TestServer::answering(EMPTY).await;
    let resolver = OneAnswer::new(&["127.0.0.1"]);
    let client = client_with(&["127.0.0.1/32"], Arc::clone(&resolver) as _, Vec::new());

    for _ in 0..3 {
        post(&client, &server.named("http", "business.test"), LONG).await.expect("answered");
    }

    assert_eq!(*resolver.asked.lock(), ["business.test"]);
}

#[tokio::test]
async fn a_new_policy_holds_for_connections_that_already_exist() {
    let (server, mut closed) = watched(EMPTY.as_bytes()).await;
    let client = client();
    post(&client, &server.url(), LONG).await.expect("allowed");

    client.set_policy(Vec::new());

    let (label, ..) = failure(&client, &server.url(), LONG).await;
    assert_eq!(label, "refused");
    assert_eq!(closed.recv().await, Some(()), "the old connection is closed");

    client.set_policy(nets(&["127.0.0.0/8"]));
    post(&client, &server.url(), LONG).await.expect("allowed again");
}

#[tokio::test]
async fn the_same_policy_again_keeps_the_connections() {
    let server = TestServer::answering(EMPTY).await;
    let client = client();
    post(&client, &server.url(), LONG).await.expect("allowed");

    client.set_policy(nets(&["127.0.0.0/8"]));

    post(&client, &server.url(), LONG).await.expect("allowed");
    assert_eq!(server.connections(), 1);
}

/// Refuses every connection, so that nothing is sent to the hosts in tests.
struct NoNetwork;

#[async_trait]
impl Dial for NoNetwork {
    async fn dial(&self, address: SocketAddr) -> io::Result<Transport> {
        Err(io::Error::other(format!("dialled {address}")))
    }
}

#[tokio::test]
async fn platforms_and_ports_of_other_services_are_refused_where_the_connection_is_made() {
    for (address, port, words) in [
        ("168.63.129.16", 80, "the platform of Azure"),
        ("198.51.100.7", 80, "for documentation"),
        ("8.8.8.8", 6379, "webhook.allow_ports"),
        ("8.8.8.8", 80, "dialled 8.8.8.8:80"),
    ] {
        let client = Client::new(Settings {
            guard: Guard::default(),
            roots: Roots::Given(vec![]),
            resolver: OneAnswer::new(&[address]),
            dial: Arc::new(NoNetwork),
            wall_clock: Arc::new(wall_clock),
            lease_guard: Arc::new(LeaseGuard::forever()),
            flights: Flights::unbounded(),
        });
        let url = ReceiveUrl::parse(&format!("http://shop.test:{port}/")).expect("a URL");
        let (_, reason, _) = failure(&client, &url, LONG).await;
        assert!(reason.contains(words), "{reason}");
    }
}

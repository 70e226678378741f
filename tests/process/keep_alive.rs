//! nginx keeps connections to a node, and uses one again just before it would give it up: the node must not have closed it by then.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::balancer::Balancer;
use super::balancer::Place;
use super::business::Business;
use super::client::connect;
use super::client::exchange;
use super::gateway::Gateway;
use super::gateway::config;
use super::proxies::port;
use super::redis::free_ports;

/// For how long nginx keeps a connection that waits.
const KEPT: Duration = Duration::from_secs(1);
/// From nginx to the node, one way.
const DISTANCE: Duration = Duration::from_millis(40);
const CLIENTS: usize = 50;

/// Adds latency in front of a node: bytes and ends arrive later both ways. Returns its port.
fn distant(node: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(("127.0.0.1", node)).expect("connected");
            let clone = |stream: &TcpStream| stream.try_clone().expect("a socket");
            let (back, forth) = ((clone(&far), clone(&near)), (near, far));
            for (from, to) in [back, forth] {
                thread::spawn(move || carry(from, to));
            }
        }
    });
    address.port()
}

/// Carries bytes to the end; each request and each answer here is shorter than the buffer.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        thread::sleep(DISTANCE);
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            // The other side may have gone before.
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

/// How many of all POSTs failed, each of which came when nginx' connection to the node had waited for nearly as long as it may.
fn failures(more: &str, rounds: usize) -> usize {
    let business = Business::start(true);
    let gateway = Gateway::start(&config(&business.authority, more));
    let node = distant(port(&gateway.url));
    let place = Place { keep_alive_secs: Some(1), ..Place::default() };
    let balancer = Balancer::nginx_at(free_ports().nth(20).expect("a port"), [[node, 0]; 2], place);
    let start = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (url, start) = (balancer.url.clone(), Arc::clone(&start));
            thread::spawn(move || {
                let mut stream = connect(&url);
                let mut post = || {
                    let request = "POST /ws/push HTTP/1.1\r\nHost: gateway\r\nContent-Length: 2\r\n\r\n{}";
                    let (head, _) = exchange(&mut stream, request);
                    usize::from(!head.starts_with("HTTP/1.1 200 "))
                };
                // All at once, so that each has a connection of its own to the node.
                start.wait();
                post();
                // With some variation, because the machine's own delay is unknown.
                let early = Duration::from_millis(number as u64 % 10 * 8);
                let mut posts = (0..rounds).map(|_| {
                    thread::sleep(KEPT - early);
                    post()
                });
                posts.by_ref().sum::<usize>()
            })
        })
        .collect();
    clients.into_iter().map(|client| client.join().expect("no panic")).sum()
}

#[test]
fn no_request_meets_a_connection_that_the_node_is_about_to_close() {
    let equal = failures("[server]\nkeep_alive_secs = 1\n", 2);
    println!("{equal} of {} requests failed with equal times", 2 * CLIENTS);
    assert!(equal > 0, "the test can fail");

    assert_eq!(failures("", 10), 0, "of {}", 10 * CLIENTS);
}

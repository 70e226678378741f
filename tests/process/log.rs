//! What the log tells an operator about a business server that is down.

use std::net::TcpListener;

use super::client::Client;
use super::client::ask;
use super::client::connect;
use super::gateway::Gateway;
use super::gateway::config;

/// As many failures in a row open the circuit breaker.
const FAILURES: usize = 10;

#[test]
fn a_business_server_that_does_not_answer_is_named_with_the_reason() {
    let taken = TcpListener::bind("127.0.0.42:0").expect("bound");
    let authority = taken.local_addr().expect("bound").to_string();
    drop(taken);
    let mut gateway = Gateway::start(&config(&authority, ""));
    let mut api = connect(&gateway.url);

    let clients: Vec<_> = (0..FAILURES)
        .map(|_| {
            let (_, path) = ask(&mut api, &authority);
            Client::open(connect(&gateway.url), &path)
        })
        .collect();

    let line = gateway.logged("business server does not answer");
    assert!(line.contains(&format!("http://{authority}/tunnel")), "{line}");
    assert!(line.contains("connection refused"), "{line}");
    drop(clients);
}

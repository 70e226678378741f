//! `wafergate listen` against a gateway in the hands of the test, and a server of a developer.

mod end;
mod examples;
mod forwarding;
mod gateway;
mod listener;
mod local;
mod network;
mod real;
mod refusals;
mod tools;

use std::time::Duration;

use gateway::Connector;
use gateway::FakeGateway;
use listener::Listener;
use local::LocalServer;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How long anything may take that should happen soon, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// The result of a future that ends soon.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// A gateway, the server of a developer, and a listener between them that is ready.
async fn ready(arguments: &[&str]) -> (FakeGateway, Connector, Listener, LocalServer) {
    let (gateway, server) = (FakeGateway::start().await, LocalServer::start().await);
    let own = ["--forward-to", &server.url()];
    let mut listener = Listener::start(&gateway.url(), &[&own[..], arguments].concat());
    let mut connector = gateway.connector().await;
    connector.welcome("s1").await;
    listener.line_with("ready").await;
    (gateway, connector, listener, server)
}

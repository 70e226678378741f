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

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How long anything may take that should happen soon, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// The result of a future that ends soon.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

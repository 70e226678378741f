//! The socket of a tunnel.

mod closing;
mod fault;
mod handshake;
mod heartbeat;
mod origin;
mod packets;
mod refusal;
mod slow;
mod subprotocol;

use super::support::HttpAnswer;

/// The body must say why.
fn assert_says_why(answer: &HttpAnswer) {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert!(answer.json()["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer:?}");
}

//! `wafergate.connector.v1`: events to a business server that has dialled out to the gateway, over one WebSocket.
//!
//! A message is a head, one JSON object in one line, and behind a line feed a body that is never parsed here:
//!
//! ```
//! use bytes::Bytes;
//! use wafergate::protocol::connector::Answer;
//! use wafergate::protocol::connector::FromConnector;
//! use wafergate::protocol::connector::with_body;
//!
//! let answer = Answer::new("msg_t1_7", 1, 200);
//! let message = with_body(answer.head(), b"{\"code\":0}");
//! assert_eq!(message, b"{\"type\":\"answer\",\"id\":\"msg_t1_7\",\"attempt\":1,\"status\":200,\"ms\":0}\n{\"code\":0}");
//!
//! let (read, body) = FromConnector::decode(Bytes::from(message))?;
//! assert_eq!((read, &body[..]), (FromConnector::Answer(answer), &b"{\"code\":0}"[..]));
//! # Ok::<(), wafergate::protocol::connector::Malformed>(())
//! ```

mod from_connector;
mod from_gateway;
mod head;
mod headers;
mod name;
#[cfg(test)]
mod tests;

pub use from_connector::Answer;
pub use from_connector::Call;
pub use from_connector::Failure;
pub use from_connector::FailureCode;
pub use from_connector::FromConnector;
pub use from_connector::Hello;
pub use from_connector::MAX_PENDING;
pub use from_connector::MAX_URLS;
pub use from_connector::Purpose;
pub use from_connector::Take;
pub use from_gateway::CallResult;
pub use from_gateway::Cancel;
pub use from_gateway::Event;
pub use from_gateway::FromGateway;
pub use from_gateway::Notice;
pub use from_gateway::Ttl;
pub use from_gateway::Welcome;
pub use head::Drain;
pub use head::MAX_HEAD_BYTES;
pub use head::Malformed;
pub use head::Window;
pub use head::with_body;
pub use headers::Headers;
pub use name::ConnectorName;
pub use name::InvalidName;
pub use name::split_prefix;

use std::time::Duration;

/// Where a connector dials.
pub const PATH: &str = "/v1/connector";
/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "wafergate.connector.v1";
/// `v` in `hello` and `welcome`.
pub const VERSION: u32 = 1;
/// How long a connector may take until its `hello`.
pub const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// How often the gateway pings.
pub const HEARTBEAT: Duration = Duration::from_secs(20);
/// Silence after which either side drops the connection.
pub const SILENCE: Duration = Duration::from_secs(45);
/// Bytes of an answer's body at most; the rest is cut.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Most events that may be unanswered, whatever a connector asks for.
pub const MAX_WINDOW_EVENTS: u32 = 1_024;
/// Longest attempt at a connector with the purpose [`Purpose::Listen`].
pub const MAX_LISTEN_ATTEMPT: Duration = Duration::from_secs(600);

/// The largest message in either direction, for this limit of one client message.
pub fn max_message_bytes(max_client_message_bytes: usize) -> usize {
    max_client_message_bytes.saturating_mul(7).saturating_add((256 + 16) * 1024)
}

/// Codes of close frames that this protocol gives a meaning.
pub mod close_code {
    /// The connector or the node leaves.
    pub const LEAVING: u16 = 1001;
    /// A message with a malformed head.
    pub const MALFORMED: u16 = 1002;
    /// No `hello` in time, or something that is not allowed; the reason says what.
    pub const REFUSED: u16 = 1008;
    /// Answers of the gateway are not read.
    pub const SLOW: u16 = 1013;
    /// The key that the connection was authenticated with is withdrawn.
    pub const KEY_WITHDRAWN: u16 = 4401;
    /// A later connection named the same session.
    pub const REPLACED: u16 = 4409;
}

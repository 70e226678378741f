//! An HTTP client for untrusted servers: it checks every address, bounds sizes and waits, and reports for each failed
//! request whether it may have been processed.

pub mod answer;
mod answer_room;
mod chunked;
pub mod client;
#[cfg(test)]
pub(crate) mod client_tests;
pub mod connect;
mod deadline;
pub mod dial;
pub mod error;
pub(crate) mod flights;
mod frames;
pub mod guard;
mod head;
pub mod headers;
mod http1;
mod http2;
mod lookups;
pub mod malformed;
mod names;
mod networks;
pub mod platform;
mod pool;
mod ports;
pub mod receive_url;
mod refusals;
pub mod resolve;
mod sessions;
pub(crate) mod site;
pub(crate) mod table;
pub mod tls;

pub use flights::Flights;

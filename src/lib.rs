//! wafergate holds long-lived WebSocket connections for business servers that speak plain HTTP.
//!
//! A **client message** comes in through [`ws`]: the loop of its connection reads it, [`tunnel`] says what the bytes mean, and the
//! [`gateway`] hands the event to [`webhook`], whose dispatcher posts one event of a tunnel at a time, as [`delivery`] decides.
//!
//! A **push** comes in through [`http`]: [`tenant`] finds out who sent it, [`protocol`] reads it, and the [`gateway`] writes the
//! frame, encoded once, straight to the socket of each open tunnel; what does not fit waits in the tunnel's outbox.
//!
//! The modules below stand in the order of their levels: each imports earlier ones only, and `tests/layers.rs` sees to it.

// Primitives, and all settings as data.
pub mod clock;
pub mod fair_queue;
pub mod id;
pub mod limit;
pub mod options;
pub mod secret;
pub mod share;

// Pure words and rules: no I/O, no task, and time is an argument.
pub mod delivery;
pub mod protocol;
pub mod tenant;
pub mod tls;
pub mod tunnel;

// Things that do I/O and know no gateway.
pub mod demo;
pub mod fair_semaphore;
pub mod http_client;
pub mod lease_guard;
pub mod marks;
pub mod metrics;
pub mod server;
pub mod shutdown;
pub mod telemetry;

// Ports with their adapters, use cases, edges.
pub mod admin;
pub mod engine;
pub mod gateway;
pub mod http;
pub mod webhook;
pub mod ws;

// The whole.
pub mod app;
pub mod cli;
pub mod config;

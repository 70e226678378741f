//! wafergate holds long-lived WebSocket connections for business servers that speak plain HTTP.
//!
//! A **client message** comes in through [`ws`]: the loop of its connection reads it, [`tunnel`] parses the bytes, and the
//! [`gateway`] passes the event to [`webhook`], which posts one request of a tunnel at a time, as [`delivery`] schedules.
//!
//! A **push** comes in through [`http`]: [`tenant`] authenticates the sender, [`protocol`] parses it, and the [`gateway`] writes the
//! frame, encoded once, straight to the socket of each open tunnel; what does not fit waits in the tunnel's outbox.
//!
//! Modules form levels: each imports only modules of lower levels. `LEVELS` in `tests/layers.rs` lists them, and that test checks it;
//! the groups below are coarser.

// Primitives, and all settings as data.
pub mod clock;
pub mod fair_queue;
pub mod id;
pub mod limit;
pub mod options;
pub mod rates;
pub mod reason;
pub mod recall;
pub mod secret;
pub mod share;

// Pure protocols and rules: no I/O, no tasks, and time is an argument.
pub mod delivery;
pub mod listen;
pub mod protocol;
pub mod session;
pub mod tenant;
pub mod timeline;
pub mod tls;
pub mod tunnel;

// I/O and helpers independent of the gateway.
pub mod connector;
pub mod demo;
pub mod fair_semaphore;
pub mod http_client;
pub mod lease_guard;
pub mod marks;
pub mod metrics;
pub mod page;
pub mod server;
pub mod shutdown;
pub mod telemetry;

// Engine, use cases, and the listeners and sockets around them.
pub mod admin;
pub mod engine;
pub mod gateway;
pub mod http;
pub mod inspector;
pub mod listener;
pub mod login;
pub mod session_store;
pub mod webhook;
pub mod wechat;
pub mod ws;

// Wiring, configuration, command line.
pub mod app;
pub mod cli;
pub mod config;

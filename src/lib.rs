//! wafergate holds long-lived WebSocket connections for business servers that speak plain HTTP.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod demo;
pub mod engine;
pub mod gateway;
pub mod http;
pub mod id;
pub mod limit;
pub mod metrics;
pub mod options;
pub mod protocol;
pub mod secret;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tenant;
pub mod tunnel;
pub mod webhook;
pub mod ws;

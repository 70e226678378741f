//! Whole gateways from the outside: real sockets on loopback addresses, real business servers, real clients.

mod admin;
mod checker;
mod cluster;
mod connector;
mod console;
mod drain;
mod engine;
mod keep_alive;
mod login;
mod native;
mod refused;
mod support;
mod timeline;
mod tls;
mod wafer;
mod webhook;
mod websocket;

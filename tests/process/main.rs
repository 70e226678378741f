//! The program as operators use it: a real process, its output, signals and exit codes.

mod away;
mod balancer;
mod business;
mod client;
mod cluster;
mod commands;
mod deploy;
mod descriptors;
mod distance;
mod figures;
mod forgotten;
mod gateway;
mod hangup;
mod keep_alive;
mod log;
mod marks;
mod memory;
mod pauses;
mod proxies;
mod redis;
mod refused;
mod reloads;
mod rolling;
mod signals;
mod strangers;
mod tls;

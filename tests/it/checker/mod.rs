//! The checker: a load of numbered messages, faults at both ends, and a verdict from the logs of each end.
//!
//! A seed decides who says what when, and which fault meets which event. `WAFERGATE_CHECK_SECONDS` makes the long run longer.

mod business;
mod client;
mod clients;
mod cluster;
mod connection;
pub(crate) mod dead_letters;
mod load;
mod logs;
mod long;
mod lying_server;
mod mutation_tests;
mod network_faults;
mod process;
mod resources;
mod scenario;
pub(crate) mod seed;
mod servers;
mod table;
mod verdict;

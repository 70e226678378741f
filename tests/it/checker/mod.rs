//! The checker: a load of numbered messages, faults at both ends, and a verdict from what each end has seen.
//!
//! A seed decides who says what when, and which fault meets which event. `WAFERGATE_CHECK_SECONDS` makes the long run longer.

mod business;
mod client;
mod clients;
mod cluster;
pub(crate) mod given_up;
mod liar;
mod load;
mod logs;
mod long;
mod planted;
mod process;
mod resources;
mod road;
pub(crate) mod seed;
mod servers;
mod stage;
mod table;
mod verdict;
mod way;

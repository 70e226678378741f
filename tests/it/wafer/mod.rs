//! The two calls of a Wafer business server.

mod enrolled;
mod errors;
mod failing;
mod golden;
mod issue;
mod keys;
mod limits;
mod push;
mod turns;

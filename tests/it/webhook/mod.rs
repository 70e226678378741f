//! Events on their way to the business server.

mod answers;
mod backpressure;
mod breaker;
mod ends;
mod live;
mod neighbours;
mod retry;

//! What happened in the last minute and the last hour: counts and latencies in windows of fixed size. Pure.
//!
//! Counters are summed up once a second; nothing is queued, and what is measured is bounded by a board's capacity.

mod board;
mod history;
mod latency;
mod track;
mod window;

pub use board::Board;
pub use history::History;
pub use history::Sample;
pub use latency::BUCKETS;
pub use latency::Latencies;
pub use track::LastFailure;
pub use track::Track;
pub use window::MINUTES;
pub use window::SECONDS;
pub use window::Window;

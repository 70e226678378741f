//! Pure rules of one tunnel's socket: parsing frames, queueing output, detecting idle clients.

mod outbox;
#[cfg(test)]
mod property_tests;
mod session;
mod wheel;

pub use outbox::Outbox;
pub use outbox::Overflow;
pub use session::Action;
pub use session::Session;
pub use session::SessionLimits;
pub use wheel::Wheel;

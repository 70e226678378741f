//! One tunnel's socket as pure rules: frames in, actions out; what waits to go out; when silence is too long.

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

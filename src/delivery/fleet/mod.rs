//! The connectors of one tenant, and the events that are out at them: which connector gets an event, and what becomes of an
//! event whose connection ends.

mod attempts;
mod choice;
mod flight;
mod members;
#[cfg(test)]
mod property_tests;

pub use choice::Claim;
pub use choice::Instance;
pub use choice::Session;
pub use choice::Take;
pub use choice::Wanted;
pub use flight::FlightId;
pub use flight::Look;
pub use members::Fleet;
pub use members::Member;

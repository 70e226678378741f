//! What TLS needs to be decided: how sessions are sealed into tickets, what a certificate is worth, and what a failed handshake
//! asks for. No I/O and no clock.

pub mod certificate;
pub mod failure;
pub mod pem;
pub mod session;
pub mod verifier;

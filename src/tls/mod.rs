//! What TLS needs to be decided: what a certificate is worth, and what a failed handshake asks for. No I/O and no clock.

pub mod certificate;
pub mod failure;
pub mod verifier;

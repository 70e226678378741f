//! TLS decisions: sealing sessions into tickets, checking a certificate, explaining a failed handshake. No I/O and no clock.

pub mod certificate;
pub mod failure;
pub mod pem;
pub mod session;
pub mod verifier;

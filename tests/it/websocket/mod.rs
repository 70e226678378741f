//! The socket of a tunnel.

mod closing;
mod handshake;
mod heartbeat;
mod packets;
mod refusal;
mod slow;

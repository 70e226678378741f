//! The WebSocket edge: handshake checks, sockets, and the loop that serves one connection.

mod connection;
mod ending;
pub mod handshake;
mod pause;
mod tcp;
mod tls;

pub use connection::serve;
pub use tcp::TcpSocket;
pub use tls::TlsSocket;

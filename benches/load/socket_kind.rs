//! Tokens: the socket that an event of the system belongs to.

use mio::Token;

/// Bits of the socket kind in a token.
const KIND_BITS: u32 = 2;

/// A socket of the load tool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SocketKind {
    /// The listener for the server's events.
    Door,
    /// A connection on which the server posts events.
    Delivery(usize),
    /// A connection for calls to the server.
    Connection(usize),
    /// A client.
    Client(usize),
}

impl From<SocketKind> for Token {
    fn from(place: SocketKind) -> Self {
        let (kind, number) = match place {
            SocketKind::Door => (0, 0),
            SocketKind::Delivery(number) => (1, number),
            SocketKind::Connection(number) => (2, number),
            SocketKind::Client(number) => (3, number),
        };
        Self(number << KIND_BITS | kind)
    }
}

impl From<Token> for SocketKind {
    fn from(token: Token) -> Self {
        let number = token.0 >> KIND_BITS;
        match token.0 & ((1 << KIND_BITS) - 1) {
            0 => Self::Door,
            1 => Self::Delivery(number),
            2 => Self::Connection(number),
            _ => Self::Client(number),
        }
    }
}

//! Tokens: the socket that an event of the system belongs to.

use mio::Token;

/// Bits of the socket kind in a token.
const KIND_BITS: u32 = 2;

/// A socket of the load tool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The listener for the server's events.
    Door,
    /// A connection on which the server posts events.
    Guest(usize),
    /// A connection for calls to the server.
    Line(usize),
    /// A client.
    Client(usize),
}

impl From<Place> for Token {
    fn from(place: Place) -> Self {
        let (kind, number) = match place {
            Place::Door => (0, 0),
            Place::Guest(number) => (1, number),
            Place::Line(number) => (2, number),
            Place::Client(number) => (3, number),
        };
        Self(number << KIND_BITS | kind)
    }
}

impl From<Token> for Place {
    fn from(token: Token) -> Self {
        let number = token.0 >> KIND_BITS;
        match token.0 & ((1 << KIND_BITS) - 1) {
            0 => Self::Door,
            1 => Self::Guest(number),
            2 => Self::Line(number),
            _ => Self::Client(number),
        }
    }
}

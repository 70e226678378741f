//! The protocol spoken on a tunnel's socket, and the content of a message.

use std::sync::Arc;

use bytes::Bytes;

/// The protocol spoken on a tunnel's socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// Wafer packets in text frames.
    Wafer,
    /// The application's own frames, untouched.
    Native,
}

/// The content of one application message. Cheap to clone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Text, passed on byte for byte.
    Text(Arc<str>),
    /// Anything else.
    Binary(Bytes),
}

impl Content {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

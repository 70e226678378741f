//! Connections to a simulated Redis, without sockets.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

/// The byte stream of one connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn() -> io::Result<Box<dyn Stream>> + Send + Sync>);

impl Dial {
    /// Opens each connection with `dial`.
    pub fn new(dial: impl Fn() -> io::Result<Box<dyn Stream>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(dial))
    }

    pub(super) fn dial(&self) -> io::Result<Box<dyn Stream>> {
        (self.0)()
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

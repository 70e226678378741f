//! The messages of a connector, read from its socket.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::protocol::connector::SILENCE;
use crate::protocol::content::Content;
use crate::protocol::content::Profile;
use crate::protocol::fault::Fault;
use crate::protocol::frame::Goodbye;
use crate::tunnel::Action;
use crate::tunnel::Session;
use crate::tunnel::SessionLimits;

/// Size of the read buffer.
const READ_BYTES: usize = 16 * 1024;

/// A silence that is noticed so much later was that of this process.
const LATE: Duration = Duration::from_secs(1);

/// The reading side of a connection.
pub(super) struct Input<R> {
    reader: R,
    buffer: Box<[u8]>,
    session: Session,
    max_message_bytes: usize,
    ready: VecDeque<Action>,
    fault: Option<Fault>,
    /// The last sign of the other end.
    heard: Instant,
}

/// What has come.
pub(super) enum Incoming {
    /// A message.
    Message(Bytes),
    /// A ping, and the frame that answers it.
    Ping(Bytes),
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InputEnd {
    /// The socket has ended, without a close frame.
    Gone,
    /// Nothing was heard for too long.
    Silent,
    /// The other end says goodbye.
    Goodbye(Goodbye),
    /// It broke the rules of the WebSocket protocol.
    Fault(Fault),
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// The input of a new connection; `early` has been read already.
    pub(super) fn new(reader: R, mut early: Vec<u8>, max_message_bytes: usize) -> Self {
        let mut input = Self {
            reader,
            buffer: vec![0; READ_BYTES].into(),
            session: Session::new(Profile::Native),
            max_message_bytes,
            ready: VecDeque::new(),
            fault: None,
            heard: Instant::now(),
        };
        input.handle(&mut early);
        input
    }

    /// The next message. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Incoming, InputEnd> {
        loop {
            match self.ready.pop_front() {
                Some(Action::Deliver(Content::Text(text))) => {
                    return Ok(Incoming::Message(Bytes::copy_from_slice(text.as_bytes())));
                }
                Some(Action::Deliver(Content::Binary(bytes))) => return Ok(Incoming::Message(bytes)),
                Some(Action::Reply(pong)) => return Ok(Incoming::Ping(pong)),
                Some(Action::Goodbye(goodbye)) => return Err(InputEnd::Goodbye(goodbye)),
                None => {}
            }
            if let Some(fault) = self.fault {
                return Err(InputEnd::Fault(fault));
            }
            let silent_at = self.heard + SILENCE;
            match timeout_at(silent_at, self.reader.read(&mut self.buffer)).await {
                Ok(Ok(0)) => return Err(InputEnd::Gone),
                Ok(Ok(read)) => {
                    let mut buffer = std::mem::take(&mut self.buffer);
                    self.handle(&mut buffer[..read]);
                    self.buffer = buffer;
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => return Err(InputEnd::Gone),
                // This process was stopped, and has not pinged meanwhile.
                Err(_) if silent_at.elapsed() > LATE => self.was_not_read(),
                Err(_) => return Err(InputEnd::Silent),
            }
        }
    }

    /// Notes that it was not read until now, so that its silence meanwhile says nothing.
    pub(super) fn was_not_read(&mut self) {
        self.heard = Instant::now();
    }

    /// Reads and drops everything until the other end closes.
    pub(super) async fn drain(&mut self) {
        while let Ok(1..) = self.reader.read(&mut self.buffer).await {}
    }

    fn handle(&mut self, bytes: &mut [u8]) {
        self.heard = Instant::now();
        let limits = SessionLimits { max_message_bytes: self.max_message_bytes, message_rate: None };
        let ready = &mut self.ready;
        let handled = self.session.handle_input(bytes, &limits, self.heard.into_std(), &mut |action| {
            ready.push_back(action);
        });
        self.fault = handled.err();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A masked text frame; the mask is zero.
    const HELLO: &[u8] = b"\x81\x85\0\0\0\0hello";

    #[tokio::test(start_paused = true)]
    async fn the_silence_of_a_stopped_process_does_not_count() {
        let (reader, mut other) = tokio::io::duplex(1024);
        let mut input = Input::new(reader, vec![], 1024);
        let mut next = Box::pin(input.next());
        assert!((&mut next).now_or_never().is_none());

        tokio::time::advance(SILENCE + 2 * LATE).await;
        assert!((&mut next).now_or_never().is_none(), "nothing was asked of it meanwhile");
        other.write_all(HELLO).await.expect("there is room");

        assert!(matches!(next.await, Ok(Incoming::Message(message)) if message == "hello"));
        assert_eq!(input.next().await.err(), Some(InputEnd::Silent));
    }
}

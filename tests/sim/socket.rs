//! A simulated socket under the shipped loop, with real TCP behaviour: partial writes, small reads, a receive buffer.

use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use turmoil::net::TcpStream;
use wafergate::gateway::Socket;

use crate::dice::Dice;
use crate::drawn;

/// How much the system takes in that nobody has read, in bytes: enough for all that a client sends, since a reset is not noticed
/// here behind a full buffer, as it would be on a real machine.
const RECEIVE_BYTES: usize = 256 * 1024;

/// The gateway's side of a client's connection.
pub(crate) struct SimSocket(Mutex<State>);

struct State {
    stream: TcpStream,
    received: Vec<u8>,
    end: Option<End>,
    /// Most bytes in one segment: a few small ones fill the way to a client that does not read.
    segment_bytes: usize,
    dice: Dice,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Eof,
    Broken,
}

impl SimSocket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let mut dice = drawn::for_gateway();
        let segment_bytes = dice.pick(&[16, 64, 1_460]);
        Self(Mutex::new(State { stream, received: vec![], end: None, segment_bytes, dice }))
    }
}

impl State {
    /// Receives arrived data.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while self.end.is_none() && self.received.len() < RECEIVE_BYTES {
            let mut bytes = [MaybeUninit::uninit(); 2048];
            let mut read = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => self.end = Some(End::Broken),
                Poll::Ready(Ok(())) if read.filled().is_empty() => self.end = Some(End::Eof),
                Poll::Ready(Ok(())) => self.received.extend_from_slice(read.filled()),
            }
        }
    }
}

impl Socket for SimSocket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        state.fill(cx);
        if state.received.is_empty() && state.end.is_none() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(self.0.lock().stream.writable()).poll(cx)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        state.fill(&mut Context::from_waker(Waker::noop()));
        if state.received.is_empty() {
            return match state.end {
                None => Err(io::ErrorKind::WouldBlock.into()),
                Some(End::Eof) => Ok(0),
                Some(End::Broken) => Err(io::ErrorKind::ConnectionReset.into()),
            };
        }
        let mut length = state.received.len().min(buffer.len());
        if state.dice.once_in(4) {
            length = 1 + state.dice.index(length);
        }
        buffer[..length].copy_from_slice(&state.received[..length]);
        state.received.drain(..length);
        Ok(length)
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock();
        let mut segment: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        segment.truncate(state.segment_bytes);
        if state.dice.once_in(8) && segment.len() > 1 {
            let length = 1 + state.dice.index(segment.len());
            segment.truncate(length);
        }
        state.stream.try_write(&segment)
    }

    fn try_flush(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn hung_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(poll_fn(|cx| {
            let mut state = self.0.lock();
            state.fill(cx);
            if state.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
        }))
    }

    fn shutdown_write(&self) {
        let mut state = self.0.lock();
        // It fails only if the connection is broken already, or has been shut down.
        let _ = Pin::new(&mut state.stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }
}

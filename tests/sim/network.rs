//! The parts of WebSocket and HTTP that the simulated peers need.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use turmoil::net::TcpStream;

/// First byte of a whole text frame.
pub(crate) const TEXT: u8 = 0x81;
/// First byte of a close frame.
pub(crate) const CLOSE: u8 = 0x88;
/// First byte of a ping.
pub(crate) const PING: u8 = 0x89;

const MASK: [u8; 4] = [0x11, 0xee, 0x5a, 0xa5];

/// A client's frame; at most 65,535 bytes.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    if payload.len() < 126 {
        frame.push(0x80 | payload.len() as u8);
    } else {
        frame.push(0xfe);
        frame.extend((payload.len() as u16).to_be_bytes());
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Takes a server's whole frame off the front of `buffer`: its first byte and its payload.
pub(crate) fn take_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let [first, length, ..] = **buffer else { return None };
    let (header, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes(*buffer.get(2..)?.first_chunk()?))),
        length => (2, usize::from(length)),
    };
    let payload = buffer.get(header..header + length)?.to_vec();
    buffer.drain(..header + length);
    Some((first, payload))
}

/// Reads a line; later bytes stay in `buffer`.
pub(crate) async fn read_line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..=end);
            return Ok(line);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A connection on which lines are sent and answered by lines; it is made anew after each failure.
pub(crate) struct Lines {
    address: (&'static str, u16),
    patience: Duration,
    open: Option<(TcpStream, Vec<u8>)>,
}

impl Lines {
    pub(crate) fn new(address: (&'static str, u16), patience: Duration) -> Self {
        Self { address, patience, open: None }
    }

    /// The answer; none if it is not known whether the line was heard.
    pub(crate) async fn ask(&mut self, line: &str) -> Option<String> {
        let answer = timeout(self.patience, self.try_ask(line)).await;
        match answer {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(_)) | Err(_) => {
                self.open = None;
                None
            }
        }
    }

    async fn try_ask(&mut self, line: &str) -> io::Result<String> {
        if self.open.is_none() {
            self.open = Some((TcpStream::connect(self.address).await?, vec![]));
        }
        let (stream, buffer) = self.open.as_mut().expect("it was opened a moment ago");
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        read_line(stream, buffer).await
    }

    /// The connection itself, with its read buffer.
    pub(crate) fn into_stream(self) -> Option<(TcpStream, Vec<u8>)> {
        self.open
    }
}

//! A client that writes raw bytes and can violate every rule.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use super::HttpAnswer;
use super::Issued;
use super::http;
use super::within;

/// First byte of a whole text frame.
pub(crate) const TEXT: u8 = 0x81;
/// First byte of a close frame.
pub(crate) const CLOSE: u8 = 0x88;
/// First byte of a ping.
pub(crate) const PING: u8 = 0x89;
/// First byte of a pong.
pub(crate) const PONG: u8 = 0x8a;

const MASK: [u8; 4] = [0x11, 0xee, 0x5a, 0xa5];

/// A TCP connection with a read buffer.
pub(crate) struct RawClient {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl RawClient {
    /// Opens the connection and says nothing.
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        let stream = within("connect", TcpStream::connect(address)).await.expect("connects");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, buffer: vec![] }
    }

    /// The same with a small receive buffer, so that soon nothing more can be sent to it while it does not read.
    pub(crate) async fn dial_lazily(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        SockRef::from(&socket).set_recv_buffer_size(4_096).expect("a TCP socket");
        let stream = within("connect", socket.connect(address)).await.expect("connects");
        Self { stream, buffer: vec![] }
    }

    /// Goes through a handshake that must succeed, and takes the `timeout` packet.
    pub(crate) async fn open(issued: &Issued) -> Self {
        let client = Self::dial(issued.address()).await;
        Self::open_on(client.stream, issued).await
    }

    /// The same on a connection that is there already.
    pub(crate) async fn open_on(stream: TcpStream, issued: &Issued) -> Self {
        let mut client = Self { stream, buffer: vec![] };
        client.write(handshake(issued).as_bytes()).await;
        assert_eq!(client.answer().await.status, 101);
        let (first, payload) = client.frame().await;
        assert!(first == TEXT && payload.starts_with(b"timeout:"));
        client
    }

    /// Writes bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within("write", self.stream.write_all(bytes)).await.expect("writes");
    }

    /// Writes one packet in a text frame.
    pub(crate) async fn send(&mut self, packet: &str) {
        self.write(&masked(TEXT, packet.as_bytes())).await;
    }

    /// Reads the answer to a request.
    pub(crate) async fn answer(&mut self) -> HttpAnswer {
        within("an answer", http::read_answer(&mut self.stream, &mut self.buffer)).await
    }

    /// Reads one frame: its first byte and its payload.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        within("a frame", async {
            loop {
                if let Some(frame) = self.take_frame() {
                    return frame;
                }
                let read = self.stream.read_buf(&mut self.buffer).await.expect("a frame");
                assert_ne!(read, 0, "the connection ends before a frame");
            }
        })
        .await
    }

    /// Waits for the close frame, which must come next, and returns its code.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let (first, payload) = self.frame().await;
        assert_eq!(first, CLOSE, "{}", String::from_utf8_lossy(&payload));
        u16::from_be_bytes([payload[0], payload[1]])
    }

    /// Reads on until the close frame, and returns its code and its text; the frames before it are whole.
    pub(crate) async fn read_to_close(&mut self) -> (u16, String) {
        loop {
            let (first, payload) = self.frame().await;
            if first == CLOSE {
                let text = String::from_utf8(payload[2..].to_vec()).expect("UTF-8");
                return (u16::from_be_bytes([payload[0], payload[1]]), text);
            }
        }
    }

    /// Waits for the end of the connection and returns the bytes before it.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        // It may also end with a reset.
        let _: io::Result<usize> = within("the end", self.stream.read_to_end(&mut rest)).await;
        rest
    }

    /// Writes nothing more.
    pub(crate) async fn shutdown(&mut self) {
        self.stream.shutdown().await.expect("shuts down");
    }

    /// Ends the connection the hard way.
    pub(crate) fn reset(self) {
        reset(&self.stream);
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, length, ..] = *self.buffer else { return None };
        let (header, length) = match length {
            126 => (4, u16::from_be_bytes(*self.buffer[2..].first_chunk()?).into()),
            127 => (10, u64::from_be_bytes(*self.buffer[2..].first_chunk()?)),
            length => (2, length.into()),
        };
        let end = header + usize::try_from(length).expect("not that long");
        let payload = self.buffer.get(header..end)?.to_vec();
        self.buffer.drain(..end);
        Some((first, payload))
    }
}

/// Ends a connection the hard way.
pub(crate) fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
}

/// The handshake for a connect URL.
pub(crate) fn handshake(issued: &Issued) -> String {
    handshake_with(issued, "")
}

/// The handshake for a connect URL with further header lines, each with its CRLF.
pub(crate) fn handshake_with(issued: &Issued, lines: &str) -> String {
    let (_, host, path) = issued.parts();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

/// A client's frame with this first byte.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        bytes @ 0..=125 => frame.push(0x80 | bytes as u8),
        bytes @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend((bytes as u16).to_be_bytes());
        }
        bytes => {
            frame.push(0xff);
            frame.extend((bytes as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

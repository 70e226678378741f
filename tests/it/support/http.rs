//! A plain HTTP/1.1 client: one request for each connection, nothing hidden.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::within;

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpAnswer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// A header's value in the text of a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// Sends one request on a connection of its own; `headers` are lines that end with CRLF.
pub(crate) async fn request(address: SocketAddr, line: &str, headers: &str, body: &[u8]) -> HttpAnswer {
    let stream = TcpStream::connect(address).await.expect("connects");
    let (mut reader, mut writer) = stream.into_split();
    let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    // SDKs write all before they read: a server that hangs up earlier takes the answer away from them.
    let write =
        async { writer.write_all(&[head.as_bytes(), body].concat()).await.expect("the whole request is taken") };
    let read = async { read_answer(&mut reader, &mut Vec::new()).await };
    within(line, async { tokio::join!(write, read) }).await.1
}

/// Reads one response; later bytes stay in `buffer`.
pub(crate) async fn read_answer<R: AsyncReadExt + Unpin>(reader: &mut R, buffer: &mut Vec<u8>) -> HttpAnswer {
    let head = read_head(reader, buffer).await;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    let length = header(&head, "content-length").map_or(0, |length| length.parse().expect("a length"));
    while buffer.len() < length {
        let read = reader.read_buf(buffer).await.expect("the body of an answer");
        assert_ne!(read, 0, "the body of an answer breaks off: {head}");
    }
    let body: Vec<u8> = buffer.drain(..length).collect();
    let body = String::from_utf8(body).expect("UTF-8");
    HttpAnswer { status, head, body }
}

/// Reads through the empty line; later bytes stay in `buffer`.
pub(crate) async fn read_head<R: AsyncReadExt + Unpin>(reader: &mut R, buffer: &mut Vec<u8>) -> String {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = buffer.drain(..end + 4).collect();
            return String::from_utf8(head).expect("a head is text");
        }
        let read = reader.read_buf(buffer).await.expect("the head of an answer");
        assert_ne!(read, 0, "no answer, only {:?}", String::from_utf8_lossy(buffer));
    }
}

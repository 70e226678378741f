//! A server of a developer: it keeps every request as it came, and answers what the test wants.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::soon;

/// A request with the connection on which its answer goes back.
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    stream: TcpStream,
}

pub(super) struct LocalServer {
    pub(super) address: SocketAddr,
    requests: tokio::sync::mpsc::Receiver<Request>,
    _accepting: AbortOnDropHandle<()>,
}

impl LocalServer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let (sender, requests) = tokio::sync::mpsc::channel(100);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    if let Some(request) = read(stream).await {
                        let _ = sender.send(request).await;
                    }
                });
            }
        });
        Self { address, requests, _accepting: AbortOnDropHandle::new(accepting) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) async fn request(&mut self) -> Request {
        soon("a request", self.requests.recv()).await.expect("it accepts")
    }
}

async fn read(mut stream: TcpStream) -> Option<Request> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let field = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; field.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { head, body, stream })
}

impl Request {
    /// The value of a header field.
    pub(super) fn field(&self, name: &str) -> &str {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find_map(|(own, value)| own.eq_ignore_ascii_case(name).then_some(value)).unwrap_or_default()
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(super) async fn answer(mut self, status: u16, body: &str) {
        let response = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        // The listener may be gone.
        let _ = self.stream.write_all(response.as_bytes()).await;
    }
}

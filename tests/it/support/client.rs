//! A well-behaved client: it speaks the packets, and answers pings and close frames by itself.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::Issued;
use super::within;

/// One client on its tunnel.
pub(crate) struct TestClient {
    pub(crate) tunnel: String,
    socket: WebSocketStream<TcpStream>,
}

impl TestClient {
    /// Dials a connect URL. The answer to a refused handshake is in the error.
    pub(crate) async fn dial(issued: &Issued) -> Result<Self, Error> {
        within("handshake", Self::dial_with_patience(issued)).await
    }

    /// The same, however long it takes.
    pub(crate) async fn dial_with_patience(issued: &Issued) -> Result<Self, Error> {
        let (_, host, path) = issued.parts();
        let stream = TcpStream::connect(issued.address()).await?;
        let (socket, _) = client_async(format!("ws://{host}{path}"), stream).await?;
        Ok(Self { tunnel: issued.tunnel.clone(), socket })
    }

    /// Sends one packet.
    pub(crate) async fn send(&mut self, packet: &str) {
        self.send_frame(Message::text(packet)).await;
    }

    /// Sends one frame of any kind.
    pub(crate) async fn send_frame(&mut self, frame: Message) {
        within("send", self.socket.send(frame)).await.expect("sends");
    }

    /// Says goodbye with a close frame.
    pub(crate) async fn send_close(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "bye".into() };
        self.send_frame(Message::Close(Some(frame))).await;
    }

    /// The next frame that is not a ping.
    pub(crate) async fn recv(&mut self) -> Option<Message> {
        loop {
            match within("a frame", self.socket.next()).await {
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(frame)) => return Some(frame),
                Some(Err(error)) => panic!("{}: {error}", self.tunnel),
                None => return None,
            }
        }
    }

    /// The next packet.
    pub(crate) async fn recv_packet(&mut self) -> String {
        match self.recv().await {
            Some(Message::Text(text)) => text.as_str().to_owned(),
            other => panic!("no packet but {other:?}"),
        }
    }

    /// Waits for this packet, which must be the next one.
    pub(crate) async fn expect(&mut self, packet: &str) {
        assert_eq!(self.recv_packet().await, packet);
    }

    /// Makes sure that nothing else has arrived: the next packet is the answer to a ping.
    pub(crate) async fn expect_quiet(&mut self) {
        self.send("ping").await;
        self.expect("pong").await;
    }

    /// Waits for the close frame, which must be the next frame, and for the end of the connection; returns code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let frame = match self.recv().await {
            Some(Message::Close(Some(frame))) => frame,
            other => panic!("no close frame with a code but {other:?}"),
        };
        // The answer goes out while the end is awaited; whether it ends in order is not the client's business.
        while let Some(Ok(_)) = within("the end", self.socket.next()).await {}
        (frame.code.into(), frame.reason.as_str().to_owned())
    }

    /// Waits for the close frame and the end; returns the code.
    pub(crate) async fn close_code(&mut self) -> u16 {
        self.closed().await.0
    }
}

/// Waits until each client has been sent away with 1001; how long after `start` that was, in ascending order.
pub(crate) async fn released(clients: Vec<TestClient>, start: Instant) -> Vec<Duration> {
    let closed = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            assert_eq!(client.close_code().await, 1001);
            start.elapsed()
        })
    });
    let mut times = vec![];
    for task in closed.collect::<Vec<_>>() {
        times.push(task.await.expect("no panic"));
    }
    times.sort();
    times
}

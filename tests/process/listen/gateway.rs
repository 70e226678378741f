//! A gateway as the protocol describes it, in the hands of a test: it takes connections and says what the test wants.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::StreamExt;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::handshake::server::Response;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use wafergate::id::TunnelId;
use wafergate::protocol::connector::Event;
use wafergate::protocol::connector::FromConnector;
use wafergate::protocol::connector::Hello;
use wafergate::protocol::connector::SUBPROTOCOL;
use wafergate::protocol::connector::Ttl;
use wafergate::protocol::connector::Welcome;
use wafergate::protocol::connector::Window;
use wafergate::protocol::connector::with_body;
use wafergate::protocol::signature::HmacKey;
use wafergate::protocol::wafer;

use super::KEY;
use super::soon;

/// Listens for connectors.
pub(super) struct FakeGateway {
    listener: TcpListener,
    pub(super) address: SocketAddr,
}

/// A connector whose `hello` has been read.
pub(super) struct Connector {
    socket: WebSocketStream<TcpStream>,
    pub(super) hello: Hello,
}

impl FakeGateway {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("an address");
        Self { listener, address }
    }

    /// A listener at an address that was there before.
    pub(super) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("binds again");
        Self { listener, address }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next connector, after its handshake and `hello`.
    pub(super) async fn connector(&self) -> Connector {
        let (stream, _) = soon("a connection", self.listener.accept()).await.expect("accepts");
        Self::greet(stream).await
    }

    /// Takes the handshake on a connection that is there already.
    #[expect(clippy::result_large_err, reason = "the library's callback is like this")]
    pub(super) async fn greet(stream: TcpStream) -> Connector {
        let answer = |request: &Request, mut response: Response| {
            assert_eq!(request.uri().path(), "/v1/connector");
            let is_bearer =
                || request.headers().get("authorization").is_some_and(|value| *value == format!("Bearer shop:{KEY}"));
            assert!(request.headers().contains_key("signature-input") || is_bearer(), "it has credentials");
            assert_eq!(request.headers()["sec-websocket-protocol"], SUBPROTOCOL);
            response.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().expect("a value"));
            Ok(response)
        };
        let socket = soon("a handshake", accept_hdr_async(stream, answer)).await.expect("a WebSocket");
        let mut connector = Connector {
            socket,
            hello: Hello {
                v: 0,
                name: String::new(),
                instance: String::new(),
                purpose: wafergate::protocol::connector::Purpose::Listen,
                take: wafergate::protocol::connector::Take::Named,
                window: Window { events: 0, bytes: 0 },
                attempt_ms: None,
                session: None,
                pending: vec![],
                agent: String::new(),
            },
        };
        match connector.next().await {
            (FromConnector::Hello(hello), _) => connector.hello = *hello,
            other => panic!("{other:?} is no hello"),
        }
        connector
    }

    /// Answers the next request with these bytes, and closes.
    pub(super) async fn refuse(&self, response: &str) {
        let (mut stream, _) = soon("a connection", self.listener.accept()).await.expect("accepts");
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("a request", stream.read_u8()).await.expect("a byte"));
        }
        stream.write_all(response.as_bytes()).await.expect("written");
        stream.shutdown().await.expect("closed");
    }
}

impl Connector {
    /// Says that it is ready.
    pub(super) async fn welcome(&mut self, session: &str) {
        let welcome = Welcome {
            v: 1,
            session: session.to_owned(),
            node: "n".to_owned(),
            nodes: 1,
            connectors: 1,
            window: self.hello.window,
            heartbeat_ms: 20_000,
            now: 0,
            waiting: Some(0),
            lost: Some(0),
            ttl: Some(Ttl { message_ms: 60_000, close_ms: 86_400_000 }),
        };
        self.send(welcome.head()).await;
    }

    pub(super) async fn send(&mut self, message: Vec<u8>) {
        self.socket.send(Message::Binary(message.into())).await.expect("sent");
    }

    /// Sends a message whose receive URL has this path.
    pub(super) async fn message_at(&mut self, path: &str, sequence: u64) {
        self.event(path, sequence, 1, "x").await;
    }

    /// Sends a Wafer message as the gateway signs it. Its body.
    pub(super) async fn message(&mut self, sequence: u64, attempt: u32, content: &str) -> String {
        self.event("/weapp/tunnel?a=1", sequence, attempt, content).await
    }

    async fn event(&mut self, path: &str, sequence: u64, attempt: u32, content: &str) -> String {
        let tunnel = TunnelId::from_bytes([7; 16]);
        let body = wafer::webhook_body(tunnel, wafer::Event::Message(content), KEY);
        let id = format!("msg_{tunnel}_{sequence}");
        let signature = HmacKey::new(KEY).sign_webhook(&id, 1_700_000_000, body.as_bytes());
        let headers = [
            ("content-type", "application/json"),
            ("user-agent", "wafergate/test"),
            ("webhook-id", &id),
            ("webhook-timestamp", "1700000000"),
            ("webhook-signature", &signature),
        ];
        let event = Event {
            id: id.clone(),
            attempt,
            tunnel: tunnel.to_string(),
            event: "message".to_owned(),
            sequence: Some(sequence),
            url: format!("https://api.example.com{path}"),
            path: path.to_owned(),
            headers: headers.into_iter().collect(),
            timeout_ms: 600_000,
            expires: u64::MAX / 2,
        };
        self.send(with_body(event.head(), body.as_bytes())).await;
        body
    }

    /// The next message; pings are answered meanwhile.
    pub(super) async fn next(&mut self) -> (FromConnector, Bytes) {
        loop {
            match soon("a message", self.socket.next()).await.expect("an open connection").expect("no error") {
                Message::Binary(bytes) => return FromConnector::decode(bytes).expect("well-formed"),
                Message::Text(text) => return FromConnector::decode(text.into()).expect("well-formed"),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                Message::Close(frame) => panic!("closed: {frame:?}"),
            }
        }
    }

    /// Sends a native message.
    pub(super) async fn native(&mut self, sequence: u64, event: &serde_json::Value) {
        let tunnel = TunnelId::from_bytes([7; 16]);
        let head = Event {
            id: format!("msg_{tunnel}_{sequence}"),
            attempt: 1,
            tunnel: tunnel.to_string(),
            event: "message".to_owned(),
            sequence: Some(sequence),
            url: "https://api.example.com/events".to_owned(),
            path: "/events".to_owned(),
            headers: [("content-type", "application/cloudevents+json")].into_iter().collect(),
            timeout_ms: 10_000,
            expires: u64::MAX / 2,
        };
        self.send(with_body(head.head(), event.to_string().as_bytes())).await;
    }

    /// Sends a ping and waits for its pong.
    pub(super) async fn ping(&mut self) {
        self.socket.send(Message::Ping(Bytes::from_static(b"there?"))).await.expect("sent");
        loop {
            match soon("a pong", self.socket.next()).await {
                Some(Ok(Message::Pong(payload))) if payload == "there?" => return,
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads one message, whatever it is. Whether the connection is still open.
    pub(super) async fn poll(&mut self) -> bool {
        matches!(self.socket.next().await, Some(Ok(_)))
    }

    /// Ends the connection in the middle of a frame.
    pub(super) async fn cut(mut self) {
        self.socket.get_mut().write_all(&[0x82, 126, 1]).await.expect("written");
    }

    /// Breaks the connection, as a machine does that has lost its memory of it.
    pub(super) fn reset(self) {
        SockRef::from(self.socket.get_ref()).set_linger(Some(std::time::Duration::ZERO)).expect("a TCP socket");
    }

    /// Waits for the close frame.
    pub(super) async fn closed(mut self) -> Option<u16> {
        loop {
            match soon("a close frame", self.socket.next()).await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Closes it with this code.
    pub(super) async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        self.socket.send(Message::Close(Some(frame))).await.expect("sent");
        // Until the other side has read it.
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

//! A connector by hand: it dials, says what a test tells it to, and checks what a business server would check.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::native::key_bytes;
use super::sign::standard_signature_of;
use super::within;

static INSTANCE: AtomicU64 = AtomicU64::new(1);

/// Who dials, and where.
#[derive(Clone, Debug)]
pub(crate) struct Dialler {
    pub(crate) gateway: SocketAddr,
    pub(crate) tenant: String,
    pub(crate) key: String,
}

/// A connector that is connected.
pub(crate) struct Connector {
    pub(crate) welcome: Value,
    key: String,
    socket: WebSocketStream<TcpStream>,
}

/// A message: its head and its body.
pub(crate) type Said = (Value, String);

/// A `hello` of a new process with this name.
pub(crate) fn hello(name: &str) -> Value {
    let instance = format!("{:032x}", u128::from(INSTANCE.fetch_add(1, Ordering::Relaxed)) << 64 | 7);
    json!({
        "type": "hello", "v": 1, "name": name, "instance": instance, "purpose": "listen", "take": {"named": true},
        "window": {"events": 32, "bytes": 1_048_576}, "agent": "test",
    })
}

/// The same with these fields changed.
pub(crate) fn with(mut hello: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().expect("an object") {
        hello[name] = value.clone();
    }
    hello
}

impl Dialler {
    /// Dials; an answer other than 101 as its status and JSON.
    pub(crate) async fn dial(&self) -> Result<WebSocketStream<TcpStream>, (u16, Value)> {
        self.dial_at("/v1/connector", Some("wafergate.connector.v1")).await
    }

    /// The same at a path, with a subprotocol or none.
    pub(crate) async fn dial_at(
        &self,
        path: &str,
        subprotocol: Option<&'static str>,
    ) -> Result<WebSocketStream<TcpStream>, (u16, Value)> {
        let mut request = format!("ws://{}{path}", self.gateway).into_client_request().expect("a request");
        let bearer = format!("Bearer {}:{}", self.tenant, self.key);
        request.headers_mut().insert("authorization", bearer.parse().expect("ASCII"));
        if let Some(subprotocol) = subprotocol {
            request.headers_mut().insert("sec-websocket-protocol", subprotocol.parse().expect("ASCII"));
        }
        let stream = TcpStream::connect(self.gateway).await.expect("connects");
        match within("the handshake", client_async(request, stream)).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err((response.status().as_u16(), serde_json::from_slice(body).unwrap_or(Value::Null)))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Dials and says `hello`; the `welcome` must come.
    pub(crate) async fn connect(&self, hello: &Value) -> Connector {
        let mut connector = self.greet(hello).await;
        let (welcome, _) = connector.recv().await;
        assert_eq!((&welcome["type"], &welcome["v"]), (&json!("welcome"), &json!(1)), "{welcome}");
        connector.welcome = welcome;
        connector
    }

    /// Dials and says `hello`, whatever comes.
    pub(crate) async fn greet(&self, hello: &Value) -> Connector {
        let socket = self.dial().await.expect("101");
        let mut connector = Connector { welcome: Value::Null, key: self.key.clone(), socket };
        connector.say(hello, "").await;
        connector
    }
}

impl Connector {
    /// The id of the connection.
    pub(crate) fn session(&self) -> &str {
        self.welcome["session"].as_str().expect("a session")
    }

    /// Sends a message.
    pub(crate) async fn say(&mut self, head: &Value, body: &str) {
        self.send(Message::text(format!("{head}\n{body}"))).await;
    }

    /// Sends any frame.
    pub(crate) async fn send(&mut self, frame: Message) {
        within("send", self.socket.send(frame)).await.expect("sends");
    }

    /// The next message, which must come; pings are answered.
    pub(crate) async fn recv(&mut self) -> Said {
        match within("a message", self.next()).await {
            Ok(said) => said,
            Err(end) => panic!("no message but {end:?}"),
        }
    }

    /// The next message of this type; others are skipped.
    pub(crate) async fn recv_type(&mut self, kind: &str) -> Said {
        loop {
            let said = self.recv().await;
            if said.0["type"] == kind {
                return said;
            }
        }
    }

    /// The next message, or the close frame's code and reason.
    async fn next(&mut self) -> Result<Said, Option<(u16, String)>> {
        loop {
            let text = match self.socket.next().await {
                Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
                Some(Ok(Message::Binary(bytes))) => String::from_utf8(bytes.to_vec()).expect("UTF-8"),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned())));
                }
                Some(Ok(Message::Frame(_)) | Err(_)) | None => return Err(None),
            };
            let (head, body) = text.split_once('\n').unwrap_or((&text, ""));
            return Ok((serde_json::from_str(head).expect("a JSON head"), body.to_owned()));
        }
    }

    /// The next message, which must be an event with a valid Standard Webhooks signature.
    pub(crate) async fn event(&mut self) -> Said {
        let (head, body) = self.recv().await;
        assert_eq!(head["type"], "event", "{head}");
        let header = |name: &str| head["headers"][name].as_str().unwrap_or_else(|| panic!("no {name}: {head}"));
        assert_eq!(header("webhook-id"), head["id"]);
        let signature =
            standard_signature_of(&key_bytes(&self.key), header("webhook-id"), header("webhook-timestamp"), &body);
        assert!(header("webhook-signature").split(' ').any(|given| given == signature), "{head}");
        (head, body)
    }

    /// The next event, which must be this one of a tunnel.
    pub(crate) async fn event_of(&mut self, tunnel: &str, kind: &str) -> Said {
        let (head, body) = self.event().await;
        assert_eq!((&head["tunnel"], &head["event"]), (&json!(tunnel), &json!(kind)), "{head}");
        (head, body)
    }

    /// Answers an event.
    pub(crate) async fn answer(&mut self, event: &Value, status: u16, body: &str) {
        let answer =
            json!({"type": "answer", "id": event["id"], "attempt": event["attempt"], "status": status, "ms": 1});
        self.say(&answer, body).await;
    }

    /// Takes the next event of a tunnel and answers that it is accepted.
    pub(crate) async fn take(&mut self, tunnel: &str, kind: &str) -> Said {
        let (head, body) = self.event_of(tunnel, kind).await;
        self.answer(&head, 200, "{\"code\":0,\"message\":\"OK\"}").await;
        (head, body)
    }

    /// Makes sure that nothing else has come: the next frame answers a ping.
    pub(crate) async fn expect_quiet(&mut self) {
        self.send(Message::Ping("quiet?".into())).await;
        loop {
            match within("the pong", self.socket.next()).await {
                Some(Ok(Message::Pong(_))) => return,
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("not quiet: {other:?}"),
            }
        }
    }

    /// Makes a call over the connection; events must not come meanwhile.
    pub(crate) async fn call(&mut self, line: &str, headers: Value, body: &str) -> (u16, Value) {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let head = json!({"type": "call", "id": "c1", "method": method, "path": path, "headers": headers});
        self.say(&head, body).await;
        let (result, body) = self.recv().await;
        assert_eq!((&result["type"], &result["id"]), (&json!("result"), &json!("c1")), "{result}");
        let status = u16::try_from(result["status"].as_u64().expect("a number")).expect("a status");
        (status, if body.is_empty() { Value::Null } else { serde_json::from_str(&body).expect("JSON") })
    }

    /// Waits for the close frame: code and reason. Messages before it are skipped.
    pub(crate) async fn closed(mut self) -> (u16, String) {
        loop {
            match within("the close frame", self.next()).await {
                Ok(_) => {}
                Err(end) => return end.expect("a close frame with a code"),
            }
        }
    }

    /// Ends without a goodbye, as a process that is killed.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

//! An injected gateway bug: a relay in front of a business server that corrupts one chosen event.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::logs::number;
use crate::support::business::read_request;

/// The bug, which happens once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lie {
    /// A message is taken, and not passed on.
    LoseMessage,
    /// A message is passed on behind the one after it.
    SwapMessages,
    /// A message is passed on twice.
    RepeatMessage,
    /// A close event is taken, and not passed on.
    LoseClose,
    /// A close event is passed on twice.
    RepeatClose,
    /// Nothing: to see that the relay itself does no harm.
    None,
}

/// The relay; it ends when dropped.
pub(crate) struct Liar {
    pub(crate) address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

struct Relay {
    to: SocketAddr,
    lie: Lie,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The tunnel that is lied about.
    victim: Option<String>,
    /// A request that waits for the one after it.
    held: Option<String>,
    is_done: bool,
}

const ACCEPTED: &str = "HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n{\"code\":0}";

impl Liar {
    /// In front of the business server at `to`.
    pub(crate) async fn new(to: SocketAddr, lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.53:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let relay = Arc::new(Relay { to, lie, state: Mutex::default() });
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let relay = Arc::clone(&relay);
                tokio::spawn(async move { relay.serve(stream).await });
            }
        });
        Self { address, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

impl Relay {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = vec![];
        while let Some((head, body)) = read_request(&mut stream, &mut buffer).await? {
            let request = format!("{head}\r\n\r\n{body}");
            for request in self.requests(request, &body) {
                self.pass_on(&request).await?;
            }
            stream.write_all(ACCEPTED.as_bytes()).await?;
        }
        Ok(())
    }

    /// The requests passed on in place of one.
    fn requests(&self, request: String, body: &str) -> Vec<String> {
        let (tunnel, kind, number) = event(body);
        let mut state = self.state.lock();
        let is_next = state.victim.as_deref() == Some(&tunnel);
        if let Some(held) = state.held.take_if(|_| is_next) {
            state.is_done = true;
            return vec![request, held];
        }
        let is_meant = match self.lie {
            Lie::LoseMessage | Lie::SwapMessages | Lie::RepeatMessage => kind == "message" && number == 3,
            Lie::LoseClose | Lie::RepeatClose => kind == "close",
            Lie::None => false,
        };
        if !is_meant || state.is_done || state.held.is_some() {
            return vec![request];
        }
        state.victim = Some(tunnel);
        state.is_done = self.lie != Lie::SwapMessages;
        match self.lie {
            Lie::LoseMessage | Lie::LoseClose => vec![],
            Lie::RepeatMessage | Lie::RepeatClose => vec![request.clone(), request],
            Lie::SwapMessages => {
                state.held = Some(request);
                vec![]
            }
            Lie::None => vec![request],
        }
    }

    /// Posts a request to the business server and waits for its answer.
    async fn pass_on(&self, request: &str) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.to).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read_u8().await.map(drop)
    }
}

/// Tunnel, kind and number of the event in a request's body.
fn event(body: &str) -> (String, String, u64) {
    let envelope: Value = serde_json::from_str(body).expect("JSON");
    let inner: Value = serde_json::from_str(envelope["data"].as_str().expect("text")).expect("JSON");
    let text = |name: &str| inner[name].as_str().unwrap_or_default();
    (text("tunnelId").to_owned(), text("type").to_owned(), number(text("content")))
}

//! One connection to the gateway as a task: it dials, then passes messages both ways until an end.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use super::upgrade::Gateway;
use super::upgrade::Socket;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::listen::Link;
use crate::listen::Trouble;
use crate::protocol::connector::FromGateway;
use crate::protocol::connector::close_code;

/// Messages that wait for a socket at most: a window of answers, pings, and what belongs to the beginning.
pub(super) const MAX_WAITING: usize = 1_100;

/// How long an end may take: the close frame leaves, and what the gateway sends until its own one is read.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What happens on a connection.
#[derive(Debug)]
pub(super) enum Seen {
    Connected,
    Failed(Trouble),
    Message(FromGateway, Bytes),
    /// A ping, or the pong to this number.
    Heard(Option<u64>),
    /// The end, with the close code if there was one.
    Lost(Option<u16>, String),
}

/// What is to be sent.
#[derive(Debug)]
pub(super) enum ToSend {
    Message(Vec<u8>),
    Ping(u64),
    Close(u16),
}

/// Dials, and drives the connection until it ends; each thing that happens goes to `seen` with its number.
pub(super) async fn drive(
    link: Link,
    gateway: Gateway,
    seen: mpsc::Sender<(Link, Seen)>,
    to_send: mpsc::Receiver<ToSend>,
) {
    // If the receiver is gone, so is the program.
    match gateway.dial(SystemClock.unix_time().as_secs()).await {
        Ok(socket) => {
            let _ = seen.send((link, Seen::Connected)).await;
            let (code, words) = exchange(link, socket, &seen, to_send).await;
            let _ = seen.send((link, Seen::Lost(code, words))).await;
        }
        Err(trouble) => {
            let _ = seen.send((link, Seen::Failed(trouble))).await;
        }
    }
}

async fn exchange(
    link: Link,
    socket: Socket,
    seen: &mpsc::Sender<(Link, Seen)>,
    mut to_send: mpsc::Receiver<ToSend>,
) -> (Option<u16>, String) {
    let (mut sink, mut stream) = socket.split();
    let read = async {
        while let Some(message) = stream.next().await {
            let what = match message {
                Ok(Message::Text(text)) => {
                    FromGateway::decode(text.into()).map(|(head, body)| Seen::Message(head, body))
                }
                Ok(Message::Binary(bytes)) => FromGateway::decode(bytes).map(|(head, body)| Seen::Message(head, body)),
                Ok(Message::Pong(number)) => {
                    Ok(Seen::Heard(Some(number.as_ref().try_into().map_or(0, u64::from_be_bytes))))
                }
                Ok(Message::Ping(_) | Message::Frame(_)) => Ok(Seen::Heard(None)),
                Ok(Message::Close(Some(frame))) => return closed(frame.code.into(), &frame.reason),
                Ok(Message::Close(None)) => return (None, "the gateway has closed the connection".to_owned()),
                Err(error) => return (None, format!("the connection broke: {error}")),
            };
            let Ok(what) = what else {
                return (Some(close_code::MALFORMED), "the gateway has sent a malformed message".to_owned());
            };
            if seen.send((link, what)).await.is_err() {
                break;
            }
        }
        (None, "the gateway has closed the connection".to_owned())
    };
    let write = async {
        while let Some(next) = to_send.recv().await {
            let message = match next {
                ToSend::Message(message) => Message::Binary(message.into()),
                ToSend::Ping(number) => Message::Ping(Bytes::copy_from_slice(&number.to_be_bytes())),
                ToSend::Close(code) => close(code),
            };
            let is_close = matches!(message, Message::Close(_));
            sink.send(message).await.map_err(|error| format!("the connection broke: {error}"))?;
            if is_close {
                break;
            }
        }
        Ok::<(), String>(())
    };
    let mut read = pin!(read);
    let written = tokio::select! {
        ended = &mut read => {
            if ended.0 == Some(close_code::MALFORMED) {
                // If it does not leave, the end of the connection says enough.
                let _ = timeout(CLOSE_WITHIN, sink.send(close(close_code::MALFORMED))).await;
            }
            return ended;
        }
        written = write => written,
    };
    match written {
        // A connection that ends with something unread loses what was sent last.
        Ok(()) => timeout(CLOSE_WITHIN, read).await.unwrap_or_else(|_| (None, "closed here".to_owned())),
        Err(words) => (None, words),
    }
}

fn close(code: u16) -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: "".into() }))
}

fn closed(code: u16, reason: &str) -> (Option<u16>, String) {
    let words = match reason {
        "" => format!("the gateway has closed the connection with code {code}"),
        reason => reason.to_owned(),
    };
    (Some(code), words)
}

//! A client that talks by a script and keeps its own log.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::interval;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::connection::Granted;
use super::connection::Way;
use super::logs::ClientLog;
use super::logs::content;
use super::logs::number;
use crate::support::Gate;
use crate::support::Issued;
use crate::support::raw;
use crate::support::within;

/// A handshake waits while Redis is away.
const LONG_HANDSHAKE: Duration = Duration::from_secs(30);

/// How a client's tunnel ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Leave {
    /// By its `close` packet.
    ClosePacket,
    /// By its close frame.
    CloseFrame,
    /// By hanging up, with everything sent and read.
    Fin,
    /// By a reset, when all it said has been read.
    Reset,
    /// By a reset in the middle of its words.
    ResetAtOnce,
    /// Its business server closes it.
    PushedClose,
    /// It stays until the gateway ends it.
    Stay,
}

/// The actions of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// How many messages it sends.
    pub(crate) messages: u64,
    /// How long they are, in bytes.
    pub(crate) bytes: usize,
    /// One message each so often.
    pub(crate) pace: Duration,
    pub(crate) leave: Leave,
    /// Whether it waits for all pushes before it leaves.
    pub(crate) is_patient: bool,
}

/// The actions of others meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Meanwhile {
    /// Opened by the client when its tunnel is open.
    pub(crate) opened: Gate,
    /// Open when there are no more pushes.
    pub(crate) pushed: Gate,
}

/// Data received from the gateway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Came {
    Packet,
    Pong,
    End,
}

struct Talker {
    socket: WebSocketStream<TcpStream>,
    log: ClientLog,
    /// The code of the gateway's close frame.
    code: Option<u16>,
}

/// Opens a granted tunnel, talks and leaves.
pub(crate) async fn talk(granted: Granted, script: Script, way: Way, meanwhile: Meanwhile) -> ClientLog {
    let mut talker = Talker::dial(&granted.issued).await;
    drop(granted.busy);
    meanwhile.opened.open();
    if talker.follow(script, &way, &meanwhile).await.is_err() {
        within("the end", async { while talker.next().await != Came::End {} }).await;
    }
    talker.log.has_read_all = talker.code.is_some_and(|code| code != 1013);
    if script.leave == Leave::Stay && talker.code == Some(1001) {
        // The gateway reads on behind its own goodbye.
        talker.log.certain = talker.log.sent.len();
    }
    talker.log
}

/// The gateway has ended the tunnel.
struct Ended;

impl Talker {
    async fn dial(issued: &Issued) -> Self {
        let (_, host, path) = issued.parts();
        let dialed = Instant::now();
        let dial = async {
            let stream = TcpStream::connect(issued.address()).await?;
            stream.set_nodelay(true)?;
            client_async(format!("ws://{host}{path}"), stream).await
        };
        let opened = tokio::time::timeout(LONG_HANDSHAKE, dial).await.expect("a handshake in time");
        let (socket, _) = opened.expect("a fresh connect URL works");
        let log = ClientLog {
            tunnel: issued.tunnel.clone(),
            dialed,
            opened: dialed,
            open_until: dialed,
            sent: vec![],
            certain: 0,
            received: vec![],
            has_read_all: false,
            lost_at: None,
        };
        let mut talker = Self { socket, log, code: None };
        assert_eq!(within("the timeout packet", talker.next()).await, Came::Packet);
        talker.log.opened = Instant::now();
        talker.log.open_until = talker.log.opened;
        talker
    }

    async fn follow(&mut self, script: Script, way: &Way, meanwhile: &Meanwhile) -> Result<(), Ended> {
        let mut ticks = interval(script.pace);
        for number in 1..=script.messages {
            self.read_until(ticks.tick()).await?;
            self.send(&format!("message:{}", content(number, script.bytes))).await?;
            self.log.sent.push(Instant::now());
        }
        if script.is_patient {
            self.read_until(meanwhile.pushed.passed()).await?;
        }
        let all = self.log.sent.len();
        match script.leave {
            Leave::ClosePacket => {
                self.settle(Some(all));
                self.send("close").await?;
            }
            Leave::CloseFrame => {
                self.settle(Some(all));
                let frame = CloseFrame { code: 1000.into(), reason: "bye".into() };
                self.socket.close(Some(frame)).await.map_err(|_| Ended)?;
            }
            Leave::Fin => {
                self.settle(Some(all));
                self.socket.get_mut().shutdown().await.map_err(|_| Ended)?;
            }
            Leave::Reset => {
                self.barrier().await?;
                raw::reset(self.socket.get_ref());
                return Ok(());
            }
            Leave::ResetAtOnce => {
                self.settle(None);
                raw::reset(self.socket.get_ref());
                return Ok(());
            }
            Leave::PushedClose => {
                self.barrier().await?;
                way.close(&self.log.tunnel).await;
            }
            Leave::Stay => self.settle(None),
        }
        within("the gateway's goodbye", async { while self.next().await != Came::End {} }).await;
        Ok(())
    }

    /// Notes that the tunnel has been open so far, and how many messages the gateway reads whatever comes.
    fn settle(&mut self, certain: Option<usize>) {
        self.log.open_until = Instant::now();
        self.log.certain = certain.unwrap_or(self.log.certain);
    }

    /// Waits until the gateway has read everything.
    async fn barrier(&mut self) -> Result<(), Ended> {
        let all = self.log.sent.len();
        self.send("ping").await?;
        loop {
            match within("pong", self.next()).await {
                Came::Packet => {}
                Came::Pong => break,
                Came::End => return Err(Ended),
            }
        }
        self.settle(Some(all));
        Ok(())
    }

    /// Reads until something else has happened.
    async fn read_until(&mut self, other: impl Future) -> Result<(), Ended> {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                _ = &mut other => return Ok(()),
                came = self.next() => {
                    if came == Came::End {
                        return Err(Ended);
                    }
                }
            }
        }
    }

    async fn send(&mut self, packet: &str) -> Result<(), Ended> {
        within("send", self.socket.send(Message::text(packet))).await.map_err(|_| Ended)
    }

    /// Reads one frame into the log.
    async fn next(&mut self) -> Came {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => match text.as_str().split_once(':') {
                Some(("message", content)) => self.log.received.push(number(content)),
                None if text.as_str() == "pong" => return Came::Pong,
                _ => {}
            },
            Some(Ok(Message::Close(frame))) => self.code = Some(frame.map_or(1005, |frame| frame.code.into())),
            Some(Ok(_)) => {}
            None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_) | Error::Protocol(_))) => {
                return Came::End;
            }
            Some(Err(error)) => panic!("{}: {error}", self.log.tunnel),
        }
        Came::Packet
    }
}

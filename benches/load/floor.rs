//! The floor: the cost of the system alone. One thread, one epoll, one send() for each delivery, one POST for each event over
//! keep-alive connections; no ids, no signatures, no JSON, no limits.

use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpListener;
use mio::net::TcpStream;
use wafergate::protocol::login;
use wafergate::protocol::login::Profile;
use wafergate::protocol::login::UserInfo;

use crate::connections::dial;
use crate::filled_store;
use crate::frame;
use crate::http;

/// Connections to the business server.
const HOOKS: usize = 64;
/// Token of the listener; the tokens before it are the business server's connections, those behind it all others.
const DOOR: usize = HOOKS;
const FIRST: usize = HOOKS + 1;

/// Its handshake response with the first packet: all clients use the same key.
const WELCOME: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x0btimeout:600";
const PUSHED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PONG: &[u8] = b"\x81\x04pong";
const CLOSE: &[u8] = b"\x88\x02\x03\xe8";

struct Floor {
    poll: Poll,
    door: TcpListener,
    hooks: Vec<TcpStream>,
    free: Vec<usize>,
    waiting: VecDeque<Vec<u8>>,
    connections: Vec<Connection>,
    /// Indexes of clients among the connections, by name.
    clients: Vec<usize>,
    /// The response to a check of a session.
    checked: Vec<u8>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: Option<TcpStream>,
    /// Its name after the upgrade.
    client: Option<usize>,
    carry: Vec<u8>,
}

/// Serves until it is killed; posts events to `business`.
pub(crate) fn serve(business: SocketAddr) -> anyhow::Result<()> {
    let poll = Poll::new()?;
    let mut door = TcpListener::bind("127.0.0.1:0".parse()?)?;
    println!("listen http://{}", door.local_addr()?);
    poll.registry().register(&mut door, Token(DOOR), Interest::READABLE)?;
    let mut hooks = Vec::new();
    for hook in 0..HOOKS {
        let mut stream = dial(business)?;
        poll.registry().register(&mut stream, Token(hook), Interest::READABLE)?;
        hooks.push(stream);
    }
    let free = (0..HOOKS).collect();
    let (waiting, connections, clients) = <(VecDeque<_>, Vec<_>, Vec<_>)>::default();
    let (checked, buffer) = (checked(), vec![0; 64 * 1024]);
    let mut floor = Floor { poll, door, hooks, free, waiting, connections, clients, checked, buffer };
    let mut events = Events::with_capacity(1_024);
    loop {
        floor.poll.poll(&mut events, None)?;
        for event in &events {
            match event.token().0 {
                DOOR => floor.accept()?,
                hook @ ..HOOKS => floor.read_hook(hook)?,
                other => floor.read(other - FIRST, event.is_read_closed())?,
            }
        }
    }
}

/// The gateway's response to a check of a session, but for some headers.
fn checked() -> Vec<u8> {
    let (open_id, profile) = (filled_store::open_id(0), Profile::parse(filled_store::PROFILE).unwrap_or_default());
    let body = login::checked(&UserInfo { open_id: &open_id, union_id: None, profile: &profile });
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

impl Floor {
    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            match self.door.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let token = Token(FIRST + self.connections.len());
                    self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    self.connections.push(Connection { stream: Some(stream), client: None, carry: vec![] });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read_hook(&mut self, hook: usize) -> anyhow::Result<()> {
        match self.hooks[hook].read(&mut self.buffer) {
            Ok(0) => anyhow::bail!("the business server is gone"),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        match self.waiting.pop_front() {
            Some(request) => Ok(self.hooks[hook].write_all(&request)?),
            None => {
                self.free.push(hook);
                Ok(())
            }
        }
    }

    fn tell(&mut self, client: usize, packet: &[u8]) -> io::Result<()> {
        let mut request = Vec::with_capacity(256);
        write!(request, "POST /{client} HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n", packet.len())?;
        request.extend_from_slice(packet);
        match self.free.pop() {
            Some(hook) => self.hooks[hook].write_all(&request),
            None => {
                self.waiting.push_back(request);
                Ok(())
            }
        }
    }

    fn read(&mut self, index: usize, to_end: bool) -> anyhow::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Connection { stream: Some(stream), client, carry } = &mut self.connections[index] {
            let read = match stream.read(&mut buffer) {
                Ok(0) => {
                    self.end(index)?;
                    break;
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.end(index)?;
                    break;
                }
            };
            let client = *client;
            let mut carried = std::mem::take(carry);
            let input = if carried.is_empty() {
                &mut buffer[..read]
            } else {
                carried.extend_from_slice(&buffer[..read]);
                &mut carried
            };
            let used = match client {
                Some(client) => self.read_frames(index, client, input)?,
                None => self.read_request(index, input)?,
            };
            self.connections[index].carry = input[used..].to_vec();
            if read < buffer.len() && !to_end {
                break;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn read_frames(&mut self, index: usize, client: usize, input: &mut [u8]) -> anyhow::Result<usize> {
        let mut at = 0;
        while let Some(frame) = frame::read_masked(&mut input[at..]) {
            at += frame.bytes;
            match frame.payload {
                b"ping" => self.write(index, PONG)?,
                b"close" => {
                    self.write(index, CLOSE)?;
                    self.end(index)?;
                    return Ok(input.len());
                }
                packet => self.tell(client, packet)?,
            }
        }
        Ok(at)
    }

    fn read_request(&mut self, index: usize, input: &[u8]) -> anyhow::Result<usize> {
        let Some(request) = http::read(input) else { return Ok(0) };
        let words: Vec<&str> = request.path().split('/').skip(1).collect();
        match words[..] {
            ["ws", name] => self.welcome(index, name.parse()?)?,
            ["mina_auth", ""] => {
                self.connections[index].stream.as_mut().map_or(Ok(()), |stream| stream.write_all(&self.checked))?;
            }
            ["push", first, count] => self.push(index, first.parse()?, count.parse()?, request.body)?,
            _ => anyhow::bail!("unexpected call of {}", request.path()),
        }
        Ok(request.bytes)
    }

    fn welcome(&mut self, index: usize, client: usize) -> io::Result<()> {
        self.connections[index].client = Some(client);
        if self.clients.len() <= client {
            self.clients.resize(client + 1, usize::MAX);
        }
        self.clients[client] = index;
        self.write(index, WELCOME)?;
        self.tell(client, b"connect")
    }

    fn push(&mut self, index: usize, first: usize, count: usize, content: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(content.len() + 16);
        frame::write_plain(&mut message, 1, &[b"message:", content].concat());
        for client in first..first + count {
            self.write(self.clients[client], &message)?;
        }
        self.write(index, PUSHED)
    }

    fn write(&mut self, index: usize, bytes: &[u8]) -> io::Result<()> {
        self.connections[index].stream.as_mut().map_or(Ok(()), |stream| stream.write_all(bytes))
    }

    fn end(&mut self, index: usize) -> io::Result<()> {
        self.connections[index].stream = None;
        match self.connections[index].client.take() {
            Some(client) => self.tell(client, b"close"),
            None => Ok(()),
        }
    }
}

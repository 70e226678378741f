//! The peers of a server, in one thread with one event loop: clients, the business server, and its calls.

use std::collections::HashMap;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::bail;
use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpListener;
use mio::net::TcpStream;
use socket2::SockRef;

use crate::clock::now;
use crate::connections::Connection;
use crate::connections::Connections;
use crate::connections::dial_from;
use crate::frame;
use crate::http;
use crate::segments;
use crate::socket_kind::SocketKind;
use crate::wechat;
use crate::wire::Event;
use crate::wire::Protocol;

/// The response to every event.
pub(crate) const ACCEPTED: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{\"code\":0}";

/// Size of the read buffer.
const READ_BYTES: usize = 256 * 1024;

/// Clients per source address, as if they were on one machine.
const CLIENTS_AN_ADDRESS: usize = 2_000;

/// Longest time without any event while work is pending.
const PATIENCE: Duration = Duration::from_secs(15);

/// Clients and business server of one server.
pub(crate) struct World {
    /// The business server's protocol.
    pub(crate) dialect: Protocol,
    /// All clients so far, by number.
    pub(crate) clients: Vec<Client>,
    /// Connections for the business server's calls.
    pub(crate) lines: Connections,
    address: SocketAddr,
    names: HashMap<String, usize>,
    door: TcpListener,
    guests: Vec<Delivery>,
    poll: Poll,
    events: Option<Events>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

/// One WebSocket client.
pub(crate) struct Client {
    /// Its name at the server.
    pub(crate) name: String,
    stream: Option<TcpStream>,
    carry: Vec<u8>,
    is_open: bool,
}

/// A connection of the server to the business server.
struct Delivery {
    stream: Option<TcpStream>,
    carry: Vec<u8>,
}

/// The actions of a mode, and its reaction to events.
pub(crate) trait Load {
    /// Whether all work is done.
    fn is_done(&self) -> bool;

    /// Number of outstanding results.
    fn left(&self) -> usize {
        0
    }

    /// Called repeatedly; returns the time until the next call.
    fn drive(&mut self, _world: &mut World, _now: Instant) -> anyhow::Result<Option<Duration>> {
        Ok(None)
    }

    /// The server has responded to the call with this tag.
    fn answered(&mut self, _world: &mut World, _tag: usize, body: &[u8]) -> anyhow::Result<()> {
        bail!("an unexpected response: {}", String::from_utf8_lossy(body))
    }

    /// A client has received a packet.
    fn received(&mut self, _world: &mut World, _client: usize, packet: &[u8]) -> anyhow::Result<()> {
        bail!("an unexpected packet: {}", String::from_utf8_lossy(packet))
    }

    /// The server has posted an event, which has been answered.
    fn on_event(&mut self, _world: &mut World, client: usize, event: Event<'_>) -> anyhow::Result<()> {
        bail!("an unexpected event of client {client}: {}", String::from_utf8_lossy(event.body))
    }

    /// The server has closed a client's connection.
    fn closed(&mut self, _world: &mut World, client: usize) -> anyhow::Result<()> {
        bail!("the server closed the connection of client {client}")
    }
}

impl World {
    /// The peers of the server at `address`: no clients yet, a business server at `door`, and `lines` connections for its calls.
    pub(crate) fn new(
        dialect: Protocol,
        address: SocketAddr,
        door: std::net::TcpListener,
        lines: usize,
    ) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        door.set_nonblocking(true)?;
        let mut door = TcpListener::from_std(door);
        poll.registry().register(&mut door, Token::from(SocketKind::Door), Interest::READABLE)?;
        let lines = Connections::new(address, lines, poll.registry().try_clone()?);
        Ok(Self {
            dialect,
            clients: vec![],
            lines,
            address,
            names: HashMap::new(),
            door,
            guests: vec![],
            poll,
            events: Some(Events::with_capacity(1_024)),
            buffer: vec![0; READ_BYTES],
            scratch: vec![],
        })
    }

    /// Runs a load until it is done.
    pub(crate) fn run(&mut self, load: &mut impl Load) -> anyhow::Result<()> {
        let mut events = self.events.take().context("a run within a run")?;
        let mut last = now();
        loop {
            let wait = load.drive(self, now())?;
            if load.is_done() {
                break;
            }
            // The system waits in whole milliseconds: shorter waits spin.
            let is_waiting = wait.is_none();
            let wait = wait.map_or(PATIENCE, |wait| Duration::from_millis(wait.as_millis() as u64));
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result?,
            }
            if !events.is_empty() || !is_waiting {
                last = now();
            } else if now() - last > PATIENCE {
                bail!("nothing happened for {} s, {} things are missing", PATIENCE.as_secs(), load.left());
            }
            for event in &events {
                self.handle(event, load)?;
            }
        }
        self.events = Some(events);
        Ok(())
    }

    /// Opens a client's connection at the path of its URL; returns its number.
    pub(crate) fn join(&mut self, name: String, path: &str) -> anyhow::Result<usize> {
        let number = self.clients.len();
        let machine = u8::try_from(number / CLIENTS_AN_ADDRESS).context("too many clients")?;
        let mut stream = dial_from(Ipv4Addr::new(127, 1, machine, 1), self.address)?;
        self.poll.registry().register(&mut stream, Token::from(SocketKind::Client(number)), Interest::READABLE)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address
        );
        write_whole(&mut stream, request.as_bytes())?;
        self.names.insert(name.clone(), number);
        self.clients.push(Client { name, stream: Some(stream), carry: vec![], is_open: false });
        Ok(number)
    }

    /// A client sends a packet.
    pub(crate) fn say(&mut self, client: usize, packet: &[u8]) -> anyhow::Result<()> {
        self.scratch.clear();
        frame::write_masked(&mut self.scratch, packet);
        let stream = self.clients[client].stream.as_mut().context("this client has left")?;
        write_whole(stream, &self.scratch)
    }

    /// A client vanishes without a goodbye: its connection is closed, or reset with `reset`.
    pub(crate) fn vanish(&mut self, client: usize, reset: bool) -> anyhow::Result<()> {
        let stream = self.clients[client].stream.take().context("this client has left")?;
        if reset {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Number of TCP data segments that a client has received so far.
    pub(crate) fn segments(&self, client: usize) -> anyhow::Result<u32> {
        let stream = self.clients[client].stream.as_ref().context("this client has left")?;
        segments::received(stream.local_addr()?, stream.peer_addr()?)
    }

    fn handle(&mut self, event: &mio::event::Event, load: &mut impl Load) -> anyhow::Result<()> {
        // The end is reported once, maybe together with the last bytes: then it must be read too.
        let to_end = event.is_read_closed();
        match SocketKind::from(event.token()) {
            SocketKind::Door => self.admit_guests(),
            SocketKind::Delivery(guest) => self.read_guest(guest, to_end, load),
            SocketKind::Client(client) => self.read_client(client, to_end, load),
            SocketKind::Connection(line) => {
                self.lines.flush(line)?;
                if event.is_readable() { self.read_line(line, to_end, load) } else { Ok(()) }
            }
        }
    }

    fn admit_guests(&mut self) -> anyhow::Result<()> {
        loop {
            match self.door.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let token = Token::from(SocketKind::Delivery(self.guests.len()));
                    self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    self.guests.push(Delivery { stream: Some(stream), carry: vec![] });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read_guest(&mut self, guest: usize, to_end: bool, load: &mut impl Load) -> anyhow::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Delivery { stream: Some(stream), carry } = &mut self.guests[guest] {
            let mut carry = std::mem::take(carry);
            let input = match read(stream, &mut buffer, &mut carry)? {
                Input::None => {
                    self.guests[guest].carry = carry;
                    break;
                }
                Input::End => {
                    self.guests[guest].stream = None;
                    break;
                }
                Input::Bytes(input) => input,
            };
            let mut at = 0;
            while let Some(request) = http::read(&input[at..]) {
                at += request.bytes;
                let answer = wechat::answer(request.path());
                if let Some(stream) = &mut self.guests[guest].stream {
                    write_whole(stream, answer.as_deref().unwrap_or(ACCEPTED))?;
                }
                if answer.is_some() {
                    continue;
                }
                let event = self.dialect.event(request.path(), request.body)?;
                let client = *self.names.get(event.name).context("an event of an unknown client")?;
                load.on_event(self, client, event)?;
            }
            let is_all = input.len() < READ_BYTES && !to_end;
            self.guests[guest].carry = rest(input, at);
            if is_all {
                break;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn read_line(&mut self, line: usize, to_end: bool, load: &mut impl Load) -> anyhow::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Connection { stream: Some(stream), carry, .. } = &mut self.lines.lines[line] {
            let mut carry = std::mem::take(carry);
            match read(stream, &mut buffer, &mut carry)? {
                Input::None => {
                    self.lines.lines[line].carry = carry;
                    break;
                }
                Input::End => {
                    self.lines.closed(line)?;
                    break;
                }
                Input::Bytes(input) => match http::read(input) {
                    None => self.lines.lines[line].carry = input.to_vec(),
                    Some(answer) if answer.status() == "200" => {
                        let tag = self.lines.answered(line)?;
                        load.answered(self, tag, answer.body)?;
                    }
                    Some(answer) => bail!("{}", answer.start),
                },
            }
            if !to_end {
                break;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn read_client(&mut self, client: usize, to_end: bool, load: &mut impl Load) -> anyhow::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Client { stream: Some(stream), carry, .. } = &mut self.clients[client] {
            let mut carry = std::mem::take(carry);
            let input = match read(stream, &mut buffer, &mut carry)? {
                Input::None => {
                    self.clients[client].carry = carry;
                    break;
                }
                Input::End => {
                    self.clients[client].stream = None;
                    load.closed(self, client)?;
                    break;
                }
                Input::Bytes(input) => input,
            };
            let mut at = 0;
            if !self.clients[client].is_open
                && let Some(answer) = http::read(input)
            {
                if answer.status() != "101" {
                    bail!("{} {}", answer.start, String::from_utf8_lossy(answer.body));
                }
                at = answer.bytes;
                self.clients[client].is_open = true;
            }
            while self.clients[client].is_open
                && let Some(frame) = frame::read(&input[at..])
            {
                at += frame.bytes;
                match frame.opcode {
                    1 => load.received(self, client, frame.payload)?,
                    8 => {}
                    other => bail!("a frame of kind {other}"),
                }
            }
            let is_all = input.len() < READ_BYTES && !to_end;
            self.clients[client].carry = rest(input, at);
            if is_all {
                break;
            }
        }
        self.buffer = buffer;
        Ok(())
    }
}

/// The result of reading a socket.
enum Input<'a> {
    None,
    End,
    Bytes(&'a [u8]),
}

/// Reads once; bytes left over from the last time come first.
fn read<'a>(stream: &mut TcpStream, buffer: &'a mut [u8], carry: &'a mut Vec<u8>) -> io::Result<Input<'a>> {
    match stream.read(buffer) {
        Ok(0) => Ok(Input::End),
        Ok(bytes) if carry.is_empty() => Ok(Input::Bytes(&buffer[..bytes])),
        Ok(bytes) => {
            carry.extend_from_slice(&buffer[..bytes]);
            Ok(Input::Bytes(carry))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Input::None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Input::End),
        Err(error) => Err(error),
    }
}

fn rest(input: &[u8], at: usize) -> Vec<u8> {
    input[at..].to_vec()
}

/// Writes a short message, which always fits.
fn write_whole(stream: &mut TcpStream, bytes: &[u8]) -> anyhow::Result<()> {
    let written = stream.write(bytes).context("the server does not read")?;
    if written < bytes.len() {
        bail!("the server does not read");
    }
    Ok(())
}

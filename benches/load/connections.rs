//! Keep-alive connections from the business server to a server, with one call at a time on each.

use std::collections::VecDeque;
use std::io;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use mio::Interest;
use mio::Registry;
use mio::Token;
use mio::net::TcpStream;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;

use crate::socket_kind::SocketKind;

/// A set of connections, and calls that wait for a free one.
pub(crate) struct Connections {
    address: SocketAddr,
    registry: Registry,
    pub(crate) lines: Vec<Connection>,
    free: Vec<usize>,
    waiting: VecDeque<(usize, Vec<u8>)>,
}

/// One connection.
#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) stream: Option<TcpStream>,
    pub(crate) carry: Vec<u8>,
    out: Vec<u8>,
    written: usize,
    /// Tag of the call in flight.
    tag: usize,
}

impl Connections {
    /// `count` connections to `address`, opened on demand.
    pub(crate) fn new(address: SocketAddr, count: usize, registry: Registry) -> Self {
        let lines = (0..count).map(|_| Connection::default()).collect();
        Self { address, registry, lines, free: (0..count).rev().collect(), waiting: VecDeque::new() }
    }

    /// Makes a call for `tag` on the next free connection. `write` appends the request.
    pub(crate) fn call(&mut self, tag: usize, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let Some(free) = self.free.pop() else {
            let mut request = Vec::new();
            write(&mut request);
            self.waiting.push_back((tag, request));
            return Ok(());
        };
        self.lines[free].out.clear();
        write(&mut self.lines[free].out);
        self.begin(free, tag)
    }

    /// Frees a connection after its response and returns the tag of the call.
    pub(crate) fn answered(&mut self, line: usize) -> io::Result<usize> {
        let tag = self.lines[line].tag;
        match self.waiting.pop_front() {
            None => self.free.push(line),
            Some((next, request)) => {
                self.lines[line].out = request;
                self.begin(line, next)?;
            }
        }
        Ok(tag)
    }

    /// Writes as much as the server accepts.
    pub(crate) fn flush(&mut self, line: usize) -> io::Result<()> {
        let line = &mut self.lines[line];
        let Some(stream) = &mut line.stream else { return Ok(()) };
        while line.written < line.out.len() {
            match stream.write(&line.out[line.written..]) {
                Ok(written) => line.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Handles a connection closed by the server, which is allowed while no call is in flight; it is reopened on demand.
    pub(crate) fn closed(&mut self, line: usize) -> io::Result<()> {
        self.lines[line].stream = None;
        if self.free.contains(&line) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a connection instead of answering"))
    }

    fn begin(&mut self, index: usize, tag: usize) -> io::Result<()> {
        let line = &mut self.lines[index];
        (line.tag, line.written) = (tag, 0);
        if line.stream.is_none() {
            let mut stream = dial(self.address)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.registry.register(&mut stream, Token::from(SocketKind::Connection(index)), interest)?;
            line.stream = Some(stream);
        }
        self.flush(index)
    }
}

/// A completed connection: on this machine that takes no time.
pub(crate) fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    prepare(std::net::TcpStream::connect(address)?)
}

/// A completed connection from another source address: one address has too few ports for many connections, and the search for a
/// free one would dominate.
pub(crate) fn dial_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&address.into())?;
    prepare(socket.into())
}

/// The same, not completed: it becomes writable when it is.
pub(crate) fn begin_to_dial(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

fn prepare(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}

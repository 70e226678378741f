//! Kept-alive connections on which the business server calls a server: one call at a time on each.

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

use crate::place::Place;

/// Some connections, and calls that wait for one of them.
pub(crate) struct Lines {
    address: SocketAddr,
    registry: Registry,
    pub(crate) lines: Vec<Line>,
    free: Vec<usize>,
    waiting: VecDeque<(usize, Vec<u8>)>,
}

/// One connection.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) stream: Option<TcpStream>,
    pub(crate) carry: Vec<u8>,
    out: Vec<u8>,
    written: usize,
    /// Whose call is under way.
    tag: usize,
}

impl Lines {
    /// `count` lines to `address`, which are opened when they are needed.
    pub(crate) fn new(address: SocketAddr, count: usize, registry: Registry) -> Self {
        let lines = (0..count).map(|_| Line::default()).collect();
        Self { address, registry, lines, free: (0..count).rev().collect(), waiting: VecDeque::new() }
    }

    /// Makes a call for `tag`, on the next free line. `write` appends the request.
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

    /// A line's call has been answered; the next one may use it. Returns the tag of the call.
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

    /// Writes what the server has room for.
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

    /// The server has closed a line. That is its right while nothing is under way; the line is opened again when needed.
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
            self.registry.register(&mut stream, Token::from(Place::Line(index)), interest)?;
            line.stream = Some(stream);
        }
        self.flush(index)
    }
}

/// A connection, complete: on this machine that takes no time.
pub(crate) fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    prepare(std::net::TcpStream::connect(address)?)
}

/// A connection as if it came from another machine: one address has too few ports for many connections, and the search for a free
/// one among them takes longer than everything else.
pub(crate) fn dial_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&address.into())?;
    prepare(socket.into())
}

/// The same, not yet complete: it can be written to when it is.
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

//! Sockets that occupy a place without using it: each is reopened as soon as it is closed.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use anyhow::bail;
use clap::ValueEnum;
use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpStream;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls_pki_types::ServerName;
use socket2::SockRef;

use crate::clock::now;
use crate::connections::begin_to_dial;

/// The first 31 bytes of a ClientHello that announces 512.
const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaa";
const HALF_HEAD: &[u8] = b"GET /ws/x HTTP/1.1\r\nHost: gateway.test\r\n";
/// Interval between bytes of the dripping sockets.
const DRIP_EVERY: Duration = Duration::from_secs(1);
/// Time limit for opening all of them.
const GATHERING: Duration = Duration::from_secs(20);

/// Behaviour of a hostile socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Hostility {
    /// 31 bytes of a ClientHello, then nothing; without TLS, of a request head
    HalfHello,
    /// Nothing at all
    Silent,
    /// A byte a second
    Drip,
    /// A whole ClientHello, then nothing
    WholeHello,
    /// TLS, then half of a request head
    HalfHead,
}

/// Source address of the hostile sockets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Origin {
    /// The address of the other clients, as if all were behind one proxy
    Same,
    /// One address of their own
    Other,
    /// An address each
    Spread,
}

impl Hostility {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HalfHello => "half a hello",
            Self::Silent => "silence",
            Self::Drip => "a byte a second",
            Self::WholeHello => "a hello, then silence",
            Self::HalfHead => "half a head",
        }
    }
}

impl Origin {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Same => "the same address",
            Self::Other => "one other address",
            Self::Spread => "an address each",
        }
    }

    fn address(self, number: usize) -> Ipv4Addr {
        match self {
            Self::Same => Ipv4Addr::new(127, 1, 0, 1),
            Self::Other => Ipv4Addr::new(127, 3, 0, 1),
            Self::Spread => {
                let [.., high, low] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
                Ipv4Addr::new(127, 4, high, low)
            }
        }
    }
}

/// Hostile sockets connected to a server, closed on drop.
pub(crate) struct Siege {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Connections so far, including reopened ones.
    opened: AtomicUsize,
}

struct Besiegers {
    hostility: Hostility,
    origin: Origin,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    poll: Poll,
    sockets: Vec<Besieger>,
    shared: Arc<Shared>,
}

struct Besieger {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    is_connected: bool,
    dripped: usize,
}

impl Siege {
    /// Opens `count` sockets and returns when all are connected.
    pub(crate) fn lay(
        hostility: Hostility,
        origin: Origin,
        count: usize,
        address: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let sockets = Vec::with_capacity(count);
        let mut besiegers =
            Besiegers { hostility, origin, address, tls, poll: Poll::new()?, sockets, shared: Arc::clone(&shared) };
        let thread = Some(thread::spawn(move || besiegers.run(count)));
        let siege = Self { shared, thread };
        let begun = now();
        while siege.opened() < count {
            if siege.thread.as_ref().is_none_or(JoinHandle::is_finished) || now() - begun > GATHERING {
                bail!("only {} of {count} hostile sockets have connected", siege.end()?);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(siege)
    }

    /// Connections so far, including reopened ones.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::Acquire)
    }

    /// Stops and returns the total number of connections.
    pub(crate) fn end(mut self) -> anyhow::Result<usize> {
        self.stop().context("hostile sockets")?;
        Ok(self.opened())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("no panic"))
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("load: hostile sockets: {error:#}");
        }
    }
}

impl Besiegers {
    fn run(&mut self, count: usize) -> anyhow::Result<()> {
        for number in 0..count {
            let besieger = self.dial(number)?;
            self.sockets.push(besieger);
            // Gives the server time to accept: the test is not about its backlog.
            if number % 64 == 63 {
                self.look(Duration::ZERO)?;
            }
        }
        let mut dripped = now();
        while !self.shared.stop.load(Ordering::Acquire) {
            self.look(Duration::from_millis(20))?;
            if self.hostility == Hostility::Drip && now() - dripped >= DRIP_EVERY {
                dripped = now();
                self.sockets.iter_mut().for_each(|socket| socket.drip(self.tls.is_some()));
            }
        }
        Ok(())
    }

    fn dial(&self, number: usize) -> anyhow::Result<Besieger> {
        let mut stream = begin_to_dial(self.origin.address(number), self.address)?;
        // Closes with a reset, otherwise the ports of one address would run out.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        self.poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        let name = ServerName::try_from("gateway.test").expect("a name");
        let speaks = matches!(self.hostility, Hostility::WholeHello | Hostility::HalfHead);
        let tls = self.tls.as_ref().filter(|_| speaks);
        let tls = tls.map(|tls| ClientConnection::new(Arc::clone(tls), name)).transpose()?;
        Ok(Besieger { stream, tls, is_connected: false, dripped: 0 })
    }

    fn look(&mut self, wait: Duration) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(256);
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &events {
            let number = event.token().0;
            let socket = &mut self.sockets[number];
            if !socket.is_connected && event.is_writable() && socket.stream.peer_addr().is_ok() {
                socket.is_connected = true;
                self.shared.opened.fetch_add(1, Ordering::AcqRel);
            }
            if socket.go_on(self.hostility, self.tls.is_some(), event.is_writable()).is_err() {
                let renewed = self.dial(number)?;
                self.sockets[number] = renewed;
            }
        }
        Ok(())
    }
}

impl Besieger {
    /// Does the next step; an error ends this socket.
    fn go_on(&mut self, hostility: Hostility, is_tls: bool, is_writable: bool) -> io::Result<()> {
        if !self.is_connected {
            return self.stream.take_error()?.map_or(Ok(()), Err);
        }
        let mut scrap = [0; 4_096];
        loop {
            let read = self.stream.read(&mut scrap);
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.see(hostility, &scrap[..read])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if is_writable && self.dripped == 0 {
            self.dripped = 1;
            match &mut self.tls {
                Some(tls) => {
                    while tls.wants_write() {
                        tls.write_tls(&mut self.stream)?;
                    }
                }
                None => self.stream.write_all(match hostility {
                    Hostility::Silent => b"",
                    Hostility::Drip if is_tls => &HALF_HELLO[..1],
                    Hostility::Drip => &HALF_HEAD[..1],
                    _ if is_tls => HALF_HELLO,
                    _ => HALF_HEAD,
                })?,
            }
        }
        Ok(())
    }

    fn see(&mut self, hostility: Hostility, mut bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = self.tls.as_mut().filter(|_| hostility == Hostility::HalfHead) else { return Ok(()) };
        let was_handshaking = tls.is_handshaking();
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
        if was_handshaking && !tls.is_handshaking() {
            tls.writer().write_all(HALF_HEAD)?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut self.stream)?;
        }
        Ok(())
    }

    /// Sends one more byte of a hello or head.
    fn drip(&mut self, is_tls: bool) {
        if self.is_connected {
            let whole = if is_tls { HALF_HELLO } else { HALF_HEAD };
            let byte = whole.get(self.dripped).copied().unwrap_or(b'a');
            self.dripped += 1;
            // The end is noticed when the socket is read.
            let _ = self.stream.write(&[byte]);
        }
    }
}

//! A business server on its own thread that accepts every event without reading it.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpListener;
use mio::net::TcpStream;

use crate::http;
use crate::world::ACCEPTED;

/// How often it checks whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The running business server; it ends when dropped.
pub(crate) struct Business {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// A connection of the gateway, with the bytes of its next request.
struct Delivery {
    stream: TcpStream,
    carry: Vec<u8>,
}

impl Business {
    /// Starts it.
    pub(crate) fn start() -> io::Result<Self> {
        let door = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        let address = door.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || serve(door, &is_over)));
        Ok(Self { address, stop, thread })
    }
}

impl Drop for Business {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("load: the business server: {error}"),
            Some(Err(_)) => eprintln!("load: the business server panicked"),
            _ => {}
        }
    }
}

fn serve(mut door: TcpListener, is_over: &AtomicBool) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(&mut door, Token(0), Interest::READABLE)?;
    let (mut guests, mut buffer) = (Vec::<Option<Delivery>>::new(), vec![0; 64 * 1024]);
    let mut events = Events::with_capacity(256);
    while !is_over.load(Ordering::Acquire) {
        poll.poll(&mut events, Some(LOOK_EVERY))?;
        for event in &events {
            if let Some(number) = event.token().0.checked_sub(1) {
                let guest = &mut guests[number];
                if guest.as_mut().is_some_and(|guest| guest.answer(&mut buffer).is_err()) {
                    *guest = None;
                }
                continue;
            }
            while let Ok((mut stream, _)) = door.accept() {
                stream.set_nodelay(true)?;
                guests.push(None);
                poll.registry().register(&mut stream, Token(guests.len()), Interest::READABLE)?;
                *guests.last_mut().expect("just pushed") = Some(Delivery { stream, carry: vec![] });
            }
        }
    }
    Ok(())
}

impl Delivery {
    /// Answers the requests received; an error ends the connection.
    fn answer(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.carry.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            let mut at = 0;
            while let Some(request) = http::read(&self.carry[at..]) {
                at += request.bytes;
                self.stream.write_all(ACCEPTED)?;
            }
            self.carry.drain(..at);
        }
    }
}

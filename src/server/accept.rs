//! Accepts connections, up to the last one in the backlog, without spinning when descriptors run out.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::BACKLOG;
use super::Certificate;
use super::Descriptors;
use super::Handler;
use super::Incident;
use super::MAX_HANDSHAKES;
use super::OnIncident;
use super::Timeouts;
use super::connection::is_among;
use super::connection::serve;
use super::connections::Closable;
use super::connections::Connections;
use super::connections::Room;
use super::connections::UnservedConnection;
use super::context::Context;
use super::handshakes::Handshakes;
use super::refusal::Refusal;
use super::refuse::note;

/// Pause before the next try when no descriptors are left.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Shortest time between two log lines about that.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// A bound address and everything needed to serve it.
pub struct Listener {
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    timeouts: Timeouts,
    /// Networks whose connections begin with a PROXY header.
    proxies: Arc<[IpNet]>,
    on_incident: OnIncident,
    connections: Arc<Connections>,
    /// Proxies: they carry many clients, so a large number of connections is no reason to refuse them.
    trusted: Arc<[IpNet]>,
    /// The reserve that this listener keeps free; none if it may take the last descriptor.
    descriptors: Option<Arc<Descriptors>>,
    /// Most connections at a time.
    most: usize,
    /// Whether the service manager keeps the socket: what connects at the end waits for the next process.
    is_inherited: bool,
}

/// How long descriptors count as short after a new one had a high number: those freed meanwhile have low numbers, which new
/// connections get.
const SHORT_FOR: Duration = Duration::from_secs(1);

/// Whether descriptors run short, and until when.
#[derive(Default)]
struct Shortage {
    until: Option<Instant>,
}

impl Shortage {
    /// Whether they run short at `now`; `is_seen` says that the newest descriptor shows it.
    fn goes_on(&mut self, is_seen: bool, now: Instant) -> bool {
        if is_seen {
            self.until = Some(now + SHORT_FOR);
        }
        self.until.is_some_and(|until| now < until)
    }
}

/// Logs that connections wait, at a limited rate.
#[derive(Default)]
struct Complaint {
    last: Option<Instant>,
    waits: u64,
}

impl Listener {
    /// Binds `address`; with a certificate it speaks TLS. `on_incident` is called for each connection that is not served.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        certificate: Option<Arc<Certificate>>,
        timeouts: Timeouts,
        on_incident: impl Fn(Incident) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Allows binding a port again right after a restart.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Self::on(socket.listen(BACKLOG)?, certificate, timeouts, on_incident)
    }

    /// Listens on a socket that the service manager has bound and keeps.
    ///
    /// # Errors
    ///
    /// If it is no listening socket.
    pub fn inherit(
        socket: std::net::TcpListener,
        certificate: Option<Arc<Certificate>>,
        timeouts: Timeouts,
        on_incident: impl Fn(Incident) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let listener = Self::on(TcpListener::from_std(socket)?, certificate, timeouts, on_incident)?;
        Ok(Self { is_inherited: true, ..listener })
    }

    fn on(
        listener: TcpListener,
        certificate: Option<Arc<Certificate>>,
        timeouts: Timeouts,
        on_incident: impl Fn(Incident) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        // Accepted sockets inherit it on Linux: without it small frames would wait for the peer's acknowledgement.
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        let (proxies, trusted, connections) = (Arc::default(), Arc::default(), Arc::default());
        let on_incident = Arc::new(on_incident);
        let (descriptors, most, is_inherited) = (None, usize::MAX, false);
        Ok(Self {
            listener,
            certificate,
            timeouts,
            proxies,
            on_incident,
            connections,
            trusted,
            descriptors,
            most,
            is_inherited,
        })
    }

    /// Requires a PROXY header on connections from these networks.
    pub fn with_proxy_protocol(self, proxies: &[IpNet]) -> Self {
        Self { proxies: proxies.into(), ..self }
    }

    /// Leaves the reserve of `descriptors` to others: a connection waits when only the reserve is left.
    pub fn leaving_a_reserve(self, descriptors: Arc<Descriptors>) -> Self {
        let connections = Arc::new(Connections::counted_in(descriptors.waiting()));
        Self { descriptors: Some(descriptors), connections, ..self }
    }

    /// Serves so many connections at a time; beyond it the longest idle of the largest source goes.
    pub fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Treats these networks as proxies with many clients.
    pub fn trusting(self, proxies: &[IpNet]) -> Self {
        Self { trusted: proxies.into(), ..self }
    }

    /// The bound address as a URL.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// The bound address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts and serves connections until `stop`, then lets requests in progress end.
    pub async fn run(self, handler: Arc<dyn Handler>, stop: CancellationToken) {
        let half = self.descriptors.as_ref().map_or(u64::MAX, |descriptors| descriptors.limit() / 2);
        let places = MAX_HANDSHAKES.min(usize::try_from(half).unwrap_or(usize::MAX)).max(1);
        let handshakes = Arc::new(Handshakes::new(places));
        let tasks = TaskTracker::new();
        let (mut complaint, mut shortage) = (Complaint::default(), Shortage::default());
        loop {
            let (stream, address) = tokio::select! {
                biased;
                // The backlog of an inherited socket is for the next process.
                () = stop.cancelled(), if self.is_inherited => break,
                // Another one's is served before the end, as far as there are descriptors.
                accepted = self.accept(&mut complaint) => accepted,
                () = stop.cancelled() => break,
            };
            let is_seen =
                self.descriptors.as_ref().is_some_and(|descriptors| descriptors.run_short(stream.as_raw_fd()));
            let now = Instant::now();
            let is_short = shortage.goes_on(is_seen, now);
            if is_short {
                self.connections.make_room(address.ip().into(), now.into_std());
            }
            let unserved = Arc::new(UnservedConnection::new(now.into_std()));
            let closable: Arc<dyn Closable> = unserved.clone();
            let entry = self.connections.add(address.ip().into(), Arc::downgrade(&closable));
            let context = Context {
                certificate: self.certificate.clone(),
                handler: Arc::clone(&handler),
                handshakes: Arc::clone(&handshakes),
                timeouts: self.timeouts,
                proxies: Arc::clone(&self.proxies),
                on_incident: Arc::clone(&self.on_incident),
                stop: stop.clone(),
            };
            tasks.spawn(serve(entry, unserved, stream, address, context));
        }
        drop(self.listener);
        tasks.close();
        tasks.wait().await;
    }

    async fn accept(&self, complaint: &mut Complaint) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let stream = self.below_the_reserve(stream, address, complaint).await;
                    if let Ok(Some(stream)) = stream {
                        return (stream, address);
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.connections.make_room_for(None, Instant::now().into_std());
                    self.wait(complaint, &error).await;
                }
            }
        }
    }

    /// Whether a new connection needs the room of another.
    fn is_full(&self, stream: &TcpStream) -> bool {
        let is_reserved = || self.descriptors.as_ref().is_some_and(|all| all.reserves(stream.as_raw_fd()));
        self.most != usize::MAX && self.connections.count() >= self.most || is_reserved()
    }

    /// Moves the connection to a number that is not reserved, as soon as there is one; those behind it wait in the backlog.
    /// `None` if its source has more than its share.
    async fn below_the_reserve(
        &self,
        mut stream: TcpStream,
        address: SocketAddr,
        complaint: &mut Complaint,
    ) -> io::Result<Option<TcpStream>> {
        while self.is_full(&stream) {
            match self.room_for(address) {
                Room::Soon => {
                    let _ = timeout(BACK_OFF, self.connections.departed()).await;
                }
                Room::Refused => {
                    note(&self.on_incident, address, Refusal::Evicted, &[], None);
                    return Ok(None);
                }
                Room::None => {
                    let words = match &self.descriptors {
                        Some(_) => "the last descriptors are reserved for webhooks",
                        None => "as many as this listener may have are in use",
                    };
                    self.wait(complaint, &io::Error::other(words)).await;
                }
            }
            let old = stream.into_std()?;
            let new = old.try_clone();
            let lower = new.into_iter().find(|new| new.as_raw_fd() < old.as_raw_fd());
            stream = TcpStream::from_std(lower.unwrap_or(old))?;
        }
        Ok(Some(stream))
    }

    /// Closes other connections if `address` needs their descriptors.
    fn room_for(&self, address: SocketAddr) -> Room {
        let is_of = |networks: &[IpNet]| is_among(networks, address);
        let source = (!is_of(&self.proxies)).then(|| address.ip().into());
        match self.connections.make_room_for(source, Instant::now().into_std()) {
            Room::Refused if is_of(&self.trusted) => Room::None,
            room => room,
        }
    }

    async fn wait(&self, complaint: &mut Complaint, error: &io::Error) {
        (self.on_incident)(Incident::AcceptFailed);
        complaint.waits += 1;
        if complaint.last.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            complaint.last = Some(Instant::now());
            tracing::warn!(
                error = error as &dyn std::error::Error,
                waits = complaint.waits,
                "cannot accept connections, waiting (check the limit of open files)",
            );
        }
        // A connection that ends makes room.
        let _ = timeout(BACK_OFF, self.connections.departed()).await;
    }
}

/// Whether the error only means that a client left before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;
    use crate::server::Peer;
    use crate::server::PendingReply;
    use crate::server::RequestBody;

    struct Nothing;

    impl Handler for Nothing {
        fn handle(&self, _: Request<RequestBody>, _: Peer) -> PendingReply {
            unreachable!("no connection is accepted")
        }
    }

    #[tokio::test]
    async fn the_backlog_of_an_inherited_socket_is_for_the_next_process() {
        let kept = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let passed = kept.try_clone().expect("a descriptor");
        let limit = Duration::from_secs(1);
        let timeouts = Timeouts { tls_handshake: limit, header: limit, keep_alive: limit };
        let listener = Listener::inherit(passed, None, timeouts, |_| {}).expect("a listening socket");
        let client = std::net::TcpStream::connect(kept.local_addr().expect("its address")).expect("connected");
        let stop = CancellationToken::new();
        stop.cancel();

        listener.run(Arc::new(Nothing), stop).await;

        let (_, address) = kept.accept().expect("it still waits");
        assert_eq!(address, client.local_addr().expect("its address"));
    }
}

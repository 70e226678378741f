//! Connects to a business server: resolve, check every address, connect to an allowed one, TLS handshake.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::Host;

use crate::http_client::dial::Dial;
use crate::http_client::dial::Transport;
use crate::http_client::error::AttemptError;
use crate::http_client::guard::Guard;
use crate::http_client::guard::Why;
use crate::http_client::lookups::LookUps;
use crate::http_client::receive_url::ReceiveUrl;
use crate::http_client::refusals::Refusals;
use crate::http_client::tls::Tls;
use crate::id::TenantId;
use crate::lease_guard::LeaseGuard;
use crate::marks::Mark;

/// Connections retire at an age between these, so that DNS changes take effect.
const SHORTEST_LIFE: Duration = Duration::from_secs(45);
const LONGEST_LIFE: Duration = Duration::from_secs(75);

/// Connect timeout for one address.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(2);

/// Opens connections under one policy.
pub struct Connector {
    guard: Guard,
    refusals: Refusals,
    look_ups: Arc<LookUps>,
    dial: Arc<dyn Dial>,
    tls: Tls,
    lease_guard: Arc<LeaseGuard>,
    /// Connections opened so far.
    made: AtomicU32,
}

impl Connector {
    /// A connector for addresses that `guard` allows, while `lease_guard` is valid.
    pub(crate) fn new(
        guard: Guard,
        look_ups: Arc<LookUps>,
        dial: Arc<dyn Dial>,
        tls: Tls,
        lease_guard: Arc<LeaseGuard>,
    ) -> Self {
        Self { guard, refusals: Refusals::default(), look_ups, dial, tls, lease_guard, made: AtomicU32::new(0) }
    }

    /// Connects to the host of `url` for a request of `tenant`, with TLS for https. `turn` rotates which address is
    /// tried first.
    pub(crate) async fn connect(
        &self,
        tenant: &TenantId,
        url: &ReceiveUrl,
        turn: usize,
    ) -> Result<Stream, AttemptError> {
        let incarnation = self.lease_guard.incarnation();
        // Age counts from before the look-up.
        let retires_at = Instant::now() + life(self.made.fetch_add(1, Ordering::Relaxed));
        let mut addresses = self.admitted(tenant, url.host(), url.port()).await?;
        if !addresses.is_empty() {
            let first = turn % addresses.len();
            addresses.rotate_left(first);
        }
        let stream = self.connect_to_one(&addresses, url.port()).await;
        let stream = stream.map_err(|error| AttemptError::Connect(Arc::new(error)))?;
        let transport = if url.is_https() {
            let stream = self.tls.connect(tenant, url.host(), stream).await;
            Secured::Right(Box::new(stream.map_err(|error| AttemptError::Tls(Arc::new(error)))?))
        } else {
            Secured::Left(stream)
        };
        Ok(Stream { transport, lease_guard: Arc::clone(&self.lease_guard), incarnation, retires_at })
    }

    /// The allowed addresses of `host`, a name or an address.
    async fn admitted(&self, tenant: &TenantId, host: &Host<String>, port: u16) -> Result<Vec<IpAddr>, AttemptError> {
        let judge = |address| self.guard.admits_at(SocketAddr::new(address, port));
        let literal = |address| judge(address).map(|()| vec![address]).map_err(AttemptError::Refused);
        let name = match host {
            Host::Ipv4(address) => return literal(IpAddr::V4(*address)),
            Host::Ipv6(address) => return literal(IpAddr::V6(*address)),
            Host::Domain(name) => name,
        };
        self.refusals.may_look_up(name, Instant::now().into_std()).map_err(AttemptError::NoneAllowed)?;
        let found = self.look_ups.find(tenant, name).await.map_err(|error| AttemptError::Resolve(Arc::new(error)))?;
        let mut refusal = None;
        let mut admitted = found;
        admitted.retain(|address| judge(*address).map_err(|refused| refusal = Some(refused)).is_ok());
        match refusal {
            Some(refusal) if admitted.is_empty() => {
                // The name may be allowed at another port.
                if !matches!(refusal.why, Why::Port(_)) {
                    self.refusals.add(tenant, name, refusal, Instant::now().into_std());
                }
                Err(AttemptError::NoneAllowed(refusal))
            }
            _ => {
                self.refusals.remove(name);
                Ok(admitted)
            }
        }
    }

    /// Forgets unused names.
    pub(crate) fn sweep(&self) {
        self.look_ups.sweep();
        self.refusals.sweep(Instant::now().into_std());
    }

    /// Connects to the first address that accepts; the error is that of the last one.
    async fn connect_to_one(&self, addresses: &[IpAddr], port: u16) -> io::Result<Transport> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            let connecting = self.dial.dial(SocketAddr::new(*address, port));
            match tokio::time::timeout(ADDRESS_DEADLINE, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = no_connection_within(ADDRESS_DEADLINE),
            }
        }
        Err(failure)
    }
}

/// The maximum age of connection `number`: spread over the bounds, far apart for neighbours.
fn life(number: u32) -> Duration {
    // Multiples of the golden ratio spread evenly.
    let share = f64::from(number.wrapping_mul(2_654_435_769)) / 2_f64.powi(32);
    SHORTEST_LIFE + (LONGEST_LIFE - SHORTEST_LIFE).mul_f64(share)
}

fn no_connection_within(limit: Duration) -> io::Error {
    let words = format!("no connection within {} ms", limit.as_millis());
    io::Error::new(io::ErrorKind::TimedOut, words)
}

/// A connection to a business server. It writes only while the incarnation that opened it is valid: another node makes
/// the requests of an ended one, also those still in a buffer.
pub struct Stream {
    transport: Secured,
    lease_guard: Arc<LeaseGuard>,
    incarnation: u32,
    retires_at: Instant,
}

/// Plain for `http`, encrypted for `https`.
type Secured = Either<Transport, Box<TlsStream<Transport>>>;

impl Stream {
    /// Whether HTTP/2 was negotiated.
    pub(crate) fn is_http2(&self) -> bool {
        match &self.transport {
            Secured::Left(_) => false,
            Secured::Right(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// When it stops taking requests.
    pub(crate) fn retires_at(&self) -> Instant {
        self.retires_at
    }

    /// The last lease check before bytes leave.
    fn may_speak(&self) -> io::Result<()> {
        if self.lease_guard.is_valid_for(self.incarnation) { Ok(()) } else { Err(must_not_speak()) }
    }
}

/// The error of a write without a valid lease.
pub(crate) fn must_not_speak() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the lease of this node has expired: it may not send events")
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Mark::EventWritten.pass();
        self.may_speak()?;
        Pin::new(&mut self.get_mut().transport).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.may_speak()?;
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_spread_between_their_bounds() {
        let mut lives: Vec<Duration> = (0..100).map(life).collect();
        lives.sort();

        assert!(SHORTEST_LIFE <= lives[0] && lives[99] < LONGEST_LIFE);
        let widest = lives.windows(2).map(|pair| pair[1] - pair[0]).max().expect("a hundred");
        assert!(widest < Duration::from_secs(1), "{widest:?}");
    }
}

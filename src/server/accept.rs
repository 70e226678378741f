//! Accepting connections: never spinning when the system has no more descriptors, and to the last one in the backlog.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Certificate;
use super::Handler;
use super::Incident;
use super::MAX_HANDSHAKES;
use super::OnIncident;
use super::connection::Context;
use super::connection::serve;
use super::slots::Slots;

/// How long to wait after a failed accept, which usually means that there are no descriptors left.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A bound address, and what it takes to serve it.
pub struct Listener {
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    on_incident: OnIncident,
}

impl Listener {
    /// Binds `address`; with a certificate it speaks TLS. `on_incident` is called for each connection that is not served.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn bind(
        address: SocketAddr,
        certificate: Option<Arc<Certificate>>,
        on_incident: impl Fn(Incident) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, certificate, on_incident: Arc::new(on_incident) })
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// The bound address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts and serves connections until `stop`, then lets requests that are under way end.
    pub async fn run(self, handler: Arc<dyn Handler>, stop: CancellationToken) {
        let handshakes = Arc::new(Slots::new(MAX_HANDSHAKES));
        let connections = TaskTracker::new();
        loop {
            // Whoever waits in the backlog is served before the end.
            let (stream, address) = tokio::select! {
                biased;
                accepted = self.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let context = Context {
                certificate: self.certificate.clone(),
                handler: Arc::clone(&handler),
                handshakes: Arc::clone(&handshakes),
                on_incident: Arc::clone(&self.on_incident),
                stop: stop.clone(),
            };
            connections.spawn(serve(stream, address, context));
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // Without it small frames wait for the peer's acknowledgement; a socket that refuses is already broken.
                    let _ = stream.set_nodelay(true);
                    return (stream, address);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    (self.on_incident)(Incident::AcceptFailed);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        wait_ms = BACK_OFF.as_millis() as u64,
                        "cannot accept connections, waiting (check the limit of open files)",
                    );
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

/// Whether the error says only that a client was gone before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

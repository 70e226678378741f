//! A network in memory, for simulated time: every address is a server, unless it is dead.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::io::DuplexStream;
use tokio_rustls::TlsAcceptor;

use crate::http_client::Flights;
use crate::http_client::client::Client;
use crate::http_client::client::Settings;
use crate::http_client::client_tests::nets;
use crate::http_client::client_tests::server::self_signed;
use crate::http_client::client_tests::wall_clock;
use crate::http_client::dial::Dial;
use crate::http_client::dial::Transport;
use crate::http_client::resolve::Resolve;
use crate::http_client::tls::Roots;
use crate::lease_guard::LeaseGuard;

/// Names, addresses and servers.
pub(crate) struct Network {
    acceptor: TlsAcceptor,
    root: CertificateDer<'static>,
    /// The addresses of every name.
    pub(crate) addresses: Mutex<Vec<IpAddr>>,
    /// Addresses of all connection attempts, refused ones included.
    pub(crate) dialled: Mutex<Vec<IpAddr>>,
    /// Addresses of all requests.
    pub(crate) asked: Mutex<Vec<IpAddr>>,
    /// The response to them.
    pub(crate) answer: Mutex<(StatusCode, &'static str)>,
    /// Whether connections are refused.
    pub(crate) is_dead: Mutex<bool>,
}

impl Network {
    /// A network of TLS servers with this configuration.
    pub(crate) fn new(alpn: &[&[u8]]) -> Arc<Self> {
        let (root, acceptor) = self_signed("tls.test", alpn);
        Arc::new(Self {
            acceptor,
            root,
            addresses: Mutex::default(),
            dialled: Mutex::default(),
            asked: Mutex::default(),
            answer: Mutex::new((StatusCode::NO_CONTENT, "")),
            is_dead: Mutex::new(false),
        })
    }

    /// Resolves every name to these addresses from now on.
    pub(crate) fn move_to(&self, addresses: &[&str]) {
        *self.addresses.lock() = addresses.iter().map(|text| text.parse().expect("an address")).collect();
    }

    /// A client in this network.
    pub(crate) fn client(self: &Arc<Self>) -> Client {
        Client::new(Settings {
            guard: nets(&["127.0.0.0/8"]).into(),
            roots: Roots::Given(vec![self.root.clone()]),
            resolver: Arc::new(Handle(Arc::clone(self))),
            dial: Arc::new(Handle(Arc::clone(self))),
            wall_clock: Arc::new(wall_clock),
            lease_guard: Arc::new(LeaseGuard::forever()),
            flights: Flights::unbounded(),
        })
    }
}

struct Handle(Arc<Network>);

#[async_trait]
impl Resolve for Handle {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.0.addresses.lock().clone())
    }
}

#[async_trait]
impl Dial for Handle {
    async fn dial(&self, address: SocketAddr) -> io::Result<Transport> {
        self.0.dialled.lock().push(address.ip());
        if *self.0.is_dead.lock() {
            std::future::pending::<()>().await;
        }
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let acceptor = (address.port() == 443).then(|| self.0.acceptor.clone());
        tokio::spawn(serve(theirs, acceptor, address.ip(), Arc::clone(&self.0)));
        Ok(Transport::Right(Box::new(ours)))
    }
}

async fn serve(stream: DuplexStream, acceptor: Option<TlsAcceptor>, address: IpAddr, network: Arc<Network>) {
    let answer = service_fn(move |_: Request<Incoming>| {
        network.asked.lock().push(address);
        let (status, text) = *network.answer.lock();
        let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *answer.status_mut() = status;
        async { Ok::<_, Infallible>(answer) }
    });
    // The client decides how the connection ends.
    let _ = match acceptor {
        None => http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await,
        Some(acceptor) => {
            let stream = TokioIo::new(acceptor.accept(stream).await.expect("a handshake"));
            http2::Builder::new(TokioExecutor::new()).serve_connection(stream, answer).await
        }
    };
}

//! Test servers on 127.0.0.1: each counts its connections and runs a script on them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::Response;
use hyper::Version;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::http_client::receive_url::ReceiveUrl;
use crate::http_client::resolve::Resolve;

/// An answer without a body.
pub(crate) const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// A listener with its script; it closes on drop.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _accepting: AbortOnDropHandle<()>,
}

impl TestServer {
    /// Runs `script` with every connection and its number, from 0.
    pub(crate) async fn new<F>(script: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(script(stream, counter.fetch_add(1, Ordering::SeqCst)));
            }
        });
        Self { address, connections, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Answers every request on every connection with `answer`.
    pub(crate) async fn answering(answer: impl Into<String>) -> Self {
        let answer: Arc<str> = answer.into().into();
        Self::new(move |mut stream, _| {
            let answer = Arc::clone(&answer);
            async move {
                while read_request(&mut stream).await?.is_some() {
                    stream.write_all(answer.as_bytes()).await?;
                }
                Ok(())
            }
        })
        .await
    }

    /// Receives a request, answers with `bytes` and holds the connection until the client closes it.
    pub(crate) async fn holding(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into().into();
        Self::new(move |mut stream, _| {
            let bytes = Arc::clone(&bytes);
            async move {
                read_request(&mut stream).await?;
                stream.write_all(&bytes).await?;
                until_closed(&mut stream).await
            }
        })
        .await
    }

    /// The number of connections accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The server's URL with its address.
    pub(crate) fn url(&self) -> ReceiveUrl {
        receive_url(&format!("http://{}/hook?x=1", self.address))
    }

    /// The server's URL with a name in place of its address.
    pub(crate) fn named(&self, scheme: &str, host: &str) -> ReceiveUrl {
        receive_url(&format!("{scheme}://{host}:{}/hook", self.address.port()))
    }
}

/// Parses a valid receive URL.
pub(crate) fn receive_url(text: &str) -> ReceiveUrl {
    ReceiveUrl::parse(text).expect(text)
}

/// Reads one request with a `Content-Length`; returns its text, `None` at the end of the connection.
pub(crate) async fn read_request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    loop {
        if stream.read_buf(&mut text).await? == 0 {
            return Ok(None);
        }
        let request = String::from_utf8_lossy(&text);
        let Some((head, body)) = request.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().expect("a length")) {
            return Ok(Some(request.into_owned()));
        }
    }
}

/// Waits until the client has closed the connection.
pub(crate) async fn until_closed(stream: &mut TcpStream) -> io::Result<()> {
    tokio::io::copy(stream, &mut tokio::io::sink()).await.map(|_| ())
}

/// A self-signed certificate for `name`, with its server configuration.
pub(crate) fn self_signed(name: &str, alpn: &[&[u8]]) -> (CertificateDer<'static>, TlsAcceptor) {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    from_params(params, alpn)
}

/// The same from given parameters.
pub(crate) fn from_params(params: rcgen::CertificateParams, alpn: &[&[u8]]) -> (CertificateDer<'static>, TlsAcceptor) {
    let signing_key = rcgen::KeyPair::generate().expect("a key");
    let cert = params.self_signed(&signing_key).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a certificate with its key");
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    (cert.der().clone(), TlsAcceptor::from(Arc::new(config)))
}

/// A TLS server that answers every request with `answer` of its HTTP version.
pub(crate) async fn tls_server<F>(
    acceptor: TlsAcceptor,
    answer: impl Fn(Version) -> F + Clone + Send + 'static,
) -> TestServer
where
    F: Future<Output = Bytes> + Send + 'static,
{
    TestServer::new(move |stream, _| {
        let acceptor = acceptor.clone();
        let answer = answer.clone();
        async move {
            let stream = acceptor.accept(stream).await?;
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = answer(request.version());
                async move {
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    assert_eq!(body, "{\"data\":\"{}\"}");
                    Ok::<_, Infallible>(Response::new(Pieces::new(answer.await)))
                }
            });
            let stream = TokioIo::new(stream);
            let served = if is_h2 {
                http2::Builder::new(TokioExecutor::new()).serve_connection(stream, answer).await
            } else {
                http1::Builder::new().serve_connection(stream, answer).await
            };
            served.map_err(io::Error::other)
        }
    })
    .await
}

/// A body that starts with a single byte, so that later frames are not aligned.
struct Pieces(Vec<Bytes>);

impl Pieces {
    fn new(mut body: Bytes) -> Self {
        let first = body.split_to(body.len().min(1));
        Self(vec![body, first])
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Answers with the HTTP version itself.
pub(crate) async fn version(version: Version) -> Bytes {
    format!("{version:?}").into()
}

/// A resolver with one answer, which records the names looked up.
pub(crate) struct OneAnswer {
    pub(crate) answer: Vec<IpAddr>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl OneAnswer {
    pub(crate) fn new(answer: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            answer: answer.iter().map(|text| text.parse().expect("an address")).collect(),
            asked: Mutex::default(),
        })
    }
}

#[async_trait]
impl Resolve for OneAnswer {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().push(host.to_owned());
        if self.answer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
        }
        Ok(self.answer.clone())
    }
}

//! One connection for one request, over TLS if the URL says https.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Host;
use url::Url;

/// Sends `request` to the server of `url` and returns the head of its answer.
pub(in crate::cli) async fn exchange(url: &Url, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
    let port = url.port_or_known_default().context("the URL has no port")?;
    let stream = match url.host().context("the URL has no host")? {
        Host::Domain(name) => TcpStream::connect((name, port)).await,
        Host::Ipv4(address) => TcpStream::connect((address, port)).await,
        Host::Ipv6(address) => TcpStream::connect((address, port)).await,
    };
    let stream = stream.context("cannot connect")?;
    if url.scheme() == "http" {
        return over(stream, request).await;
    }
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let stream = TlsConnector::from(Arc::new(tls()?)).connect(ServerName::try_from(name)?, stream).await;
    over(stream.context("TLS failed")?, request).await
}

async fn over<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the command.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Trusts the certificate authorities of the system.
fn tls() -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    anyhow::ensure!(!roots.is_empty(), "no root certificates found: install ca-certificates or set SSL_CERT_FILE");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

//! The listener's certificate, which can be replaced while connections live.

use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::server::ProducesTickets;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem;
use rustls_pki_types::pem::PemObject;
use url::Url;

use crate::clock::Clock;
use crate::options;
use crate::tls::certificate;
use crate::tls::certificate::Doubt;
use crate::tls::pem::PemError;
use crate::tls::session;
use crate::tls::session::Sessions;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate chain could not be read.
    #[error("server.tls_cert = {path:?} cannot be read as PEM certificates")]
    Chain {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// The private key could not be read.
    #[error("server.tls_key = {path:?} cannot be read as a PEM private key")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// The two do not match, or cannot be used.
    #[error("server.tls_cert and server.tls_key do not make a usable certificate")]
    Unusable(#[from] rustls::Error),
}

/// A certificate chain with its key, from two PEM files.
pub struct Certificate {
    clock: Arc<dyn Clock>,
    ticket_secret: Vec<u8>,
    current: ArcSwap<Current>,
}

/// A certificate that has been read but is not in use yet.
pub struct NextCertificate(Current);

/// A certificate as read, with its TLS configuration.
struct Current {
    public_url: String,
    chain_path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// Reads the two files that `server` names.
    ///
    /// # Errors
    ///
    /// If they are not a certificate and its key; the message names the file.
    pub fn load(server: &options::Server, clock: Arc<dyn Clock>) -> Result<Self, CertificateError> {
        let ticket_secret = match server.ticket_key.expose() {
            "" => rand::random::<[u8; 32]>().to_vec(),
            key => key.as_bytes().to_vec(),
        };
        let current = ArcSwap::from_pointee(read(server, &ticket_secret, &clock)?);
        Ok(Self { clock, ticket_secret, current })
    }

    /// Reads the files again. Nothing changes until [`take_over`](Self::take_over).
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn read_again(&self, server: &options::Server) -> Result<NextCertificate, CertificateError> {
        read(server, &self.ticket_secret, &self.clock).map(NextCertificate)
    }

    /// Uses `next` for new connections, and returns whether it is another certificate. Sessions stay valid.
    pub fn take_over(&self, next: NextCertificate) -> bool {
        let old = self.current.swap(Arc::new(next.0));
        old.chain != self.current.load().chain
    }

    /// Reads the files again and uses them for new connections.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); then the old certificate stays in use.
    pub fn reload(&self, server: &options::Server) -> Result<(), CertificateError> {
        self.take_over(self.read_again(server)?);
        Ok(())
    }

    /// Remaining validity in seconds; negative once expired.
    pub fn seconds_left(&self) -> Option<i64> {
        let expiry = certificate::expiry(&self.current.load().chain)?;
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Some(seconds(expiry) - seconds(self.clock.unix_time()))
    }

    /// Whether the file contains a certificate that expires later than the one in use.
    pub fn is_renewed(&self) -> bool {
        let current = self.current.load();
        read_chain(&current.chain_path)
            .is_ok_and(|chain| certificate::expiry(&chain) > certificate::expiry(&current.chain))
    }

    /// Problems of the certificate for clients that use `server.public_url`, if that is set. Reads the system's roots.
    pub fn doubts(&self) -> Vec<Doubt> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let current = self.current.load();
        let url = Url::parse(&current.public_url).ok();
        let host = url.as_ref().and_then(Url::host).map(|host| host.to_owned());
        certificate::doubts(&current.chain, host.as_ref(), &roots, self.clock.unix_time())
    }

    /// The configuration for a new handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }
}

fn read(server: &options::Server, ticket_secret: &[u8], clock: &Arc<dyn Clock>) -> Result<Current, CertificateError> {
    let (chain_path, key_path) = (PathBuf::from(&server.tls_cert), PathBuf::from(&server.tls_key));
    let chain = read_chain(&chain_path)
        .map_err(|error| CertificateError::Chain { path: chain_path.clone(), source: PemError(error) })?;
    let key = open(&key_path)
        .and_then(PrivateKeyDer::from_pem_reader)
        .map_err(|error| CertificateError::Key { path: key_path, source: PemError(error) })?;
    let sessions = Sessions::new(ticket_secret, certificate::names(&chain[0]));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(Tickets { sessions, clock: Arc::clone(clock) });
    Ok(Current { public_url: server.public_url.clone(), chain_path, chain, config: Arc::new(config) })
}

/// The certificates in a file, at least one.
fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let chain: Vec<_> = CertificateDer::pem_reader_iter(open(path)?).collect::<Result<_, _>>()?;
    if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) }
}

/// Seals sessions into tickets. TLS 1.3 sessions keep forward secrecy: rustls resumes only with a new key exchange, and without early
/// data.
#[derive(Debug)]
struct Tickets {
    sessions: Sessions,
    clock: Arc<dyn Clock>,
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(session::LIFETIME.as_secs()).expect("a day")
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        Some(self.sessions.seal(session, rand::random(), self.clock.unix_time()))
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.sessions.open(ticket, self.clock.unix_time())
    }
}

fn open(path: &Path) -> Result<io::BufReader<File>, pem::Error> {
    File::open(path).map(io::BufReader::new).map_err(pem::Error::Io)
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

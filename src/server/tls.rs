//! The listener's certificate, which can be replaced while connections live.

use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem;
use rustls_pki_types::pem::PemObject;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate chain could not be read.
    #[error("server.tls_cert = {path:?} cannot be read as PEM certificates")]
    Chain {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The private key could not be read.
    #[error("server.tls_key = {path:?} cannot be read as a PEM private key")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The two do not belong together, or cannot be used.
    #[error("server.tls_cert and server.tls_key do not make a usable certificate")]
    Unusable(#[from] rustls::Error),
}

/// A certificate chain with its key, from two PEM files.
pub struct Certificate {
    chain_path: PathBuf,
    key_path: PathBuf,
    config: ArcSwap<ServerConfig>,
}

impl Certificate {
    /// Reads the two files.
    ///
    /// # Errors
    ///
    /// If they are no certificate and its key; the message names the file.
    pub fn load(chain_path: &Path, key_path: &Path) -> Result<Self, CertificateError> {
        let config = ArcSwap::new(read(chain_path, key_path)?);
        Ok(Self { chain_path: chain_path.to_owned(), key_path: key_path.to_owned(), config })
    }

    /// Reads the two files again, for connections that come from now on.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); the old certificate stays in use then.
    pub fn reload(&self) -> Result<(), CertificateError> {
        self.config.store(read(&self.chain_path, &self.key_path)?);
        Ok(())
    }

    /// What a handshake needs that begins now.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

fn read(chain_path: &Path, key_path: &Path) -> Result<Arc<ServerConfig>, CertificateError> {
    let chain_error = |source| CertificateError::Chain { path: chain_path.to_owned(), source };
    let key_error = |source| CertificateError::Key { path: key_path.to_owned(), source };
    let chain: Vec<_> = CertificateDer::pem_reader_iter(open(chain_path).map_err(chain_error)?)
        .collect::<Result<_, _>>()
        .map_err(chain_error)?;
    if chain.is_empty() {
        return Err(chain_error(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_reader(open(key_path).map_err(key_error)?).map_err(key_error)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn open(path: &Path) -> Result<io::BufReader<File>, pem::Error> {
    File::open(path).map(io::BufReader::new).map_err(pem::Error::Io)
}

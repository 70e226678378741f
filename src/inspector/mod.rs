//! The inspector: a page on this machine with the last events of a listener, their attempts, and replays.

mod api;
mod assets;
mod hosts;
mod notice;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::listen::History;
use crate::listener::Forwarder;
use crate::protocol::text::hex;
use crate::secret::Secret;

pub use notice::Notice;

/// Connections at the same time: a page has a few.
const MAX_CONNECTIONS: usize = 32;

/// What the page shows and does.
pub struct Parts {
    /// The last events.
    pub history: Arc<Mutex<History>>,
    /// Changes whenever the history does.
    pub changes: watch::Sender<u64>,
    /// Sends replays.
    pub forwarder: Arc<Forwarder>,
    /// Signs replays.
    pub key: Secret,
}

/// The running page. It ends when dropped.
pub struct Inspector {
    url: String,
    /// Tells `wafergate replay` where it is.
    _notice: Option<Notice>,
    _accepting: AbortOnDropHandle<()>,
}

impl Inspector {
    /// Listens at `address`; if that port is taken, at a free one.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub async fn start(address: SocketAddr, parts: Parts) -> anyhow::Result<Self> {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            // Another listener has its page there.
            Err(_) => TcpListener::bind((address.ip(), 0)).await.context("--inspect: no port is free")?,
        };
        let address = listener.local_addr()?;
        let token = hex(&rand::random::<[u8; 16]>());
        let api = Arc::new(api::Api::new(parts, address, Secret::new(token.as_str())));
        let accepting = tokio::spawn(accept(listener, api));
        let notice = Notice::leave(&format!("http://{address}"), &token);
        Ok(Self {
            url: format!("http://{address}/#{token}"),
            _notice: notice,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// The address of the page, with the token behind the `#`, which a browser never sends.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

async fn accept(listener: TcpListener, api: Arc<api::Api>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors are left: others may end meanwhile.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let api = Arc::clone(&api);
        tokio::spawn(async move {
            let answer = service_fn(|request| api.answer(request));
            let served = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
            // A browser that goes away is no failure.
            let _ = served.await;
            drop(place);
        });
    }
}

//! Use cases of the session service: log in, check, refresh and end sessions. The edges call one [`Sessions`].

mod apps;
mod cache;
mod check;
mod enter;
mod manage;
mod patience;
mod upkeep;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::Weak;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use dashmap::DashMap;
use tokio::sync::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub use apps::App;
pub use apps::Apps;
pub use cache::Known;
pub use check::Care;
pub use check::CheckError;
pub use enter::Entered;
pub use enter::LoginError;
pub use enter::LoginRequest;
pub use manage::KeyError;
pub use upkeep::opened;
pub use upkeep::sealed;

use crate::clock::Clock;
use crate::clock::millis;
use crate::fair_semaphore::FairPermit;
use crate::fair_semaphore::FairSemaphore;
use crate::metrics::Metrics;
use crate::options;
use crate::session::Limits;
use crate::session::SessionId;
use crate::session::Vault;
use crate::session_store::Store;
use crate::wechat::Calls;
use crate::wechat::Failure;
use crate::wechat::NoAnswer;
use cache::Cache;
use patience::Patience;

/// Most calls that wait for WeChat at a time; further ones wait for a place, in turn app by app.
const MAX_ASKING: u64 = 512;
/// How long a call waits for its place.
const TURN_LIMIT: Duration = Duration::from_secs(5);
/// Most visits being recorded at a time; further ones are recorded at a later check.
const MAX_VISITS: usize = 1_024;

/// The parts of the session service.
pub struct Parts {
    /// `[session]`
    pub options: options::Session,
    /// Where sessions are kept.
    pub store: Arc<dyn Store>,
    /// Calls WeChat.
    pub wechat: Calls,
    /// Seals what is stored.
    pub vault: Vault,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Source of session ids and secrets.
    pub random: fn() -> [u8; 32],
    /// The node's metrics.
    pub metrics: Metrics,
}

/// Tunnels that were opened with a session.
#[async_trait]
pub trait Tunnels: Send + Sync {
    /// Closes all tunnels of these sessions, on every node.
    async fn close_of(self: Arc<Self>, tenant: &str, sessions: &[SessionId]);
}

/// The sessions of all apps.
pub struct Sessions {
    store: Arc<dyn Store>,
    wechat: Calls,
    vault: Vault,
    clock: Arc<dyn Clock>,
    random: fn() -> [u8; 32],
    metrics: Metrics,
    limits: Limits,
    /// Apps of the configuration, and all apps.
    configured: ArcSwap<Vec<options::App>>,
    apps: ArcSwap<Apps>,
    allow_networks: Vec<ipnet::IpNet>,
    cache: Cache,
    patience: Patience,
    /// Logins with the same code wait for each other.
    codes: DashMap<[u8; 32], Weak<Mutex<()>>>,
    /// Places of apps to ask WeChat.
    places: FairSemaphore<String>,
    visits: Arc<Semaphore>,
    tunnels: OnceLock<Weak<dyn Tunnels>>,
    /// Stored apps whose secrets cannot be opened.
    unreadable_apps: AtomicUsize,
}

impl Sessions {
    /// A service without stored apps: those are read by [`run`](Self::run).
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { options, store, wechat, vault, clock, random, metrics } = parts;
        let limits = Limits { login: options.login(), idle: options.idle(), per_user: options.sessions_per_user };
        Arc::new(Self {
            store,
            wechat,
            vault,
            clock,
            random,
            patience: Patience::new(metrics.clone()),
            metrics,
            limits,
            apps: ArcSwap::from_pointee(Apps::new(&options.apps, vec![])),
            configured: ArcSwap::from_pointee(options.apps),
            allow_networks: options.wafer_allow_networks,
            cache: Cache::default(),
            codes: DashMap::new(),
            places: FairSemaphore::of(MAX_ASKING),
            visits: Arc::new(Semaphore::new(MAX_VISITS)),
            tunnels: OnceLock::new(),
            unreadable_apps: AtomicUsize::new(0),
        })
    }

    /// Names the tunnels that end with their sessions; once.
    pub fn set_tunnels(&self, tunnels: Weak<dyn Tunnels>) {
        // A second call is an error in the wiring that a test would show.
        let _ = self.tunnels.set(tunnels);
    }

    /// All apps.
    pub fn apps(&self) -> Arc<Apps> {
        self.apps.load_full()
    }

    /// Whether a business server at this address may call without a key in its address.
    pub fn allows(&self, address: std::net::IpAddr) -> bool {
        self.allow_networks.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The limits of sessions.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Waits for a place of an app to ask WeChat. To be called before the work goes on without its caller, who may leave and come again.
    async fn place(&self, app_id: &str) -> Result<FairPermit<String>, Failure> {
        let place = timeout(TURN_LIMIT, self.places.acquire(app_id.to_owned(), 1));
        place.await.map_err(|_| NoAnswer::Late.into())
    }

    fn now_ms(&self) -> u64 {
        millis(self.clock.unix_time())
    }
}

/// Where a user's key is sealed for.
fn key_place<'a>(app_id: &'a str, open_id: &'a str) -> [&'a str; 3] {
    ["session_key", app_id, open_id]
}

/// A user's `session_key` as it is stored.
pub fn sealed_key(vault: &Vault, app_id: &str, open_id: &str, session_key: &str) -> Vec<u8> {
    vault.seal(&key_place(app_id, open_id), session_key.as_bytes())
}

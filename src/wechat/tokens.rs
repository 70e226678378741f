//! Access tokens: WeChat wants one central server to hold them, and that is whoever holds the appSecret.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::Mutex;
use tokio::sync::OwnedMutexGuard;
use zeroize::Zeroizing;

/// A token is replaced so long before it ends, in milliseconds.
const EARLY_MS: u64 = 300_000;

/// A token and its end.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: Zeroizing<String>,
    pub(super) expires_ms: u64,
}

impl Token {
    /// Whether it is good for a while.
    pub(super) fn is_good(&self, now_ms: u64) -> bool {
        now_ms.saturating_add(EARLY_MS) < self.expires_ms
    }
}

/// The tokens, one for each app.
#[derive(Default)]
pub(super) struct Tokens {
    apps: DashMap<String, Arc<Mutex<Option<Token>>>>,
}

impl Tokens {
    /// The place of an app's token. Held while the token is fetched, so that it is fetched once.
    pub(super) async fn place(&self, app_id: &str) -> OwnedMutexGuard<Option<Token>> {
        let place = Arc::clone(&self.apps.entry(app_id.to_owned()).or_default());
        place.lock_owned().await
    }
}

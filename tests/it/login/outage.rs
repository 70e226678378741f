//! A session store that is away: users notice nothing for seconds, and are never told to log in again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Notify;
use wafergate::app::Outside;
use wafergate::protocol::login::Profile;
use wafergate::session::Imported;
use wafergate::session::Limits;
use wafergate::session::Session;
use wafergate::session::SessionId;
use wafergate::session::SkeyHash;
use wafergate::session::User;
use wafergate::session_store::AppStore;
use wafergate::session_store::ImportStore;
use wafergate::session_store::LoggedIn;
use wafergate::session_store::MemoryStore;
use wafergate::session_store::SessionStore;
use wafergate::session_store::StoreAway;
use wafergate::session_store::StoredApp;
use wafergate::session_store::Swept;
use wafergate::session_store::Taken;
use wafergate::session_store::UserStore;
use wafergate::session_store::Which;

use super::Login;

/// A store that can go away, or be late with the answer to what it has done.
#[derive(Default)]
pub(crate) struct Fickle {
    inner: MemoryStore,
    pub(crate) is_away: AtomicBool,
    /// Whether sessions are revoked, but not answered before `goes_on`.
    pub(crate) is_late: AtomicBool,
    pub(crate) has_revoked: Notify,
    pub(crate) goes_on: Notify,
}

impl Fickle {
    fn here(&self) -> Result<&MemoryStore, StoreAway> {
        if self.is_away.load(Ordering::Acquire) { Err(StoreAway("it is away".into())) } else { Ok(&self.inner) }
    }

    fn go(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Release);
    }
}

#[async_trait]
impl SessionStore for Fickle {
    async fn log_in(&self, login: wafergate::session_store::Login) -> Result<LoggedIn, StoreAway> {
        self.here()?.log_in(login).await
    }

    async fn find(&self, id: &SessionId) -> Result<Option<(Session, User)>, StoreAway> {
        self.here()?.find(id).await
    }

    async fn touch(&self, id: &SessionId, seen_ms: u64) -> Result<(), StoreAway> {
        self.here()?.touch(id, seen_ms).await
    }

    async fn refresh(
        &self,
        id: &SessionId,
        shown: SkeyHash,
        new: SkeyHash,
        now_ms: u64,
        previous_until_ms: u64,
    ) -> Result<bool, StoreAway> {
        self.here()?.refresh(id, shown, new, now_ms, previous_until_ms).await
    }

    async fn revoke(&self, which: &Which) -> Result<Vec<SessionId>, StoreAway> {
        let revoked = self.here()?.revoke(which).await;
        if self.is_late.load(Ordering::Acquire) {
            self.has_revoked.notify_one();
            self.goes_on.notified().await;
        }
        revoked
    }

    async fn list(
        &self,
        app_id: &str,
        open_id: &str,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreAway> {
        self.here()?.list(app_id, open_id, after, limit).await
    }

    async fn kept_login(&self, code_hash: &[u8; 32], now_ms: u64) -> Result<Option<Vec<u8>>, StoreAway> {
        self.here()?.kept_login(code_hash, now_ms).await
    }

    async fn sweep(
        &self,
        after: Option<&SessionId>,
        limit: usize,
        limits: Limits,
        now_ms: u64,
    ) -> Result<Swept, StoreAway> {
        self.here()?.sweep(after, limit, limits, now_ms).await
    }
}

#[async_trait]
impl UserStore for Fickle {
    async fn user(&self, app_id: &str, open_id: &str) -> Result<Option<User>, StoreAway> {
        self.here()?.user(app_id, open_id).await
    }

    async fn set_profile(&self, app_id: &str, open_id: &str, profile: &Profile) -> Result<bool, StoreAway> {
        self.here()?.set_profile(app_id, open_id, profile).await
    }

    async fn set_key(&self, app_id: &str, open_id: &str, sealed_key: Vec<u8>) -> Result<(), StoreAway> {
        self.here()?.set_key(app_id, open_id, sealed_key).await
    }
}

#[async_trait]
impl AppStore for Fickle {
    async fn apps(&self) -> Result<Vec<StoredApp>, StoreAway> {
        self.here()?.apps().await
    }

    async fn put_app(&self, app: StoredApp) -> Result<(), StoreAway> {
        self.here()?.put_app(app).await
    }

    async fn remove_app(&self, app_id: &str) -> Result<bool, StoreAway> {
        self.here()?.remove_app(app_id).await
    }
}

#[async_trait]
impl ImportStore for Fickle {
    async fn import(&self, rows: Vec<Imported>) -> Result<Taken, StoreAway> {
        self.here()?.import(rows).await
    }
}

/// A gateway on such a store.
async fn on_fickle() -> (Login, Arc<Fickle>) {
    let store = Arc::new(Fickle::default());
    let outside = Outside { session_store: Some(store.clone()), ..Outside::system() };
    (Login::outside(&[], outside).await, store)
}

#[tokio::test]
async fn a_store_away_for_two_seconds_under_load_logs_nobody_out() {
    let (login, store) = on_fickle().await;
    let sessions = join_all((0..20).map(async |user| login.enter(&format!("u{user}"), 1).await)).await;
    let is_over = AtomicBool::new(false);

    let load = join_all(sessions.iter().map(async |session| {
        let mut checks = 0;
        while !is_over.load(Ordering::Acquire) {
            let answer = login.check(session).await;
            assert_eq!(answer["returnCode"], 0, "after {checks}: {answer}");
            checks += 1;
        }
        checks
    }));
    let outage = async {
        // Longer than the cache believes a session, then away for two seconds.
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        store.go(true);
        let newcomer = login.enter("new", 1);
        let back = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(login.gateway.metric("session_store_up").await, 0.0);
            assert_eq!(login.gateway.ask_admin("GET /readyz").await.status, 200, "tunnels go on");
            store.go(false);
        };
        tokio::join!(newcomer, back);
        login.gateway.until_metric("session_store_up", 1.0).await;
        is_over.store(true, Ordering::Release);
    };
    let (checks, ()) = tokio::join!(load, outage);

    assert!(checks.into_iter().all(|checks: u32| checks > 1));
    assert_eq!(login.gateway.metrics().await.sum("session_checks_total", "store_away"), 0.0);
}

#[tokio::test]
async fn a_store_away_for_long_is_an_outage_and_spends_no_code() {
    let (login, store) = on_fickle().await;
    let session = login.enter("ann", 1).await;
    let asked = login.wechat.seen().len();
    store.go(true);

    let (checked, entered) = tokio::join!(login.check(&session), login.call("id_skey", json!({ "code": "bob-1" })));

    assert_eq!((&checked["returnCode"], &checked["returnMessage"]), (&json!(1001), &json!("MYSQL_ERR")));
    assert_eq!(entered["returnCode"], 1001);
    assert_eq!(login.wechat.seen().len(), asked, "WeChat was not asked");
    store.go(false);
    assert_eq!(login.check(&session).await["returnCode"], 0);
    login.enter("bob", 1).await;
}

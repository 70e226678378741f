//! Logs a user in: asks WeChat, decrypts what the client brought, and opens a session.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use tokio::sync::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::App;
use super::Sessions;
use super::TURN_LIMIT;
use super::key_place;
use super::sealed_key;
use crate::clock::millis;
use crate::fair_semaphore::FairPermit;
use crate::protocol::login::EncryptedData;
use crate::protocol::login::MAX_PROFILE_BYTES;
use crate::protocol::login::Profile;
use crate::protocol::login::UserInfo;
use crate::protocol::text::hex;
use crate::protocol::wechat::CodeSession;
use crate::protocol::wechat::Denial;
use crate::protocol::wechat::NotOpened;
use crate::protocol::wechat::Unusable;
use crate::protocol::wechat::open;
use crate::protocol::wechat::user_data;
use crate::session::Credentials;
use crate::session::Session;
use crate::session::SessionId;
use crate::session::User;
use crate::session_store::KeptLogin;
use crate::session_store::Login;
use crate::session_store::StoreAway;
use crate::wechat::Failure;
use crate::wechat::NoAnswer;

/// How long a login waits for the store before its code is spent.
const BEFORE_LIMIT: Duration = Duration::from_secs(3);
/// And after that: the code is worth nothing any more.
const AFTER_LIMIT: Duration = Duration::from_secs(8);
/// How long the answer to a code is kept for a repeat: as long as WeChat's codes live.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// Longest code, in bytes; WeChat's have 32.
const MAX_CODE_BYTES: usize = 512;

/// What a client brings to log in.
#[derive(Clone)]
pub struct LoginRequest {
    /// The app.
    pub app: Arc<App>,
    /// From `wx.login`.
    pub code: String,
    /// From `wx.getUserInfo`.
    pub data: Option<EncryptedData>,
    /// A JSON object of the business server.
    pub metadata: Option<String>,
    /// A shorter life than usual.
    pub life: Option<Duration>,
    /// Whether a repeat with the same code gets the same session, until that is used.
    pub is_repeatable: bool,
}

/// An opened session.
#[derive(Clone, Debug)]
pub struct Entered {
    /// What the client proves it with.
    pub credentials: Credentials,
    /// The session.
    pub session: Session,
    /// The user.
    pub user: User,
    /// Whether the user was unknown before.
    pub is_new: bool,
}

impl Entered {
    /// The user as the SDKs read it.
    pub fn user_info(&self) -> UserInfo<'_> {
        let User { open_id, union_id, profile, .. } = &self.user;
        UserInfo { open_id, union_id: union_id.as_deref(), profile }
    }
}

/// Why a login failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoginError {
    /// WeChat does not accept the code.
    #[error(
        "WeChat does not accept the code: it is wrong, used or older than five minutes, let the client call wx.login again"
    )]
    Code,
    /// WeChat blocks the user.
    #[error("WeChat blocks this user for risk (40226)")]
    Blocked,
    /// WeChat refuses for another reason.
    #[error("{0}")]
    WeChat(Failure),
    /// The data is not encrypted with the user's key, or not about the user.
    #[error(transparent)]
    Data(#[from] NotOpened),
    /// The store does not answer; the code was not used.
    #[error("the session store does not answer: try again, the code is still good")]
    StoreAway(#[source] StoreAway),
    /// The session could not be stored; the code is used.
    #[error("the session could not be stored: let the client log in again")]
    NotStored(#[source] StoreAway),
}

impl LoginError {
    fn label(&self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Blocked => "blocked",
            Self::WeChat(_) => "wechat",
            Self::Data(_) => "data",
            Self::StoreAway(_) | Self::NotStored(_) => "store_away",
        }
    }
}

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> Self {
        match failure.denial() {
            Some(Denial::Code) => Self::Code,
            Some(Denial::Blocked) => Self::Blocked,
            _ => Self::WeChat(failure),
        }
    }
}

/// A login that may be repeated, as it is sealed.
#[derive(Deserialize, Serialize)]
struct Repeatable {
    id: String,
    skey: String,
    is_new: bool,
}

impl Sessions {
    /// Logs in. Runs to its end even if the caller goes away while WeChat is asked: it takes the code once.
    ///
    /// # Errors
    ///
    /// If WeChat refuses, the data is not the user's, or the store does not answer.
    pub async fn log_in(self: &Arc<Self>, request: LoginRequest) -> Result<Entered, LoginError> {
        let app = Arc::clone(&request.app);
        let entered = self.enter(request).await;
        match &entered {
            Ok(entered) => {
                self.metrics.session(if entered.is_new { "new" } else { "known" });
                tracing::debug!(app.id = app.app_id, session.id = %entered.session.id, "user logged in");
            }
            Err(error) => {
                self.metrics.session(error.label());
                tracing::debug!(app.id = app.app_id, reason = %error, "login refused");
            }
        }
        entered
    }

    async fn enter(self: &Arc<Self>, request: LoginRequest) -> Result<Entered, LoginError> {
        if request.code.is_empty() || request.code.len() > MAX_CODE_BYTES {
            return Err(LoginError::Code);
        }
        let code_hash = code_hash(&request.app.app_id, &request.code);
        // Logins with one code take turns, so that the second one finds what the first has kept.
        let turn = if request.is_repeatable { Some(self.turn_of(code_hash).await?) } else { None };
        // This also shows that the store is up, before the code is spent.
        if let Some(entered) = self.repeated(&request, &code_hash).await.map_err(LoginError::StoreAway)? {
            return Ok(entered);
        }
        let place = self.place(&request.app.app_id).await?;
        let sessions = Arc::clone(self);
        let work = tokio::spawn(async move {
            let _turn = turn;
            sessions.exchange(&request, code_hash, place).await
        });
        work.await.unwrap_or_else(|_| Err(LoginError::NotStored(StoreAway("the login failed".into()))))
    }

    /// Exchanges the code at WeChat, and stores the login.
    async fn exchange(
        &self,
        request: &LoginRequest,
        code_hash: [u8; 32],
        place: FairPermit<String>,
    ) -> Result<Entered, LoginError> {
        let answer = self.wechat.code_session(request.app.account(), &request.code).await;
        drop(place);
        let wechat = match answer.map_err(LoginError::from) {
            // Another node may have been faster with the same code.
            Err(LoginError::Code) => {
                return self.repeated(request, &code_hash).await.ok().flatten().ok_or(LoginError::Code);
            }
            answer => answer?,
        };
        if wechat.open_id.len() > 128 {
            return Err(LoginError::WeChat(Unusable::Malformed.into()));
        }
        let profile = match &request.data {
            Some(data) => Some(self.profile(&request.app, &wechat, data).await?),
            None => None,
        };
        self.store_login(request, wechat, profile, code_hash).await
    }

    /// What the client brought about itself.
    async fn profile(
        &self,
        app: &App,
        wechat: &CodeSession,
        data: &EncryptedData,
    ) -> Result<(Profile, Option<String>), LoginError> {
        let read = |key: &str| user_data(&open(key, data)?, &app.app_id, &wechat.open_id);
        let mut found = read(&wechat.session_key);
        if found.is_err() {
            // `wx.login` may have replaced the key between the client's two calls.
            let ask = || self.store.user(&app.app_id, &wechat.open_id);
            let stored = self.patience.ask(&app.app_id, AFTER_LIMIT, ask).await.map_err(LoginError::NotStored)?;
            let sealed = stored.into_iter().flat_map(|user| [Some(user.sealed_key), user.previous_sealed_key]);
            let place = key_place(&app.app_id, &wechat.open_id);
            let keys = sealed.flatten().filter_map(|sealed| self.vault.open_text(&place, &sealed));
            found = keys.into_iter().find_map(|key| read(&key).ok()).ok_or(NotOpened);
        }
        let object = found?;
        let union_id = object.get("unionId").and_then(|id| id.as_str()).filter(|id| !id.is_empty()).map(str::to_owned);
        let profile = Profile::new(object);
        if profile.to_json().len() > MAX_PROFILE_BYTES { Err(NotOpened.into()) } else { Ok((profile, union_id)) }
    }

    async fn store_login(
        &self,
        request: &LoginRequest,
        wechat: CodeSession,
        profile: Option<(Profile, Option<String>)>,
        code_hash: [u8; 32],
    ) -> Result<Entered, LoginError> {
        let (app_id, now_ms) = (request.app.app_id.clone(), self.now_ms());
        let credentials = Credentials::new((self.random)());
        let life = request.life.map_or(self.limits.login, |life| life.min(self.limits.login));
        let session = Session {
            id: credentials.id.clone(),
            app_id: app_id.clone(),
            open_id: wechat.open_id.clone(),
            skey_hash: credentials.skey_hash(),
            previous: None,
            created_ms: now_ms,
            seen_ms: now_ms,
            expires_ms: now_ms.saturating_add(millis(life)),
            metadata: request.metadata.clone(),
        };
        let (profile, union_id) = profile.map_or((None, None), |(profile, union_id)| (Some(profile), union_id));
        let login = Login {
            session: session.clone(),
            union_id: wechat.union_id.or(union_id),
            sealed_key: sealed_key(&self.vault, &app_id, &wechat.open_id, &wechat.session_key),
            profile,
            kept: request.is_repeatable.then(|| KeptLogin {
                code_hash,
                sealed: self.seal_repeatable(&credentials, &code_hash),
                expires_ms: now_ms.saturating_add(millis(KEPT_FOR)),
            }),
            limits: self.limits,
        };
        let ask = || self.log_in_once(&login);
        let stored = self.patience.ask(&app_id, AFTER_LIMIT, ask).await.map_err(LoginError::NotStored)?;
        if !stored.ended.is_empty() {
            self.has_ended(&request.app.tenant, &stored.ended).await;
        }
        Ok(Entered { credentials, session, user: stored.user, is_new: stored.is_new })
    }

    /// Stores a login; again after an unknown outcome it finds that it was stored.
    async fn log_in_once(&self, login: &Login) -> Result<crate::session_store::LoggedIn, StoreAway> {
        match self.store.find(&login.session.id).await? {
            Some((_, user)) => Ok(crate::session_store::LoggedIn { user, is_new: false, ended: vec![] }),
            None => self.store.log_in(login.clone()).await,
        }
    }

    /// The session of an earlier login with the same code, as long as it was not used.
    async fn repeated(&self, request: &LoginRequest, code_hash: &[u8; 32]) -> Result<Option<Entered>, StoreAway> {
        let ask = || self.store.kept_login(code_hash, self.now_ms());
        let kept = self.patience.ask(&request.app.app_id, BEFORE_LIMIT, ask).await?;
        let Some(sealed) = kept.filter(|_| request.is_repeatable) else { return Ok(None) };
        let place = ["login", &hex(code_hash)];
        let Some(kept) = self.vault.open(&place, &sealed) else { return Ok(None) };
        let Ok(Repeatable { id, skey, is_new }) = postcard::from_bytes(&kept) else { return Ok(None) };
        let Some(credentials) = Credentials::of_pair(&id, &skey) else { return Ok(None) };
        let ask = || self.store.find(&credentials.id);
        let found = self.patience.ask(&request.app.app_id, BEFORE_LIMIT, ask).await?;
        let unused = found.filter(|(session, _)| session.is_unused() && session.is_alive(&self.limits, self.now_ms()));
        Ok(unused.map(|(session, user)| Entered { credentials, session, user, is_new }))
    }

    fn seal_repeatable(&self, credentials: &Credentials, code_hash: &[u8; 32]) -> Vec<u8> {
        let (id, skey) = (credentials.id.to_string(), credentials.skey.expose().to_owned());
        let plain = postcard::to_stdvec(&Repeatable { id, skey, is_new: false }).expect("memory has room");
        let place = ["login", &hex(code_hash)];
        self.vault.seal(&place, &plain)
    }

    async fn turn_of(&self, code_hash: [u8; 32]) -> Result<OwnedMutexGuard<()>, Failure> {
        let turn = {
            let mut entry = self.codes.entry(code_hash).or_default();
            entry.upgrade().unwrap_or_else(|| {
                let turn = Arc::new(Mutex::new(()));
                *entry = Arc::downgrade(&turn);
                turn
            })
        };
        timeout(TURN_LIMIT, turn.lock_owned()).await.map_err(|_| NoAnswer::Late.into())
    }

    /// Forgets turns that nobody waits for.
    pub(super) fn sweep_turns(&self) {
        self.codes.retain(|_, turn| turn.strong_count() > 0);
    }

    /// Tells this node's cache and all nodes' tunnels that sessions have ended.
    pub(super) async fn has_ended(&self, tenant: &str, sessions: &[SessionId]) {
        self.cache.forget(sessions);
        if let Some(tunnels) = self.tunnels.get().and_then(std::sync::Weak::upgrade) {
            tunnels.close_of(tenant, sessions).await;
        }
    }
}

/// What a kept login is found by.
fn code_hash(app_id: &str, code: &str) -> [u8; 32] {
    Sha256::new().chain_update(app_id).chain_update([0]).chain_update(code).finalize().into()
}

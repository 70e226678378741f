//! Calls of business servers about sessions and users, beyond logging in and checking.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zeroize::Zeroizing;

use super::App;
use super::CheckError;
use super::Known;
use super::Sessions;
use super::check::CHECK_LIMIT;
use super::key_place;
use crate::clock::millis;
use crate::protocol::login::Profile;
use crate::protocol::wechat;
use crate::protocol::wechat::Phone;
use crate::session::Credentials;
use crate::session::Session;
use crate::session::SessionId;
use crate::session::TOKEN_GRACE;
use crate::session::User;
use crate::session_store::StoreAway;
use crate::session_store::Which;
use crate::wechat::Failure;

/// How long the end of a session waits for the store; its caller waits no longer than a check.
const REVOKE_LIMIT: Duration = Duration::from_secs(60);

/// Why a call with a user's key failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// The key cannot be read: `server.ticket_key` has changed since the login.
    #[error("the user's key is not known any more: let the client call wx.login, then try once more")]
    Stale,
    /// WeChat refuses or does not answer.
    #[error(transparent)]
    WeChat(#[from] Failure),
    /// The store does not answer.
    #[error("the session store does not answer: try again")]
    StoreAway(#[from] StoreAway),
}

impl Sessions {
    /// Replaces the secret of a session that was checked a moment ago; the old one stays valid for [`TOKEN_GRACE`].
    ///
    /// # Errors
    ///
    /// If the session has ended meanwhile, or the store does not answer.
    pub async fn refresh(&self, credentials: &Credentials, of: &str) -> Result<Credentials, CheckError> {
        let random = (self.random)();
        let renewed = credentials.renewed(*random.first_chunk().expect("32 bytes have 16"));
        let (shown, new, now_ms) = (credentials.skey_hash(), renewed.skey_hash(), self.now_ms());
        let until_ms = now_ms.saturating_add(millis(TOKEN_GRACE));
        let ask = || self.store.refresh(&credentials.id, shown, new, now_ms, until_ms);
        let is_refreshed = self.patience.ask(of, CHECK_LIMIT, ask).await?;
        self.cache.forget([&credentials.id]);
        if is_refreshed { Ok(renewed) } else { Err(CheckError::NoSession) }
    }

    /// Ends sessions of an app, and their tunnels too unless it `spares_tunnels`; how many ended. Goes on for a while after an error,
    /// and after the caller has gone: a session that is gone from the store must be gone everywhere.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn revoke(
        self: &Arc<Self>,
        app: Arc<App>,
        which: Which,
        spares_tunnels: bool,
    ) -> Result<usize, StoreAway> {
        let sessions = Arc::clone(self);
        let work = tokio::spawn(async move {
            let ended = sessions.patience.ask(&app.app_id, REVOKE_LIMIT, || sessions.store.revoke(&which)).await?;
            sessions.cache.forget(&ended);
            if !ended.is_empty() && !spares_tunnels {
                sessions.has_ended(&app.tenant, &ended).await;
            }
            Ok::<_, StoreAway>(ended.len())
        });
        let failed = |words: &str| Err(StoreAway(words.into()));
        match timeout(CHECK_LIMIT, work).await {
            Ok(done) => done.unwrap_or_else(|_| failed("the call failed")),
            Err(_) => failed("no answer in time"),
        }
    }

    /// The session with this id, if it is of an app that `admits`.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn session(
        &self,
        id: &SessionId,
        of: &str,
        admits: impl Fn(&str) -> bool,
    ) -> Result<Option<Session>, StoreAway> {
        let found = self.patience.ask(of, CHECK_LIMIT, || self.store.find(id)).await?;
        let now_ms = self.now_ms();
        let found = found.map(|(session, _)| session);
        Ok(found.filter(|session| admits(&session.app_id) && session.is_alive(&self.limits, now_ms)))
    }

    /// Sessions of a user by id, at most `limit`, after the one given; where the next page begins, if there is one.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn list(
        &self,
        app: &App,
        open_id: &str,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<(Vec<Session>, Option<SessionId>), StoreAway> {
        let ask = || self.store.list(&app.app_id, open_id, after, limit.saturating_add(1));
        let mut sessions = self.patience.ask(&app.app_id, CHECK_LIMIT, ask).await?;
        let has_more = sessions.len() > limit;
        sessions.truncate(limit);
        let next = sessions.last().filter(|_| has_more).map(|session| session.id.clone());
        let now_ms = self.now_ms();
        sessions.retain(|session| session.is_alive(&self.limits, now_ms));
        Ok((sessions, next))
    }

    /// A user of an app.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn user(&self, app: &App, open_id: &str) -> Result<Option<User>, StoreAway> {
        self.patience.ask(&app.app_id, CHECK_LIMIT, || self.store.user(&app.app_id, open_id)).await
    }

    /// Replaces a user's profile; whether there is such a user.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn set_profile(&self, app: &App, open_id: &str, profile: &Profile) -> Result<bool, StoreAway> {
        let ask = || self.store.set_profile(&app.app_id, open_id, profile);
        let is_known = self.patience.ask(&app.app_id, CHECK_LIMIT, ask).await?;
        self.forget_user(app, open_id).await;
        Ok(is_known)
    }

    /// Forgets what is cached of a user. A store that does not answer leaves it to its age.
    async fn forget_user(&self, app: &App, open_id: &str) {
        let listed = self.store.list(&app.app_id, open_id, None, usize::MAX);
        let listed = timeout(CHECK_LIMIT, listed).await.ok().and_then(Result::ok).unwrap_or_default();
        self.cache.forget(listed.iter().map(|session| &session.id));
    }

    /// Signs `data` with the user's key, for WeChat's calls about a user; none if the key cannot be read.
    pub fn sign(&self, known: &Known, data: &[u8]) -> Option<String> {
        Some(wechat::signature(&self.key(known)?, data))
    }

    /// Asks WeChat whether the user's key is still valid.
    ///
    /// # Errors
    ///
    /// If WeChat refuses, or the key cannot be read.
    pub async fn check_key(&self, app: &App, known: &Known) -> Result<(), KeyError> {
        let key = self.key(known).ok_or(KeyError::Stale)?;
        let _place = self.place(&app.app_id).await?;
        Ok(self.wechat.check_session(app.account(), &known.user.open_id, &key).await?)
    }

    /// Lets WeChat replace the user's key, and stores the new one. Runs to its end even if the caller goes away.
    ///
    /// # Errors
    ///
    /// If WeChat refuses, the key cannot be read, or the store does not answer.
    pub async fn rotate_key(self: &Arc<Self>, app: Arc<App>, known: Arc<Known>) -> Result<(), KeyError> {
        let place = self.place(&app.app_id).await?;
        let sessions = Arc::clone(self);
        let work = tokio::spawn(async move {
            let _place = place;
            let key = sessions.key(&known).ok_or(KeyError::Stale)?;
            let open_id = &known.user.open_id;
            let new = Zeroizing::new(sessions.wechat.reset_key(app.account(), open_id, &key).await?);
            let sealed = sessions.vault.seal(&key_place(&app.app_id, open_id), new.as_bytes());
            let ask = || sessions.store.set_key(&app.app_id, open_id, sealed.clone());
            sessions.patience.ask(&app.app_id, CHECK_LIMIT, ask).await?;
            sessions.forget_user(&app, open_id).await;
            Ok(())
        });
        work.await.unwrap_or_else(|_| Err(StoreAway("the call failed".into()).into()))
    }

    /// The phone number behind a code.
    ///
    /// # Errors
    ///
    /// If WeChat refuses or does not answer.
    pub async fn phone(&self, app: &App, code: &str) -> Result<Phone, Failure> {
        let _place = self.place(&app.app_id).await?;
        self.wechat.phone(app.account(), code).await
    }

    /// An app's access token, and its end in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// If WeChat refuses or does not answer.
    pub async fn access_token(&self, app: &App) -> Result<(Zeroizing<String>, u64), Failure> {
        let _place = self.place(&app.app_id).await?;
        self.wechat.access_token(app.account()).await
    }

    /// Seals an answer that is kept for a repeat, such as one with a token.
    pub fn seal_answer(&self, name: &str, answer: &[u8]) -> Vec<u8> {
        self.vault.seal(&["answer", name], answer)
    }

    /// Opens such an answer.
    pub fn open_answer(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.vault.open(&["answer", name], sealed)
    }

    fn key(&self, known: &Known) -> Option<Zeroizing<String>> {
        self.vault.open_text(&key_place(&known.user.app_id, &known.user.open_id), &known.user.sealed_key)
    }
}

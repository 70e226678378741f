//! Checks: is this session valid, and whose is it?

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::App;
use super::Known;
use super::Sessions;
use super::key_place;
use crate::protocol::login::EncryptedData;
use crate::protocol::wechat::app_data;
use crate::protocol::wechat::open;
use crate::session::Credentials;
use crate::session::SessionId;
use crate::session_store::StoreAway;

/// How long a check waits for the store.
pub(super) const CHECK_LIMIT: Duration = Duration::from_secs(3);

/// Why a session is not confirmed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckError {
    /// No such session, or it has ended.
    #[error("there is no such session, or it has ended: the user must log in")]
    NoSession,
    /// The store does not answer.
    #[error("the session store does not answer: try again")]
    StoreAway(#[from] StoreAway),
}

/// How sure a check must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Care {
    /// A session that was valid some seconds ago is.
    Cached,
    /// The store is asked, and the visit is recorded before the answer.
    Stored,
}

impl Sessions {
    /// The session with these credentials, if it is of an app that `admits`; `of` names who waits if the store is away.
    ///
    /// # Errors
    ///
    /// If there is none, or the store does not answer.
    pub async fn check(
        &self,
        credentials: &Credentials,
        care: Care,
        of: &str,
        admits: impl Fn(&str) -> bool,
    ) -> Result<Arc<Known>, CheckError> {
        let result = self.check_counted(credentials, care, of, admits).await;
        self.metrics.session_check(match &result {
            Ok((_, true)) => "cached",
            Ok((_, false)) => "ok",
            Err(CheckError::NoSession) => "no_session",
            Err(CheckError::StoreAway(_)) => "store_away",
        });
        result.map(|(known, _)| known)
    }

    async fn check_counted(
        &self,
        credentials: &Credentials,
        care: Care,
        of: &str,
        admits: impl Fn(&str) -> bool,
    ) -> Result<(Arc<Known>, bool), CheckError> {
        let (skey_hash, now_ms) = (credentials.skey_hash(), self.now_ms());
        let is_valid = |known: &Known| {
            let session = &known.session;
            admits(&session.app_id) && session.accepts(&skey_hash, now_ms) && known.is_alive(&self.limits, now_ms)
        };
        let cached = Some(()).filter(|()| care == Care::Cached);
        let cached = cached.and_then(|()| self.cache.find(&credentials.id, Instant::now()));
        if let Some(known) = cached.filter(|known| is_valid(known)) {
            self.visit_later(&known, now_ms);
            return Ok((known, true));
        }
        let ends = self.cache.ends();
        let found = self.patience.ask(of, CHECK_LIMIT, || self.store.find(&credentials.id)).await?;
        let (session, user) = found.ok_or(CheckError::NoSession)?;
        let known = Arc::new(Known::new(session, user));
        if !is_valid(&known) {
            return Err(CheckError::NoSession);
        }
        match care {
            Care::Cached => self.visit_later(&known, now_ms),
            Care::Stored => self.visit(&known, of, now_ms).await?,
        }
        self.cache.keep(Arc::clone(&known), ends, Instant::now());
        Ok((known, false))
    }

    /// Whether a check would find the session in the cache, with a visit.
    pub fn is_cached_in_use(&self, id: &SessionId) -> bool {
        self.cache.find(id, Instant::now()).is_some_and(|known| known.is_used())
    }

    /// Confirms that a session has not ended, without its secret: a tunnel was asked for with it.
    ///
    /// # Errors
    ///
    /// If it has, or the store does not answer.
    pub async fn confirm(&self, id: &SessionId, of: &str) -> Result<(), CheckError> {
        let now_ms = self.now_ms();
        if let Some(known) = self.cache.find(id, Instant::now()) {
            return if known.is_alive(&self.limits, now_ms) { Ok(()) } else { Err(CheckError::NoSession) };
        }
        let found = self.patience.ask(of, CHECK_LIMIT, || self.store.find(id)).await?;
        match found {
            Some((session, _)) if session.is_alive(&self.limits, now_ms) => Ok(()),
            _ => Err(CheckError::NoSession),
        }
    }

    /// Records a visit, if it is due, before it returns.
    async fn visit(&self, known: &Known, of: &str, now_ms: u64) -> Result<(), StoreAway> {
        let (_, Some(seen_ms)) = known.visit(now_ms) else { return Ok(()) };
        let id = &known.session.id;
        self.patience.ask(of, CHECK_LIMIT, || self.store.touch(id, seen_ms)).await?;
        known.seen(seen_ms);
        Ok(())
    }

    /// Records a visit, if it is due, after the answer. If the store is away or busy, a later check records one.
    fn visit_later(&self, known: &Arc<Known>, now_ms: u64) {
        let (before_ms, Some(seen_ms)) = known.visit(now_ms) else { return };
        let Ok(permit) = Arc::clone(&self.visits).try_acquire_owned() else { return };
        let (store, known) = (Arc::clone(&self.store), Arc::clone(known));
        // Checks meanwhile need not record it again.
        known.seen(seen_ms);
        tokio::spawn(async move {
            if store.touch(&known.session.id, seen_ms).await.is_err() {
                known.seen(before_ms);
            }
            drop(permit);
        });
    }

    /// Decrypts data with the user's key, or with the one before it; it must be of the user's app.
    pub fn decrypt(&self, known: &Known, data: &EncryptedData) -> Option<String> {
        let keys = [Some(&known.user.sealed_key), known.user.previous_sealed_key.as_ref()];
        let place = key_place(&known.user.app_id, &known.user.open_id);
        let keys = keys.into_iter().flatten().filter_map(|sealed| self.vault.open_text(&place, sealed));
        let opened = keys.filter_map(|key| open(&key, data).ok());
        opened.into_iter().find(|plain| app_data(plain, &known.user.app_id).is_ok())
    }

    /// The session with these credentials of `app`, for a Wafer SDK.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn check_of_app(&self, app: &App, credentials: &Credentials) -> Result<Arc<Known>, CheckError> {
        self.check(credentials, Care::Cached, &app.app_id, |app_id| app_id == app.app_id).await
    }
}

//! The calls about sessions, users and phone numbers, and their responses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Answer;
use super::answers::answer;
use super::answers::done;
use super::answers::ok;
use super::query::SessionPaging;
use super::route::SessionCall;
use crate::clock::rfc3339;
use crate::gateway::Gateway;
use crate::login::App;
use crate::login::Care;
use crate::login::CheckError;
use crate::login::KeyError;
use crate::login::Known;
use crate::login::LoginError;
use crate::login::LoginRequest;
use crate::login::Sessions;
use crate::protocol::login::Profile;
use crate::protocol::native::Code;
use crate::protocol::native::Name;
use crate::protocol::native::Problem;
use crate::protocol::native::session;
use crate::protocol::native::session::DecryptRequest;
use crate::protocol::native::session::EnterRequest;
use crate::protocol::native::session::PhoneRequest;
use crate::protocol::native::session::RevokeRequest;
use crate::protocol::native::session::SignRequest;
use crate::protocol::native::session::TokenRequest;
use crate::protocol::wechat::Denial;
use crate::session::Credentials;
use crate::session::Session;
use crate::session::SessionId;
use crate::session_store::StoreAway;
use crate::session_store::Which;
use crate::tenant::Tenant;
use crate::wechat::Failure;

/// Seconds after which a call that met an absent store may be repeated.
const STORE_RETRY_SECS: u64 = 1;
/// Seconds after which WeChat's quota, which is counted by the minute, has room again.
const QUOTA_RETRY_SECS: u64 = 60;

/// A tenant that calls, and the session service.
struct Caller<'a> {
    sessions: &'a Arc<Sessions>,
    tenant: &'a str,
}

/// Runs a call.
pub(super) async fn run(
    gateway: &Gateway,
    tenant: &Tenant,
    call: SessionCall,
    body: &Bytes,
) -> Result<Answer, Problem> {
    let sessions = gateway.sessions().ok_or_else(off)?;
    let caller = Caller { sessions, tenant: tenant.id.as_str() };
    match call {
        SessionCall::Enter => caller.enter(EnterRequest::parse(body)?).await,
        SessionCall::List(paging) => caller.list(paging).await,
        SessionCall::Verify => caller.verify(&TokenRequest::parse(body)?).await,
        SessionCall::Refresh => caller.refresh(&TokenRequest::parse(body)?).await,
        SessionCall::Revoke => caller.revoke(RevokeRequest::parse(body)?).await,
        SessionCall::Decrypt => caller.decrypt(&DecryptRequest::parse(body)?).await,
        SessionCall::Sign => caller.sign(&SignRequest::parse(body)?).await,
        SessionCall::CheckKey => caller.check_key(&TokenRequest::parse(body)?).await,
        SessionCall::RotateKey => caller.rotate_key(&TokenRequest::parse(body)?).await,
        SessionCall::Phone => caller.phone(&PhoneRequest::parse(body)?).await,
        SessionCall::Profile { open_id, app_id } => caller.profile(&open_id, app_id.as_deref()).await,
        SessionCall::SetProfile { open_id, app_id } => {
            caller.set_profile(&open_id, app_id.as_deref(), &session::profile(body)?).await
        }
        SessionCall::AccessToken(app_id) => caller.access_token(&app_id).await,
    }
}

/// The user and the session for a tunnel that is asked for with this token.
pub(super) async fn opener(
    gateway: &Gateway,
    tenant: &Tenant,
    token: &str,
) -> Result<(Option<Name>, Option<Name>), Problem> {
    let sessions = gateway.sessions().ok_or_else(off)?;
    let (known, ..) = Caller { sessions, tenant: tenant.id.as_str() }.session(token).await?;
    let name = |text: &str| Name::new(text).map_err(|error| Problem::new(Code::DataInvalid, error.to_string()));
    Ok((Some(name(&known.user.open_id)?), Some(name(known.session.id.as_str())?)))
}

fn off() -> Problem {
    Problem::new(Code::NotFound, "the session service is off: set session.enabled in the gateway's configuration")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct User<'a> {
    open_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    union_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a serde_json::Map<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<bool>,
}

impl<'a> User<'a> {
    fn of(user: &'a crate::session::User, new: Option<bool>) -> Self {
        let profile = Some(user.profile.fields()).filter(|fields| !fields.is_empty());
        Self { open_id: &user.open_id, union_id: user.union_id.as_deref(), profile, new }
    }
}

/// Id, times and metadata of a session.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    session_id: &'a str,
    created_at: String,
    last_seen_at: String,
    expires_at: String,
    idle_expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

fn time(ms: u64) -> String {
    rfc3339(Duration::from_millis(ms))
}

impl Caller<'_> {
    fn describe<'a>(&self, session: &'a Session) -> Described<'a> {
        let metadata = session.metadata.as_deref().and_then(|metadata| serde_json::from_str(metadata).ok());
        Described {
            session_id: session.id.as_str(),
            created_at: time(session.created_ms),
            last_seen_at: time(session.seen_ms),
            expires_at: time(session.expires_ms),
            idle_expires_at: time(session.idle_expires_ms(self.sessions.limits())),
            metadata,
        }
    }

    /// The app with this id, or the only one.
    fn app(&self, app_id: Option<&str>) -> Result<Arc<App>, Problem> {
        let apps = self.sessions.apps();
        let own = apps.of_tenant(self.tenant);
        let found = match (app_id, &own[..]) {
            (Some(app_id), own) => own.iter().find(|app| app.app_id == app_id),
            (None, [app]) => Some(app),
            (None, []) => None,
            (None, _) => {
                return Err(Problem::new(
                    Code::ParameterInvalid,
                    "this tenant has several apps: say which one in appId",
                ));
            }
        };
        found.map(|app| Arc::clone(app)).ok_or_else(|| {
            let detail =
                "this tenant has no such app: name the tenant in [[session.apps]], or see `wafergate app list`";
            Problem::new(Code::AppUnknown, detail)
        })
    }

    /// The session behind a token, asked of the store, with its app and credentials.
    async fn session(&self, token: &str) -> Result<(Arc<Known>, Arc<App>, Credentials), Problem> {
        let credentials = Credentials::of_token(token).ok_or(CheckError::NoSession)?;
        let apps = self.sessions.apps();
        let is_own = |app_id: &str| apps.app(app_id).is_some_and(|app| app.is_of(self.tenant));
        let known = self.sessions.check(&credentials, Care::Stored, self.tenant, is_own).await?;
        let app = apps.app(&known.user.app_id).cloned().ok_or(CheckError::NoSession)?;
        Ok((known, app, credentials))
    }

    async fn enter(&self, request: EnterRequest) -> Result<Answer, Problem> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Entered<'a> {
            session_token: &'a str,
            #[serde(flatten)]
            session: Described<'a>,
            user: User<'a>,
        }
        let (app, data) = (self.app(request.app_id.as_deref())?, request.data());
        let entered = self.sessions.log_in(LoginRequest {
            app,
            data,
            code: request.code,
            metadata: request.metadata.map(|metadata| metadata.0.get().to_owned()),
            life: request.ttl_secs.map(Duration::from_secs),
            is_repeatable: true,
        });
        let entered = entered.await?;
        let token = entered.credentials.token();
        let session = self.describe(&entered.session);
        let user = User::of(&entered.user, Some(entered.is_new));
        answer(StatusCode::CREATED, &Entered { session_token: token.expose(), session, user })
    }

    async fn verify(&self, request: &TokenRequest) -> Result<Answer, Problem> {
        #[derive(Serialize)]
        struct Active<'a> {
            active: bool,
            #[serde(flatten)]
            session: Described<'a>,
            user: User<'a>,
        }
        #[derive(Serialize)]
        struct Inactive {
            active: bool,
        }
        let known = match self.cached(&request.session_token).await {
            Ok(known) => known,
            Err(CheckError::NoSession) => return ok(&Inactive { active: false }),
            Err(error) => return Err(error.into()),
        };
        let session = known.session();
        ok(&Active { active: true, session: self.describe(&session), user: User::of(&known.user, None) })
    }

    /// The session behind a token. A cached one is believed if its use is recorded already: a repeated login must not return it.
    async fn cached(&self, token: &str) -> Result<Arc<Known>, CheckError> {
        let credentials = Credentials::of_token(token).ok_or(CheckError::NoSession)?;
        let apps = self.sessions.apps();
        let is_own = |app_id: &str| apps.app(app_id).is_some_and(|app| app.is_of(self.tenant));
        let care = if self.sessions.is_cached_in_use(&credentials.id) { Care::Cached } else { Care::Stored };
        self.sessions.check(&credentials, care, self.tenant, is_own).await
    }

    async fn refresh(&self, request: &TokenRequest) -> Result<Answer, Problem> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Refreshed<'a> {
            session_token: &'a str,
            #[serde(flatten)]
            session: Described<'a>,
        }
        let (known, _, credentials) = self.session(&request.session_token).await?;
        let renewed = self.sessions.refresh(&credentials, self.tenant).await?.token();
        let session = known.session();
        ok(&Refreshed { session_token: renewed.expose(), session: self.describe(&session) })
    }

    async fn revoke(&self, request: RevokeRequest) -> Result<Answer, Problem> {
        #[derive(Serialize)]
        struct Revoked {
            revoked: usize,
        }
        let apps = self.sessions.apps();
        let is_own = |app_id: &str| apps.app(app_id).is_some_and(|app| app.is_of(self.tenant));
        let named = match (&request.session_token, &request.session_id) {
            (Some(token), _) => match self.cached(token).await {
                Ok(known) => Some(known.session.clone()),
                Err(CheckError::NoSession) => None,
                Err(error) => return Err(error.into()),
            },
            (None, Some(id)) => match SessionId::new(id) {
                Ok(id) => self.sessions.session(&id, self.tenant, is_own).await?,
                Err(_) => None,
            },
            (None, None) => {
                let (app, open_id) = (self.app(request.app_id.as_deref())?, request.user.unwrap_or_default());
                let which = Which::User { app_id: app.app_id.clone(), open_id };
                let revoked = self.sessions.revoke(app, which, !request.close_tunnels).await?;
                return ok(&Revoked { revoked });
            }
        };
        let app = named.as_ref().and_then(|session| apps.app(&session.app_id));
        let Some((session, app)) = named.as_ref().zip(app) else { return ok(&Revoked { revoked: 0 }) };
        let which = Which::Session(session.id.clone());
        let revoked = self.sessions.revoke(Arc::clone(app), which, !request.close_tunnels).await?;
        ok(&Revoked { revoked })
    }

    async fn list(&self, paging: SessionPaging) -> Result<Answer, Problem> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Listed<'a> {
            sessions: Vec<Described<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            next_cursor: Option<&'a str>,
        }
        let app = self.app(paging.app_id.as_deref())?;
        let (sessions, next) = self.sessions.list(&app, &paging.user, paging.after.as_ref(), paging.limit).await?;
        let next_cursor = next.as_ref().map(SessionId::as_str);
        ok(&Listed { sessions: sessions.iter().map(|session| self.describe(session)).collect(), next_cursor })
    }

    async fn decrypt(&self, request: &DecryptRequest) -> Result<Answer, Problem> {
        #[derive(Serialize)]
        struct Decrypted<'a> {
            data: &'a str,
        }
        let (known, ..) = self.session(&request.session_token).await?;
        match self.sessions.decrypt(&known, &request.data()) {
            Some(data) => ok(&Decrypted { data: &data }),
            None => Err(stale()),
        }
    }

    async fn sign(&self, request: &SignRequest) -> Result<Answer, Problem> {
        #[derive(Serialize)]
        struct Signed {
            signature: String,
        }
        let (known, ..) = self.session(&request.session_token).await?;
        let signature = self.sessions.sign(&known, request.data.as_bytes()).ok_or_else(stale)?;
        ok(&Signed { signature })
    }

    async fn check_key(&self, request: &TokenRequest) -> Result<Answer, Problem> {
        #[derive(Serialize)]
        struct Checked {
            valid: bool,
        }
        let (known, app, _) = self.session(&request.session_token).await?;
        match self.sessions.check_key(&app, &known).await {
            Ok(()) => ok(&Checked { valid: true }),
            Err(KeyError::WeChat(failure)) if failure.denial() == Some(Denial::StaleKey) => {
                ok(&Checked { valid: false })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn rotate_key(&self, request: &TokenRequest) -> Result<Answer, Problem> {
        let (known, app, _) = self.session(&request.session_token).await?;
        self.sessions.rotate_key(app, known).await?;
        Ok(done())
    }

    async fn phone(&self, request: &PhoneRequest) -> Result<Answer, Problem> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Number<'a> {
            phone_number: &'a str,
            country_code: &'a str,
        }
        let app = match &request.session_token {
            Some(token) => self.session(token).await?.1,
            None => self.app(request.app_id.as_deref())?,
        };
        let phone = self.sessions.phone(&app, &request.code).await?;
        ok(&Number { phone_number: &phone.number, country_code: &phone.country_code })
    }

    async fn profile(&self, open_id: &str, app_id: Option<&str>) -> Result<Answer, Problem> {
        let app = self.app(app_id)?;
        let user = self.sessions.user(&app, open_id).await?.ok_or_else(unknown_user)?;
        ok(user.profile.fields())
    }

    async fn set_profile(&self, open_id: &str, app_id: Option<&str>, profile: &Profile) -> Result<Answer, Problem> {
        let app = self.app(app_id)?;
        if self.sessions.set_profile(&app, open_id, profile).await? {
            ok(profile.fields())
        } else {
            Err(unknown_user())
        }
    }

    async fn access_token(&self, app_id: &str) -> Result<Answer, Problem> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Token<'a> {
            access_token: &'a str,
            expires_at: String,
        }
        let app = self.app(Some(app_id))?;
        if !app.share_access_token {
            let detail = "set share_access_token of the app in [[session.apps]]";
            return Err(Problem::new(Code::AccessTokenNotShared, detail));
        }
        let (token, expires_ms) = self.sessions.access_token(&app).await?;
        ok(&Token { access_token: &token, expires_at: time(expires_ms) })
    }
}

fn stale() -> Problem {
    let detail = "the data is not encrypted with this user's key, or that key is not known any more: let the client call wx.login, then \
                  try once more";
    Problem::new(Code::SessionKeyStale, detail)
}

fn unknown_user() -> Problem {
    Problem::new(Code::ProfileUnknown, "no user with this openId has logged in to the app")
}

impl From<StoreAway> for Problem {
    fn from(_: StoreAway) -> Self {
        Self::new(Code::SessionStoreAway, "the session store does not answer: try again").after_secs(STORE_RETRY_SECS)
    }
}

impl From<CheckError> for Problem {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::NoSession => Self::new(Code::SessionEnded, error.to_string()),
            CheckError::StoreAway(away) => away.into(),
        }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Stale => stale(),
            KeyError::WeChat(failure) => failure.into(),
            KeyError::StoreAway(away) => away.into(),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let detail = failure.to_string();
        match failure.denial() {
            Some(Denial::Code) => Self::new(Code::WechatCodeInvalid, detail),
            Some(Denial::Blocked) => Self::new(Code::WechatUserBlocked, detail),
            Some(Denial::Quota) => Self::new(Code::WechatQuota, detail).after_secs(QUOTA_RETRY_SECS),
            Some(Denial::Secret) => Self::new(Code::WechatSecretWrong, detail),
            Some(Denial::StaleKey) => Self::new(Code::SessionKeyStale, detail),
            Some(Denial::Busy | Denial::Token | Denial::Other) | None => Self::new(Code::WechatAway, detail),
        }
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        let detail = error.to_string();
        match error {
            LoginError::Code => Self::new(Code::WechatCodeInvalid, detail),
            LoginError::Blocked => Self::new(Code::WechatUserBlocked, detail),
            LoginError::WeChat(failure) => failure.into(),
            LoginError::Data(_) => Self::new(Code::DataInvalid, detail),
            LoginError::StoreAway(_) => Self::new(Code::SessionStoreAway, detail).after_secs(STORE_RETRY_SECS),
            LoginError::NotStored(_) => Self::new(Code::SessionStoreAway, detail),
        }
    }
}

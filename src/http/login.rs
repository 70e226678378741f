//! `/mina_auth/`, as Wafer's SDKs call it: always answered with HTTP 200, since C# hangs after some other answers.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderValue;

use super::body;
use super::body::BodyError;
use super::body::Room;
use super::json;
use super::problem;
use super::proxy_headers::Client;
use super::proxy_headers::relay;
use crate::gateway::Gateway;
use crate::login::App;
use crate::login::CheckError;
use crate::login::LoginError;
use crate::login::LoginRequest;
use crate::login::Sessions;
use crate::protocol::login::Call;
use crate::protocol::login::Refusal;
use crate::protocol::login::decrypted;
use crate::protocol::login::logged_in;
use crate::protocol::login::refused;
use crate::protocol::text::printable;
use crate::protocol::wechat::Unusable;

use crate::server::Peer;
use crate::server::ProxyHeader;
use crate::server::RequestBody;
use crate::session::Credentials;
use crate::wechat::Failure;

/// Largest body: a login with the data of a user has about 1 KiB.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// Answers a call of a business server.
pub(super) async fn handle(
    gateway: Arc<Gateway>,
    room: Room,
    request: Request<RequestBody>,
    peer: Peer,
    client: Client,
) -> Response<Full<Bytes>> {
    let Some(sessions) = gateway.sessions() else {
        gateway.metrics.refused("not_found");
        let message = "the session service is off: set session.enabled in the gateway's configuration";
        return problem(StatusCode::NOT_FOUND, "not_found", message);
    };
    let (head, incoming) = request.into_parts();
    let app = admit(&gateway, sessions, head.uri.path(), &head.headers, peer, client);
    // It is read in any case, so that its sender reads the answer.
    let body = body::read(room, &head.headers, incoming, MAX_BODY_BYTES).await;
    let answer = match (app, body) {
        (Err(refusal), _) => Err(refusal),
        (Ok(_), Err(error)) => Err(error.into()),
        (Ok(app), Ok(body)) => answer(sessions, &app, &body.bytes, client.address).await,
    };
    let mut response = json(
        StatusCode::OK,
        answer.unwrap_or_else(|refusal| {
            gateway.metrics.refused("mina_auth");
            refused(&refusal).into()
        }),
    );
    let content_type = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The app that the address names, if the caller may use it.
fn admit(
    gateway: &Gateway,
    sessions: &Sessions,
    path: &str,
    headers: &HeaderMap,
    peer: Peer,
    client: Client,
) -> Result<Arc<App>, Refusal> {
    let apps = sessions.apps();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).skip(1).collect();
    let (app_id, key) = match segments[..] {
        [] | ["index.php"] => ("", ""),
        [app_id, key] => (app_id, key),
        _ => ("", "?"),
    };
    if !key.is_empty() {
        return apps.with_key(app_id, key).cloned().ok_or_else(|| {
            let reason = "the app or the key in its address is wrong";
            tracing::info!(client = %client.address, reason, "login service refused a caller");
            Refusal::UnknownInterface
        });
    }
    if let Some(reason) = stranger(sessions, headers, peer, client.address, |address| gateway.trusts(address)) {
        tracing::info!(client = %client.address, reason, "login service refused a caller");
        return Err(Refusal::UnknownInterface);
    }
    apps.plain().cloned().ok_or_else(|| {
        let reason = if apps.count() == 0 {
            "no app is configured"
        } else {
            "every app has a wafer_key, so AuthServerUrl must be https://HOST/mina_auth/APP_ID/KEY"
        };
        tracing::info!(client = %client.address, reason, "login service refused a caller");
        Refusal::NoApp
    })
}

/// Why the caller may not use an address without a key.
fn stranger(
    sessions: &Sessions,
    headers: &HeaderMap,
    peer: Peer,
    behind: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<&'static str> {
    let address = peer.address.ip().to_canonical();
    let has_proxy_header = peer.proxy_header != ProxyHeader::None;
    if let Some(header) = relay(headers) {
        let is_of_proxy = peer.proxy_header != ProxyHeader::Unknown && is_trusted(address);
        // A trusted proxy that does not say for whom it calls says nothing.
        if !is_of_proxy || behind == address {
            tracing::debug!(client = %behind, header = %printable(header, 40), "a header that proxies add");
            return Some(
                "the request came through a proxy: name it in server.trusted_proxies, or let the business server use the address with \
                 the app's wafer_key",
            );
        }
    }
    if peer.proxy_header == ProxyHeader::Unknown || has_proxy_header && behind.is_loopback() {
        return Some("a proxy does not say where the request comes from: use the address with the app's wafer_key");
    }
    if sessions.allows(behind) {
        return None;
    }
    Some("its address is not in session.wafer_allow_networks: add it, or use the address with the app's wafer_key")
}

async fn answer(sessions: &Arc<Sessions>, app: &Arc<App>, body: &[u8], client: IpAddr) -> Result<Bytes, Refusal> {
    let result = call(sessions, app, body).await;
    match &result {
        // These are the daily work of a session service.
        Ok(_) | Err(Refusal::NoSession | Refusal::Code) => {}
        Err(refusal) => {
            tracing::info!(client = %client, app.id = app.app_id, code = refusal.code(), reason = %refusal, "login service refused a call");
        }
    }
    result
}

async fn call(sessions: &Arc<Sessions>, app: &Arc<App>, body: &[u8]) -> Result<Bytes, Refusal> {
    match Call::parse(body)? {
        Call::Login { code, data } => {
            let app = Arc::clone(app);
            let request = LoginRequest { app, code, data, metadata: None, life: None, is_repeatable: false };
            let entered = sessions.log_in(request).await?;
            let answer = logged_in(
                entered.is_new,
                entered.credentials.id.as_str(),
                entered.credentials.skey.expose(),
                &entered.user_info(),
            );
            Ok(answer.into())
        }
        Call::Check { id, skey } => {
            let credentials = Credentials::of_pair(&id, &skey).ok_or(Refusal::NoSession)?;
            Ok(sessions.check_of_app(app, &credentials).await?.answer())
        }
        Call::Decrypt { id, skey, data } => {
            let credentials = Credentials::of_pair(&id, &skey).ok_or(Refusal::NoSessionKey)?;
            let known = sessions.check_of_app(app, &credentials).await.map_err(|error| match error {
                CheckError::NoSession => Refusal::NoSessionKey,
                CheckError::StoreAway(_) => Refusal::StoreAway,
            })?;
            sessions.decrypt(&known, &data).map(|plain| decrypted(&plain).into()).ok_or(Refusal::DecryptWithSession)
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } | BodyError::Encoded | BodyError::Broken | BodyError::TooSlow => Self::NotJson,
            BodyError::Busy => Self::StoreAway,
        }
    }
}

impl From<CheckError> for Refusal {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::NoSession => Self::NoSession,
            CheckError::StoreAway(_) => Self::StoreAway,
        }
    }
}

impl From<LoginError> for Refusal {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Code | LoginError::Blocked => Self::Code,
            LoginError::WeChat(Failure::NoAnswer(_)) => Self::WeChatAway,
            LoginError::WeChat(Failure::Unusable(Unusable::Malformed)) => Self::WeChatRefused(None),
            LoginError::WeChat(Failure::Unusable(Unusable::Refused { code, words })) => {
                Self::WeChatRefused(Some(format!("{code} {words}").trim_end().to_owned()))
            }
            LoginError::Data(_) => Self::Decrypt,
            LoginError::StoreAway(_) => Self::StoreAway,
            LoginError::NotStored(_) => Self::NotStored,
        }
    }
}

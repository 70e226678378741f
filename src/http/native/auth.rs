//! Authenticates native requests: by an RFC 9421 signature, or by a bearer key over private connections.

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header;
use hyper::http::request::Parts;
use sha2::Digest;
use sha2::Sha256;

use crate::gateway::CallError;
use crate::gateway::Gateway;
use crate::gateway::IssueError;
use crate::http::body::Body;
use crate::http::proxy_headers::Client;
use crate::http::proxy_headers::relay;
use crate::options::ConnectorUse;
use crate::protocol::connector::ConnectorName;
use crate::protocol::native::Code;
use crate::protocol::native::Problem;
use crate::protocol::native::http_signature::Claim;
use crate::protocol::native::http_signature::Defect;
use crate::protocol::native::http_signature::Digested;
use crate::protocol::native::http_signature::Message;
use crate::protocol::native::http_signature::WINDOW_SECS;
use crate::protocol::native::http_signature::check_digest;
use crate::protocol::text::hex;
use crate::protocol::text::printable;
use crate::tenant::Denied;
use crate::tenant::Key;
use crate::tenant::Tenant;

/// Most bytes of a caller's text in one line of the log.
const MAX_SHOWN_BYTES: usize = 100;

/// The tenant that sent a request, and the key that authenticated it.
#[derive(Clone)]
pub(in crate::http) struct Caller {
    pub(in crate::http) tenant: Arc<Tenant>,
    pub(in crate::http) key: Key,
    /// The connector that the path names.
    pub(in crate::http) connector: Option<ConnectorName>,
}

impl Caller {
    /// The same with the connector that its path names.
    ///
    /// # Errors
    ///
    /// If there is one, but the tenant has switched them off.
    pub(in crate::http) fn naming(self, connector: Option<ConnectorName>) -> Result<Self, Problem> {
        match self.tenant.settings().connectors {
            ConnectorUse::Off if connector.is_some() => Err(IssueError::ConnectorsOff.into()),
            _ => Ok(Self { connector, ..self }),
        }
    }
}

/// Authenticates a request and consumes its nonce, unless `check_node` refuses what this node cannot do for any caller:
/// a proxy may send the same request to another node.
///
/// # Errors
///
/// That of `check_node`, else always 401, with what was expected and what was received; never a key. An unknown tenant
/// gets the same error as a wrong key.
pub(in crate::http) async fn authenticate(
    gateway: &Gateway,
    head: &Parts,
    body: &Body,
    client: Client,
    check_node: impl FnOnce() -> Result<(), Problem>,
) -> Result<Caller, Problem> {
    let headers = &head.headers;
    if let Some(input) = field(headers, "signature-input") {
        let now = gateway.clock.unix_time();
        let body = body.read(Digested::of).await;
        let (caller, claim) = signature(gateway, head, &input, body, client, now)?;
        check_node()?;
        use_up(gateway, &caller.tenant, &claim, now).await?;
        return Ok(caller);
    }
    match headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default()) {
        Some(authorization) => bearer(gateway, authorization, headers, client),
        None => Err(Problem::new(
            Code::CredentialsMissing,
            "sign the request by RFC 9421 (Signature-Input, Signature, Content-Digest), or send Authorization: Bearer \
             <tenant id>:<key> over TLS",
        )),
    }
}

fn signature(
    gateway: &Gateway,
    head: &Parts,
    input: &str,
    body: Digested,
    client: Client,
    now: Duration,
) -> Result<(Caller, Claim), Problem> {
    let field = |name: &str| field(&head.headers, name);
    let signature = field("signature").unwrap_or_default();
    let claims = Claim::parse_all(input, &signature)?;
    check_digest(field("content-digest").as_deref(), body)?;
    let message = Message {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query(),
        scheme: if client.is_tls { "https" } else { "http" },
        field: &field,
    };
    // One valid signature of several is enough. Otherwise the first one's fault is returned, so that the response does not reveal
    // which tenants exist.
    let mut fault = None;
    for claim in claims {
        match verify(gateway, &claim, &message, now) {
            Ok(caller) => return Ok((caller, claim)),
            Err(problem) => fault = fault.or(Some(problem)),
        }
    }
    Err(fault.expect("there is one at least"))
}

fn verify(gateway: &Gateway, claim: &Claim, message: &Message<'_>, now: Duration) -> Result<Caller, Problem> {
    claim.check_time(now.as_secs())?;
    claim.check_coverage(message.query.is_some())?;
    let base = claim.base(message)?;
    let proves = |key: &Key| key.hmac_key().verifies(base.as_bytes(), &claim.signature);
    let (tenant, key) = gateway.tenants.authenticate_native(&claim.key_id, proves).map_err(|denied| {
        let detail = format!(
            "the signature is not the HMAC-SHA256, with a key of the tenant in keyid, of these lines (a key whsec_... stands for \
             the bytes behind its Base64):\n{base}"
        );
        Problem::new(Code::SignatureWrong, detail).log_only(doubt("keyid", &claim.key_id, denied))
    })?;
    Ok(Caller { tenant, key, connector: None })
}

/// Consumes a nonce until the signature would be stale.
async fn use_up(gateway: &Gateway, tenant: &Tenant, claim: &Claim, now: Duration) -> Result<(), Problem> {
    let created = Duration::from_secs(u64::try_from(claim.created).unwrap_or_default());
    let life = (created + Duration::from_secs(WINDOW_SECS + 1)).saturating_sub(now);
    let digest = Sha256::digest(&claim.nonce);
    match gateway.calls.use_nonce(tenant, &hex(&digest[..16]), life).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Problem::new(
            Code::NonceReplayed,
            "a request with this nonce has come before: make a new nonce for each request, also when you repeat one",
        )),
        Err(CallError::Full) => {
            Err(Problem::new(Code::Busy, "too many nonces of this tenant are kept at present: try again")
                .after_secs(10))
        }
        Err(CallError::EngineAway) => {
            Err(Problem::new(Code::EngineAway, "the nonce cannot be checked at present: try again").after_secs(1))
        }
    }
}

fn bearer(gateway: &Gateway, authorization: &str, headers: &HeaderMap, client: Client) -> Result<Caller, Problem> {
    let wrong = || {
        let detail =
            "Authorization must be Bearer <tenant id>:<key>, with one of the tenant's keys as it is configured";
        Problem::new(Code::CredentialsWrong, detail)
    };
    if !client.is_private {
        let relayed =
            relay(headers).map(|name| format!(" (this request has {})", printable(name, 40))).unwrap_or_default();
        let detail = format!(
            "a bearer key is taken over TLS, or from loopback without a header that proxies add{relayed}; if a proxy ends TLS, name \
             it in server.trusted_proxies, and let it set X-Forwarded-Proto and delete Forwarded, or the other way round; if there \
             is none, this key can have been read on its way: replace it, and sign requests by RFC 9421"
        );
        return Err(Problem::new(Code::BearerInsecure, detail));
    }
    let (scheme, credentials) = authorization.split_once(' ').ok_or_else(wrong)?;
    let (tenant, key) = credentials.trim().split_once(':').ok_or_else(wrong)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(wrong());
    }
    let proves = |own: &Key| own.secret().matches(key);
    let authenticated = gateway.tenants.authenticate_native(tenant, proves);
    let (tenant, key) = authenticated.map_err(|denied| wrong().log_only(doubt("tenant", tenant, denied)))?;
    Ok(Caller { tenant, key, connector: None })
}

/// Why a request is not authenticated, for the log only.
fn doubt(name: &str, id: &str, denied: Denied) -> String {
    format!("{name} {}: {denied}", printable(id, MAX_SHOWN_BYTES))
}

/// All values of a header, joined as RFC 9421 joins them; none if one is not ASCII.
fn field(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Option<Vec<&str>> =
        headers.get_all(name).iter().map(|value| value.to_str().ok().map(str::trim)).collect();
    values.filter(|values| !values.is_empty()).map(|values| values.join(", "))
}

impl From<Defect> for Problem {
    fn from(defect: Defect) -> Self {
        let code = match &defect {
            Defect::Malformed(_) => Code::SignatureMalformed,
            Defect::Incomplete { .. } => Code::SignatureIncomplete,
            Defect::Stale { .. } | Defect::Expired { .. } => Code::SignatureStale,
            Defect::Digest(_) => Code::DigestMismatch,
        };
        Self::new(code, defect.to_string())
    }
}

//! `POST /get/wsurl` and `POST /ws/push`, as the Wafer SDKs call them: always answered with HTTP 200.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;

use super::body;
use super::body::Body;
use super::body::BodyError;
use super::body::Room;
use super::json;
use crate::gateway::Gateway;
use crate::gateway::IssueError;
use crate::gateway::PushError;
use crate::metrics::PushResult;
use crate::options::ConnectorUse;
use crate::protocol::connector::ConnectorName;
use crate::protocol::signature;
use crate::protocol::text::printable;
use crate::protocol::wafer::Envelope;
use crate::protocol::wafer::PushPacket;
use crate::protocol::wafer::Refusal;
use crate::protocol::wafer::WsurlRequest;
use crate::protocol::wafer::error_answer;
use crate::protocol::wafer::issue_answer;
use crate::protocol::wafer::push_answer;
use crate::server::RequestBody;
use crate::tenant::Denied;
use crate::tenant::Key;
use crate::tenant::Stranger;
use crate::tenant::Tenant;

/// Most bytes of a caller's text in one line of the log.
const MAX_SHOWN_BYTES: usize = 100;
/// Largest body of `/get/wsurl`.
const MAX_WSURL_BYTES: usize = 64 * 1024;
/// Largest body of `/ws/push`: ten thousand tunnel ids and a long message.
const MAX_PUSH_BYTES: usize = 4 * 1024 * 1024;

/// A business server requests a tunnel.
pub(super) async fn wsurl(
    gateway: &Arc<Gateway>,
    room: Room,
    request: Request<RequestBody>,
    client: IpAddr,
    connector: Option<ConnectorName>,
) -> Response<Full<Bytes>> {
    let mut asking = Asking::of(client, connector);
    let answer = issue(gateway, room, request, &mut asking).await;
    if let Err(refusal) = &answer {
        refused(gateway, "wsurl", refusal, &asking);
    }
    json(StatusCode::OK, answer.unwrap_or_else(|refusal| error_answer(&refusal)))
}

/// What is known of the caller of a call, for the log.
struct Asking {
    client: IpAddr,
    /// Once it is authenticated.
    tenant: Option<Arc<Tenant>>,
    /// Why it is not authenticated; callers must not learn it.
    doubt: Option<String>,
    /// The connector that its path names.
    connector: Option<ConnectorName>,
}

impl Asking {
    fn of(client: IpAddr, connector: Option<ConnectorName>) -> Self {
        Self { client, tenant: None, doubt: None, connector }
    }

    /// The refusal of a request that is not authenticated.
    fn deny(&mut self, gateway: &Gateway, unknown: Unknown) -> Refusal {
        let Unknown { tc_id, server_host, denied } = unknown;
        let Denied::Stranger(stranger) = denied else {
            gateway.metrics.refused("enrolment_full");
            return Refusal::OverLimit(denied.to_string());
        };
        let advice = match server_host.filter(|_| stranger == Stranger::UnknownTenant) {
            Some(host) => format!(": server_host = \"{}\" would match", printable(&host, MAX_SHOWN_BYTES)),
            None => String::new(),
        };
        self.doubt = Some(format!("tcId {}: {stranger}{advice}", printable(&tc_id, MAX_SHOWN_BYTES)));
        Refusal::Unauthorized
    }
}

/// A request that is not authenticated.
struct Unknown {
    tc_id: String,
    /// The host of its receive URL; looked for with known tenants too, so that both take as long.
    server_host: Option<String>,
    denied: Denied,
}

async fn issue(
    gateway: &Arc<Gateway>,
    room: Room,
    request: Request<RequestBody>,
    asking: &mut Asking,
) -> Result<String, Refusal> {
    let host = host(request.headers().get_all(header::HOST));
    let (head, body) = request.into_parts();
    let body = body::read(room, &head.headers, body, MAX_WSURL_BYTES).await?;
    let (envelope, tenant, key) = authenticate(gateway, &body, true, asking).await?;
    let wsurl = WsurlRequest::parse(&envelope.data.0)?;
    let scheme = wsurl.scheme()?;
    let connector = asking.connector.clone();
    let issued = gateway.connect_urls.issue_as(&tenant, &key, &wsurl.receive_url.0, None, connector).await?;
    let connect_url = gateway.connect_urls.connect_url(&issued, || host.map(|host| format!("{scheme}://{host}")))?;
    let sign = |data: &str| signature::wafer(data, key.secret().expose());
    Ok(issue_answer(&issued.tunnel.to_string(), &connect_url, sign))
}

/// A business server pushes, or closes tunnels.
pub(super) async fn push(
    gateway: &Arc<Gateway>,
    room: Room,
    request: Request<RequestBody>,
    client: IpAddr,
    connector: Option<ConnectorName>,
) -> Response<Full<Bytes>> {
    let mut asking = Asking::of(client, connector);
    let answer = handle_push(gateway, room, request, &mut asking).await;
    match &answer {
        Ok(_) => gateway.metrics.push(PushResult::Ok),
        Err(refusal) => {
            let is_error = matches!(refusal, Refusal::Unreachable(_));
            gateway.metrics.push(if is_error { PushResult::Error } else { PushResult::Refused });
            refused(gateway, "push", refusal, &asking);
        }
    }
    json(StatusCode::OK, answer.unwrap_or_else(|refusal| error_answer(&refusal).into()))
}

async fn handle_push(
    gateway: &Arc<Gateway>,
    room: Room,
    request: Request<RequestBody>,
    asking: &mut Asking,
) -> Result<Bytes, Refusal> {
    let (head, incoming) = request.into_parts();
    let body = body::read(room, &head.headers, incoming, MAX_PUSH_BYTES).await?;
    let (mut envelope, tenant, _) = authenticate(gateway, &body, false, asking).await?;
    let data = std::mem::take(&mut envelope.data.0);
    let (length, wants_text) = (data.len(), envelope.wants_text());
    let packets = gateway.read(&tenant, length, move || PushPacket::parse_all(&data)).await?;
    let invalid = gateway.pushes.push(Arc::clone(&tenant), packets).await?;
    // It may list all that the body has named.
    let answer = gateway.read(&tenant, length, move || push_answer(&invalid, wants_text)).await;
    Ok(body.answer(answer))
}

/// Parses an envelope and finds its tenant; a long one in the turn of its sender.
async fn authenticate(
    gateway: &Arc<Gateway>,
    body: &Body,
    needs_key: bool,
    asking: &mut Asking,
) -> Result<(Envelope, Arc<Tenant>, Key), Refusal> {
    let (asked, now, source) = (Arc::clone(gateway), tokio::time::Instant::now().into_std(), body.source());
    let known = body.read(move |bytes| {
        let envelope = Envelope::parse(bytes)?;
        Ok::<_, Refusal>(match asked.tenants.authenticate(&envelope, needs_key, &source, now) {
            Ok((tenant, key)) => Ok((envelope, tenant, key)),
            Err(denied) => Err(Unknown { server_host: envelope.server_host(), tc_id: envelope.tc_id.0, denied }),
        })
    });
    let (envelope, tenant, key) = known.await?.map_err(|unknown| asking.deny(gateway, unknown))?;
    asking.tenant = Some(Arc::clone(&tenant));
    if asking.connector.is_some() && tenant.settings().connectors == ConnectorUse::Off {
        return Err(IssueError::ConnectorsOff.into());
    }
    tenant.usage.use_key(key.fingerprint(), gateway.clock.unix_time().as_secs());
    Ok((envelope, tenant, key))
}

/// The host that the request was sent to, from its `Host` header.
pub(super) fn host(hosts: header::GetAll<'_, header::HeaderValue>) -> Result<String, Refusal> {
    let mut hosts = hosts.iter();
    match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
        (Some(host), None) if is_authority(host) => Ok(host.to_owned()),
        _ => Err(Refusal::Malformed("the request needs one Host header, since server.public_url is not set".into())),
    }
}

fn is_authority(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

fn refused(gateway: &Gateway, call: &'static str, refusal: &Refusal, asking: &Asking) {
    gateway.metrics.refused(call);
    let Asking { client, tenant, doubt, .. } = asking;
    if let Some(tenant) = tenant {
        tenant.usage.refuse();
    }
    let reason = doubt.clone().unwrap_or_else(|| refusal.to_string());
    tracing::info!(
        call,
        code = refusal.code(),
        tenant.id = tenant.as_ref().map(|tenant| display(&tenant.id)),
        client = %client,
        reason,
        "wafer call refused",
    );
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } | BodyError::Busy => Self::OverLimit(error.to_string()),
            BodyError::TooSlow | BodyError::Broken | BodyError::Encoded => Self::Malformed(error.to_string()),
        }
    }
}

impl From<IssueError> for Refusal {
    fn from(error: IssueError) -> Self {
        let message = error.to_string();
        match error {
            IssueError::NotAUrl(_) | IssueError::NotOwned { .. } | IssueError::Forbidden { .. } => {
                Self::ReceiveUrl(message)
            }
            IssueError::TooManyTunnels { .. } | IssueError::TooManyPending { .. } | IssueError::NoRoomForNames(_) => {
                Self::OverLimit(message)
            }
            IssueError::ConnectorsOff => Self::ConnectorsOff(message),
            IssueError::NoDescriptors
            | IssueError::Draining
            | IssueError::UpgradeRunning
            | IssueError::OtherTicketKey
            | IssueError::EngineAway => Self::Unavailable(message),
        }
    }
}

impl From<PushError> for Refusal {
    fn from(error: PushError) -> Self {
        let message = error.to_string();
        match error {
            PushError::Unreachable { .. } => Self::Unreachable(message),
            _ => Self::OverLimit(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_must_be_there_once_and_be_one() {
        let request = |hosts: &[&str]| {
            let builder = hosts.iter().fold(Request::post("/"), |builder, value| builder.header("host", *value));
            host(builder.body(()).expect("valid").headers().get_all(header::HOST))
        };

        assert_eq!(request(&["gateway.example:8080"]), Ok("gateway.example:8080".into()));
        assert_eq!(request(&["[::1]:80"]), Ok("[::1]:80".into()));
        for hosts in [&[][..], &[""], &["a", "b"], &["a/b"], &["a\"b"], &["user@a"]] {
            assert!(request(hosts).is_err(), "{hosts:?}");
        }
    }
}

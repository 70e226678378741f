//! The native calls and their responses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::http::request::Parts;
use serde::Serialize;

use super::Answer;
use super::answers::answer;
use super::answers::done;
use super::answers::done_saying;
use super::answers::ok;
use super::auth::Caller;
use super::query::Paging;
use super::route::Call;
use super::route::Id;
use super::sessions;
use super::timelines;
use crate::clock::rfc3339;
use crate::gateway;
use crate::gateway::CallId;
use crate::gateway::Gateway;
use crate::gateway::IssueError;
use crate::gateway::NativeError;
use crate::gateway::PushError;
use crate::gateway::Report;
use crate::gateway::Withdrawn;
use crate::http::proxy_headers::Client;
use crate::http::wafer;
use crate::id::TunnelId;
use crate::protocol::connector::ConnectorName;
use crate::protocol::native::Audience;
use crate::protocol::native::CloseRequest;
use crate::protocol::native::Code;
use crate::protocol::native::Name;
use crate::protocol::native::OpenRequest;
use crate::protocol::native::Problem;
use crate::protocol::native::PushRequest;
use crate::protocol::native::Trace;
use crate::protocol::ticket::About;
use crate::protocol::wafer::Target;
use crate::tenant;
use crate::tenant::NamePage;
use crate::tenant::Page;
use crate::tenant::Roster;
use crate::tenant::Tenant;

/// Runs a call; `id` identifies one with an `Idempotency-Key`.
pub(super) async fn run(
    gateway: &Arc<Gateway>,
    caller: Caller,
    call: Call,
    head: &Parts,
    client: Client,
    body: &Bytes,
    id: Option<CallId>,
) -> Result<Answer, Problem> {
    let tenant = &caller.tenant;
    match call {
        Call::Description | Call::Docs | Call::Connector | Call::Tail(_) => {
            Err(Problem::new(Code::NotFound, "it is answered in another way"))
        }
        Call::History(id, history) => timelines::history(gateway, &caller, &id, history).await,
        Call::Capture => timelines::capture(gateway, &caller, body).await,
        Call::Open => {
            let request = read(gateway, tenant, body, OpenRequest::parse).await?;
            open(gateway, &caller, head, client, request).await
        }
        Call::Tunnel(id) => ok(&gateway.describe(tenant, known(&id)?).await?),
        Call::Withdraw(id) => {
            // What is no id names no tunnel.
            let withdrawn = match id.tunnel {
                Some(tunnel) => gateway.withdraw(tenant, tunnel, identified(head, None).trace).await?,
                None => Withdrawn::NotOpen,
            };
            Ok(done_saying(match withdrawn {
                Withdrawn::Closed => "closed",
                Withdrawn::NotOpen => "not-open",
            }))
        }
        Call::Push => {
            let mut push = read(gateway, tenant, body, PushRequest::parse).await?;
            let to = push.to.take().ok_or_else(|| Problem::new(Code::BodyInvalid, "to is missing"))?;
            let report = gateway.pushes.push_native(tenant, to, &push, identified(head, id)).await?;
            // It may list all that the body has named.
            gateway.read(tenant, body.len(), move || ok(&Pushed::from(report))).await
        }
        Call::Close => {
            let close = read(gateway, tenant, body, CloseRequest::parse).await?;
            let report = gateway.pushes.close_native(tenant, close, identified(head, id)).await?;
            gateway.read(tenant, body.len(), move || ok(&Closed::from(report))).await
        }
        Call::Join(group, id) => {
            gateway.groups.join(tenant, known(&id)?, &group).await.map(|()| done()).map_err(Problem::from)
        }
        Call::Leave(group, id) => {
            gateway.groups.leave(tenant, known(&id)?, &group).await.map(|()| done()).map_err(Problem::from)
        }
        Call::Group(group, paging) => list(gateway, tenant, Some(&Audience::Group(group)), paging).await,
        Call::User(user, paging) => list(gateway, tenant, Some(&Audience::User(user)), paging).await,
        Call::Tunnels(paging) => list(gateway, tenant, None, paging).await,
        Call::Names(roster, Paging { after, limit }) => {
            let page = gateway.groups.list_names(tenant, roster, after.as_ref(), limit).await?;
            ok(&Named::new(roster, page))
        }
        Call::Session(call) => sessions::run(gateway, tenant, call, body).await,
    }
}

/// What identifies a push or close: its id, and the trace that its caller continues.
fn identified(head: &Parts, id: Option<CallId>) -> gateway::Call {
    let traceparent = head.headers.get("traceparent").and_then(|trace| trace.to_str().ok());
    gateway::Call { id, trace: traceparent.and_then(Trace::mark_of).unwrap_or_default() }
}

/// Parses a body in its tenant's fair turn.
async fn read<T: Send + 'static>(
    gateway: &Gateway,
    tenant: &Tenant,
    body: &Bytes,
    parse: impl FnOnce(&[u8]) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let bytes = body.clone();
    gateway.read(tenant, body.len(), move || parse(&bytes)).await
}

async fn open(
    gateway: &Gateway,
    caller: &Caller,
    head: &Parts,
    client: Client,
    request: OpenRequest,
) -> Result<Answer, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Opened {
        tunnel_id: String,
        connect_url: String,
        expires_at: String,
    }
    let OpenRequest { webhook_url, user, groups, metadata, session_token, connector } = request;
    let connector = named(caller.connector.as_ref(), connector.as_deref())?;
    let webhook_url = webhook_url.or_else(|| caller.tenant.settings().webhook_url.clone());
    // Nothing is dialled for a tunnel with a connector.
    let webhook_url = webhook_url.or_else(|| connector.as_ref().map(|_| "https://connector.invalid/".to_owned()));
    let webhook_url = webhook_url.ok_or_else(|| {
        let detail = "set webhookUrl in the body, or webhook_url of the tenant in the gateway's configuration, or name a connector";
        Problem::new(Code::WebhookUrlMissing, detail)
    })?;
    let host = wafer::host(head.headers.get_all("host"));
    let trace = head.headers.get("traceparent").and_then(|trace| trace.to_str().ok()).and_then(Trace::parse);
    let (user, session) = match session_token {
        Some(token) => sessions::opener(gateway, &caller.tenant, &token).await?,
        None => (user, None),
    };
    let about = About { user, groups, metadata, trace, session };
    let issued = gateway.connect_urls.issue_as(&caller.tenant, &caller.key, &webhook_url, Some(about), connector);
    let issued = issued.await?;
    let scheme = if client.is_tls { "wss" } else { "ws" };
    let connect_url = gateway.connect_urls.connect_url(&issued, || host.map(|host| format!("{scheme}://{host}")));
    let connect_url = connect_url.map_err(|refusal| Problem::new(Code::ParameterInvalid, refusal.to_string()))?;
    let opened = Opened {
        tunnel_id: issued.tunnel.to_string(),
        connect_url,
        expires_at: rfc3339(Duration::from_millis(issued.expires_unix_ms)),
    };
    answer(StatusCode::CREATED, &opened)
}

/// The connector of a tunnel, named in the path, the body, or alike in both.
fn named(path: Option<&ConnectorName>, body: Option<&str>) -> Result<Option<ConnectorName>, Problem> {
    let body = body.map(str::parse::<ConnectorName>).transpose();
    let body = body.map_err(|error| Problem::new(Code::BodyInvalid, format!("connector: {error}")))?;
    match (path, body) {
        (Some(path), Some(body)) if *path != body => {
            let detail =
                format!("the path names the connector \"{path}\" and the body \"{body}\": name one, or the same twice");
            Err(Problem::new(Code::ConnectorMismatch, detail))
        }
        (path, body) => Ok(body.or_else(|| path.cloned())),
    }
}

async fn list(
    gateway: &Gateway,
    tenant: &Arc<Tenant>,
    audience: Option<&Audience>,
    Paging { after, limit }: Paging,
) -> Result<Answer, Problem> {
    ok(&Listed::new(gateway.groups.list(tenant, audience, after, limit).await?))
}

/// The outcome of a push.
#[derive(Serialize)]
struct Pushed {
    targets: usize,
    accepted: usize,
    gone: Vec<Target>,
    slow: Vec<Target>,
    unreachable: Vec<Target>,
}

impl From<Report> for Pushed {
    fn from(report: Report) -> Self {
        let Report { targets, accepted, gone, slow, unreachable, .. } = report;
        Self { targets, accepted, gone, slow, unreachable }
    }
}

/// The outcome of a close.
#[derive(Serialize)]
struct Closed {
    targets: usize,
    closed: usize,
    gone: Vec<Target>,
    unreachable: Vec<Target>,
}

impl From<Report> for Closed {
    fn from(report: Report) -> Self {
        let Report { targets, accepted, gone, unreachable, .. } = report;
        Self { targets, closed: accepted, gone, unreachable }
    }
}

/// One page of tunnels.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    count: usize,
    tunnels: Vec<String>,
    members: Vec<Member>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A tunnel with its user.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    tunnel_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Name>,
}

impl Listed {
    fn new(page: Page) -> Self {
        let tunnels: Vec<String> = page.tunnels.iter().map(|listed| listed.tunnel.to_string()).collect();
        let next_cursor = tunnels.last().filter(|_| page.has_more).cloned();
        let member = |(listed, id): (tenant::Listed, &String)| Member { tunnel_id: id.clone(), user: listed.user };
        let members = page.tunnels.into_iter().zip(&tunnels).map(member).collect();
        Self { count: page.count, tunnels, members, next_cursor }
    }
}

/// One page of groups or users.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<Occupied>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<Vec<Occupied>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<Name>,
}

/// A group or user with the number of its open tunnels.
#[derive(Serialize)]
struct Occupied {
    name: Name,
    tunnels: usize,
}

impl Named {
    fn new(roster: Roster, page: NamePage) -> Self {
        let next_cursor = page.names.last().filter(|_| page.has_more).map(|(name, _)| name.clone());
        let names = page.names.into_iter().map(|(name, tunnels)| Occupied { name, tunnels }).collect();
        match roster {
            Roster::Groups => Self { groups: Some(names), users: None, next_cursor },
            Roster::Users => Self { groups: None, users: Some(names), next_cursor },
        }
    }
}

/// The tunnel id in a path; an invalid id is reported as not open.
fn known(id: &Id) -> Result<TunnelId, Problem> {
    id.tunnel.ok_or_else(|| NativeError::TunnelNotOpen(id.text.clone()).into())
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        let code = match error {
            IssueError::NotAUrl(_) | IssueError::Forbidden { .. } | IssueError::NotOwned { .. } => {
                Code::WebhookUrlRefused
            }
            IssueError::TooManyTunnels { .. } => Code::TooManyTunnels,
            IssueError::TooManyPending { .. } => Code::TooManyPending,
            IssueError::Draining => Code::Draining,
            IssueError::NoDescriptors => Code::Busy,
            IssueError::OtherTicketKey | IssueError::EngineAway => Code::EngineAway,
            IssueError::ConnectorsOff => Code::ConnectorsOff,
            IssueError::UpgradeRunning => Code::UpgradeRunning,
            IssueError::NoRoomForNames(_) => Code::TooManyGroups,
        };
        Self::new(code, error.to_string())
    }
}

impl From<NativeError> for Problem {
    fn from(error: NativeError) -> Self {
        let code = match &error {
            NativeError::Limit(PushError::TooManyTargets { .. }) => Code::TooManyTargets,
            NativeError::Limit(PushError::TooLarge { .. }) => Code::TooLarge,
            NativeError::Limit(PushError::TooFast { .. }) => Code::TooFast,
            NativeError::Limit(PushError::Unreachable { .. }) => Code::EngineAway,
            NativeError::GroupUnknown(_) => Code::GroupUnknown,
            NativeError::UserUnknown(_) => Code::UserUnknown,
            NativeError::TunnelNotOpen(_) => Code::TunnelNotOpen,
            NativeError::TooManyGroups(_) | NativeError::NoRoomForNames(_) => Code::TooManyGroups,
            NativeError::TooManyWithdrawals => Code::Busy,
            NativeError::EngineAway => Code::EngineAway,
            NativeError::NodeAway => Code::NodeAway,
        };
        let problem = Self::new(code, error.to_string());
        match error {
            NativeError::Limit(PushError::TooFast { wait_ms }) => problem.after_secs(wait_ms.div_ceil(1_000)),
            _ => problem,
        }
    }
}

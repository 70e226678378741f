//! `GET /v1/connector`: a process of a business server dials in, to receive its events over one WebSocket.

mod calls;
mod connection;
mod dialled;
mod hello;
mod input;
mod output;

use std::sync::Arc;

use bytes::Bytes;
use hyper::Request;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

use super::body;
use super::body::Budget;
use super::body::Room;
use super::connect::switching_protocols;
use super::native;
use super::native::Caller;
use super::proxy_headers::Client;
use crate::connector::Arriving;
use crate::gateway::Gateway;
use crate::gateway::IssueError;
use crate::options::ConnectorUse;
use crate::protocol::connector::ConnectorName;
use crate::protocol::connector::SUBPROTOCOL;
use crate::protocol::native::Code;
use crate::protocol::native::Problem;
use crate::server::Reply;
use crate::server::RequestBody;
use crate::server::Stream;
use crate::server::TakenOver;
use crate::server::Takeover;
use crate::tenant::Tenant;
use crate::ws::handshake;
use crate::ws::handshake::Defect;
use connection::serve;
use dialled::Dialled;
use hyper::header::HeaderValue;

/// Longest body of the handshake: it has none.
const MAX_BODY_BYTES: usize = 1024;

/// Upgrades the request of an authenticated caller.
pub(super) async fn connect(
    gateway: Arc<Gateway>,
    budget: Arc<Budget>,
    request: Request<RequestBody>,
    client: Client,
    name: Option<ConnectorName>,
) -> Reply {
    let mut tenant = None;
    let room = budget.of(client.address);
    match admit(&gateway, room, request, client, name, &mut tenant).await {
        Ok((accept, caller, arriving)) => {
            let dialled = Dialled { gateway, budget, caller, client };
            let response = switching_protocols(accept, Some(SUBPROTOCOL));
            Reply { response: response.map(Into::into), takeover: Some(takeover(dialled, arriving)) }
        }
        Err(problem) => native::refuse(&gateway, &problem, "connector", client, tenant.as_deref()).into(),
    }
}

async fn admit(
    gateway: &Gateway,
    room: Room,
    request: Request<RequestBody>,
    client: Client,
    name: Option<ConnectorName>,
    tenant: &mut Option<Arc<Tenant>>,
) -> Result<(HeaderValue, Caller, Arriving), Problem> {
    let shaken = handshake::check(&request)?;
    if !shaken.offer.includes(SUBPROTOCOL) {
        let detail = format!("this gateway speaks {SUBPROTOCOL}: offer it in Sec-WebSocket-Protocol");
        return Err(Problem::new(Code::UpgradeRequired, detail));
    }
    let (head, incoming) = request.into_parts();
    let body = body::read(room, &head.headers, incoming, MAX_BODY_BYTES).await?;
    let caller = native::authenticate(gateway, &head, &body, client, || Ok(())).await?;
    *tenant = Some(Arc::clone(&caller.tenant));
    caller.tenant.usage.use_key(caller.key.fingerprint(), gateway.clock.unix_time().as_secs());
    if caller.tenant.settings().connectors == ConnectorUse::Off {
        return Err(IssueError::ConnectorsOff.into());
    }
    if gateway.connect_urls.is_draining() {
        return Err(Problem::new(Code::Draining, "this node leaves: connect again, to another one").after_secs(1));
    }
    if gateway.is_cut_off() {
        return Err(Problem::new(Code::EngineAway, "this node is cut off from its engine: try again").after_secs(1));
    }
    let caller = caller.naming(name)?;
    let arriving = gateway.connectors.arrive(&caller.tenant);
    let arriving = arriving.map_err(|many| Problem::new(Code::TooManyConnectors, many.to_string()).after_secs(5))?;
    Ok((shaken.accept, caller, arriving))
}

fn takeover(dialled: Dialled, arriving: Arriving) -> Takeover {
    Box::new(move |TakenOver { stream, answer, early }| match stream {
        Stream::Plain(stream) => start(dialled, arriving, stream, answer, early),
        Stream::Tls(stream) => start(dialled, arriving, *stream, answer, early),
    })
}

fn start<S>(dialled: Dialled, arriving: Arriving, stream: S, answer: Bytes, early: Bytes)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let tasks = dialled.gateway.connectors.tasks.clone();
    tasks.spawn(serve(dialled, arriving, stream, answer, early));
}

impl From<Defect> for Problem {
    fn from(defect: Defect) -> Self {
        let code = match defect {
            Defect::NotAnUpgrade | Defect::Version => Code::UpgradeRequired,
            Defect::Header(_) | Defect::Body | Defect::Subprotocol => Code::ParameterInvalid,
        };
        Self::new(code, defect.to_string())
    }
}

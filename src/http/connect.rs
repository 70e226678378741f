//! `GET /ws/{ticket}`: a client connects with its connect URL.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderValue;
use tracing::field::display;

use super::problem;
use super::route;
use crate::gateway::Admission;
use crate::gateway::Gateway;
use crate::gateway::Refusal;
use crate::gateway::Socket;
use crate::id::TunnelId;
use crate::reason::Reason;
use crate::server::Reply;
use crate::server::RequestBody;
use crate::server::Stream;
use crate::server::TakenOver;
use crate::server::Takeover;
use crate::tenant::Tenant;
use crate::ws;
use crate::ws::TcpSocket;
use crate::ws::TlsSocket;
use crate::ws::handshake;
use crate::ws::handshake::Defect;
use crate::ws::handshake::Handshake;

/// Tunnel and tenant of a connect URL.
type Holder = (TunnelId, Arc<Tenant>);

/// Upgrades the request if it is a valid handshake with a valid connect URL.
pub(super) async fn connect(gateway: Arc<Gateway>, request: Request<RequestBody>, client: IpAddr) -> Reply {
    let Handshake { accept, offer, origin } = match handshake::check(&request) {
        Ok(handshake) => handshake,
        Err(defect) => {
            let holder = gateway.connect_urls.holder_of_ticket(route::ticket(request.uri().path()));
            return refuse_handshake(&gateway, defect, client, holder.as_ref()).into();
        }
    };
    let ticket = route::ticket(request.uri().path());
    match gateway.connect_urls.admit(ticket, &offer, origin.as_deref()).await {
        Ok(admission) => {
            let response = switching_protocols(accept, admission.subprotocol());
            Reply { response: response.map(Into::into), takeover: Some(takeover(gateway, admission)) }
        }
        Err(refusal) => {
            let holder = gateway.connect_urls.holder_of_ticket(ticket);
            refuse_ticket(&gateway, &refusal, client, holder.as_ref()).into()
        }
    }
}

/// Opens the tunnel on the connection.
fn takeover(gateway: Arc<Gateway>, admission: Admission) -> Takeover {
    Box::new(move |TakenOver { stream, answer, early }| match stream {
        Stream::Plain(stream) => open(gateway, admission, TcpSocket(stream), answer, early),
        Stream::Tls(stream) => open(gateway, admission, TlsSocket::new(*stream), answer, early),
    })
}

fn open<S: Socket>(gateway: Arc<Gateway>, admission: Admission, socket: S, answer: Bytes, early: Bytes) {
    let (profile, _arriving) = (admission.profile(), admission.arriving());
    let connection = gateway.tunnels.attach(admission, profile, socket, answer);
    let tasks = gateway.tunnels.tasks.clone();
    tasks.spawn(ws::serve(gateway, connection, early.into()));
}

pub(super) fn switching_protocols(accept: HeaderValue, subprotocol: Option<&str>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(name) = subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(name).expect("a token is ASCII"));
    }
    response
}

fn refuse_handshake(
    gateway: &Gateway,
    defect: Defect,
    client: IpAddr,
    holder: Option<&Holder>,
) -> Response<Full<Bytes>> {
    let (status, reason) = match defect {
        Defect::NotAnUpgrade => (StatusCode::UPGRADE_REQUIRED, Reason::UpgradeRequired),
        Defect::Version => (StatusCode::UPGRADE_REQUIRED, Reason::WebsocketVersion),
        Defect::Header(_) | Defect::Body | Defect::Subprotocol => (StatusCode::BAD_REQUEST, Reason::BadHandshake),
    };
    refused(gateway, (reason, status), &defect, client, holder);
    let mut response = problem(status, reason.code(), &defect.to_string());
    let headers = response.headers_mut();
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    } else {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn refuse_ticket(
    gateway: &Gateway,
    refusal: &Refusal,
    client: IpAddr,
    holder: Option<&Holder>,
) -> Response<Full<Bytes>> {
    let status = match refusal {
        Refusal::Unknown => StatusCode::UNAUTHORIZED,
        Refusal::TenantGone | Refusal::SessionEnded | Refusal::Origin(_) => StatusCode::FORBIDDEN,
        Refusal::Subprotocol(_) => StatusCode::BAD_REQUEST,
        Refusal::Used | Refusal::Withdrawn => StatusCode::CONFLICT,
        Refusal::Expired => StatusCode::GONE,
        Refusal::SessionStoreAway | Refusal::EngineAway | Refusal::NoDescriptors | Refusal::Draining => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    refused(gateway, (refusal.reason(), status), refusal, client, holder);
    let mut response = problem(status, refusal.reason().code(), &refusal.to_string());
    if status == StatusCode::UNAUTHORIZED {
        // HTTP requires a challenge. This scheme is unknown to browsers, so they show no password prompt.
        let challenge = HeaderValue::from_static("ConnectUrl realm=\"wafergate\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Counts, logs and records a refused handshake; its tenant is known from a connect URL that this gateway has issued.
fn refused(
    gateway: &Gateway,
    (code, status): (Reason, StatusCode),
    reason: &dyn Display,
    client: IpAddr,
    holder: Option<&Holder>,
) {
    gateway.connect_urls.record_refusal(code, holder, status.as_u16(), &reason.to_string());
    let code = code.code();
    gateway.metrics.refused(code);
    if let Some((_, tenant)) = holder {
        tenant.usage.refuse();
    }
    let tenant = holder.map(|(_, tenant)| display(&tenant.id));
    tracing::info!(code, tenant.id = tenant, client = %client, reason = %reason, "handshake refused");
}

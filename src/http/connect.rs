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

/// Upgrades the request if it is a valid handshake with a valid connect URL.
pub(super) async fn connect(gateway: Arc<Gateway>, request: Request<RequestBody>, client: IpAddr) -> Reply {
    let Handshake { accept, offer, origin } = match handshake::check(&request) {
        Ok(handshake) => handshake,
        Err(defect) => return refuse_handshake(&gateway, defect, client).into(),
    };
    let ticket = route::ticket(request.uri().path());
    match gateway.connect_urls.admit(ticket, &offer, origin.as_deref()).await {
        Ok(admission) => {
            let response = switching_protocols(accept, admission.subprotocol());
            Reply { response, takeover: Some(takeover(gateway, admission)) }
        }
        Err(refusal) => {
            let tenant = gateway.connect_urls.tenant_of_ticket(ticket);
            refuse_ticket(&gateway, &refusal, client, tenant.as_deref()).into()
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

fn refuse_handshake(gateway: &Gateway, defect: Defect, client: IpAddr) -> Response<Full<Bytes>> {
    let (status, code) = match defect {
        Defect::NotAnUpgrade => (StatusCode::UPGRADE_REQUIRED, "upgrade_required"),
        Defect::Version => (StatusCode::UPGRADE_REQUIRED, "websocket_version"),
        Defect::Header(_) | Defect::Body | Defect::Subprotocol => (StatusCode::BAD_REQUEST, "bad_handshake"),
    };
    refused(gateway, code, &defect, client, None);
    let mut response = problem(status, code, &defect.to_string());
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
    tenant: Option<&Tenant>,
) -> Response<Full<Bytes>> {
    let (status, code) = match refusal {
        Refusal::Unknown => (StatusCode::UNAUTHORIZED, "unknown_ticket"),
        Refusal::TenantGone => (StatusCode::FORBIDDEN, "tenant_gone"),
        Refusal::Subprotocol(_) => (StatusCode::BAD_REQUEST, "subprotocol_unacceptable"),
        Refusal::SessionEnded => (StatusCode::FORBIDDEN, "session_ended"),
        Refusal::SessionStoreAway => (StatusCode::SERVICE_UNAVAILABLE, "session_store_away"),
        Refusal::Origin(_) => (StatusCode::FORBIDDEN, "origin_refused"),
        Refusal::Withdrawn => (StatusCode::CONFLICT, "tunnel_withdrawn"),
        Refusal::Used => (StatusCode::CONFLICT, "ticket_used"),
        Refusal::Expired => (StatusCode::GONE, "ticket_expired"),
        Refusal::EngineAway => (StatusCode::SERVICE_UNAVAILABLE, "engine_away"),
        Refusal::NoDescriptors => (StatusCode::SERVICE_UNAVAILABLE, "no_descriptors"),
        Refusal::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    };
    refused(gateway, code, refusal, client, tenant);
    let mut response = problem(status, code, &refusal.to_string());
    if status == StatusCode::UNAUTHORIZED {
        // HTTP requires a challenge. This scheme is unknown to browsers, so they show no password prompt.
        let challenge = HeaderValue::from_static("ConnectUrl realm=\"wafergate\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Counts and logs a refused handshake; its tenant is known from a connect URL that this gateway has issued.
fn refused(gateway: &Gateway, code: &'static str, reason: &dyn Display, client: IpAddr, tenant: Option<&Tenant>) {
    gateway.metrics.refused(code);
    if let Some(tenant) = tenant {
        tenant.usage.refuse();
    }
    let tenant = tenant.map(|tenant| display(&tenant.id));
    tracing::info!(code, tenant.id = tenant, client = %client, reason = %reason, "handshake refused");
}

//! What an operator does with a tunnel: send a message, close it.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde::Serialize;

use super::reply::Refused;
use crate::gateway::Call;
use crate::gateway::Gateway;
use crate::gateway::NativeError;
use crate::gateway::PushError;
use crate::gateway::Report;
use crate::id::TunnelId;
use crate::protocol::native::CloseRequest;
use crate::protocol::native::Payload;
use crate::protocol::native::PushRequest;
use crate::protocol::native::To;
use crate::protocol::native::request::Reason;
use crate::protocol::wafer::Target;
use crate::reason::Reason as Cause;

/// The reason in the close frame.
const CLOSED_BY_OPERATOR: &str = "closed by an operator";

/// The body of a push.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    text: String,
}

/// What became of it.
#[derive(Serialize)]
pub(super) struct Done {
    result: &'static str,
}

/// Sends a text to the client.
pub(super) async fn push(gateway: &Gateway, tunnel: TunnelId, body: &Bytes) -> Result<Done, Refused> {
    let Message { text } = serde_json::from_slice(body)
        .map_err(|_| Refused(StatusCode::BAD_REQUEST, "body_invalid", "write {\"text\": \"...\"}".to_owned()))?;
    let tenant = gateway.tenant_of(tunnel).await.map_err(refused)?;
    tracing::info!(tenant.id = %tenant.id, tunnel.id = %tunnel, bytes = text.len(), "an operator sends a message by the console");
    let push = PushRequest { to: None, except: vec![], payload: Payload::Text(text), strict: false };
    let to = To::Tunnels(vec![Target::Tunnel(tunnel)]);
    done(&gateway.pushes.push_native(&tenant, to, &push, Call::default()).await.map_err(refused)?)
}

/// Closes the tunnel.
pub(super) async fn close(gateway: &Gateway, tunnel: TunnelId) -> Result<Done, Refused> {
    let tenant = gateway.tenant_of(tunnel).await.map_err(refused)?;
    tracing::info!(tenant.id = %tenant.id, tunnel.id = %tunnel, "an operator closes a tunnel by the console");
    let to = To::Tunnels(vec![Target::Tunnel(tunnel)]);
    let reason = Some(Reason(CLOSED_BY_OPERATOR.to_owned()));
    let close = CloseRequest { to, except: vec![], reason, strict: false };
    done(&gateway.pushes.close_native(&tenant, close, Call::default()).await.map_err(refused)?)
}

fn done(report: &Report) -> Result<Done, Refused> {
    let unavailable =
        |reason: Cause, message: &str| Err(Refused(StatusCode::SERVICE_UNAVAILABLE, reason.code(), message.to_owned()));
    match report {
        Report { accepted: 1.., .. } => Ok(Done { result: "accepted" }),
        Report { slow, .. } if !slow.is_empty() => {
            unavailable(Cause::SlowConsumer, "its client does not read, so the tunnel has been closed instead")
        }
        Report { unreachable, .. } if !unreachable.is_empty() => {
            unavailable(Cause::NodeAway, "the node of this tunnel does not answer: try again within seconds")
        }
        _ => Err(not_open()),
    }
}

fn not_open() -> Refused {
    let message = "the tunnel is not open, as far as this node can find out".to_owned();
    Refused(StatusCode::NOT_FOUND, Cause::NotOpen.code(), message)
}

/// Why a call of the gateway was refused, with the code of its reason.
pub(super) fn refused(error: NativeError) -> Refused {
    let (status, reason) = match &error {
        NativeError::TunnelNotOpen(_) => return not_open(),
        NativeError::Limit(limit @ PushError::TooFast { .. }) => (StatusCode::TOO_MANY_REQUESTS, limit.reason()),
        NativeError::Limit(limit @ PushError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, limit.reason()),
        NativeError::EngineAway => (StatusCode::SERVICE_UNAVAILABLE, Cause::EngineAway),
        _ => (StatusCode::SERVICE_UNAVAILABLE, Cause::NodeAway),
    };
    Refused(status, reason.code(), error.to_string())
}

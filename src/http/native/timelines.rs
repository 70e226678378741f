//! `GET /v1/tunnels/{id}/timeline`, `GET /v1/tail` and `POST /v1/capture`.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use hyper::Response;
use hyper::header;
use hyper::header::HeaderValue;
use serde::Serialize;
use serde_json::json;
use tokio::time::Interval;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use super::Answer;
use super::answers::ok;
use super::auth::Caller;
use super::query::History;
use super::query::View;
use super::route::Id;
use crate::clock::rfc3339;
use crate::gateway::CaptureError;
use crate::gateway::Gateway;
use crate::gateway::NativeError;
use crate::gateway::Tail;
use crate::gateway::TailItem;
use crate::protocol::native::CaptureRequest;
use crate::protocol::native::Code;
use crate::protocol::native::Problem;
use crate::reason::Language;
use crate::server::ReplyBody;
use crate::timeline::Covered;
use crate::timeline::Gap;
use crate::timeline::Line;
use crate::timeline::Of;

/// A comment is sent this often, so that proxies keep a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What happened to one tunnel.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Timeline {
    tunnel_id: String,
    records: Vec<Line>,
    nodes: Vec<Node>,
    /// The `before` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<String>,
}

/// What a node covers.
#[derive(Serialize)]
struct Node {
    node: Option<String>,
    since: Option<String>,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Gap>,
}

impl From<Covered> for Node {
    fn from(Covered { node, since_ms, is_complete, gap }: Covered) -> Self {
        let since = since_ms.map(|ms| rfc3339(Duration::from_millis(ms)));
        Self { node, since, complete: is_complete, missing: gap }
    }
}

/// Answers with the timeline of a tunnel, open or not.
pub(super) async fn history(
    gateway: &Gateway,
    caller: &Caller,
    id: &Id,
    History { before_us, limit, language }: History,
) -> Result<Answer, Problem> {
    let tunnel = id.tunnel.ok_or_else(|| NativeError::TunnelNotOpen(id.text.clone()))?;
    let merged = gateway.timeline_of(&caller.tenant, tunnel, before_us, limit).await;
    let oldest = merged.rows.first().filter(|_| merged.has_more);
    ok(&Timeline {
        tunnel_id: id.text.clone(),
        next_before: oldest.map(|(_, row)| row.unix_us.to_string()),
        records: merged.rows.iter().map(|(node, row)| Line::of(row, node, language)).collect(),
        nodes: merged.nodes.into_iter().map(Node::from).collect(),
    })
}

/// Answers with a stream of what happens from now on.
pub(super) fn live(gateway: &Arc<Gateway>, caller: &Caller, view: View) -> Result<Response<ReplyBody>, Problem> {
    let View { wanted, language } = view;
    let tail = gateway.tail(&caller.tenant, wanted);
    let tail = tail.map_err(|error| Problem::new(Code::TooManyTails, error.to_string()).after_secs(10))?;
    let node = gateway.tunnels.node().to_owned();
    let mut response = Response::new(ReplyBody::stream(events(tail, node, language)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would collect it.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Server-sent events until the reader goes, or this node ends.
fn events(tail: Tail, node: String, language: Language) -> impl Stream<Item = Bytes> + Send {
    enum Step {
        Open(Tail, String),
        On(Tail, Interval),
        Over,
    }
    unfold(Step::Open(tail, node), move |step| async move {
        match step {
            Step::Open(tail, node) => {
                let mut beats = interval(HEARTBEAT);
                beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
                // The first one is at once.
                beats.tick().await;
                Some((event("open", &json!({ "node": node })), Step::On(tail, beats)))
            }
            Step::On(mut tail, mut beats) => {
                let next = tokio::select! {
                    biased;
                    item = poll_fn(|cx| tail.poll_next(cx)) => Some(item),
                    _ = beats.tick() => None,
                };
                Some(match next {
                    None => (Bytes::from_static(b": \n\n"), Step::On(tail, beats)),
                    Some(None) => (event("end", &json!({ "reason": "drain" })), Step::Over),
                    Some(Some(item)) => (shown(item, language), Step::On(tail, beats)),
                })
            }
            Step::Over => None,
        }
    })
}

fn shown(item: TailItem, language: Language) -> Bytes {
    match item {
        TailItem::Rows(node, rows) => {
            let events = rows.iter().map(|row| event("record", &Line::of(row, &node, language)));
            events.collect::<Vec<_>>().concat().into()
        }
        TailItem::Skipped(count) => event("skipped", &json!({ "count": count })),
        TailItem::Missing(node, gap) => event("missing", &json!({ "node": node.to_string(), "reason": gap })),
    }
}

fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("strings and numbers always serialise");
    format!("event: {name}\ndata: {data}\n\n").into()
}

#[derive(Serialize)]
struct Captured {
    /// Missing when all captures were ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// Nodes that do not take part.
    missing: Vec<String>,
}

/// Begins or ends the copying of payloads.
pub(super) async fn capture(gateway: &Gateway, caller: &Caller, body: &[u8]) -> Result<Answer, Problem> {
    let (of, minutes, max_bytes) = match CaptureRequest::parse(body)? {
        CaptureRequest::Begin { of, minutes, max_bytes } => (of.into(), minutes, max_bytes),
        CaptureRequest::End => (Of::Tunnels(BTreeSet::new()), 0, 0),
    };
    let by = format!("by key {:08x}, {minutes} min", caller.key.fingerprint());
    let time = Duration::from_secs(60 * minutes);
    let capturing = gateway.capture(&caller.tenant, of, time, max_bytes, &by).await.map_err(|error| match error {
        CaptureError::Off => Problem::new(Code::CaptureOff, error.to_string()),
        CaptureError::TooMany(_) => Problem::new(Code::TooManyCaptures, error.to_string()).after_secs(60),
    })?;
    ok(&Captured {
        until: (minutes > 0).then(|| rfc3339(capturing.until)),
        missing: capturing.missing.iter().map(ToString::to_string).collect(),
    })
}

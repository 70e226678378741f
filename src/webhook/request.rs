//! An event as a signed request: Wafer's body or a CloudEvent, with Standard Webhooks headers.

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::header::USER_AGENT;

use super::cloud_event;
use super::event_queue::EventQueue;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::http_client::headers::Header;
use crate::protocol::content::Content;
use crate::protocol::wafer;
use crate::tenant::Key;
use crate::tenant::Settings;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A request: headers and body.
pub(super) struct Signed {
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

/// The headers of a request; an array for the most common kind.
pub(super) enum Headers {
    Wafer([Header; 5]),
    Native([Header; 6]),
}

impl Headers {
    pub(super) fn as_slice(&self) -> &[Header] {
        match self {
            Self::Wafer(headers) => headers,
            Self::Native(headers) => headers,
        }
    }
}

/// The id of an event: the same for every attempt, and unique to the event.
///
/// Every node that may send a tunnel's `close` computes the same id.
pub(super) fn webhook_id(event_queue: &EventQueue, event: &Event) -> String {
    if matches!(event.kind, EventKind::Close(_)) {
        return format!("msg_{}_close", event_queue.tunnel);
    }
    format!("msg_{}_{}", event_queue.tunnel, event.sequence)
}

/// Signs a batch with its tenant's current keys. `together` holds the first and last number of a batch, for an id that
/// stays the same at every attempt.
pub(super) fn sign(
    event_queue: &EventQueue,
    event: &Event,
    companions: &[Event],
    together: Option<(u64, u64)>,
    unix_secs: u64,
) -> Signed {
    let settings = event_queue.tenant.settings();
    if !event_queue.is_native() {
        let key = event_queue.tenant.signing_key(&settings, event_queue.key_fingerprint);
        return sign_wafer(event_queue, event, &settings, key, unix_secs);
    }
    let events: Vec<Event> = std::iter::once(event).chain(companions).cloned().collect();
    let cloud_event::EncodedEvents { content_type, body, traceparent } =
        cloud_event::encode(event_queue, &events, together.is_some(), |event| webhook_id(event_queue, event));
    let id = match together {
        Some((first, last)) => format!("msg_{}_{first}-{last}", event_queue.tunnel),
        None => webhook_id(event_queue, event),
    };
    let [a, b, c, d, e] = headers(content_type, id, &settings, unix_secs, &body);
    Signed { headers: Headers::Native([a, b, c, d, e, (TRACEPARENT, ascii(traceparent))]), body }
}

/// Signs an event of a Wafer tunnel with `key` in the body, and with all keys in the headers.
pub(super) fn sign_wafer(
    event_queue: &EventQueue,
    event: &Event,
    settings: &Settings,
    key: &Key,
    unix_secs: u64,
) -> Signed {
    let body = wafer_body(event_queue, event, key);
    let headers = headers("application/json", webhook_id(event_queue, event), settings, unix_secs, &body);
    Signed { headers: Headers::Wafer(headers), body }
}

fn wafer_body(event_queue: &EventQueue, event: &Event, key: &Key) -> Bytes {
    let wafer_event = match &event.kind {
        EventKind::Connect { .. } => wafer::Event::Connect,
        EventKind::Message(Content::Text(text)) => wafer::Event::Message(text),
        EventKind::Message(Content::Binary(_)) => unreachable!("a Wafer session ignores binary frames"),
        EventKind::Close(_) => wafer::Event::Close,
    };
    Bytes::from(wafer::webhook_body(event_queue.tunnel, wafer_event, key.secret().expose()))
}

fn headers(content_type: &'static str, id: String, settings: &Settings, unix_secs: u64, body: &[u8]) -> [Header; 5] {
    let signatures: Vec<String> =
        settings.keys.iter().map(|key| key.hmac_key().sign_webhook(&id, unix_secs, body)).collect();
    [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (USER_AGENT, HeaderValue::from_static(concat!("wafergate/", env!("CARGO_PKG_VERSION")))),
        (WEBHOOK_ID, ascii(id)),
        (WEBHOOK_TIMESTAMP, HeaderValue::from(unix_secs)),
        (WEBHOOK_SIGNATURE, ascii(signatures.join(" "))),
    ]
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("ids, digits and Base64 are ASCII")
}

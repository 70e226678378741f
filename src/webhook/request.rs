//! An event as a signed request: Wafer's body with the headers of Standard Webhooks beside it.

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::header::USER_AGENT;

use super::client::Header;
use super::inbox::Inbox;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::protocol::content::Content;
use crate::protocol::wafer;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// One request: headers and body.
pub(super) struct Signed {
    pub(super) headers: [Header; 5],
    pub(super) body: Bytes,
}

/// The id of an event: the same for every attempt, and never used for another event.
///
/// Each node that may have to send a tunnel's `close` gives it the same one.
pub(super) fn webhook_id(inbox: &Inbox, event: &Event) -> String {
    if matches!(event.kind, EventKind::Close(_)) {
        return format!("msg_{}_close", inbox.tunnel);
    }
    format!("msg_{}_{}", inbox.tunnel, event.sequence)
}

/// Signs `event` with its tenant's keys as they are now.
pub(super) fn sign(inbox: &Inbox, event: &Event, unix_secs: u64) -> Signed {
    let settings = inbox.tenant.settings();
    let key = settings.key(inbox.key_fingerprint);
    let wafer_event = match &event.kind {
        EventKind::Connect => wafer::Event::Connect,
        EventKind::Message(Content::Text(text)) => wafer::Event::Message(text),
        EventKind::Message(Content::Binary(_)) => unreachable!("a Wafer session ignores binary frames"),
        EventKind::Close(_) => wafer::Event::Close,
    };
    let body = Bytes::from(wafer::webhook_body(inbox.tunnel, wafer_event, key.secret().expose()));
    let id = webhook_id(inbox, event);
    let signatures: Vec<String> =
        settings.keys.iter().map(|key| key.hmac_key().sign_webhook(&id, unix_secs, &body)).collect();

    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (USER_AGENT, HeaderValue::from_static(concat!("wafergate/", env!("CARGO_PKG_VERSION")))),
        (WEBHOOK_ID, ascii(id)),
        (WEBHOOK_TIMESTAMP, HeaderValue::from(unix_secs)),
        (WEBHOOK_SIGNATURE, ascii(signatures.join(" "))),
    ];
    Signed { headers, body }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("ids, digits and Base64 are ASCII")
}

//! Retries a Wafer webhook with the tenant's other keys, once each, after a refusal of its signature.
//!
//! During a key rotation business server and gateway do not switch at the same moment. A webhook with a wrong signature
//! was not processed, so it can be sent again at once; the accepted key signs from then on.

use std::time::Duration;

use super::event_queue::EventQueue;
use super::outcome::Sent;
use super::outcome::judge;
use super::request;
use super::request::Signed;
use crate::connector::Seat;
use crate::delivery::Event;
use crate::delivery::EventKind;
use crate::delivery::Verdict;
use crate::http_client::answer::Answer;
use crate::http_client::client::Caller;
use crate::http_client::client::Client;
use crate::http_client::error::AttemptError;
use crate::protocol::wafer;
use crate::tenant::Key;
use crate::tenant::Settings;

type Posted = Result<Answer, AttemptError>;

/// An event about to be posted.
pub(super) struct Outgoing<'a> {
    pub(super) event_queue: &'a EventQueue,
    pub(super) event: &'a Event,
    /// Further events of the batch.
    pub(super) companions: &'a [Event],
    /// The first and last number of the batch, if there is one.
    pub(super) together: Option<(u64, u64)>,
    /// The local time.
    pub(super) unix_secs: u64,
    /// The timeout of each request.
    pub(super) limit: Duration,
    /// The number of the attempt.
    pub(super) attempt: u32,
    /// When the event expires, in milliseconds since 1970.
    pub(super) expires_unix_ms: u64,
}

/// How an event leaves.
pub(super) enum Way<'a> {
    /// As a request to its receive URL.
    Request(&'a Client),
    /// Over the connection of a connector.
    Connector(&'a Seat),
}

impl Outgoing<'_> {
    /// The kind of request.
    pub(super) fn sent(&self) -> Sent {
        Sent {
            is_native: self.event_queue.is_native(),
            is_close: matches!(self.event.kind, EventKind::Close(_)),
            is_batch: !self.companions.is_empty(),
        }
    }

    /// Posts the event with its batch and returns the final result. Calls `on_refusal` for each earlier one.
    pub(super) async fn post(&self, way: &Way<'_>, on_refusal: impl Fn()) -> Posted {
        let settings = self.event_queue.tenant.settings();
        let signed_with = self.event_queue.tenant.signing_key(&settings, self.event_queue.key_fingerprint);
        let first = {
            let signed = request::sign(self.event_queue, self.event, self.companions, self.together, self.unix_secs);
            self.send(way, &signed).await
        };
        if self.event_queue.is_native() || settings.keys.len() < 2 || !may_refuse_signature(&first) {
            return first;
        }
        let others = settings.keys.iter().filter(|key| key.fingerprint() != signed_with.fingerprint());
        // Boxed, since it is rare.
        Box::pin(self.post_again(way, &settings, others, on_refusal)).await.unwrap_or(first)
    }

    /// Posts it with each of `others` until the signature is accepted; `None` if none is.
    async fn post_again(
        &self,
        way: &Way<'_>,
        settings: &Settings,
        others: impl Iterator<Item = &Key>,
        on_refusal: impl Fn(),
    ) -> Option<Posted> {
        for key in others {
            on_refusal();
            let signed = request::sign_wafer(self.event_queue, self.event, settings, key, self.unix_secs);
            let posted = self.send(way, &signed).await;
            if may_refuse_signature(&posted) {
                continue;
            }
            if judge(&posted, self.sent()).verdict == Verdict::Delivered {
                self.was_taken(settings, key);
            }
            return Some(posted);
        }
        None
    }

    async fn send(&self, way: &Way<'_>, signed: &Signed) -> Posted {
        let EventQueue { tenant, incarnation, endpoint, .. } = self.event_queue;
        let client = match way {
            Way::Request(client) => client,
            // Boxed: most attempts are requests.
            Way::Connector(seat) => return Box::pin(self.send_to(seat, signed)).await,
        };
        let caller = Caller { tenant: tenant.flow(), incarnation: *incarnation };
        let url = endpoint.target(tenant.settings().forward_to.as_deref());
        client.post(caller, &url, signed.headers.as_slice(), signed.body.clone(), self.limit).await
    }

    fn was_taken(&self, settings: &Settings, key: &Key) {
        let EventQueue { tenant, endpoint, key_fingerprint, .. } = self.event_queue;
        if tenant.took(settings, *key_fingerprint, key) {
            tracing::info!(
                tenant.id = %tenant.id,
                url = %endpoint.url,
                asked_with = format!("{key_fingerprint:08x}"),
                taken = format!("{:08x}", key.fingerprint()),
                "the business server refuses a signature and takes that of another key, which signs from now on",
            );
        }
    }
}

fn may_refuse_signature(posted: &Posted) -> bool {
    posted.as_ref().is_ok_and(|answer| wafer::may_refuse_signature(answer.status.as_u16(), &answer.body))
}

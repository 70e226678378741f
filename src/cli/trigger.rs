//! `wafergate trigger`: a made-up event, validly signed, to a server on this machine; no gateway and no network.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use clap::ValueEnum;
use url::Url;

use super::EXIT_FAILURE;
use super::block_on;
use super::event_line::shown;
use super::failure;
use super::keys;
use super::local::Reach;
use super::local::line;
use super::print;
use super::usage;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::clock::rfc3339;
use crate::id::TunnelId;
use crate::listen::Attempt;
use crate::listen::resign;
use crate::listener::Forwarder;
use crate::listener::verdict;
use crate::protocol::close::CloseReason;
use crate::protocol::connector::Event;
use crate::protocol::connector::Headers;
use crate::protocol::content::Content;
use crate::protocol::native::Trace;
use crate::protocol::native::event;
use crate::protocol::wafer;
use crate::secret::Secret;

/// How old a signature is that no server may accept.
const STALE: Duration = Duration::from_secs(3_600);
/// One attempt, as a gateway makes it by default.
const TIMEOUT_MS: u64 = 10_000;

/// `wafergate trigger`
#[derive(Args, Debug)]
pub(super) struct Trigger {
    /// The event
    kind: Kind,
    /// URL of the server on this machine
    #[arg(long, value_name = "URL")]
    to: String,
    /// File with the tenant's key in its first line; WAFERGATE_KEY in the environment holds the key itself
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// As the Wafer SDKs expect it
    #[arg(long, conflicts_with = "native")]
    wafer: bool,
    /// As a CloudEvent of the native API, which is the default
    #[arg(long)]
    native: bool,
    /// What the client says; @FILE reads it from a file
    #[arg(long, value_name = "TEXT|@FILE", default_value = "hello", allow_hyphen_values = true)]
    content: String,
    /// Id of the tunnel [default: a new one]
    #[arg(long, value_name = "ID", value_parser = |text: &str| text.parse::<TunnelId>())]
    tunnel: Option<TunnelId>,
    /// Number of the event on its tunnel
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,
    /// User of the tunnel, for a native event
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Id of the tenant, for a native event
    #[arg(long, value_name = "ID", env = "WAFERGATE_TENANT", default_value = "shop")]
    tenant: String,
    /// Send it with a wrong signature and with an old one too: both must be refused
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    reach: Reach,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Kind {
    /// A client connects
    Connect,
    /// A client says something
    Message,
    /// A tunnel ends
    Close,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Message => "message",
            Self::Close => "close",
        }
    }
}

/// Runs the command. Ends with 0 if the event is accepted and, with `--check`, the bad ones are not.
pub(super) fn run(trigger: &Trigger) -> ExitCode {
    let (url, forwarder, key, content) = match trigger.prepare() {
        Ok(prepared) => prepared,
        Err(error) => return usage(&error),
    };
    let done = block_on(async { Ok(trigger.send_all(&url, &forwarder, key.expose(), &content).await) });
    match done {
        Ok((lines, is_good)) => match print(&lines) {
            ExitCode::SUCCESS if is_good => ExitCode::SUCCESS,
            _ => ExitCode::from(EXIT_FAILURE),
        },
        Err(error) => failure(&error),
    }
}

impl Trigger {
    fn prepare(&self) -> Result<(Url, Forwarder, Secret, String), String> {
        let (url, forwarder) = self.reach.prepare(&self.to)?;
        let content = match self.content.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).map_err(|error| format!("--content {file}: {error}"))?,
            None => self.content.clone(),
        };
        Ok((url, forwarder, keys::one(self.key_file.as_deref())?, content))
    }

    /// Sends the event, and with `--check` the bad ones. The lines, and whether all is well.
    async fn send_all(&self, url: &Url, forwarder: &Forwarder, key: &str, content: &str) -> (String, bool) {
        let now = SystemClock.unix_time();
        let (event, body) = self.event(url, key, content, now);
        let good = self.send(url, forwarder, &event, &body, key, now).await;
        let mut lines = line(SystemClock.unix_time(), &event, &body, &good.attempt, &good.words);
        let mut is_good = good.attempt.is_accepted();
        lines += &match is_good {
            true => "accepted: the gateway goes on with the next event\n".to_owned(),
            false => format!("not accepted: {}\n", good.words),
        };
        if self.check {
            let wrong_key = format!("{key}?");
            let (other, wrong) = self.event(url, &wrong_key, content, now);
            let bad = self.send(url, forwarder, &other, &wrong, &wrong_key, now).await;
            lines += &bad.check(
                "a wrong signature",
                "verify webhook-signature, or Wafer's signature, before anything else",
                &mut is_good,
            );
            if self.wafer {
                lines += "an old timestamp: Wafer's signature has none, so nothing can be checked\n";
            } else {
                let stale = self.send(url, forwarder, &event, &body, key, now.saturating_sub(STALE)).await;
                lines +=
                    &stale.check("an old timestamp", "refuse a webhook-timestamp of more than 300 s ago", &mut is_good);
            }
        }
        (lines, is_good)
    }

    /// The event, as a gateway makes it.
    fn event(&self, url: &Url, key: &str, content: &str, now: Duration) -> (Event, Bytes) {
        let tunnel = self.tunnel.unwrap_or_else(|| TunnelId::from_bytes(rand::random()));
        let sequence = self.sequence.unwrap_or(if self.kind == Kind::Connect { 1 } else { 2 });
        let id = match self.kind {
            Kind::Close => format!("msg_{tunnel}_close"),
            _ => format!("msg_{tunnel}_{sequence}"),
        };
        let mut headers = Headers::default();
        let body = if self.wafer {
            headers.push("content-type", "application/json");
            let event = match self.kind {
                Kind::Connect => wafer::Event::Connect,
                Kind::Message => wafer::Event::Message(content),
                Kind::Close => wafer::Event::Close,
            };
            wafer::webhook_body(tunnel, event, key)
        } else {
            headers.push("content-type", event::CONTENT_TYPE);
            let traceparent = Trace::of_tunnel(tunnel).parent(sequence);
            headers.push("traceparent", &traceparent);
            let content = Content::Text(content.into());
            let kind = match self.kind {
                Kind::Connect => event::Kind::Connected { groups: &[], metadata: None, subprotocol: None },
                Kind::Message => event::Kind::Message(&content),
                Kind::Close => event::Kind::Closed {
                    reason: CloseReason::ClientClose,
                    messages_in: Some(sequence.saturating_sub(2)),
                    messages_out: Some(0),
                    user_tunnels_left: self.user.as_ref().map(|_| 0),
                },
            };
            let event = event::Event {
                id: &id,
                tunnel,
                tenant: &self.tenant,
                user: self.user.as_deref(),
                sequence: Some(sequence),
                time: &rfc3339(now),
                traceparent: &traceparent,
                kind,
            };
            event.to_json()
        };
        headers.push("user-agent", concat!("wafergate/", env!("CARGO_PKG_VERSION")));
        let event = Event {
            id,
            attempt: 1,
            tunnel: tunnel.to_string(),
            event: self.kind.as_str().to_owned(),
            sequence: Some(sequence),
            url: url.to_string(),
            path: "/".to_owned(),
            headers,
            timeout_ms: TIMEOUT_MS,
            expires: 0,
        };
        (event, body.into())
    }

    async fn send(
        &self,
        url: &Url,
        forwarder: &Forwarder,
        event: &Event,
        body: &Bytes,
        key: &str,
        signed_at: Duration,
    ) -> Sent {
        let headers = resign(event, body, key, signed_at.as_secs(), false);
        let forwarded = forwarder.send(url, event, &headers, body.clone()).await;
        let (attempt, words) = verdict(event, &forwarded.target, 0, forwarded.took, &forwarded.done);
        Sent { attempt, words }
    }
}

/// What became of a request.
struct Sent {
    attempt: Attempt,
    words: String,
}

impl Sent {
    /// The line about an event that must be refused.
    fn check(&self, what: &str, fix: &str, is_good: &mut bool) -> String {
        match (self.attempt.is_accepted(), self.attempt.status) {
            (false, Some(status)) => format!("{what}: refused with {status}, as it must be\n"),
            (false, None) => {
                *is_good = false;
                format!("{what}: no answer: {}\n", shown(&self.attempt.reason))
            }
            (true, _) => {
                *is_good = false;
                format!("{what}: ACCEPTED: anybody can send events to this server: {fix}\n")
            }
        }
    }
}

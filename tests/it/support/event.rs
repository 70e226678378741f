//! One attempt to deliver an event, as a business server sees it: checked before anything else is done with it.

use serde_json::Value;
use tokio::time::Instant;
use wafergate::clock::Clock;
use wafergate::clock::SystemClock;

use super::Outcome;
use super::http::header;
use super::sign::standard_signature;
use super::wafer_signature;

/// One attempt to deliver an event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) tunnel: String,
    /// `connect`, `message` or `close`.
    pub(crate) kind: String,
    pub(crate) content: Option<String>,
    /// The path and query that it was posted to.
    pub(crate) target: String,
    /// Its `webhook-id`.
    pub(crate) id: String,
    /// The key that made the Wafer signature.
    pub(crate) key: String,
    /// The keys that made the Standard Webhooks signatures, in their order.
    pub(crate) standard_keys: Vec<String>,
    pub(crate) at: Instant,
    /// The meaning of its response.
    pub(crate) outcome: Outcome,
    /// When it had been answered, if it has.
    pub(crate) settled: Option<Instant>,
}

impl Event {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// A fault that an SDK or a verifier of Standard Webhooks would refuse.
    pub(crate) fn parse(head: &str, body: &str, keys: &[String]) -> Result<Self, String> {
        let line = head.lines().next().unwrap_or_default();
        let target = line
            .strip_prefix("POST ")
            .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
            .ok_or_else(|| format!("not a POST: {line}"))?;
        let wanted = |name| header(head, name).ok_or_else(|| format!("no {name}: {head}"));
        if wanted("content-type")? != "application/json" {
            return Err(format!("body parsers would skip this: {head}"));
        }
        let envelope: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
        let text = |value: &Value, name: &str| value[name].as_str().map(str::to_owned);
        let data = text(&envelope, "data").ok_or_else(|| format!("data is not a string: {body}"))?;
        let signature = text(&envelope, "signature").ok_or_else(|| format!("no signature: {body}"))?;
        let key = keys.iter().find(|key| wafer_signature(&data, key) == signature);
        let inner: Value = serde_json::from_str(&data).map_err(|error| format!("{error}: {data}"))?;

        let (id, timestamp) = (wanted("webhook-id")?, wanted("webhook-timestamp")?);
        let now_secs = SystemClock.unix_time().as_secs();
        if timestamp.parse::<u64>().is_ok_and(|secs| secs.abs_diff(now_secs) > 60) {
            return Err(format!("webhook-timestamp is {timestamp}, now it is {now_secs}"));
        }
        let mut standard_keys = vec![];
        for signature in wanted("webhook-signature")?.split(' ') {
            let key = keys.iter().find(|key| standard_signature(key, id, timestamp, body) == signature);
            standard_keys.push(key.ok_or_else(|| format!("webhook-signature is wrong: {head}"))?.clone());
        }
        Ok(Self {
            tunnel: text(&inner, "tunnelId").ok_or_else(|| format!("no tunnelId: {data}"))?,
            kind: text(&inner, "type").ok_or_else(|| format!("no type: {data}"))?,
            content: text(&inner, "content"),
            target: target.to_owned(),
            id: id.to_owned(),
            key: key.ok_or_else(|| format!("signature is wrong: {body}"))?.clone(),
            standard_keys,
            at: Instant::now(),
            outcome: Outcome::Unknown,
            settled: None,
        })
    }

    /// The event in a word, with a message's content.
    pub(crate) fn word(&self) -> String {
        match &self.content {
            Some(content) => format!("{}:{content}", self.kind),
            None => self.kind.clone(),
        }
    }
}

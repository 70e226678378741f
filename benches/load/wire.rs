//! Messages between business servers and the two servers: the Wafer calls, or a minimal form.

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::Value;
use serde_json::json;
use sha1::Digest;
use sha1::Sha1;
use wafergate::protocol::signature;
use wafergate::protocol::text::hex;
use wafergate::protocol::text::md5_hex;

use crate::options::Subject;
use crate::sequence::BLANK;
use crate::sequence::MARK_BYTES;
use crate::sequence::Pattern;
use crate::sequence::SequenceMark;
use crate::server::KEY;

/// Start of every webhook of a Wafer tunnel.
const WAFER_EVENT: &[u8] = br#"{"data":"{\"tunnelId\":\""#;

/// The protocol between business servers and a server.
#[derive(Clone)]
pub(crate) struct Protocol {
    subject: Subject,
    /// Host and port of the server.
    server: String,
    /// Host and port of the business server.
    business: String,
}

/// A webhook of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    /// Its kind.
    pub(crate) kind: Kind,
    /// The name of the client.
    pub(crate) name: &'a str,
    /// The body of the request.
    pub(crate) body: &'a [u8],
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A client has connected.
    Connect,
    /// A client has sent a message.
    Message,
    /// A client has gone.
    Close,
}

impl Kind {
    fn of(word: &[u8]) -> Option<Self> {
        [(&b"connect"[..], Self::Connect), (b"message", Self::Message), (b"close", Self::Close)]
            .into_iter()
            .find_map(|(start, kind)| word.starts_with(start).then_some(kind))
    }
}

impl Protocol {
    /// The protocol of a business server at `business` with `subject` at `server`.
    pub(crate) fn new(subject: Subject, server: SocketAddr, business: SocketAddr) -> Self {
        Self { subject, server: server.to_string(), business: business.to_string() }
    }

    /// The id of the tenant.
    pub(crate) fn tenant(&self) -> String {
        md5_hex(&self.business)
    }

    /// The request for a tunnel; `None` if clients connect without one.
    pub(crate) fn tunnel_request(&self) -> Option<Vec<u8>> {
        match self.subject {
            Subject::Floor => None,
            Subject::Gateway | Subject::WithoutTimelines => {
                let data = json!({"receiveUrl": format!("http://{}/tunnel", self.business), "protocolType": "ws"});
                Some(self.call("/get/wsurl", &data.to_string(), &format!(r#","tcKey":{}"#, json!(KEY))))
            }
        }
    }

    /// Name and path of the tunnel in the response.
    pub(crate) fn tunnel(&self, answer: &[u8]) -> anyhow::Result<(String, String)> {
        let read = || {
            let answer: Value = serde_json::from_slice(answer).ok()?;
            let data: Value = serde_json::from_str(answer["data"].as_str()?).ok()?;
            let url = data["connectUrl"].as_str()?.strip_prefix("ws://")?.strip_prefix(&self.server)?;
            Some((data["tunnelId"].as_str()?.to_owned(), url.to_owned()))
        };
        read().with_context(|| format!("no tunnel: {}", String::from_utf8_lossy(answer)))
    }

    /// A push of `pattern` to clients with the name `first` and the following numbers, or with `names`.
    pub(crate) fn push(&self, first: usize, names: &[&str], pattern: &Pattern) -> Template {
        match self.subject {
            Subject::Floor => {
                let path = format!("/push/{first}/{}", names.len());
                Template::new(self.post(&path, pattern.text()), None)
            }
            Subject::Gateway | Subject::WithoutTimelines => {
                let (names, content) = (json!(names), json!(pattern.text()));
                let packets = format!(r#"[{{"tunnelIds":{names},"type":"message","content":{content}}}]"#);
                Template::new(self.call("/ws/push", &packets, ""), Some(packets))
            }
        }
    }

    /// Whether this response says that all targets of a push exist.
    pub(crate) fn is_pushed(&self, answer: &[u8]) -> bool {
        answer
            == match self.subject {
                Subject::Floor => &b"ok"[..],
                Subject::Gateway | Subject::WithoutTimelines => {
                    br#"{"code":0,"message":"OK","data":{"invalidTunnelIds":[]}}"#
                }
            }
    }

    /// Parses kind and client of a webhook, and skips the rest.
    pub(crate) fn event<'a>(&self, path: &'a str, body: &'a [u8]) -> anyhow::Result<Event<'a>> {
        let read = || match self.subject {
            Subject::Floor => Some((Kind::of(body)?, path.strip_prefix('/')?)),
            Subject::Gateway | Subject::WithoutTimelines => {
                let rest = body.strip_prefix(WAFER_EVENT)?;
                let name = &rest[..rest.iter().position(|byte| *byte == b'\\')?];
                let kind = Kind::of(rest[name.len()..].strip_prefix(br#"\",\"type\":\""#)?)?;
                Some((kind, std::str::from_utf8(name).ok()?))
            }
        };
        let (kind, name) = read().with_context(|| format!("no event: {}", String::from_utf8_lossy(body)))?;
        Ok(Event { kind, name, body })
    }

    /// Whether a message event carries `packet`, byte for byte, and is signed. Too slow for every event of a measurement, so a
    /// sample is checked.
    pub(crate) fn is_genuine(&self, event: &Event<'_>, pattern: &Pattern, mark: SequenceMark) -> bool {
        let content = match self.subject {
            Subject::Floor => event.body.strip_prefix(b"message:").map(<[u8]>::to_vec),
            Subject::Gateway | Subject::WithoutTimelines => signed_content(event),
        };
        content.is_some_and(|content| pattern.read(&content) == Some(mark))
    }

    /// A signed Wafer call, with `more` in its envelope.
    fn call(&self, path: &str, data: &str, more: &str) -> Vec<u8> {
        let (tenant, signature) = (self.tenant(), signature::wafer(data, KEY));
        let data = json!(data);
        self.post(path, &format!(r#"{{"data":{data},"tcId":"{tenant}","signature":"{signature}"{more}}}"#))
    }

    /// A request with this body.
    pub(crate) fn post(&self, path: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n{body}", self.server).into_bytes()
    }
}

fn signed_content(event: &Event<'_>) -> Option<Vec<u8>> {
    let body: Value = serde_json::from_slice(event.body).ok()?;
    let data = body["data"].as_str()?;
    if !signature::wafer_matches(data, KEY, body["signature"].as_str()?) {
        return None;
    }
    let data: Value = serde_json::from_str(data).ok()?;
    (data["tunnelId"] == event.name).then(|| data["content"].as_str().map(|text| text.as_bytes().to_vec()))?
}

/// A push request that lacks only its mark and the signature over it.
pub(crate) struct Template {
    request: Vec<u8>,
    mark_at: usize,
    signed: Option<Signed>,
}

struct Signed {
    /// The hash of everything before the mark.
    before: Sha1,
    after: Vec<u8>,
    signature_at: usize,
}

impl Template {
    /// The template of a request; `data` is what its signature covers.
    fn new(request: Vec<u8>, data: Option<String>) -> Self {
        let find = |word: &[u8]| request.windows(word.len()).position(|window| window == word);
        let mark_at = find(BLANK.as_bytes()).expect("a pattern has a mark");
        let signed = data.map(|data| {
            let (before, after) = data.split_once(BLANK).expect("a pattern has a mark");
            Signed {
                before: Sha1::new_with_prefix(before),
                after: [after, KEY].concat().into_bytes(),
                signature_at: find(signature::wafer(&data, KEY).as_bytes()).expect("it is signed"),
            }
        });
        Self { request, mark_at, signed }
    }

    /// Appends the request with this mark.
    pub(crate) fn write(&self, mark: SequenceMark, out: &mut Vec<u8>) {
        let start = out.len();
        let mark = mark.text();
        out.extend_from_slice(&self.request);
        let request = &mut out[start..];
        request[self.mark_at..self.mark_at + MARK_BYTES].copy_from_slice(&mark);
        if let Some(signed) = &self.signed {
            let digest = signed.before.clone().chain_update(mark).chain_update(&signed.after).finalize();
            request[signed.signature_at..][..2 * digest.len()].copy_from_slice(hex(&digest).as_bytes());
        }
    }
}

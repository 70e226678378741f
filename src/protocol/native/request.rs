//! Request bodies of the native calls: strictly parsed; an error names what was expected and what was received.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::value::RawValue;

use super::Code;
use super::Name;
use super::Problem;
use crate::protocol::text::Object;
use crate::protocol::text::Text;
use crate::protocol::text::json_defect;
use crate::protocol::text::printable;
use crate::protocol::text::without_bom;
use crate::protocol::wafer::MAX_TARGETS;
use crate::protocol::wafer::Target;
use crate::protocol::wafer::too_many;

/// Largest metadata of a tunnel, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 1_024;
/// Most groups that a tunnel can be opened in.
pub const MAX_OPEN_GROUPS: usize = 16;
/// Largest user, groups and metadata of a tunnel together, in bytes: its connect URL contains them.
pub const MAX_ABOUT_BYTES: usize = 3_072;
/// Longest reason of a close, in bytes (RFC 6455, section 5.5).
pub const MAX_REASON_BYTES: usize = 123;

/// `POST /v1/tunnels`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct OpenRequest {
    /// Where its events are sent, if not to the tenant's URL.
    pub webhook_url: Option<String>,
    /// Its user.
    pub user: Option<Name>,
    /// Groups that it joins when it opens.
    pub groups: Vec<Name>,
    /// A JSON object that its events return to the business server.
    pub metadata: Option<Metadata>,
    /// The session of its user, in place of `user`: the tunnel ends with it.
    pub session_token: Option<String>,
    /// The connector that its events go to, in place of a URL.
    pub connector: Option<String>,
}

/// A JSON object, kept byte for byte.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Metadata(pub Box<RawValue>);

/// Targets of a push or close.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Object<RawTo>")]
pub enum To {
    /// These tunnels.
    Tunnels(Vec<Target>),
    /// All tunnels in the group.
    Group(Name),
    /// All tunnels of the user.
    User(Name),
}

/// Targets addressed as a set.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Audience {
    /// All tunnels in the group.
    Group(Name),
    /// All tunnels of the user.
    User(Name),
    /// All tunnels that were opened with the session. Business servers cannot address it.
    Session(Name),
    /// The connectors with the name. Only nodes look for them.
    Connector(Name),
}

/// Content of a push.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Payload {
    /// A text frame.
    Text(String),
    /// A binary frame; a Wafer tunnel gets it as Base64.
    Binary(Bytes),
}

/// `POST /v1/push`, and the `push` of an answer to an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PushRequest {
    /// The targets; none: the tunnel of the event.
    pub to: Option<To>,
    /// Tunnels that are left out.
    pub except: Vec<Target>,
    /// The content.
    pub payload: Payload,
    /// Whether a group or user without an open tunnel is an error.
    pub strict: bool,
}

/// `POST /v1/close`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CloseRequest {
    /// The targets.
    pub to: To,
    /// Tunnels that are left out.
    pub except: Vec<Target>,
    /// Text of the close frame.
    pub reason: Option<Reason>,
    /// Whether a group or user without an open tunnel is an error.
    pub strict: bool,
}

/// The text of a close frame: 1 to 123 bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reason(pub String);

impl OpenRequest {
    /// Parses and checks the body; an empty one requests a tunnel without options.
    ///
    /// # Errors
    ///
    /// [`Code::BodyInvalid`] or [`Code::TooLarge`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let request: Self = parse(body, "{webhookUrl?, user? | sessionToken?, groups?, metadata?, connector?}")?;
        if request.user.is_some() && request.session_token.is_some() {
            let detail = "user and sessionToken exclude each other: the session names its user";
            return Err(Problem::new(Code::DataInvalid, detail));
        }
        let groups = request.groups.len();
        if groups > MAX_OPEN_GROUPS {
            return Err(too_large(format!("a tunnel can be opened in {MAX_OPEN_GROUPS} groups, {groups} came")));
        }
        let metadata_bytes = request.metadata.as_ref().map_or(0, |metadata| metadata.0.get().len());
        if metadata_bytes > MAX_METADATA_BYTES {
            return Err(too_large(format!("metadata may have {MAX_METADATA_BYTES} bytes, {metadata_bytes} came")));
        }
        let names = request.groups.iter().chain(&request.user).map(|name| name.as_str().len());
        let about_bytes = metadata_bytes + names.sum::<usize>();
        if about_bytes > MAX_ABOUT_BYTES {
            return Err(too_large(format!(
                "user, groups and metadata may have {MAX_ABOUT_BYTES} bytes together, {about_bytes} came"
            )));
        }
        Ok(request)
    }
}

impl PushRequest {
    /// Parses and checks the body of `POST /v1/push`.
    ///
    /// # Errors
    ///
    /// [`Code::BodyInvalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let request: Self = parse(body, "{to, except?, content | contentBase64, type?, strict?}")?;
        if request.to.is_none() {
            return Err(invalid("to is missing: {\"tunnels\": [...]}, {\"group\": \"...\"} or {\"user\": \"...\"}"));
        }
        Ok(request)
    }
}

impl CloseRequest {
    /// Parses and checks the body of `POST /v1/close`.
    ///
    /// # Errors
    ///
    /// [`Code::BodyInvalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let raw: RawClose = parse(body, "{to, except?, reason?, strict?}")?;
        Ok(Self { to: raw.to, except: raw.except, reason: raw.reason, strict: raw.strict })
    }
}

impl Payload {
    /// Its length on the wire, in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it is an empty frame.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A field that is present with any value, including `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

pub(super) fn targets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Target>, D::Error> {
    struct TargetsVisitor;

    impl<'de> Visitor<'de> for TargetsVisitor {
        type Value = Vec<Target>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of tunnel ids")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut ids: A) -> Result<Vec<Target>, A::Error> {
            let mut targets = Vec::new();
            while let Some(id) = ids.next_element::<String>()? {
                if targets.len() == MAX_TARGETS {
                    return Err(serde::de::Error::custom(too_many()));
                }
                targets.push(Target::new(&id));
            }
            Ok(targets)
        }
    }

    deserializer.deserialize_seq(TargetsVisitor)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTo {
    #[serde(default, deserialize_with = "some_targets")]
    tunnels: Option<Vec<Target>>,
    group: Option<Name>,
    user: Option<Name>,
}

pub(super) fn some_targets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Target>>, D::Error> {
    targets(deserializer).map(Some)
}

impl TryFrom<Object<RawTo>> for To {
    type Error = &'static str;

    fn try_from(Object(to): Object<RawTo>) -> Result<Self, Self::Error> {
        match (to.tunnels, to.group, to.user) {
            (Some(tunnels), None, None) => Ok(Self::Tunnels(tunnels)),
            (None, Some(group), None) => Ok(Self::Group(group)),
            (None, None, Some(user)) => Ok(Self::User(user)),
            _ => Err("to has exactly one of tunnels, group and user"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawPush {
    #[serde(default)]
    to: Option<To>,
    #[serde(default, deserialize_with = "targets")]
    except: Vec<Target>,
    #[serde(default, deserialize_with = "present")]
    content: Option<Box<RawValue>>,
    #[serde(default)]
    content_base64: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    strict: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClose {
    to: To,
    #[serde(default, deserialize_with = "targets")]
    except: Vec<Target>,
    #[serde(default)]
    reason: Option<Reason>,
    #[serde(default)]
    strict: bool,
}

impl RawPush {
    fn payload(&self) -> Result<Payload, String> {
        match (&self.content, &self.content_base64, &self.kind) {
            (Some(content), None, None) => text_of(content).map(Payload::Text),
            (Some(content), None, Some(kind)) => {
                let kind = serde_json::to_string(kind).expect("strings always serialise");
                Ok(Payload::Text(format!("{{\"type\":{kind},\"content\":{}}}", content.get())))
            }
            (None, Some(content), None) => {
                let bytes = STANDARD.decode(content).map_err(|error| format!("contentBase64 is no Base64: {error}"))?;
                Ok(Payload::Binary(bytes.into()))
            }
            (None, Some(_), Some(_)) => Err("type goes with content, not with contentBase64".into()),
            (Some(_), Some(_), _) => Err("content and contentBase64 are both there: send one of them".into()),
            (None, None, _) => Err("content is missing, or contentBase64".into()),
        }
    }
}

impl<'de> Deserialize<'de> for PushRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(raw) = Object::<RawPush>::deserialize(deserializer)?;
        let payload = raw.payload().map_err(serde::de::Error::custom)?;
        Ok(Self { to: raw.to, except: raw.except, payload, strict: raw.strict })
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || text.len() > MAX_REASON_BYTES {
            let message = format!("a reason has 1 to {MAX_REASON_BYTES} bytes, {} came", text.len());
            return Err(serde::de::Error::custom(message));
        }
        Ok(Self(text))
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('{') {
            Ok(Self(raw))
        } else {
            Err(serde::de::Error::custom("metadata is a JSON object"))
        }
    }
}

/// The text of a content: that of a JSON string, anything else as sent.
fn text_of(content: &RawValue) -> Result<String, String> {
    let json = content.get();
    if !json.starts_with('"') {
        return Ok(json.to_owned());
    }
    serde_json::from_str(json).map(|Text(text)| text).map_err(|error| json_defect(&error))
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8], shape: &str) -> Result<T, Problem> {
    match serde_json::from_slice(without_bom(body)) {
        Ok(Object(request)) => Ok(request),
        Err(error) => Err(invalid(format!("the body must be {shape} in JSON: {}", defect(&error)))),
    }
}

/// Describes a JSON error: with names, but without values.
pub(super) fn defect(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let names_a_field = ["unknown field", "missing field", "duplicate field", "unknown variant"];
    if names_a_field.iter().any(|words| message.starts_with(words)) {
        return printable(&message, 300).into_owned();
    }
    json_defect(error)
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BodyInvalid, detail)
}

fn too_large(detail: String) -> Problem {
    Problem::new(Code::TooLarge, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(body: &str) -> Payload {
        let body = format!("{{\"to\":{{\"group\":\"g\"}},{body}}}");
        PushRequest::parse(body.as_bytes()).expect(&body).payload
    }

    fn text(text: &str) -> Payload {
        Payload::Text(text.into())
    }

    #[test]
    fn content_goes_out_byte_for_byte() {
        assert_eq!(
            payload(r#""content": {"b" : 1e400, "a":[1.0,  "\ud800\/"]} "#),
            text(r#"{"b" : 1e400, "a":[1.0,  "\ud800\/"]}"#)
        );
        assert_eq!(payload(r#""content":"a\"\n中\ud800""#), text("a\"\n中\u{fffd}"));
        assert_eq!(payload(r#""content":null"#), text("null"));
        assert_eq!(payload(r#""content":"""#), text(""));
        assert_eq!(payload(r#""contentBase64":"AP8=""#), Payload::Binary(Bytes::from_static(b"\0\xff")));
        assert_eq!(payload(r#""type":"a\"b","content": "x\/" "#), text(r#"{"type":"a\"b","content":"x\/"}"#));
    }

    #[test]
    fn a_push_has_one_content_and_one_kind_of_targets() {
        let to = r#""to":{"tunnels":["t"]}"#;
        for (body, hint) in [
            (r#"{"content":1}"#.to_owned(), "to is missing"),
            (format!("{{{to}}}"), "content is missing"),
            (format!(r#"{{{to},"content":1,"contentBase64":""}}"#), "both there"),
            (format!(r#"{{{to},"type":"x","contentBase64":""}}"#), "type goes with content"),
            (format!(r#"{{{to},"contentBase64":"?"}}"#), "contentBase64 is no Base64"),
            (format!(r#"{{{to},"content":1,"extra":2}}"#), "unknown field `extra`, expected one of `to`, `except`"),
            (format!(r#"{{{to},{to},"content":1}}"#), "duplicate field `to`"),
            (
                r#"{"to":{"group":"g","user":"u"},"content":1}"#.to_owned(),
                "to has exactly one of tunnels, group and user",
            ),
            (r#"{"to":{},"content":1}"#.to_owned(), "to has exactly one of tunnels, group and user"),
            (r#"{"to":"g","content":1}"#.to_owned(), "invalid type: string, expected an object"),
            (r#"{"to":[["t"]],"content":1}"#.to_owned(), "expected an object"),
            (
                r#"{"to":{"room":"g"},"content":1}"#.to_owned(),
                "unknown field `room`, expected one of `tunnels`, `group`, `user`",
            ),
            (r#"{"to":{"group":""},"content":1}"#.to_owned(), "a name has 1 to 128 characters"),
            (r#"{"to":{"tunnels":[17]},"content":1}"#.to_owned(), "invalid type: integer, expected a string"),
            (r#"[{"group":"g"},[],1]"#.to_owned(), "expected an object"),
            ("".to_owned(), "EOF"),
        ] {
            let problem = PushRequest::parse(body.as_bytes()).expect_err(&body);
            assert_eq!(problem.code, Code::BodyInvalid);
            assert!(problem.detail.contains(hint), "{body}: {problem}");
        }
    }

    #[test]
    fn short_ids_do_not_take_more_than_long_ones() {
        for list in [r#""to":{"tunnels":IDS}"#, r#""to":{"group":"g"},"except":IDS"#] {
            let parse = |ids: usize| {
                let ids = format!("[{}\"\"]", "\"\",".repeat(ids - 1));
                PushRequest::parse(format!("{{{},\"content\":1}}", list.replace("IDS", &ids)).as_bytes())
            };
            assert!(parse(MAX_TARGETS).is_ok());
            let problem = parse(MAX_TARGETS + 1).expect_err("too many");
            assert!(problem.detail.contains("more than 131072 ids"), "{problem}");
        }
    }

    #[test]
    fn a_value_that_may_be_a_key_is_not_told() {
        let problem = OpenRequest::parse(br#"{"user":["hunter2"]}"#).expect_err("wrong");
        assert!(!problem.detail.contains("hunter2"), "{problem}");
        let problem = OpenRequest::parse(br#"{"groups":"hunter2"}"#).expect_err("wrong");
        assert!(!problem.detail.contains("hunter2"), "{problem}");
    }

    #[test]
    fn a_tunnel_is_asked_for_within_bounds() {
        assert!(OpenRequest::parse(b"").expect("empty").groups.is_empty());
        let long = format!(r#"{{"metadata":{{"a":"{}"}}}}"#, "x".repeat(MAX_METADATA_BYTES));
        assert_eq!(OpenRequest::parse(long.as_bytes()).expect_err("long").code, Code::TooLarge);
        let groups: Vec<String> = (0..17).map(|number| number.to_string()).collect();
        let many = serde_json::json!({ "groups": groups }).to_string();
        assert!(OpenRequest::parse(many.as_bytes()).expect_err("many").detail.contains("16 groups, 17 came"));
        let wide: Vec<String> = (10..26).map(|number| format!("{number}{}", "中".repeat(126))).collect();
        let wide = serde_json::json!({ "groups": wide }).to_string();
        assert!(OpenRequest::parse(wide.as_bytes()).expect_err("wide").detail.contains("3072 bytes together"));
        assert!(OpenRequest::parse(br#"{"metadata":[1]}"#).expect_err("array").detail.contains("JSON object"));
    }

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        let close = |reason: &str| {
            CloseRequest::parse(serde_json::json!({"to":{"user":"u"},"reason":reason}).to_string().as_bytes())
        };
        assert_eq!(close(&"x".repeat(123)).expect("fits").reason, Some(Reason("x".repeat(123))));
        assert!(close(&"x".repeat(124)).expect_err("long").detail.contains("124 came"));
        assert!(close("").is_err());
    }
}

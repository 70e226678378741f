//! `POST /v1/capture`: whose payloads are copied into timelines, and for how long.

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error as _;

use super::Code;
use super::Name;
use super::Problem;
use super::request::parse;
use super::request::some_targets;
use crate::id::TunnelId;
use crate::protocol::wafer::Target;

/// Longest time of a capture, in minutes.
pub const MAX_MINUTES: u64 = 30;
/// Most bytes that are kept of one payload.
pub const MAX_PAYLOAD_BYTES: usize = 4_096;
/// Bytes that are kept of one payload, unless the call says otherwise.
const DEFAULT_PAYLOAD_BYTES: u64 = 1_024;
/// Most tunnels of a capture.
pub const MAX_TUNNELS: usize = 100;

/// The body of the call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CaptureRequest {
    /// Payloads are copied.
    Begin {
        /// Whose.
        of: CaptureOf,
        /// For how long, in minutes: 1 to [`MAX_MINUTES`].
        minutes: u64,
        /// The most bytes of each: 1 to [`MAX_PAYLOAD_BYTES`].
        max_bytes: usize,
    },
    /// All captures of the tenant end.
    End,
}

/// Whose payloads are copied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CaptureOf {
    /// Those of these tunnels.
    Tunnels(Vec<TunnelId>),
    /// Those of all tunnels of this user.
    User(Name),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawCapture {
    #[serde(default, deserialize_with = "some_targets")]
    tunnels: Option<Vec<Target>>,
    #[serde(default, deserialize_with = "some_name")]
    user: Option<Name>,
    #[serde(deserialize_with = "whole")]
    minutes: u64,
    #[serde(default = "default_payload_bytes", deserialize_with = "whole")]
    max_bytes: u64,
}

impl CaptureRequest {
    /// Parses and checks the body.
    ///
    /// # Errors
    ///
    /// [`Code::BodyInvalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let wrong = |detail: String| Problem::new(Code::BodyInvalid, detail);
        let raw: RawCapture = parse(body, "{tunnels | user, minutes, maxBytes?}")?;
        let RawCapture { tunnels, user, minutes, max_bytes } = raw;
        if minutes > MAX_MINUTES {
            return Err(wrong(format!("minutes is {minutes}: at most {MAX_MINUTES}, or 0 to end all captures")));
        }
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        if !(1..=MAX_PAYLOAD_BYTES).contains(&max_bytes) {
            return Err(wrong(format!("maxBytes is {max_bytes}: it must be 1 to {MAX_PAYLOAD_BYTES}")));
        }
        let of = match (tunnels, user) {
            (None, None) if minutes == 0 => return Ok(Self::End),
            (Some(targets), None) if (1..=MAX_TUNNELS).contains(&targets.len()) => {
                CaptureOf::Tunnels(targets.into_iter().map(tunnel).collect::<Result<_, _>>()?)
            }
            (None, Some(user)) => CaptureOf::User(user),
            _ => return Err(wrong(format!("name either 1 to {MAX_TUNNELS} tunnels, or a user"))),
        };
        Ok(match minutes {
            0 => Self::End,
            _ => Self::Begin { of, minutes, max_bytes },
        })
    }
}

fn tunnel(target: Target) -> Result<TunnelId, Problem> {
    match target {
        Target::Tunnel(tunnel) => Ok(tunnel),
        Target::Foreign(_) => Err(Problem::new(Code::BodyInvalid, "tunnels has a text that is no tunnel id")),
    }
}

fn default_payload_bytes() -> u64 {
    DEFAULT_PAYLOAD_BYTES
}

fn some_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Name>, D::Error> {
    Name::deserialize(deserializer).map(Some)
}

/// A whole number in any of JSON's forms: `10`, `10.0` and `1e1` are the same number.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = || number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..1e15).contains(float));
    number
        .as_u64()
        .or_else(|| whole().map(|float| float as u64))
        .ok_or_else(|| D::Error::custom("expected a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "t00000000000000000000000000000001";

    fn refused(body: &str) -> String {
        let problem = CaptureRequest::parse(body.as_bytes()).expect_err(body);
        assert_eq!(problem.code, Code::BodyInvalid, "{body}");
        problem.detail
    }

    #[test]
    fn tunnels_or_a_user_for_some_minutes() {
        let of = CaptureOf::Tunnels(vec![ID.parse().expect("an id")]);
        for minutes in ["10", "10.0", "1e1"] {
            let body = format!("{{\"tunnels\":[\"{ID}\"],\"minutes\":{minutes},\"maxBytes\":6}}");
            let begin = CaptureRequest::Begin { of: of.clone(), minutes: 10, max_bytes: 6 };
            assert_eq!(CaptureRequest::parse(body.as_bytes()), Ok(begin), "{minutes}");
        }
        let of = CaptureOf::User(Name::new("ann").expect("a name"));
        let begin = CaptureRequest::Begin { of, minutes: 30, max_bytes: 1_024 };
        assert_eq!(CaptureRequest::parse(br#"{"user":"ann","minutes":30}"#), Ok(begin));
    }

    #[test]
    fn no_minutes_end_all() {
        for body in [r#"{"minutes":0}"#.to_owned(), format!("{{\"tunnels\":[\"{ID}\"],\"minutes\":0}}")] {
            assert_eq!(CaptureRequest::parse(body.as_bytes()), Ok(CaptureRequest::End), "{body}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_values() {
        for (body, words) in [
            (r#"{"user":"ann"}"#, "missing field `minutes`"),
            (r#"{"user":"ann","minutes":31}"#, "minutes is 31: at most 30"),
            (r#"{"user":"ann","minutes":1.5}"#, "expected a whole number"),
            (r#"{"user":"ann","minutes":-1}"#, "expected a whole number"),
            (r#"{"user":"ann","minutes":1,"maxBytes":0}"#, "maxBytes is 0: it must be 1 to 4096"),
            (r#"{"user":"ann","minutes":1,"maxBytes":null}"#, "null"),
            (r#"{"user":null,"minutes":1}"#, "null"),
            (r#"{"minutes":1}"#, "name either 1 to 100 tunnels, or a user"),
            (r#"{"tunnels":[],"minutes":1}"#, "name either 1 to 100 tunnels, or a user"),
            (r#"{"tunnels":["t"],"user":"ann","minutes":1}"#, "name either 1 to 100 tunnels, or a user"),
            (r#"{"tunnels":["a secret text"],"minutes":1}"#, "no tunnel id"),
            (r#"{"user":"a secret text","minutes":"a secret text"}"#, "invalid type"),
        ] {
            let detail = refused(body);
            assert!(detail.contains(words), "{body}: {detail}");
            assert!(!detail.contains("secret"), "{body}: {detail}");
        }
    }
}

//! The signed envelope of every Wafer call, and the `data` of `/get/wsurl`.

use serde::Deserialize;
use serde::Deserializer;
use serde_json::value::RawValue;

use super::Refusal;
use crate::protocol::text::Object;
use crate::protocol::text::Text;
use crate::protocol::text::json_defect;
use crate::protocol::text::md5_hex;
use crate::protocol::text::without_bom;

/// Longest spelling of `"json"`: with each character escaped.
const MAX_DATA_ENCODE_BYTES: usize = 2 + 4 * 6;

/// Most bytes of `data` that are parsed without a valid signature: a receive URL and more.
const MAX_UNVERIFIED_BYTES: usize = 4_096;

/// The envelope of a call. Its fields are credentials and payload: it has no `Debug` and is never logged.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The decoded string that was signed.
    pub data: Text,
    /// The tenant.
    pub tc_id: Text,
    /// `sha1(data + key)`.
    pub signature: Text,
    /// The key in clear: every SDK sends it with `/get/wsurl`, node2 with `/ws/push` too. It is only compared.
    #[serde(default)]
    pub tc_key: Option<Text>,
    #[serde(default)]
    data_encode: DataEncode,
}

/// What an answer's `data` is to be. Whatever else stands there is skipped, not built.
#[derive(Default)]
struct DataEncode {
    is_json: bool,
}

impl<'de> Deserialize<'de> for DataEncode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = <&RawValue>::deserialize(deserializer)?.get();
        let is_short_text = written.starts_with('"') && written.len() <= MAX_DATA_ENCODE_BYTES;
        let is_json = || serde_json::from_str(written).is_ok_and(|Text(text)| text == "json");
        Ok(Self { is_json: is_short_text && is_json() })
    }
}

impl Envelope {
    /// Parses an envelope from a request body.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`] with what is missing or of the wrong type.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(without_bom(body)).map(|Object(envelope)| envelope).map_err(|error| {
            let why = json_defect(&error);
            Refusal::Malformed(format!(
                "the body must be a JSON object with the strings data, tcId and signature: {why}"
            ))
        })
    }

    /// The ServerHost whose MD5 is the tcId, if it is the host of the receive URL in `data`, with its port or without.
    ///
    /// For the log only: `data` may not be verified.
    pub fn server_host(&self) -> Option<String> {
        if self.data.0.len() > MAX_UNVERIFIED_BYTES {
            return None;
        }
        let url = WsurlRequest::parse(&self.data.0).ok()?.receive_url.0;
        let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
        // The form in which node1 and csharp send a host with a port.
        let inside = authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(authority);
        let bare = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        [authority, inside, bare].into_iter().find(|host| md5_hex(host) == self.tc_id.0).map(str::to_owned)
    }

    /// Whether the response's `data` must be a string: the Java and C# SDKs send `"dataEncode":"json"`.
    pub fn wants_text(&self) -> bool {
        self.data_encode.is_json
    }
}

/// The `data` of `/get/wsurl`. Unknown fields are ignored: the C# SDK sends its key in one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WsurlRequest {
    /// Where the tunnel's events are sent.
    pub receive_url: Text,
    #[serde(default)]
    protocol_type: Option<Text>,
}

impl WsurlRequest {
    /// Parses the request from the `data` of a verified envelope.
    ///
    /// # Errors
    ///
    /// [`Refusal::BadData`] with what is missing or of the wrong type.
    pub fn parse(data: &str) -> Result<Self, Refusal> {
        let Object(request): Object<Self> = serde_json::from_str(data).map_err(|error| {
            let why = json_defect(&error);
            Refusal::BadData(format!("data must be JSON text of an object with the string receiveUrl: {why}"))
        })?;
        request.scheme().map(|_| request)
    }

    /// The scheme of the connect URL: `wss`, or `ws` on request.
    ///
    /// # Errors
    ///
    /// [`Refusal::BadData`] for any other scheme.
    pub fn scheme(&self) -> Result<&'static str, Refusal> {
        match self.protocol_type.as_ref().map(|text| text.0.as_str()) {
            None | Some("wss") => Ok("wss"),
            Some("ws") => Ok("ws"),
            Some(_) => Err(Refusal::BadData("protocolType must be wss or ws".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_host_is_found_in_the_receive_url() {
        let found = |server_host: &str, receive_url: &str| {
            let data = serde_json::json!({ "receiveUrl": receive_url }).to_string();
            let body = serde_json::json!({"data": data, "tcId": md5_hex(server_host), "signature": ""});
            Envelope::parse(body.to_string().as_bytes()).expect("valid").server_host()
        };

        for (server_host, receive_url) in [
            ("127.0.0.1", "http://127.0.0.1:3000/tunnel"),
            ("127.0.0.1:3000", "http://127.0.0.1:3000/tunnel"),
            ("API.example.com", "https://API.example.com"),
            ("127.0.0.1:3000", "http://[127.0.0.1:3000]/tunnel"),
            ("[::1]", "http://[::1]:80/"),
        ] {
            assert_eq!(found(server_host, receive_url).as_deref(), Some(server_host), "{receive_url}");
        }
        for receive_url in ["http://other.example/", "127.0.0.1", "http://127.0.0.1.example/", ""] {
            assert_eq!(found("127.0.0.1", receive_url), None, "{receive_url}");
        }
    }

    fn refusal(body: &str) -> String {
        match Envelope::parse(body.as_bytes()) {
            Ok(_) => panic!("accepted {body}"),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn data_is_the_decoded_string_whatever_escapes_its_sender_used() {
        let php = br#"{"data":"{\"a\":\"\\\/\u4e2d\"}","tcId":"x","signature":"y","more":[1]}"#;

        let envelope = Envelope::parse(php).expect("valid");

        assert_eq!(envelope.data.0, r#"{"a":"\/中"}"#);
        assert!(!envelope.wants_text());
        assert!(envelope.tc_key.is_none());
        let with_bom = [&b"\xef\xbb\xbf"[..], php].concat();
        assert_eq!(Envelope::parse(&with_bom).expect("valid").data.0, envelope.data.0);
    }

    #[test]
    fn only_data_encode_json_asks_for_text() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for (encode, wants) in [
            (r#""json""#, true),
            (r#""\u006a\u0073\u006f\u006e""#, true),
            ("null", false),
            ("1", false),
            (r#""xml""#, false),
            (r#"["json"]"#, false),
            (&deep, false),
        ] {
            let body = format!(r#"{{"data":"","tcId":"x","signature":"y","dataEncode":{encode},"tcKey":null}}"#);
            assert_eq!(Envelope::parse(body.as_bytes()).expect("valid").wants_text(), wants, "{encode}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        assert!(refusal("").contains("must be a JSON object"));
        assert!(refusal("[]").contains("must be a JSON object"));
        assert!(refusal(r#"["{}","x","y",null,null]"#).contains("expected an object"));
        assert!(refusal(r#"{"data":"","tcId":"x"}"#).contains("missing field `signature`"));
        assert!(refusal(r#"{"data":{},"tcId":"x","signature":"y"}"#).contains("expected a string"));
        assert!(refusal(&"[".repeat(100_000)).contains("must be a JSON object"));
    }

    #[test]
    fn a_wsurl_request_defaults_to_wss() {
        let scheme = |data| WsurlRequest::parse(data).map(|request| request.scheme().expect("checked"));

        assert_eq!(scheme(r#"{"receiveUrl":"http://h/","skey":"k"}"#), Ok("wss"));
        assert_eq!(scheme(r#"{"receiveUrl":"http://h/","protocolType":"ws"}"#), Ok("ws"));
        assert!(scheme(r#"{"receiveUrl":"http://h/","protocolType":"ftp"}"#).is_err());
        assert!(scheme(r#"{"protocolType":"wss"}"#).is_err());
        assert!(scheme(r#"["http://h/","wss"]"#).is_err());
    }
}

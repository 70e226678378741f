//! Bodies in records: text stays text, other bytes are Base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// A body that is written as a JSON string, or as `{"base64": "..."}` if it is not UTF-8.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Body(pub Bytes);

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Packed { base64: String },
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Written::Packed { base64: STANDARD.encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Ok(Self(text.into())),
            Written::Packed { base64 } => STANDARD
                .decode(base64)
                .map(|bytes| Self(bytes.into()))
                .map_err(|_| serde::de::Error::custom("base64 is not valid")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        for bytes in [&b""[..], b"{\"a\":\"\xe4\xb8\xad\"}\n", b"\xff\0"] {
            let body = Body(Bytes::from_static(bytes));
            let json = serde_json::to_string(&body).expect("JSON");
            assert_eq!(serde_json::from_str::<Body>(&json).expect("read back"), body, "{json}");
        }
    }
}

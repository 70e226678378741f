//! Request bodies of the calls about sessions.

use serde::Deserialize;

use super::Code;
use super::Problem;
use super::request::MAX_METADATA_BYTES;
use super::request::Metadata;
use super::request::parse;
use crate::protocol::login::EncryptedData;
use crate::protocol::login::MAX_PROFILE_BYTES;
use crate::protocol::login::Profile;
use crate::protocol::text::Object;
use crate::protocol::text::json_defect;
use crate::protocol::text::without_bom;

/// Shortest life that a business server can ask for, in seconds.
const MIN_TTL_SECS: u64 = 60;

/// `POST /v1/sessions`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EnterRequest {
    /// From `wx.login`.
    pub code: String,
    /// The app; needed if the tenant has several.
    pub app_id: Option<String>,
    encrypted_data: Option<String>,
    iv: Option<String>,
    /// Returned by `verify`.
    pub metadata: Option<Metadata>,
    /// A shorter life than usual.
    pub ttl_secs: Option<u64>,
}

/// A call with a token alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TokenRequest {
    /// `wgs_...`, or an id and an skey joined by a dot.
    pub session_token: String,
}

/// `POST /v1/sessions/revoke`: exactly one of the first three.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RevokeRequest {
    /// This session.
    pub session_token: Option<String>,
    /// This session.
    pub session_id: Option<String>,
    /// All of this user.
    pub user: Option<String>,
    /// The user's app; needed if the tenant has several.
    pub app_id: Option<String>,
    /// Whether tunnels opened with the sessions end too; they do by default.
    #[serde(default = "yes")]
    pub close_tunnels: bool,
}

/// `POST /v1/sessions/decrypt`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DecryptRequest {
    /// Whose key is used.
    pub session_token: String,
    encrypted_data: String,
    iv: String,
}

/// `POST /v1/sessions/sign`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SignRequest {
    /// Whose key is used.
    pub session_token: String,
    /// What is signed.
    pub data: String,
}

/// `POST /v1/phone-numbers`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PhoneRequest {
    /// From the button of the mini-program.
    pub code: String,
    /// The app; needed if the tenant has several and there is no token.
    pub app_id: Option<String>,
    /// A session of the app.
    pub session_token: Option<String>,
}

fn yes() -> bool {
    true
}

impl EnterRequest {
    /// Parses and checks the body.
    ///
    /// # Errors
    ///
    /// [`Code::BodyInvalid`] or [`Code::TooLarge`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let request: Self = parse(body, "{code, appId?, encryptedData? with iv, metadata?, ttlSecs?}")?;
        let metadata_bytes = request.metadata.as_ref().map_or(0, |metadata| metadata.0.get().len());
        if metadata_bytes > MAX_METADATA_BYTES {
            let detail = format!("metadata may have {MAX_METADATA_BYTES} bytes, {metadata_bytes} came");
            return Err(Problem::new(Code::TooLarge, detail));
        }
        if request.encrypted_data.is_some() != request.iv.is_some() {
            return Err(Problem::new(Code::BodyInvalid, "encryptedData and iv go together: send both or neither"));
        }
        if request.ttl_secs.is_some_and(|secs| secs < MIN_TTL_SECS) {
            return Err(Problem::new(Code::BodyInvalid, format!("ttlSecs is {MIN_TTL_SECS} at least")));
        }
        Ok(request)
    }

    /// What the client brought about itself.
    pub fn data(&self) -> Option<EncryptedData> {
        self.encrypted_data.clone().map(|data| EncryptedData { data, iv: self.iv.clone() })
    }
}

impl TokenRequest {
    /// Parses the body.
    ///
    /// # Errors
    ///
    /// [`Code::BodyInvalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        parse(body, "{sessionToken}")
    }
}

impl RevokeRequest {
    /// Parses and checks the body.
    ///
    /// # Errors
    ///
    /// [`Code::BodyInvalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let request: Self = parse(body, "{sessionToken | sessionId | user with appId?, closeTunnels?}")?;
        let named = [&request.session_token, &request.session_id, &request.user].into_iter().flatten().count();
        if named != 1 {
            return Err(Problem::new(Code::BodyInvalid, "send exactly one of sessionToken, sessionId and user"));
        }
        Ok(request)
    }
}

impl DecryptRequest {
    /// Parses the body.
    ///
    /// # Errors
    ///
    /// [`Code::BodyInvalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        parse(body, "{sessionToken, encryptedData, iv}")
    }

    /// The data.
    pub fn data(&self) -> EncryptedData {
        EncryptedData { data: self.encrypted_data.clone(), iv: Some(self.iv.clone()) }
    }
}

impl SignRequest {
    /// Parses the body.
    ///
    /// # Errors
    ///
    /// [`Code::BodyInvalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        parse(body, "{sessionToken, data}")
    }
}

impl PhoneRequest {
    /// Parses the body.
    ///
    /// # Errors
    ///
    /// [`Code::BodyInvalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        parse(body, "{code, appId?, sessionToken?}")
    }
}

/// The body of `PUT /v1/users/{openId}/profile`.
///
/// # Errors
///
/// [`Code::BodyInvalid`] or [`Code::TooLarge`].
pub fn profile(body: &[u8]) -> Result<Profile, Problem> {
    if body.len() > MAX_PROFILE_BYTES {
        let detail = format!("a profile may have {MAX_PROFILE_BYTES} bytes, {} came", body.len());
        return Err(Problem::new(Code::TooLarge, detail));
    }
    match serde_json::from_slice(without_bom(body)) {
        Ok(Object(object)) => Ok(Profile::new(object)),
        Err(error) => {
            let detail = format!("a profile is a JSON object: {}", json_defect(&error));
            Err(Problem::new(Code::BodyInvalid, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T>(result: Result<T, Problem>) -> Option<Code> {
        result.err().map(|problem| problem.code)
    }

    #[test]
    fn a_login_is_strict() {
        let parse = |body: &str| EnterRequest::parse(body.as_bytes());
        assert!(parse(r#"{"code":"c"}"#).expect("valid").data().is_none());
        let whole = parse(r#"{"code":"c","appId":"a","encryptedData":"d","iv":"i","metadata":{"a":1},"ttlSecs":60}"#);
        assert!(whole.expect("valid").data() == Some(EncryptedData { data: "d".into(), iv: Some("i".into()) }));
        for body in [
            "{}",
            r#"{"code":1}"#,
            r#"{"code":"c","encryptedData":"d"}"#,
            r#"{"code":"c","iv":"i"}"#,
            r#"{"code":"c","metadata":[]}"#,
            r#"{"code":"c","ttlSecs":59}"#,
            r#"{"code":"c","ttlSecs":-1}"#,
            r#"{"code":"c","x":1}"#,
        ] {
            assert_eq!(code(parse(body)), Some(Code::BodyInvalid), "{body}");
        }
        let long = format!(r#"{{"code":"c","metadata":{{"a":"{}"}}}}"#, "x".repeat(1_024));
        assert_eq!(code(parse(&long)), Some(Code::TooLarge));
    }

    #[test]
    fn a_revocation_names_one_thing() {
        let parse = |body: &str| RevokeRequest::parse(body.as_bytes());
        assert!(parse(r#"{"user":"o"}"#).expect("valid").close_tunnels);
        assert!(!parse(r#"{"sessionId":"s","closeTunnels":false}"#).expect("valid").close_tunnels);
        for body in ["{}", r#"{"user":"o","sessionId":"s"}"#, r#"{"user":null}"#] {
            assert_eq!(code(parse(body)), Some(Code::BodyInvalid), "{body}");
        }
    }

    #[test]
    fn a_profile_is_a_small_object() {
        assert!(profile(br#"{"nickName":"x","openId":"other"}"#).expect("valid").fields().get("openId").is_none());
        assert_eq!(code(profile(b"[]")), Some(Code::BodyInvalid));
        assert_eq!(code(profile(format!("{{\"a\":\"{}\"}}", "x".repeat(4_096)).as_bytes())), Some(Code::TooLarge));
    }
}

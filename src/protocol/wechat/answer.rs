//! Answers of WeChat: JSON as `text/plain`, with `errcode` for errors. Fields that are not used here are not needed.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::protocol::text::printable;
use crate::protocol::text::without_bom;

/// Longest part of an error message that is shown, in bytes.
const MAX_WORDS_BYTES: usize = 60;

/// A user who has logged in. Holds a key: it has no `Debug`.
pub struct CodeSession {
    /// The user's id in the app.
    pub open_id: String,
    /// The key of the user's data, in base64.
    pub session_key: String,
    /// The user's id in all apps of one owner.
    pub union_id: Option<String>,
}

/// Authorises calls. It is a secret: it has no `Debug`.
pub struct AccessToken {
    /// The token.
    pub token: String,
    /// How long it is valid, in seconds.
    pub valid_secs: u64,
}

/// A phone number.
#[derive(Clone, Eq, PartialEq)]
pub struct Phone {
    /// Without the country code.
    pub number: String,
    /// The country code, without `+`.
    pub country_code: String,
}

/// Why WeChat's answer brings nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// WeChat refuses.
    #[error("WeChat refuses: {code} {words}")]
    Refused {
        /// Its `errcode`.
        code: i64,
        /// The beginning of its `errmsg`.
        words: String,
    },
    /// The answer is not JSON, or lacks what it must have.
    #[error("the answer of WeChat cannot be read")]
    Malformed,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denial {
    /// The code is wrong, used or expired: the client must get another one.
    Code,
    /// The user is blocked for risk.
    Blocked,
    /// WeChat is busy: once more may help.
    Busy,
    /// Too many requests.
    Quota,
    /// appId or appSecret is wrong.
    Secret,
    /// The access token is not valid any more.
    Token,
    /// The session_key is not valid any more.
    StaleKey,
    /// Something else.
    Other,
}

impl Denial {
    /// What an `errcode` means.
    pub fn of(code: i64) -> Self {
        match code {
            40_029 | 40_163 | 41_008 => Self::Code,
            40_226 => Self::Blocked,
            -1 => Self::Busy,
            45_009 | 45_011 => Self::Quota,
            40_013 | 40_125 | 41_002 | 41_004 => Self::Secret,
            40_001 | 40_014 | 41_001 | 42_001 => Self::Token,
            87_009 => Self::StaleKey,
            _ => Self::Other,
        }
    }
}

/// Whether the answer is a refusal.
#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    errcode: i64,
    #[serde(default)]
    errmsg: String,
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unusable> {
    let body = without_bom(body);
    let verdict: Verdict = serde_json::from_slice(body).map_err(|_| Unusable::Malformed)?;
    if verdict.errcode != 0 {
        // What follows a comma is an id of the request, or an address.
        let words = verdict.errmsg.split([',', ':']).next().unwrap_or_default().trim();
        return Err(Unusable::Refused { code: verdict.errcode, words: printable(words, MAX_WORDS_BYTES).into_owned() });
    }
    serde_json::from_slice(body).map_err(|_| Unusable::Malformed)
}

/// The answer to `code2Session`. `expires_in` has not been in it since 2017, and `errcode` 0 may be.
///
/// # Errors
///
/// If WeChat refuses, or the answer lacks `openid` or `session_key`.
pub fn code_session(body: &[u8]) -> Result<CodeSession, Unusable> {
    #[derive(Deserialize)]
    struct Answer {
        openid: String,
        session_key: String,
        unionid: Option<String>,
    }
    let Answer { openid, session_key, unionid } = read(body)?;
    if openid.is_empty() || session_key.is_empty() {
        return Err(Unusable::Malformed);
    }
    Ok(CodeSession { open_id: openid, session_key, union_id: unionid.filter(|id| !id.is_empty()) })
}

/// The answer to `stable_token`.
///
/// # Errors
///
/// If WeChat refuses, or the answer cannot be read.
pub fn access_token(body: &[u8]) -> Result<AccessToken, Unusable> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: String,
        expires_in: u64,
    }
    read(body).map(|Answer { access_token, expires_in }| AccessToken { token: access_token, valid_secs: expires_in })
}

/// The answer to `getuserphonenumber`.
///
/// # Errors
///
/// If WeChat refuses, or the answer cannot be read.
pub fn phone(body: &[u8]) -> Result<Phone, Unusable> {
    #[derive(Deserialize)]
    struct Answer {
        phone_info: Info,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        pure_phone_number: String,
        country_code: String,
    }
    let Answer { phone_info } = read(body)?;
    Ok(Phone { number: phone_info.pure_phone_number, country_code: phone_info.country_code })
}

/// An answer that says no more than "done".
///
/// # Errors
///
/// If WeChat refuses, or the answer cannot be read.
pub fn done(body: &[u8]) -> Result<(), Unusable> {
    read::<serde_json::Map<_, _>>(body).map(|_: serde_json::Map<String, serde_json::Value>| ())
}

/// The answer to `resetusersessionkey`: the new key.
///
/// # Errors
///
/// If WeChat refuses, or the answer cannot be read.
pub fn new_session_key(body: &[u8]) -> Result<String, Unusable> {
    #[derive(Deserialize)]
    struct Answer {
        session_key: String,
    }
    read(body).map(|Answer { session_key }| session_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(body: &str) -> Result<(String, Option<String>), Unusable> {
        code_session(body.as_bytes()).map(|session| (session.open_id, session.union_id))
    }

    #[test]
    fn a_session_needs_its_two_fields_only() {
        for body in [
            r#"{"openid":"o","session_key":"k=="}"#,
            r#"{"openid":"o","session_key":"k==","errcode":0,"errmsg":"ok","expires_in":7200,"unionid":""}"#,
            "\u{feff}{\"session_key\":\"k==\",\"openid\":\"o\",\"unionid\":null}",
        ] {
            assert_eq!(session(body), Ok(("o".into(), None)), "{body}");
        }
        assert_eq!(session(r#"{"openid":"o","session_key":"k","unionid":"u"}"#), Ok(("o".into(), Some("u".into()))));
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"openid":"o"}"#,
            r#"{"openid":"","session_key":"k"}"#,
            r#"{"openid":5,"session_key":"k"}"#,
        ] {
            assert_eq!(session(body), Err(Unusable::Malformed), "{body}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_code_and_a_few_words() {
        let refused = session(r#"{"errcode":40125,"errmsg":"invalid appsecret, rid: 61ea-1"}"#);

        assert_eq!(refused, Err(Unusable::Refused { code: 40_125, words: "invalid appsecret".into() }));
        for (code, denial) in [
            (40_029, Denial::Code),
            (40_163, Denial::Code),
            (40_226, Denial::Blocked),
            (-1, Denial::Busy),
            (45_011, Denial::Quota),
            (40_125, Denial::Secret),
            (42_001, Denial::Token),
            (87_009, Denial::StaleKey),
            (1, Denial::Other),
        ] {
            assert_eq!(Denial::of(code), denial, "{code}");
        }
    }

    #[test]
    fn other_answers_are_read() {
        let token = access_token(br#"{"access_token":"T","expires_in":7200}"#).expect("a token");
        assert_eq!((token.token.as_str(), token.valid_secs), ("T", 7_200));
        let body = br#"{"errcode":0,"errmsg":"ok","phone_info":{"phoneNumber":"+861","purePhoneNumber":"1","countryCode":"86","watermark":{}}}"#;
        let phone = phone(body).expect("a number");
        assert_eq!((phone.number.as_str(), phone.country_code.as_str()), ("1", "86"));
        assert_eq!(done(br#"{"errcode":0,"errmsg":"ok"}"#), Ok(()));
        assert!(matches!(done(br#"{"errcode":87009,"errmsg":"invalid signature"}"#), Err(Unusable::Refused { .. })));
        assert_eq!(new_session_key(br#"{"errcode":0,"openid":"o","session_key":"n"}"#).as_deref(), Ok("n"));
    }
}

//! Requests to `api.weixin.qq.com`.

use std::fmt;

use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde_json::Value;
use serde_json::json;
use zeroize::Zeroizing;

/// The calls.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Api {
    /// `code2Session`: a code for a user's id and session_key.
    CodeSession,
    /// The token that authorises the other calls.
    AccessToken,
    /// A code for a phone number.
    Phone,
    /// Whether a session_key is still valid.
    CheckSession,
    /// Another session_key.
    ResetKey,
}

impl Api {
    /// Every call.
    pub const ALL: [Self; 5] = [Self::CodeSession, Self::AccessToken, Self::Phone, Self::CheckSession, Self::ResetKey];

    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CodeSession => "code2session",
            Self::AccessToken => "stable_token",
            Self::Phone => "getuserphonenumber",
            Self::CheckSession => "checksession",
            Self::ResetKey => "resetusersessionkey",
        }
    }
}

/// One request. Path and body hold secrets: neither is ever printed.
pub struct Question {
    /// The call.
    pub api: Api,
    /// Path and query.
    pub target: Zeroizing<String>,
    /// The JSON body of a POST; none: a GET.
    pub body: Option<Zeroizing<String>>,
}

impl Question {
    /// Exchanges the code of `wx.login`.
    pub fn code_session(app_id: &str, secret: &str, code: &str) -> Self {
        let query = [("appid", app_id), ("secret", secret), ("js_code", code), ("grant_type", "authorization_code")];
        Self::new(Api::CodeSession, "/sns/jscode2session", &query, None)
    }

    /// Asks for the access token; `is_forced` replaces one that is still valid.
    pub fn access_token(app_id: &str, secret: &str, is_forced: bool) -> Self {
        let body = json!({
            "grant_type": "client_credential", "appid": app_id, "secret": secret, "force_refresh": is_forced,
        });
        Self::new(Api::AccessToken, "/cgi-bin/stable_token", &[], Some(&body))
    }

    /// Exchanges the code of a phone-number button.
    pub fn phone(token: &str, code: &str) -> Self {
        let query = [("access_token", token)];
        Self::new(Api::Phone, "/wxa/business/getuserphonenumber", &query, Some(&json!({ "code": code })))
    }

    /// Asks whether the key that made `signature` is still valid.
    pub fn check_session(token: &str, open_id: &str, signature: &str) -> Self {
        Self::new(Api::CheckSession, "/wxa/checksession", &Self::of_user(token, open_id, signature), None)
    }

    /// Asks for another key in place of the one that made `signature`.
    pub fn reset_key(token: &str, open_id: &str, signature: &str) -> Self {
        Self::new(Api::ResetKey, "/wxa/resetusersessionkey", &Self::of_user(token, open_id, signature), None)
    }

    fn of_user<'a>(token: &'a str, open_id: &'a str, signature: &'a str) -> [(&'a str, &'a str); 4] {
        [("access_token", token), ("openid", open_id), ("signature", signature), ("sig_method", "hmac_sha256")]
    }

    fn new(api: Api, path: &str, query: &[(&str, &str)], body: Option<&Value>) -> Self {
        let mut target = Zeroizing::new(path.to_owned());
        for (number, (name, value)) in query.iter().enumerate() {
            target.push(if number == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            target.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
        Self { api, target, body: body.map(|body| Zeroizing::new(body.to_string())) }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Question").field(&self.api).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_adds_no_parameter() {
        let question = Question::code_session("wx4f", "s e&c", "x&appid=wxevil#");

        assert_eq!(
            question.target.as_str(),
            "/sns/jscode2session?appid=wx4f&secret=s%20e%26c&js_code=x%26appid%3Dwxevil%23&grant_type=authorization%5Fcode"
        );
        assert_eq!(format!("{question:?}"), "Question(CodeSession)");
    }

    #[test]
    fn other_calls_carry_the_token() {
        assert_eq!(Question::phone("T+", "c").target.as_str(), "/wxa/business/getuserphonenumber?access_token=T%2B");
        assert_eq!(Question::phone("T", "c\"").body.expect("a body").as_str(), r#"{"code":"c\""}"#);
        assert!(
            Question::check_session("T", "o-_", "ff")
                .target
                .ends_with("&openid=o%2D%5F&signature=ff&sig_method=hmac%5Fsha256")
        );
        assert!(Question::access_token("a", "s", false).body.expect("a body").contains("\"force_refresh\":false"));
    }
}

//! WeChat as the demo plays it: any code logs in the user that it names. It answers in this process only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest;
use md5::Md5;
use serde_json::Value;
use serde_json::json;
use url::form_urlencoded;

use crate::protocol::wechat::Api;
use crate::protocol::wechat::Question;

/// WeChat's answer. There are no secrets to protect here, so none is asked for.
pub fn answer(question: &Question) -> String {
    let query = question.target.split_once('?').map_or("", |(_, query)| query);
    let of = |wanted: &str| {
        let found = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let answer: Value = match question.api {
        Api::CodeSession => {
            let code = of("js_code");
            json!({ "openid": format!("demo-{code}"), "session_key": session_key(&code) })
        }
        Api::AccessToken => json!({ "access_token": "demo", "expires_in": 7200 }),
        Api::Phone => json!({ "errcode": 0, "phone_info": { "purePhoneNumber": "13800138000", "countryCode": "86" } }),
        Api::CheckSession => json!({ "errcode": 0, "errmsg": "ok" }),
        Api::ResetKey => json!({ "errcode": 0, "session_key": session_key(&of("openid")) }),
    };
    answer.to_string()
}

/// A key for a user's data.
fn session_key(user: &str) -> String {
    STANDARD.encode(Md5::digest(user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wechat::code_session;

    #[test]
    fn a_code_logs_in_the_user_that_it_names() {
        let session = code_session(answer(&Question::code_session("a", "s", "三木 &")).as_bytes());

        assert_eq!(session.ok().map(|session| session.open_id).as_deref(), Some("demo-三木 &"));
    }
}

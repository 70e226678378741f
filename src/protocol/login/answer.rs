//! Answers: always HTTP status 200, ASCII, and `returnData` an object after success. With anything else some SDK fails.

use serde::Serialize;

use super::ascii::to_ascii;
use super::profile::UserInfo;

/// Seconds that the original passed on from WeChat's `expires_in`; no SDK reads them.
const DURATION_SECS: u32 = 7_200;

/// Why a call was refused, with the code of the original.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The session store does not answer. Never 60012: that would make every client log in again.
    #[error("MYSQL_ERR")]
    StoreAway,
    /// There is no `interface.interfaceName`.
    #[error("NO_INTERFACENAME_PARA")]
    NoInterface,
    /// A parameter is missing or not text.
    #[error("PARA_ERR")]
    Para,
    /// No answer of WeChat.
    #[error("WEIXIN_NET_ERR")]
    WeChatAway,
    /// The session could not be stored.
    #[error("CHANGE_SESSION_ERR")]
    NotStored,
    /// WeChat refused for another reason than the code, or its answer cannot be read.
    #[error("WEIXIN_RETURN_ERR{}", .0.as_ref().map(|why| format!(" ({why})")).unwrap_or_default())]
    WeChatRefused(Option<String>),
    /// The body is not JSON.
    #[error("REQUEST_IS_NOT_JSON")]
    NotJson,
    /// The interface does not exist, or the caller may not use it.
    #[error("INTERFACENAME_PARA_ERR")]
    UnknownInterface,
    /// There is no `interface.para`.
    #[error("NO_PARA")]
    NoPara,
    /// No app is configured for this address.
    #[error("NO_APPID")]
    NoApp,
    /// WeChat refused the code.
    #[error("WEIXIN_CODE_ERR")]
    Code,
    /// No such session: the client logs in again.
    #[error("AUTH_FAIL")]
    NoSession,
    /// The data of a login cannot be decrypted, or is not this user's.
    #[error("DECRYPT_FAIL")]
    Decrypt,
    /// No session to decrypt with.
    #[error("GET_SESSION_KEY_FAIL")]
    NoSessionKey,
    /// The data cannot be decrypted with the session's key.
    #[error("GET_SESSION_KEY_SUCCESS_BUT_DECRYPT_FAIL")]
    DecryptWithSession,
}

impl Refusal {
    /// The `returnCode`.
    pub fn code(&self) -> u32 {
        match self {
            Self::StoreAway => 1001,
            Self::NoInterface => 1002,
            Self::Para => 1003,
            Self::WeChatAway => 1005,
            Self::NotStored => 1006,
            Self::WeChatRefused(_) => 1007,
            Self::NotJson => 1009,
            Self::UnknownInterface => 1010,
            Self::NoPara => 1011,
            Self::NoApp => 1012,
            Self::Code => 40029,
            Self::NoSession => 60012,
            Self::Decrypt | Self::NoSessionKey | Self::DecryptWithSession => 60021,
        }
    }
}

/// The envelope of every answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a, D> {
    return_code: u32,
    return_message: &'a str,
    return_data: D,
    version: u32,
    component_name: &'a str,
}

fn answer<D: Serialize>(return_code: u32, return_message: &str, return_data: D) -> String {
    to_ascii(&Answer { return_code, return_message, return_data, version: 1, component_name: "MA" })
}

/// The answer to a login.
pub fn logged_in(is_new: bool, id: &str, skey: &str, user_info: &UserInfo<'_>) -> String {
    #[derive(Serialize)]
    struct Data<'a> {
        id: &'a str,
        skey: &'a str,
        user_info: &'a UserInfo<'a>,
        duration: u32,
    }
    let message = if is_new { "NEW_SESSION_SUCCESS" } else { "UPDATE_SESSION_SUCCESS" };
    answer(0, message, Data { id, skey, user_info, duration: DURATION_SECS })
}

/// The answer to a check.
pub fn checked(user_info: &UserInfo<'_>) -> String {
    #[derive(Serialize)]
    struct Data<'a> {
        user_info: &'a UserInfo<'a>,
    }
    answer(0, "AUTH_SUCCESS", Data { user_info })
}

/// The answer to a decryption, with the plain text.
pub fn decrypted(plain: &str) -> String {
    answer(0, "DECRYPT_SUCCESS", plain)
}

/// The answer to a refused call.
pub fn refused(refusal: &Refusal) -> String {
    answer(refusal.code(), &refusal.to_string(), "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::login::Profile;

    /// The answers that the original gave, one a line.
    const ORIGINAL: &str = include_str!("../../../tests/fixtures/login/answers.txt");

    fn profile() -> Profile {
        Profile::parse(
            r#"{"nickName":"三木/😀","gender":1,"language":"zh_CN","city":"Shenzhen","province":"Guangdong","country":"CN",
                "avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/x/0",
                "watermark":{"timestamp":1477314187,"appid":"wx4f4bc4dec97d474b"}}"#,
        )
        .expect("a profile")
    }

    #[test]
    fn answers_are_those_of_the_original_byte_for_byte() {
        let profile = profile();
        let user_info = UserInfo { open_id: "oU1", union_id: None, profile: &profile };
        let (id, skey) = ("75ccc3e5a46ad94b2498925a67c23e67", "4c748accc49ddc4dbfa8b50cd4786cde");
        let ours = [
            logged_in(true, id, skey, &user_info),
            logged_in(false, id, "308e769ca4a1f679ecf3aaa51f291d1e", &user_info),
            checked(&user_info),
            refused(&Refusal::NoSession),
            refused(&Refusal::Decrypt),
            refused(&Refusal::Code),
            refused(&Refusal::WeChatRefused(None)),
            refused(&Refusal::WeChatAway),
            refused(&Refusal::Para),
            refused(&Refusal::NoInterface),
            refused(&Refusal::NoPara),
            refused(&Refusal::NotJson),
            refused(&Refusal::UnknownInterface),
            refused(&Refusal::NoSessionKey),
        ];

        let theirs: Vec<&str> = ORIGINAL.lines().collect();
        assert_eq!(theirs.len(), ours.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn a_refusal_of_wechat_says_why() {
        let answer = refused(&Refusal::WeChatRefused(Some("40125 invalid appsecret".into())));

        assert!(
            answer.starts_with(r#"{"returnCode":1007,"returnMessage":"WEIXIN_RETURN_ERR (40125 invalid appsecret)""#)
        );
        assert_eq!(decrypted("三\"").matches(r#""returnData":"\u4e09\"""#).count(), 1);
    }
}

//! Calls as the four server SDKs send them; unknown fields, `version` and `componentName` are ignored, as the original did.

use serde_json::Value;

use super::Refusal;
use crate::protocol::text::without_bom;

/// One call. Its fields are credentials: it has no `Debug` and is never logged.
pub enum Call {
    /// `qcloud.cam.id_skey`: a client logs in.
    Login {
        /// From `wx.login`.
        code: String,
        /// From `wx.getUserInfo`; absent: login by the code alone.
        data: Option<EncryptedData>,
    },
    /// `qcloud.cam.auth`: is this session valid?
    Check {
        /// The session.
        id: String,
        /// Its secret.
        skey: String,
    },
    /// `qcloud.cam.decrypt`: decrypts data with the session's key.
    Decrypt {
        /// The session.
        id: String,
        /// Its secret.
        skey: String,
        /// The data.
        data: EncryptedData,
    },
}

/// Open data of WeChat, in base64.
#[derive(Clone, Eq, PartialEq)]
pub struct EncryptedData {
    /// The ciphertext.
    pub data: String,
    /// The initialisation vector; absent in the oldest form, where it is the key.
    pub iv: Option<String>,
}

impl Call {
    /// Parses a request body.
    ///
    /// # Errors
    ///
    /// With the code that the original has for it.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let body: Value = serde_json::from_slice(without_bom(body)).map_err(|_| Refusal::NotJson)?;
        let interface = &body["interface"];
        let name = present(&interface["interfaceName"]).ok_or(Refusal::NoInterface)?;
        let para = present(&interface["para"]).ok_or(Refusal::NoPara)?;
        let required = |field: &str| text(&para[field]).ok_or(Refusal::Para);
        let data = || EncryptedData::parse(para);
        match name.as_str() {
            Some("qcloud.cam.id_skey") => Ok(Self::Login { code: required("code")?, data: data()? }),
            Some("qcloud.cam.auth") => Ok(Self::Check { id: required("id")?, skey: required("skey")? }),
            Some("qcloud.cam.decrypt") => {
                let (id, skey) = (required("id")?, required("skey")?);
                Ok(Self::Decrypt { id, skey, data: data()?.ok_or(Refusal::Para)? })
            }
            // `initdata` among them: it dropped the database of the original.
            _ => Err(Refusal::UnknownInterface),
        }
    }
}

impl EncryptedData {
    fn parse(para: &Value) -> Result<Option<Self>, Refusal> {
        let optional = |field: &str| match &para[field] {
            Value::Null => Ok(None),
            value => text(value).ok_or(Refusal::Para).map(Some),
        };
        let (data, iv) = (optional("encrypt_data")?, optional("iv")?);
        Ok(data.filter(|data| !data.is_empty()).map(|data| Self { data, iv }))
    }
}

fn present(value: &Value) -> Option<&Value> {
    Some(value).filter(|value| !value.is_null())
}

/// A parameter: text, or a number as its text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> Refusal {
        Call::parse(body.as_bytes()).err().unwrap_or_else(|| panic!("accepted {body}"))
    }

    fn of(name: &str, para: &str) -> String {
        format!(r#"{{"interface":{{"interfaceName":"qcloud.cam.{name}","para":{para}}}}}"#)
    }

    #[test]
    fn logins_of_every_sdk_are_read_alike() {
        let node = r#"{"version":1,"componentName":"MA","interface":{"interfaceName":"qcloud.cam.id_skey","para":{"code":"001EWY","encrypt_data":"DNlJ/+A0=","iv":"r7BXXKkLb8qrSNn05n7qiA=="}}}"#;
        let java = r#"{"componentName":"MA","interface":{"para":{"code":"001EWY","encrypt_data":"DNlJ/+A0=","iv":"r7BXXKkLb8qrSNn05n7qiA=="},"interfaceName":"qcloud.cam.id_skey"},"version":1}"#;
        let php = node.replace('/', "\\/");
        let data = EncryptedData { data: "DNlJ/+A0=".into(), iv: Some("r7BXXKkLb8qrSNn05n7qiA==".into()) };

        for body in [node, java, &php, &format!("\u{feff}{node}")] {
            match Call::parse(body.as_bytes()) {
                Ok(Call::Login { code, data: Some(found) }) => assert!(code == "001EWY" && found == data, "{body}"),
                _ => panic!("not a login: {body}"),
            }
        }
    }

    #[test]
    fn a_login_needs_a_code_and_no_more() {
        for para in
            [r#"{"code":"c"}"#, r#"{"code":"c","encrypt_data":"","iv":""}"#, r#"{"code":"c","encrypt_data":null}"#]
        {
            let call = Call::parse(of("id_skey", para).as_bytes());
            assert!(matches!(call, Ok(Call::Login { data: None, .. })), "{para}");
        }
        let number = Call::parse(of("id_skey", r#"{"code":12,"encrypt_data":"x","iv":"old"}"#).as_bytes());
        assert!(
            matches!(number, Ok(Call::Login { code, data: Some(data) }) if code == "12" && data.iv.as_deref() == Some("old"))
        );
        for para in ["{}", r#"{"code":null}"#, r#"{"code":["c"]}"#, r#"{"code":"c","iv":{}}"#, "[]", "\"code\"", "1"] {
            assert_eq!(refusal(&of("id_skey", para)), Refusal::Para, "{para}");
        }
    }

    #[test]
    fn a_check_needs_texts() {
        let call = Call::parse(of("auth", r#"{"skey":"SK1","id":"ID1"}"#).as_bytes());
        assert!(matches!(call, Ok(Call::Check { id, skey }) if id == "ID1" && skey == "SK1"));
        for para in [
            r#"{"id":"a"}"#,
            r#"{"id":"a","skey":null}"#,
            r#"{"id":["a"],"skey":"b"}"#,
            r#"{"id":{"$ne":1},"skey":"b"}"#,
        ] {
            assert_eq!(refusal(&of("auth", para)), Refusal::Para, "{para}");
        }
        assert_eq!(refusal(&of("decrypt", r#"{"id":"a","skey":"b"}"#)), Refusal::Para);
    }

    #[test]
    fn what_is_no_call_has_the_codes_of_the_original() {
        for (body, expected) in [
            ("", Refusal::NotJson),
            ("x=1", Refusal::NotJson),
            ("{\"a\":\"\\ud800\"}", Refusal::NotJson),
            ("[]", Refusal::NoInterface),
            ("5", Refusal::NoInterface),
            ("null", Refusal::NoInterface),
            (r#"{"interface":"qcloud.cam.auth"}"#, Refusal::NoInterface),
            (r#"{"interface":{"interfaceName":null,"para":{}}}"#, Refusal::NoInterface),
            (r#"{"interface":{"interfaceName":"qcloud.cam.auth"}}"#, Refusal::NoPara),
            (r#"{"interface":{"interfaceName":"qcloud.cam.auth","para":null}}"#, Refusal::NoPara),
            (r#"{"interface":{"interfaceName":"qcloud.cam.foo","para":{}}}"#, Refusal::UnknownInterface),
            (r#"{"interface":{"interfaceName":1,"para":{"a":1}}}"#, Refusal::UnknownInterface),
            (
                r#"{"interface":{"interfaceName":"qcloud.cam.initdata","para":{"appid":"x"}}}"#,
                Refusal::UnknownInterface,
            ),
        ] {
            assert_eq!(refusal(body), expected, "{body}");
        }
        assert_eq!(refusal(&"[".repeat(1 << 20)), Refusal::NotJson);
    }
}

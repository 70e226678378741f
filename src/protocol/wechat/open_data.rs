//! Data that WeChat encrypts with a user's `session_key`: AES-128-CBC with PKCS#7 padding. It is not authenticated: its sender can
//! flip bits through the iv, so an identity in it counts only if it is the one that WeChat has named.

use aes::Aes128;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::Decryptor;
use cbc::cipher::BlockModeDecrypt;
use cbc::cipher::KeyIvInit;
use cbc::cipher::block_padding::Pkcs7;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use serde_json::Map;
use serde_json::Value;
use sha2::Sha256;

use crate::protocol::login::EncryptedData;
use crate::protocol::text::hex;

/// The data cannot be decrypted with this key, or it is not this user's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the data is not encrypted with this session_key, or it was changed")]
pub struct NotOpened;

/// Decrypts `data` with `session_key`, in base64 as WeChat gives it; without an iv the key is the iv.
///
/// # Errors
///
/// If a length or the padding is wrong, or the result is not UTF-8.
pub fn open(session_key: &str, data: &EncryptedData) -> Result<String, NotOpened> {
    let key = STANDARD.decode(session_key).map_err(|_| NotOpened)?;
    let iv = match &data.iv {
        Some(iv) => STANDARD.decode(iv).map_err(|_| NotOpened)?,
        None => key.clone(),
    };
    let data = STANDARD.decode(&data.data).map_err(|_| NotOpened)?;
    let decryptor = Decryptor::<Aes128>::new_from_slices(&key, &iv).map_err(|_| NotOpened)?;
    let mut plain = vec![0; data.len()];
    let length = decryptor.decrypt_padded_b2b::<Pkcs7>(&data, &mut plain).map_err(|_| NotOpened)?.len();
    plain.truncate(length);
    String::from_utf8(plain).map_err(|_| NotOpened)
}

/// The data in the plain text, made for this app.
///
/// # Errors
///
/// If it is not.
pub fn app_data(plain: &str, app_id: &str) -> Result<Map<String, Value>, NotOpened> {
    let data: Map<String, Value> = serde_json::from_str(plain).map_err(|_| NotOpened)?;
    let is_for_app = data.get("watermark").and_then(|watermark| watermark.get("appid")).is_some_and(|id| id == app_id);
    if is_for_app { Ok(data) } else { Err(NotOpened) }
}

/// The user's data in the plain text of a login: made for this app, and about the user that WeChat has named.
///
/// # Errors
///
/// If it is not.
pub fn user_data(plain: &str, app_id: &str, open_id: &str) -> Result<Map<String, Value>, NotOpened> {
    let data = app_data(plain, app_id)?;
    let is_of_user = data.get("openId").is_none_or(|id| id == open_id);
    if is_of_user { Ok(data) } else { Err(NotOpened) }
}

/// Signs `message` for WeChat's calls about a user: HMAC-SHA256 whose key is the base64 text of `session_key`.
pub fn signature(session_key: &str, message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(session_key.as_bytes()).expect("a key may have any length");
    mac.update(message);
    hex(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    const APP: &str = "wx4f4bc4dec97d474b";

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vectors {
        open_data: Vec<OpenData>,
        hmac: Vec<Signed>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct OpenData {
        session_key: String,
        iv: String,
        encrypted_data: String,
        encrypted_data_without_iv: Option<String>,
        plain: String,
        flipped_iv: Option<String>,
        flipped_iv_plain: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Signed {
        session_key: String,
        data: String,
        signature: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../../../tests/fixtures/login/vectors.json")).expect("vectors")
    }

    fn with(data: &str, iv: Option<&str>) -> EncryptedData {
        EncryptedData { data: data.into(), iv: iv.map(Into::into) }
    }

    #[test]
    fn data_of_wechat_is_opened() {
        let vectors = vectors();
        assert_eq!((vectors.open_data.len(), vectors.hmac.len()), (2, 2));
        for vector in &vectors.open_data {
            let opened = open(&vector.session_key, &with(&vector.encrypted_data, Some(&vector.iv)));
            assert_eq!(opened.as_ref(), Ok(&vector.plain));
            let open_id = serde_json::from_str::<Value>(&vector.plain).expect("JSON")["openId"].clone();
            let open_id = open_id.as_str().expect("text");
            assert!(user_data(&vector.plain, APP, open_id).is_ok());
            assert!(
                user_data(&vector.plain, "wxother", open_id).is_err() && user_data(&vector.plain, APP, "o").is_err()
            );
            if let Some(old) = &vector.encrypted_data_without_iv {
                assert_eq!(open(&vector.session_key, &with(old, None)).as_ref(), Ok(&vector.plain));
            }
        }
        for vector in vectors.hmac {
            assert_eq!(signature(&vector.session_key, vector.data.as_bytes()), vector.signature);
        }
    }

    #[test]
    fn a_flipped_bit_of_the_iv_makes_another_user_whom_nobody_believes() {
        let vector = &vectors().open_data[1];
        let flipped = with(&vector.encrypted_data, vector.flipped_iv.as_deref());

        let plain = open(&vector.session_key, &flipped).expect("it decrypts");

        assert_eq!(Some(&plain), vector.flipped_iv_plain.as_ref());
        assert!(user_data(&plain, APP, "oUEST0001").is_ok(), "the attack that the comparison is for");
        assert_eq!(user_data(&plain, APP, "oTEST0001"), Err(NotOpened));
    }

    #[test]
    fn lengths_and_padding_are_strict() {
        let vector = &vectors().open_data[0];
        let (key, data, iv) = (&vector.session_key, &vector.encrypted_data, Some(vector.iv.as_str()));
        for (key, data, iv) in [
            ("", data.as_str(), iv),
            ("AAAA", data, iv),
            (key, "", iv),
            (key, "AAAA", iv),
            (key, data, Some("")),
            (key, data, Some("old")),
            (key, data, Some("AAAA")),
            (key, data, None),
            (key, &data[..data.len() - 24], iv),
            ("not base64!", data, iv),
        ] {
            assert_eq!(open(key, &with(data, iv)), Err(NotOpened), "{key} {iv:?}");
        }
        for text in ["[]", "1", "", "{}", r#"{"watermark":{}}"#, r#"{"watermark":{"appid":["wx4f4bc4dec97d474b"]}}"#] {
            assert_eq!(user_data(text, APP, "o"), Err(NotOpened), "{text}");
        }
        assert!(user_data(r#"{"watermark":{"appid":"wx4f4bc4dec97d474b"},"openGId":"g"}"#, APP, "o").is_ok());
        assert!(user_data(r#"{"openId":null,"watermark":{"appid":"wx4f4bc4dec97d474b"}}"#, APP, "o").is_err());
    }

    proptest! {
        /// No change of data or iv makes another user's identity believed.
        #[test]
        fn flipped_bits_never_log_in_as_another(flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..4)) {
            let vector = &vectors().open_data[1];
            let mut sealed = STANDARD.decode(&vector.iv).expect("base64");
            sealed.extend(STANDARD.decode(&vector.encrypted_data).expect("base64"));
            for (at, bit) in flips {
                let at = at.index(sealed.len());
                sealed[at] ^= 1 << bit;
            }
            let (iv, data) = sealed.split_at(16);
            let data = with(&STANDARD.encode(data), Some(&STANDARD.encode(iv)));
            if let Ok(plain) = open(&vector.session_key, &data)
                && let Ok(user) = user_data(&plain, APP, "oTEST0001")
            {
                prop_assert!(user.get("openId").is_none_or(|id| id == "oTEST0001"));
                prop_assert_eq!(&user["watermark"]["appid"], APP);
            }
        }

        #[test]
        fn any_text_is_answered(key: String, data: String, iv: Option<String>) {
            let _ = open(&key, &EncryptedData { data, iv });
        }
    }
}

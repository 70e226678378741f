//! WeChat, as far as logins need it, and what clients bring from it.

use aes::Aes128;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::Encryptor;
use cbc::cipher::BlockModeEncrypt;
use cbc::cipher::KeyIvInit;
use cbc::cipher::block_padding::Pkcs7;
use serde_json::json;

use crate::filled_store::APP;

/// The key of every user.
const SESSION_KEY: [u8; 16] = *b"a key of a user.";
const IV: [u8; 16] = [7; 16];

/// The answer to a request at this path: a code `USERxNUMBER` logs `USER` in. `None` if the path is not one of WeChat's.
pub(crate) fn answer(path: &str) -> Option<Vec<u8>> {
    let query = path.strip_prefix("/sns/jscode2session?")?;
    let code = query.split('&').find_map(|parameter| parameter.strip_prefix("js_code="))?;
    let user = code.split('x').next()?;
    let body = json!({ "openid": user, "session_key": STANDARD.encode(SESSION_KEY) }).to_string();
    let length = body.len();
    Some(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
}

/// The data that a client of this user got from `wx.getUserInfo`, encrypted, and its iv.
pub(crate) fn data(user: &str) -> (String, String) {
    let plain = json!({
        "openId": user, "nickName": "三木", "gender": 1, "language": "zh_CN", "city": "Shenzhen", "province": "Guangdong",
        "country": "CN", "avatarUrl": "http://wx.qlogo.cn/mmopen/vi_32/x/0",
        "watermark": { "timestamp": 1_477_314_187, "appid": APP },
    });
    let plain = plain.to_string();
    let mut sealed = vec![0; plain.len() + 16];
    let encryptor = Encryptor::<Aes128>::new_from_slices(&SESSION_KEY, &IV).expect("their lengths are right");
    let length = encryptor.encrypt_padded_b2b::<Pkcs7>(plain.as_bytes(), &mut sealed).expect("it has room").len();
    (STANDARD.encode(&sealed[..length]), STANDARD.encode(IV))
}

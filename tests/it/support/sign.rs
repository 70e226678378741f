//! Signatures, implemented again from their definitions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use sha1::Digest;
use sha1::Sha1;
use sha2::Sha256;

use super::native::key_bytes;

/// SHA-1 of `text` as lower-case hexadecimal digits.
pub(crate) fn sha1_hex(text: &str) -> String {
    Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The Wafer signature of `data`.
pub(crate) fn wafer_signature(data: &str, key: &str) -> String {
    sha1_hex(&format!("{data}{key}"))
}

/// One signature of a webhook by Standard Webhooks 1.0.
pub(crate) fn standard_signature(key: &str, id: &str, timestamp: &str, body: &str) -> String {
    standard_signature_of(&key_bytes(key), id, timestamp, body)
}

/// The same with the bytes of the key.
pub(crate) fn standard_signature_of(key: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

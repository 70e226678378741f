//! Signatures: Wafer's SHA-1 and the HMAC of Standard Webhooks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use sha1::Digest;
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::text::hex;

/// Prefix of a Standard Webhooks secret.
pub const WEBHOOK_SECRET_PREFIX: &str = "whsec_";

/// The Wafer signature of `data`: `sha1(data + key)` as 40 lower-case hexadecimal digits.
///
/// It is not an HMAC and has no separator, because the old SDKs sign and verify this way.
///
/// ```
/// use wafergate::protocol::signature;
///
/// let data = r#"[{"tunnelIds":["t-2"],"type":"close"}]"#;
/// assert_eq!(signature::wafer(data, "k"), "354d457959f434cb7d7f3827da243ada43a65fb2");
/// ```
pub fn wafer(data: &str, key: &str) -> String {
    hex(&Sha1::new().chain_update(data).chain_update(key).finalize())
}

/// Whether `signature` is the Wafer signature of `data`, in time that does not depend on where they differ.
pub fn wafer_matches(data: &str, key: &str, signature: &str) -> bool {
    WaferData::new(data).is_signed(key, signature)
}

/// Data with a Wafer signature, hashed once however many keys are tried.
#[derive(Clone)]
pub struct WaferData(Sha1);

impl WaferData {
    /// Hashes `data`.
    pub fn new(data: &str) -> Self {
        Self(Sha1::new().chain_update(data))
    }

    /// Whether `signature` was made with `key`, in time that does not depend on where they differ.
    pub fn is_signed(&self, key: &str, signature: &str) -> bool {
        let expected = hex(&self.0.clone().chain_update(key).finalize());
        expected.as_bytes().ct_eq(signature.as_bytes()).into()
    }
}

/// A key for HMAC-SHA256.
#[derive(Clone)]
pub struct HmacKey(Hmac<Sha256>);

impl HmacKey {
    /// Prepares `key`: see [`hmac_key`].
    pub fn new(key: &str) -> Self {
        Self(Hmac::new_from_slice(&hmac_key(key)).expect("an HMAC takes a key of any length"))
    }

    /// A webhook signature of Standard Webhooks 1.0: `v1,` and the Base64 HMAC of `id.timestamp.body`.
    pub fn sign_webhook(&self, id: &str, unix_secs: u64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(unix_secs.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// The HMAC of `data`.
    pub fn sign(&self, data: &[u8]) -> Vec<u8> {
        let mut mac = self.0.clone();
        mac.update(data);
        mac.finalize().into_bytes().to_vec()
    }

    /// Whether `signature` is the HMAC of `data`, in time that does not depend on where they differ.
    pub fn verifies(&self, data: &[u8], signature: &[u8]) -> bool {
        let mut mac = self.0.clone();
        mac.update(data);
        mac.verify_slice(signature).is_ok()
    }
}

/// The HMAC key bytes of a key: the decoded rest behind `whsec_`, or the text itself.
///
/// A key that starts with `whsec_` without valid Base64 behind it is used as text too.
pub fn hmac_key(key: &str) -> Vec<u8> {
    key.strip_prefix(WEBHOOK_SECRET_PREFIX)
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .unwrap_or_else(|| key.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from the SDKs: `wafer-protocol`, part 1, key `k`.
    const VECTORS: [(&str, &str); 5] = [
        (r#"[{"tunnelIds":["t-2"],"type":"close"}]"#, "354d457959f434cb7d7f3827da243ada43a65fb2"),
        (r#"[{"type":"close","tunnelIds":["t-2"]}]"#, "a1f3c92f765a4265a20bbfd398c08a9b25dbaf9b"),
        (r#"[{"type":"close","tunnelIds":["t-2"],"content":null}]"#, "9b5de4fa45a71324a73e49621be19b53bc9cf1ad"),
        (
            r#"[{"tunnelIds":["t-1"],"type":"message","content":"{\"type\":\"型/😀\",\"content\":{\"a\":\"é/\\\"\"}}"}]"#,
            "0f426501655127a3af701d383de1dc2b8e930fe6",
        ),
        (
            r#"{"skey":"k","receiveUrl":"http://127.0.1.15/t/abc","protocolType":"wss"}"#,
            "bbb72bbd8c87133fac0bea60dbfd16736d2e63ff",
        ),
    ];

    #[test]
    fn wafer_signatures_equal_those_of_the_sdks() {
        for (data, signature) in VECTORS {
            assert_eq!(wafer(data, "k"), signature, "{data}");
            assert!(wafer_matches(data, "k", signature));
        }
    }

    #[test]
    fn a_wafer_signature_is_compared_whole() {
        let (data, signature) = VECTORS[0];

        assert!(!wafer_matches(data, "k", ""));
        assert!(!wafer_matches(data, "k", &signature[..39]));
        assert!(!wafer_matches(data, "k", &signature.to_uppercase()));
        assert!(!wafer_matches(data, "l", signature));
    }

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn standard_webhook_signatures_equal_the_reference() {
        let key = HmacKey::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;

        let signature = key.sign_webhook("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);

        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_key_that_is_not_a_webhook_secret_stands_for_its_own_bytes() {
        assert_eq!(hmac_key("kéy"), "kéy".as_bytes());
        assert_eq!(hmac_key("whsec_?"), b"whsec_?");
    }
}

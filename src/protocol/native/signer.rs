//! Signs requests by RFC 9421, as a business server does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;
use sha2::Sha256;

use crate::protocol::signature::HmacKey;

/// A request to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// Path and query as they are sent.
    pub target: &'a str,
    /// The body; empty if there is none.
    pub body: &'a [u8],
    /// The tenant's id.
    pub key_id: &'a str,
    /// The time, in seconds since 1970.
    pub created_unix_secs: u64,
    /// A text that no other request has.
    pub nonce: &'a str,
}

impl Unsigned<'_> {
    /// The headers that sign the request.
    ///
    /// ```
    /// use wafergate::protocol::native::signer::Unsigned;
    /// use wafergate::protocol::signature::HmacKey;
    ///
    /// let unsigned =
    ///     Unsigned { method: "GET", target: "/v1/users?limit=1", body: b"", key_id: "shop", created_unix_secs: 1, nonce: "n" };
    /// let [digest, input, signature] = unsigned.sign(&HmacKey::new("key"));
    ///
    /// assert_eq!(digest, ("content-digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:".to_owned()));
    /// assert!(input.1.starts_with("sig=(\"@method\" \"@path\" \"@query\" \"content-digest\");created=1;keyid=\"shop\""));
    /// assert!(signature.1.starts_with("sig=:"));
    /// ```
    pub fn sign(&self, key: &HmacKey) -> [(&'static str, String); 3] {
        let Self { method, target, body, key_id, created_unix_secs, nonce } = self;
        let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)));
        let (path, query) = target.split_once('?').map_or((*target, None), |(path, query)| (path, Some(query)));
        let covered = match query {
            Some(_) => r#"("@method" "@path" "@query" "content-digest")"#,
            None => r#"("@method" "@path" "content-digest")"#,
        };
        let parameters =
            format!("{covered};created={created_unix_secs};keyid=\"{key_id}\";nonce=\"{nonce}\";alg=\"hmac-sha256\"");
        let query = query.map(|query| format!("\"@query\": ?{query}\n")).unwrap_or_default();
        let base = format!(
            "\"@method\": {method}\n\"@path\": {path}\n{query}\"content-digest\": {digest}\n\"@signature-params\": {parameters}"
        );
        let signature = STANDARD.encode(key.sign(base.as_bytes()));
        [
            ("content-digest", digest),
            ("signature-input", format!("sig={parameters}")),
            ("signature", format!("sig=:{signature}:")),
        ]
    }
}

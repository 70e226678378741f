//! A tenant key in its signing forms.

use std::sync::Arc;

use sha2::Digest;
use sha2::Sha256;

use crate::protocol::signature::HmacKey;
use crate::secret::Secret;

/// A key that verifies requests and signs webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Key(Arc<Forms>);

struct Forms {
    secret: Secret,
    hmac_key: HmacKey,
    fingerprint: u32,
}

impl Key {
    /// The key for a configured `secret`.
    pub fn new(secret: Secret) -> Self {
        let digest = Sha256::new().chain_update("wafergate key fingerprint\0").chain_update(secret.expose()).finalize();
        let fingerprint = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Self(Arc::new(Forms { hmac_key: HmacKey::new(secret.expose()), fingerprint, secret }))
    }

    /// The key as written, for Wafer signatures.
    pub fn secret(&self) -> &Secret {
        &self.0.secret
    }

    /// The key for HMAC signatures of webhooks.
    pub fn hmac_key(&self) -> &HmacKey {
        &self.0.hmac_key
    }

    /// A number that identifies the key without revealing it.
    pub fn fingerprint(&self) -> u32 {
        self.0.fingerprint
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:08x})", self.0.fingerprint)
    }
}

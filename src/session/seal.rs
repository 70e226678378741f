//! Seals secrets that are stored: `session_key`s, appSecrets, and tokens of repeated calls.
//!
//! The nonce is derived from the content, so the same content in the same place seals to the same bytes: the store can tell whether a
//! key is another one without reading it.

use chacha20poly1305::KeyInit;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::XNonce;
use chacha20poly1305::aead::Aead;
use chacha20poly1305::aead::Payload;
use hkdf::Hkdf;
use hmac::Hmac;
use hmac::Mac;
use sha2::Sha256;
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 24;

/// Seals and opens secrets with keys derived from `server.ticket_key`.
#[derive(Clone)]
pub struct Vault {
    cipher: XChaCha20Poly1305,
    nonces: Hmac<Sha256>,
}

impl Vault {
    /// Derives the keys.
    pub fn new(ticket_key: &[u8]) -> Self {
        let derived = Hkdf::<Sha256>::new(None, ticket_key);
        let key = |purpose: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            derived.expand(purpose, &mut *key).expect("32 bytes are a valid length");
            key
        };
        let cipher = XChaCha20Poly1305::new(&(*key(b"wafergate sessions v1 seal")).into());
        let nonces = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&*key(b"wafergate sessions v1 nonce"));
        Self { cipher, nonces: nonces.expect("a key may have any length") }
    }

    /// Seals `plain` for its place, such as a user and a purpose: it opens there only.
    pub fn seal(&self, place: &[&str], plain: &[u8]) -> Vec<u8> {
        let place = written(place);
        let mut mac = self.nonces.clone();
        mac.update(&place);
        mac.update(plain);
        let mut sealed = mac.finalize().into_bytes()[..NONCE_BYTES].to_vec();
        let nonce = XNonce::try_from(&sealed[..]).expect("24 bytes");
        let payload = Payload { msg: plain, aad: &place };
        sealed.extend(self.cipher.encrypt(&nonce, payload).expect("memory has room"));
        sealed
    }

    /// Opens what was sealed for `place`; none if the key is another one or a bit has changed.
    pub fn open(&self, place: &[&str], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
        let payload = Payload { msg: sealed, aad: &written(place) };
        self.cipher.decrypt(&XNonce::try_from(nonce).ok()?, payload).ok().map(Zeroizing::new)
    }

    /// Opens text.
    pub fn open_text(&self, place: &[&str], sealed: &[u8]) -> Option<Zeroizing<String>> {
        let plain = self.open(place, sealed)?;
        std::str::from_utf8(&plain).ok().map(|text| Zeroizing::new(text.to_owned()))
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

/// The parts of a place, each with its length: no two places are written alike.
fn written(place: &[&str]) -> Vec<u8> {
    place.iter().flat_map(|part| (part.len() as u64).to_be_bytes().into_iter().chain(part.bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: [&str; 3] = ["session_key", "wx", "o1"];

    #[test]
    fn a_secret_opens_in_its_place_only() {
        let vault = Vault::new(b"ticket key");
        let sealed = vault.seal(&PLACE, b"hush");

        assert_eq!(vault.open_text(&PLACE, &sealed).expect("opens").as_str(), "hush");
        assert_eq!(sealed, vault.seal(&PLACE, b"hush"), "the same bytes again");
        assert_ne!(sealed[..NONCE_BYTES], vault.seal(&PLACE, b"Hush")[..NONCE_BYTES]);
        assert_ne!(sealed[..NONCE_BYTES], vault.seal(&["session_key", "wx", "o2"], b"hush")[..NONCE_BYTES]);
        for place in [&["session_key", "wx", "o2"][..], &["session_key", "wxo", "1"], &[]] {
            assert!(vault.open(place, &sealed).is_none(), "{place:?}");
        }
        assert!(Vault::new(b"other").open(&PLACE, &sealed).is_none());
        assert!(!sealed.windows(4).any(|window| window == b"hush"));
    }

    #[test]
    fn a_changed_bit_is_noticed() {
        let vault = Vault::new(b"ticket key");
        let sealed = vault.seal(&PLACE, b"hush");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(vault.open(&PLACE, &changed).is_none(), "{at}");
            assert!(vault.open(&PLACE, &sealed[..at]).is_none(), "{at}");
        }
    }
}

//! Session ids and tokens: 128 random bits each. Wafer's SDKs carry them as two headers, native programs as one token.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::Digest;
use sha2::Sha256;

use crate::protocol::text::hex;
use crate::secret::Secret;

/// Begins every token.
const TOKEN_PREFIX: &str = "wgs_";

/// The SHA-256 of an skey, which is what is stored.
pub type SkeyHash = [u8; 32];

/// Id of a session: 1 to 100 printable ASCII characters. Cheap to clone.
///
/// Ours are `s` and 32 hexadecimal digits, so that PHP takes none for a number; others come from a former server.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(Arc<str>);

/// The text cannot be a session id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a session id has 1 to {} printable ASCII characters", SessionId::MAX_BYTES)]
pub struct InvalidSessionId;

impl SessionId {
    /// Longest id, in bytes: the width of the column in the original's database.
    pub const MAX_BYTES: usize = 100;

    /// Parses an id.
    ///
    /// # Errors
    ///
    /// If no session can have it.
    pub fn new(text: &str) -> Result<Self, InvalidSessionId> {
        let is_id = (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_id { Ok(Self(text.into())) } else { Err(InvalidSessionId) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for SessionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client proves its session with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The session.
    pub id: SessionId,
    /// Its secret.
    pub skey: Secret,
}

impl Credentials {
    /// Those of a new session.
    pub fn new(random: [u8; 32]) -> Self {
        let (id, skey) = random.split_at(16);
        let id = SessionId(format!("s{}", hex(id)).into());
        Self { id, skey: Secret::new(format!("k{}", hex(skey))) }
    }

    /// The same session with another secret.
    #[must_use]
    pub fn renewed(&self, random: [u8; 16]) -> Self {
        Self { id: self.id.clone(), skey: Secret::new(format!("k{}", hex(&random))) }
    }

    /// Those in a token: `wgs_...`, or an id and an skey joined by a dot.
    pub fn of_token(token: &str) -> Option<Self> {
        if let Some(text) = token.strip_prefix(TOKEN_PREFIX)
            && let Ok(bytes) = URL_SAFE_NO_PAD.decode(text)
            && let Ok(random) = bytes.try_into()
        {
            return Some(Self::new(random));
        }
        let (id, skey) = token.split_once('.')?;
        Self::of_pair(id, skey)
    }

    /// Those in the two headers of a Wafer client.
    pub fn of_pair(id: &str, skey: &str) -> Option<Self> {
        let is_skey = (1..=SessionId::MAX_BYTES).contains(&skey.len());
        SessionId::new(id).ok().filter(|_| is_skey).map(|id| Self { id, skey: Secret::new(skey) })
    }

    /// The token.
    pub fn token(&self) -> Secret {
        let bytes = [unhex(self.id.as_str(), 's'), unhex(self.skey.expose(), 'k')];
        Secret::new(match bytes {
            [Some(id), Some(skey)] => format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode([id, skey].concat())),
            // From a former server.
            _ => format!("{}.{}", self.id, self.skey.expose()),
        })
    }

    /// What is stored of the secret.
    pub fn skey_hash(&self) -> SkeyHash {
        hash_skey(self.skey.expose())
    }
}

/// What is stored of an skey.
pub fn hash_skey(skey: &str) -> SkeyHash {
    Sha256::digest(skey).into()
}

/// The 16 bytes behind `letter` and 32 lower-case hexadecimal digits.
fn unhex(text: &str, letter: char) -> Option<[u8; 16]> {
    let digits = text.strip_prefix(letter).filter(|digits| digits.len() == 32)?;
    let is_lower_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(digits, 16).ok().filter(|_| is_lower_hex).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> [u8; 32] {
        std::array::from_fn(|at| u8::try_from(at * 7 % 256).expect("a byte"))
    }

    #[test]
    fn a_token_and_a_pair_name_the_same_session() {
        let credentials = Credentials::new(random());
        let token = credentials.token();
        assert!(token.expose().starts_with("wgs_") && token.expose().len() == 4 + 43);

        let pair = format!("{}.{}", credentials.id, credentials.skey.expose());
        for text in [token.expose(), &pair] {
            let read = Credentials::of_token(text).expect("credentials");
            assert_eq!((&read.id, read.skey_hash()), (&credentials.id, credentials.skey_hash()), "{text}");
        }
        assert!(credentials.id.as_str().starts_with('s') && credentials.skey.expose().starts_with('k'));
        assert!(!format!("{credentials:?}").contains(credentials.skey.expose()));
    }

    #[test]
    fn a_renewed_session_keeps_its_id_only() {
        let first = Credentials::new(random());
        let second = first.renewed([9; 16]);

        assert_eq!(first.id, second.id);
        assert_ne!(first.skey_hash(), second.skey_hash());
        assert_eq!(Credentials::of_token(second.token().expose()).expect("one").skey_hash(), second.skey_hash());
    }

    #[test]
    fn sessions_of_a_former_server_have_tokens_too() {
        let old = Credentials::of_pair("75ccc3e5a46ad94b2498925a67c23e67", "4c748accc49ddc4dbfa8b50cd4786cde")
            .expect("a pair");

        assert_eq!(old.token().expose(), "75ccc3e5a46ad94b2498925a67c23e67.4c748accc49ddc4dbfa8b50cd4786cde");
        assert_eq!(Credentials::of_token(old.token().expose()).expect("one").id, old.id);
    }

    #[test]
    fn what_no_session_can_have_is_refused() {
        let long = "x".repeat(101);
        for token in [
            "",
            "wgs_",
            "wgs_AAAA",
            "a",
            ".",
            "a.",
            ".b",
            "a b.c",
            &format!("{long}.c"),
            &format!("c.{long}"),
            "\" or 1=1 #",
        ] {
            assert!(Credentials::of_token(token).is_none(), "{token}");
        }
        assert!(SessionId::new("三").is_err() && SessionId::new("\n").is_err());
    }
}

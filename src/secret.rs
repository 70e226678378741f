//! Strings that must not be printed: keys and passwords. Masked in `Debug`, compared in constant time.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use serde::Serializer;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Printed in place of a secret.
const MASK: &str = "******";

/// A secret string. It prints as asterisks; [`Secret::expose`] is the only way to read it.
///
/// Two are compared by [`Secret::matches`] only, and its memory is wiped when it is dropped.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps `text`, which is kept exactly as it is: no trimming, no decoding.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself. Callers must not print it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is empty, which means unset.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `other` is the same secret, in time that depends on the lengths only.
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "\"\"" } else { MASK })
    }
}

impl Serialize for Secret {
    /// Writes the mask, so that a printed configuration shows that a secret is set, not which.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { MASK })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new("hunter2");

        assert_eq!(format!("{secret:?}"), MASK);
        assert_eq!(serde_json::to_string(&secret).expect("serialises"), "\"******\"");
    }

    #[test]
    fn secrets_match_only_when_every_byte_does() {
        let secret = Secret::new("kéy-密钥 +/=");

        assert!(secret.matches("kéy-密钥 +/="));
        assert!(!secret.matches("kéy-密钥 +/"));
        assert!(!secret.matches("kéy-密钥 +/= "));
        assert!(!secret.matches(""));
    }
}

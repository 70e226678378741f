//! Names of users and groups, given by a business server.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// Longest name, in characters.
pub const MAX_CHARS: usize = 128;

/// The name of a user or of a group: 1 to 128 characters, none of them a control character. Cheap to clone.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(Arc<str>);

/// The text is not a valid name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a name has 1 to {MAX_CHARS} characters, none of them a control character, and is not \".\" or \"..\"")]
pub struct InvalidName;

impl Name {
    /// Parses `text` as a name.
    ///
    /// # Errors
    ///
    /// If it is empty, too long, unusable in a URL path, or contains a control character.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let chars = text.chars().take(MAX_CHARS + 1).count();
        let is_name = (1..=MAX_CHARS).contains(&chars) && !text.chars().any(char::is_control);
        if is_name && text != "." && text != ".." { Ok(Self(text.into())) } else { Err(InvalidName) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_printable() {
        for good in ["a", "房间 1", "a/b?c#d%", "...", &"é".repeat(128)] {
            assert_eq!(Name::new(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", ".", "..", "a\nb", "\u{7f}", "\u{85}", &"é".repeat(129)] {
            assert_eq!(Name::new(bad), Err(InvalidName), "{bad:?}");
        }
    }
}

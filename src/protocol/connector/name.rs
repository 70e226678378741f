//! Names of connectors, and the URL prefix by which a tunnel is requested for one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name, in bytes.
const MAX_BYTES: usize = 32;

/// The name of a connector: 1 to 32 of `a-z`, `0-9` and `-`. Cheap to clone.
///
/// ```
/// use wafergate::protocol::connector::ConnectorName;
///
/// assert_eq!("ann-laptop".parse::<ConnectorName>()?.as_str(), "ann-laptop");
/// assert!("Ann".parse::<ConnectorName>().is_err());
/// assert_eq!(ConnectorName::of("Ann_Li", "MacBook.local").as_str(), "ann-li-macbook-local");
/// # Ok::<(), wafergate::protocol::connector::InvalidName>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectorName(Arc<str>);

/// The text is no name of a connector.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the name of a connector has 1 to {MAX_BYTES} characters: lower-case letters a-z, digits and -")]
pub struct InvalidName;

impl ConnectorName {
    /// The name of a user's machine: lower-cased, with `-` for each run of other characters.
    pub fn of(user: &str, host: &str) -> Self {
        let mut name = String::new();
        for char in format!("{user}-{host}").chars() {
            match char.to_ascii_lowercase() {
                known @ ('a'..='z' | '0'..='9') => name.push(known),
                _ if name.ends_with('-') || name.is_empty() => {}
                _ => name.push('-'),
            }
        }
        name.truncate(MAX_BYTES);
        match name.trim_end_matches('-') {
            "" => Self("laptop".into()),
            name => Self(name.into()),
        }
    }

    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConnectorName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_of_a_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(is_of_a_name);
        if is_name { Ok(Self(text.into())) } else { Err(InvalidName) }
    }
}

impl fmt::Display for ConnectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Splits `/@NAME` off a path: the name, as it stands there, and the rest.
///
/// ```
/// use wafergate::protocol::connector::split_prefix;
///
/// assert_eq!(split_prefix("/@ann/get/wsurl"), Some(("ann", "/get/wsurl")));
/// assert_eq!(split_prefix("/@ann"), Some(("ann", "")));
/// assert_eq!(split_prefix("/get/wsurl"), None);
/// ```
pub fn split_prefix(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/@")?;
    Some(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_is_a_name() {
        for good in ["a", "ann", "ann-2", "-", &"x".repeat(32)] {
            assert_eq!(good.parse::<ConnectorName>().expect("a name").to_string(), good);
        }
        for bad in ["", "Ann", "ann_2", "ann.local", "ann/x", "安", &"x".repeat(33)] {
            assert_eq!(bad.parse::<ConnectorName>(), Err(InvalidName), "{bad}");
        }
    }

    #[test]
    fn every_machine_has_a_name() {
        for (user, host, name) in [
            ("ann", "laptop", "ann-laptop"),
            ("CORP\\Ann", "DESKTOP-1", "corp-ann-desktop-1"),
            ("安", "机器", "laptop"),
            ("", "", "laptop"),
            ("a", &"b".repeat(40), &format!("a-{}", "b".repeat(30))),
        ] {
            let own = ConnectorName::of(user, host);
            assert_eq!(own.as_str(), name);
            assert_eq!(own.as_str().parse(), Ok(own));
        }
    }
}

//! Identifiers, each with a type of its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::HEXLOWER;

/// Id of a tunnel: 128 random bits, written as `t` and 32 lower-case hexadecimal digits.
///
/// The leading letter is for PHP, which converts array keys that consist of digits into integers.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TunnelId(u128);

/// The text is not a tunnel id that this gateway could have issued.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a tunnel id is the letter t and 32 lower-case hexadecimal digits")]
pub struct InvalidTunnelId;

impl TunnelId {
    /// Length of the written form, in bytes.
    pub const TEXT_BYTES: usize = 33;

    /// The id made of these random bytes.
    pub fn from_bytes(random: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(random))
    }

    /// The 16 bytes that the id was made of.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl FromStr for TunnelId {
    type Err = InvalidTunnelId;

    /// Accepts only the one written form, so that an id has a single spelling.
    fn from_str(text: &str) -> Result<Self, InvalidTunnelId> {
        let digits = text.strip_prefix('t').ok_or(InvalidTunnelId)?;
        let mut id = [0; 16];
        if digits.len() != 32 || HEXLOWER.decode_mut(digits.as_bytes(), &mut id).is_err() {
            return Err(InvalidTunnelId);
        }
        Ok(Self::from_bytes(id))
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b't'; Self::TEXT_BYTES];
        HEXLOWER.encode_mut(&self.to_bytes(), &mut text[1..]);
        f.write_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Id of a node, for one run: 128 random bits, drawn when it joins the cluster. A restarted node gets another one.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId(u128);

/// The text is not a node id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a node id is 32 hexadecimal digits")]
pub struct InvalidNodeId;

impl NodeId {
    /// The id made of these random bytes.
    pub fn from_bytes(random: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(random))
    }

    /// The 16 bytes that the id was made of.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, InvalidNodeId> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidNodeId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidNodeId)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Id of a tenant: the `tcId` of a Wafer program. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant id `text`.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Longest id, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Whether `text` can be a tenant id, which is used in headers, HTTP signatures and engine keys.
    pub fn is_valid(text: &str) -> bool {
        let is_of_an_id = |byte: u8| byte.is_ascii_graphic() && !b":\"\\/,;".contains(&byte);
        (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(is_of_an_id)
    }

    /// The id as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_id_is_read_back_from_what_it_prints() {
        let id = TunnelId::from_bytes(*b"\x00\x01\x7f\x80\xff..........!");

        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), TunnelId::TEXT_BYTES);
        assert!(id.to_string().starts_with("t00017f80ff"));
    }

    #[test]
    fn a_node_id_is_read_back_from_what_it_prints() {
        let id = NodeId::from_bytes(*b"\x00\x01\x7f\x80\xff..........!");

        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("".parse::<NodeId>(), Err(InvalidNodeId));
        assert_eq!(format!("+{}", &id.to_string()[1..]).parse::<NodeId>(), Err(InvalidNodeId));
    }

    #[test]
    fn only_one_spelling_is_a_tunnel_id() {
        let good = TunnelId::from_bytes([0xab; 16]).to_string();

        for bad in [
            "",
            "t",
            &good[1..],
            &good.to_uppercase(),
            &good.replacen('a', "A", 1),
            &format!("{good}0"),
            &good.replacen("ab", "+b", 1),
            &good.replacen("ab", "é", 1),
        ] {
            assert_eq!(bad.parse::<TunnelId>(), Err(InvalidTunnelId), "{bad:?}");
        }
    }
}

//! The value of a claim: which node has the tunnel. Pure: encoding, and what a reading of it means.
//!
//! Kind, 1 byte; token, 16 bytes; of an owned one also its node, 16 bytes, and when its connect URL expires, in decimal
//! seconds since 1970. Scripts read the same places. Nodes of the last release write the token alone.

use crate::engine::Located;
use crate::engine::Token;
use crate::id::NodeId;

/// The connect URL is used, and this node has the tunnel or is about to open it.
const OWNED: u8 = b'o';
/// Length up to the expiry.
const OWNED_BYTES: usize = 33;

/// An owned claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    /// All zero once the connect URL has expired.
    pub(super) token: Token,
    pub(super) owner: NodeId,
    /// When the connect URL expires, in seconds since 1970; 0 if it has.
    pub(super) expires_secs: u64,
}

impl Entry {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = vec![OWNED];
        bytes.extend(self.token);
        bytes.extend(self.owner.to_bytes());
        bytes.extend(self.expires_secs.to_string().bytes());
        bytes
    }

    /// The node that a value names; `None` for a closed tunnel, or a claim of the last release.
    pub(super) fn owner(bytes: &[u8]) -> Option<NodeId> {
        let names_one = bytes.len() > OWNED_BYTES && bytes[0] == OWNED;
        let owner = bytes.get(17..OWNED_BYTES).filter(|_| names_one)?;
        Some(NodeId::from_bytes(owner.try_into().ok()?))
    }
}

/// The other nodes in order, read after the claims.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Live nodes.
    pub(super) living: Vec<NodeId>,
    /// Live nodes that do not write all their tunnels into claims, or may not have done so again since a loss.
    pub(super) incomplete: Vec<NodeId>,
    /// Whether claims of any node may be missing.
    pub(super) is_doubtful: bool,
}

/// What values of claims mean. A node that is not alive holds no tunnel: its successor closes them.
pub(super) fn located(values: &[Option<Vec<u8>>], view: View) -> Located {
    let owner = |value: &Option<Vec<u8>>| {
        let owner = Entry::owner(value.as_deref()?)?;
        view.living.binary_search(&owner).is_ok().then_some(owner)
    };
    let owners = values.iter().map(owner).collect();
    Located { owners, beside: if view.is_doubtful { view.living } else { view.incomplete } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn owned(number: u8) -> Option<Vec<u8>> {
        Some(Entry { token: [9; 16], owner: node(number), expires_secs: 1_700_000_000 }.write())
    }

    #[test]
    fn scripts_find_each_part_at_its_place() {
        let bytes = Entry { token: *b"a token of 16 B.", owner: node(7), expires_secs: 12 }.write();

        assert_eq!(
            (bytes[0], &bytes[1..17], &bytes[17..33], &bytes[33..]),
            (b'o', &b"a token of 16 B."[..], &[7; 16][..], &b"12"[..])
        );
    }

    #[test]
    fn each_reading_has_its_meaning() {
        let closed = Some([&b"c"[..], &[9; 16]].concat());
        let of_the_last_release = Some(vec![b'o'; 16]);
        let readings = [
            ("a living node", owned(2), Some(node(2))),
            ("a dead node, or an earlier incarnation of this one", owned(3), None),
            ("closed", closed, None),
            ("a claim of the last release", of_the_last_release, None),
            ("cut off", owned(2).map(|bytes| bytes[..33].to_vec()), None),
            ("nothing there", None, None),
        ];
        for (what, value, owner) in readings {
            let view = View { living: vec![node(2), node(4)], ..View::default() };
            let whole = located(std::slice::from_ref(&value), view.clone());
            assert_eq!(whole, Located { owners: vec![owner], beside: vec![] }, "{what}: it is believed");

            let partly = located(std::slice::from_ref(&value), View { incomplete: vec![node(4)], ..view.clone() });
            let expected: Vec<NodeId> = owner.into_iter().chain([node(4)]).collect();
            assert_eq!(partly.nodes(0).collect::<Vec<_>>(), expected, "{what}: a node may have more");

            let doubtful = located(&[value], View { is_doubtful: true, ..view });
            assert_eq!(doubtful.nodes(0).count(), 2, "{what}: each is asked, once");
        }
    }
}

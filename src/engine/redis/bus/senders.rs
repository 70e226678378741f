//! Replay protection per sender.

use std::collections::HashMap;

use crate::engine::redis::message::Taken;
use crate::id::NodeId;

/// Number of senders remembered.
const SENDERS: usize = 1_024;

/// Received sequences per sender; the one silent for longest is forgotten first.
#[derive(Default)]
pub(super) struct Senders {
    taken: HashMap<NodeId, (Taken, u64)>,
    /// Messages received so far.
    count: u64,
}

impl Senders {
    /// Whether message `sequence` of `sender` arrives for the first time.
    pub(super) fn take(&mut self, sender: NodeId, sequence: u64) -> bool {
        self.count += 1;
        if self.taken.len() >= SENDERS
            && !self.taken.contains_key(&sender)
            && let Some(silent) = self.taken.iter().min_by_key(|(_, (_, heard))| *heard).map(|(node, _)| *node)
        {
            // Most likely a node that has left.
            self.taken.remove(&silent);
        }
        let (taken, heard) = self.taken.entry(sender).or_default();
        *heard = self.count;
        taken.take(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_sender_makes_no_other_ones_messages_new_again() {
        let node = |number: u128| NodeId::from_bytes(number.to_be_bytes());
        let mut senders = Senders::default();
        for number in 0..SENDERS as u128 {
            assert!(senders.take(node(number), 1));
        }
        assert!(!senders.take(node(0), 1), "it has been heard just now");

        assert!(senders.take(node(u128::MAX), 1));

        for number in (0..SENDERS as u128).filter(|number| *number != 1) {
            assert!(!senders.take(node(number), 1), "{number}");
        }
        assert!(senders.take(node(1), 1), "it had been silent for longest");
    }
}

//! The nodes and sets of records as Redis lists them, kept up by what has changed. Pure bookkeeping.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::id::NodeId;

/// What a script reports; see `reading_changes` in `scripts.rs`: the number of the last change, whether the lists are
/// complete, what has changed, all live nodes, those that speak, unsure ones, and owners of sets.
pub(super) type News = (u64, u8, Vec<String>, Vec<String>, Vec<String>, Vec<String>, Vec<String>);

/// Written in place of a time for a node that has not been heard since a loss of data.
const UNHEARD: &str = "0";

/// All nodes and sets.
#[derive(Debug, Default)]
pub(super) struct Members(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of the last change that is known; 0 for none.
    number: u64,
    all: BTreeMap<NodeId, Member>,
    /// The same by kind. Each push to other nodes reads it, and few of them find a change.
    lists: Arc<Lists>,
}

/// A node, the set of records that it began, or both.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Member {
    is_alive: bool,
    /// Whether it understands the messages of this release, and writes owners into claims.
    speaks: bool,
    doubt: Option<Doubt>,
    /// The node that owns its set.
    owner: Option<NodeId>,
}

/// Why data of a node may be missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Doubt {
    /// It is rewriting its data.
    Rewriting,
    /// It has not been heard since a loss.
    Unheard,
}

/// The nodes and sets by kind, each list in order.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Lists {
    pub(super) living: Vec<NodeId>,
    /// Nodes that understand the messages of this release.
    pub(super) speaking: Vec<NodeId>,
    /// Nodes that are rewriting their data.
    pub(super) unsure: Vec<NodeId>,
    /// Live nodes of whose data some may be missing: unsure ones, and those not heard since a loss.
    pub(super) doubted: Vec<NodeId>,
    /// All sets of records, and their owners.
    pub(super) sets: Vec<(NodeId, NodeId)>,
}

impl Members {
    /// From which number on changes must be reported, 0 for everything; and how many sets there were then.
    pub(super) fn known(&self) -> (u64, usize) {
        let state = self.0.lock();
        // Nodes of the last release do not number what they change.
        let is_mixed = !state.lists.living.iter().all(|node| state.lists.speaks(*node));
        (if is_mixed { 0 } else { state.number }, state.lists.sets.len())
    }

    /// Takes a report. A complete one of a `renewal` holds even if its number is lower: Redis may have lost the numbers.
    pub(super) fn hear(&self, news: &News, is_renewal: bool) {
        let (number, is_complete, changed, living, speaking, unsure, owners) = news;
        let mut state = self.0.lock();
        let is_complete = *is_complete == 1;
        // A later one may have come first.
        if *number < state.number && !(is_renewal && is_complete) {
            return;
        }
        state.number = *number;
        if !is_complete && changed.is_empty() {
            return;
        }
        if is_complete {
            state.all.clear();
            let mut member = |name: &str, change: &dyn Fn(&mut Member)| {
                if let Ok(node) = name.parse() {
                    change(state.all.entry(node).or_default());
                }
            };
            living.iter().for_each(|name| member(name, &|member| member.is_alive = true));
            speaking.iter().for_each(|name| member(name, &|member| member.speaks = true));
            for [name, since] in unsure.as_chunks().0 {
                let doubt = if since == UNHEARD { Doubt::Unheard } else { Doubt::Rewriting };
                member(name, &|member| member.doubt = Some(doubt));
            }
            for [set, owner] in owners.as_chunks().0 {
                member(set, &|member| member.owner = owner.parse().ok());
            }
        }
        for [name, letters, owner] in changed.as_chunks().0 {
            let Ok(node) = name.parse() else { continue };
            let doubt = |letter, doubt| letters.contains(letter).then_some(doubt);
            let member = Member {
                is_alive: letters.contains('l'),
                speaks: letters.contains('s'),
                doubt: doubt('u', Doubt::Rewriting).or(doubt('q', Doubt::Unheard)),
                owner: owner.parse().ok(),
            };
            if member == Member::default() {
                state.all.remove(&node);
            } else {
                state.all.insert(node, member);
            }
        }
        state.lists = Arc::new(Lists::of(&state.all));
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        *self.0.lock() = State::default();
    }

    /// The nodes and sets by kind.
    pub(super) fn lists(&self) -> Arc<Lists> {
        Arc::clone(&self.0.lock().lists)
    }
}

impl Lists {
    fn of(all: &BTreeMap<NodeId, Member>) -> Self {
        let nodes = |is: fn(&Member) -> bool| {
            all.iter().filter(|(_, member)| is(member)).map(|(node, _)| *node).collect::<Vec<_>>()
        };
        Self {
            living: nodes(|member| member.is_alive),
            speaking: nodes(|member| member.speaks),
            unsure: nodes(|member| member.doubt == Some(Doubt::Rewriting)),
            doubted: nodes(|member| member.is_alive && member.doubt.is_some()),
            sets: all.iter().filter_map(|(set, member)| Some((*set, member.owner?))).collect(),
        }
    }

    /// Whether a node understands the messages of this release.
    pub(super) fn speaks(&self, node: NodeId) -> bool {
        self.speaking.binary_search(&node).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn names(numbers: &[u8]) -> Vec<String> {
        numbers.iter().map(|number| node(*number).to_string()).collect()
    }

    fn all(number: u64, living: &[u8], unsure: &[(u8, &str)], owners: &[(u8, u8)]) -> News {
        let unsure = unsure.iter().flat_map(|(of, since)| [node(*of).to_string(), (*since).to_owned()]).collect();
        let owners = owners.iter().flat_map(|(set, owner)| names(&[*set, *owner])).collect();
        (number, 1, vec![], names(living), names(living), unsure, owners)
    }

    fn some(number: u64, changed: &[(u8, &str, Option<u8>)]) -> News {
        let changed = changed.iter().flat_map(|(of, letters, owner)| {
            let owner = owner.map(|owner| node(owner).to_string()).unwrap_or_default();
            [node(*of).to_string(), (*letters).to_owned(), owner]
        });
        (number, 0, changed.collect(), vec![], vec![], vec![], vec![])
    }

    #[test]
    fn changes_lead_to_the_same_as_complete_lists() {
        let (members, whole) = (Members::default(), Members::default());
        assert_eq!(members.known(), (0, 0));
        members.hear(&all(10, &[1, 2], &[(2, "5")], &[(1, 1), (2, 2), (9, 1)]), true);
        let lists = members.lists();
        assert_eq!((&lists.unsure[..], &lists.doubted[..]), (&[node(2)][..], &[node(2)][..]));
        assert_eq!(lists.sets, [(node(1), node(1)), (node(2), node(2)), (node(9), node(1))]);

        members.hear(&some(13, &[(2, "", Some(1)), (3, "ls", Some(3)), (9, "", None)]), true);

        whole.hear(&all(13, &[1, 3], &[], &[(1, 1), (2, 1), (3, 3)]), true);
        assert_eq!(members.lists(), whole.lists());
        assert_eq!(members.known(), (13, 3));
        members.hear(&some(14, &[(1, "lsq", Some(1))]), true);
        let lists = members.lists();
        assert_eq!((&lists.unsure[..], &lists.doubted[..]), (&[][..], &[node(1)][..]));
    }

    #[test]
    fn what_came_late_changes_nothing_unless_the_numbers_began_anew() {
        let members = Members::default();
        members.hear(&all(10, &[1, 2], &[], &[]), true);
        members.hear(&some(12, &[(2, "", None)]), true);
        members.hear(&some(11, &[(2, "ls", None)]), true);
        members.hear(&all(11, &[1, 2], &[], &[]), false);
        assert_eq!(members.lists().living, [node(1)]);

        members.hear(&all(3, &[1, 2], &[], &[]), true);
        assert_eq!((&members.lists().living[..], members.known().0), (&[node(1), node(2)][..], 3));
    }

    #[test]
    fn while_a_node_of_the_last_release_is_there_all_is_read() {
        let members = Members::default();
        members.hear(&some(7, &[(1, "ls", None), (2, "l", None)]), true);
        assert_eq!(members.known().0, 0);
        let lists = members.lists();
        assert_eq!((&lists.living[..], &lists.speaking[..]), (&[node(1), node(2)][..], &[node(1)][..]));
        assert!(lists.speaks(node(1)) && !lists.speaks(node(2)));

        members.hear(&some(8, &[(2, "", None)]), true);
        assert_eq!(members.known().0, 8);
    }
}

//! Tunnels of ended incarnations of this node, until it is certain that other nodes have closed them. Redis may have lost
//! their records before another node read them; their claims still name the dead incarnation then.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::engine::Record;
use crate::id::NodeId;
use crate::id::TunnelId;

/// The tunnels, by incarnation.
#[derive(Default)]
pub(super) struct Unadopted(Mutex<BTreeMap<NodeId, BTreeMap<TunnelId, Record>>>);

impl Unadopted {
    /// Keeps the records that an incarnation had when it ended.
    pub(super) fn keep(&self, dead: NodeId, records: Vec<(TunnelId, Record)>) {
        if !records.is_empty() {
            self.0.lock().insert(dead, records.into_iter().collect());
        }
    }

    /// Forgets a tunnel that was not opened after all, or whose close event is settled.
    pub(super) fn forget(&self, tunnel: TunnelId) {
        self.0.lock().retain(|_, records| {
            records.remove(&tunnel);
            !records.is_empty()
        });
    }

    /// Incarnations whose sets of records are not in use by any node.
    pub(super) fn through(&self, sets: &[NodeId]) -> Vec<NodeId> {
        self.0.lock().keys().filter(|dead| !sets.contains(dead)).copied().collect()
    }

    /// The incarnation that had a tunnel.
    pub(super) fn owner(&self, tunnel: TunnelId) -> Option<NodeId> {
        let all = self.0.lock();
        all.iter().find_map(|(dead, records)| records.contains_key(&tunnel).then_some(*dead))
    }

    /// So many tunnels of an incarnation at most.
    pub(super) fn some(&self, dead: NodeId, count: usize) -> Vec<TunnelId> {
        let all = self.0.lock();
        all.get(&dead).map(|records| records.keys().take(count).copied().collect()).unwrap_or_default()
    }

    /// Takes the records of these tunnels of an incarnation.
    pub(super) fn take(&self, dead: NodeId, tunnels: &[TunnelId]) -> Vec<(TunnelId, Record)> {
        let mut all = self.0.lock();
        let Some(records) = all.get_mut(&dead) else { return vec![] };
        let taken = tunnels.iter().filter_map(|tunnel| records.remove_entry(tunnel)).collect();
        if records.is_empty() {
            all.remove(&dead);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_settled_or_is_being_adopted_is_not_closed() {
        let (unadopted, dead, [one, two, three]) = (
            Unadopted::default(),
            NodeId::from_bytes([1; 16]),
            [1, 2, 3].map(|number| TunnelId::from_bytes([number; 16])),
        );
        let record = || Record {
            tenant: "t".into(),
            receive_url: "http://h/".into(),
            key_fingerprint: 1,
            native: None,
            closed: None,
            connector: None,
        };
        unadopted.keep(dead, vec![(one, record()), (two, record()), (three, record())]);

        assert!(unadopted.through(&[dead]).is_empty());
        assert_eq!(unadopted.through(&[]), [dead]);
        unadopted.forget(one);
        assert_eq!(unadopted.some(dead, 9), [two, three]);
        assert_eq!([one, two].map(|tunnel| unadopted.owner(tunnel)), [None, Some(dead)]);
        let taken: Vec<TunnelId> = unadopted.take(dead, &[one, three]).into_iter().map(|(tunnel, _)| tunnel).collect();
        assert_eq!((taken, unadopted.some(dead, 9)), (vec![three], vec![two]));
        unadopted.take(dead, &[two]);
        assert!(unadopted.through(&[]).is_empty(), "it is done");
    }
}

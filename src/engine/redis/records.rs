//! The records of this node, kept in memory for rewriting; one task writes changes in order.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::ops::Bound;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::Closed;
use super::super::Record;
use crate::id::TunnelId;
use crate::protocol::native::Name;

/// Records per command.
pub(super) const CHUNK: usize = 500;

/// Adopted tunnels remembered after they are settled.
const MAX_ADOPTED: usize = 100_000;

/// How often, once a second, a record is rewritten after its tunnel was given up and came back: the deletion may still
/// be in flight.
const WRITTEN_AGAIN: u8 = 3;

/// The records of one incarnation of this node.
#[derive(Default)]
pub(super) struct Records {
    state: Mutex<State>,
    /// Notified when there are changes to write.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct State {
    all: BTreeMap<TunnelId, Box<[u8]>>,
    /// Tunnels with a change to write: the record in `all`, or its deletion.
    unwritten: BTreeSet<TunnelId>,
    /// Whether Redis may hold records that are no longer in `all`.
    has_surplus: bool,
    /// Adopted tunnels, also settled ones: a set restored from the past must not be adopted again.
    adopted: BTreeSet<TunnelId>,
    adopted_in_turn: VecDeque<TunnelId>,
    /// Tunnels whose record may be written and must be deleted.
    given_up: BTreeSet<TunnelId>,
    /// Given-up tunnels that came back, with the number of rewrites left.
    again: BTreeMap<TunnelId, u8>,
}

/// Changes to write in one batch.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Changes {
    pub(super) put: Vec<(TunnelId, Box<[u8]>)>,
    pub(super) delete: Vec<TunnelId>,
    /// Those of `delete` whose claims end too: not of tunnels given up, whose clients may come back, or adopted.
    pub(super) ended: Vec<TunnelId>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.put.is_empty() && self.delete.is_empty()
    }
}

impl Records {
    /// Adds a record that the caller writes.
    pub(super) fn add(&self, tunnel: TunnelId, record: &Record) {
        let mut state = self.state.lock();
        state.all.insert(tunnel, record.write().into());
        if state.given_up.remove(&tunnel) {
            state.again.insert(tunnel, WRITTEN_AGAIN);
        }
    }

    /// Forgets a tunnel whose record may be written. Its client may come back before the deletion.
    pub(super) fn give_up(&self, tunnel: TunnelId) {
        self.remove(tunnel);
        let mut state = self.state.lock();
        state.again.remove(&tunnel);
        state.given_up.insert(tunnel);
        if state.given_up.len() > MAX_ADOPTED {
            state.given_up.pop_first();
        }
    }

    /// Schedules the rewrite of records that a late deletion may have removed; called once a second.
    pub(super) fn write_again(&self) {
        let mut state = self.state.lock();
        let State { again, unwritten, all, .. } = &mut *state;
        again.retain(|tunnel, times| {
            *times -= 1;
            unwritten.extend(all.contains_key(tunnel).then_some(*tunnel));
            *times > 0
        });
        if !unwritten.is_empty() {
            self.changed.notify_one();
        }
    }

    /// Adds a record to be written later; false if it is or was here.
    pub(super) fn adopt(&self, tunnel: TunnelId, record: &Record) -> bool {
        let mut state = self.state.lock();
        if state.all.contains_key(&tunnel) || !state.adopted.insert(tunnel) {
            return false;
        }
        state.adopted_in_turn.push_back(tunnel);
        if state.adopted_in_turn.len() > MAX_ADOPTED
            && let Some(oldest) = state.adopted_in_turn.pop_front()
        {
            state.adopted.remove(&oldest);
        }
        state.all.insert(tunnel, record.write().into());
        state.unwritten.insert(tunnel);
        true
    }

    /// Stores why a tunnel ended.
    pub(super) fn close(&self, tunnel: TunnelId, closed: Closed) {
        self.change(tunnel, |record| record.closed = Some(closed));
    }

    /// Stores the user of a native tunnel.
    pub(super) fn belongs_to(&self, tunnel: TunnelId, user: &Name) {
        self.change(tunnel, |record| {
            if let Some(native) = &mut record.native {
                native.user = Some(user.clone());
            }
        });
    }

    fn change(&self, tunnel: TunnelId, change: impl FnOnce(&mut Record)) {
        let mut state = self.state.lock();
        let Some(bytes) = state.all.get_mut(&tunnel) else { return };
        let Some(mut record) = Record::read(bytes) else { return };
        change(&mut record);
        *bytes = record.write().into();
        state.unwritten.insert(tunnel);
        self.changed.notify_one();
    }

    /// Deletes the record of a tunnel.
    pub(super) fn remove(&self, tunnel: TunnelId) {
        let mut state = self.state.lock();
        if state.all.remove(&tunnel).is_some() {
            state.unwritten.insert(tunnel);
            self.changed.notify_one();
        }
    }

    /// Schedules all records to be written again, and a search for deleted ones that are back.
    pub(super) fn write_all(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.unwritten.extend(state.all.keys());
        state.has_surplus = true;
        self.changed.notify_one();
    }

    /// Whether Redis may hold records that are no longer here.
    pub(super) fn has_surplus(&self) -> bool {
        self.state.lock().has_surplus
    }

    /// Starts the search for surplus records.
    pub(super) fn look_for_surplus(&self) {
        self.state.lock().has_surplus = false;
    }

    /// Repeats the search later.
    pub(super) fn surplus_is_left(&self) {
        self.state.lock().has_surplus = true;
    }

    /// Schedules the deletion of a record found in Redis, unless it is here too.
    pub(super) fn found(&self, tunnel: TunnelId) {
        let mut state = self.state.lock();
        if !state.all.contains_key(&tunnel) {
            state.unwritten.insert(tunnel);
        }
    }

    /// All records.
    pub(super) fn all(&self) -> Vec<(TunnelId, Record)> {
        let state = self.state.lock();
        state.all.iter().filter_map(|(tunnel, bytes)| Some((*tunnel, Record::read(bytes)?))).collect()
    }

    /// Clears all for a new incarnation.
    pub(super) fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// The number of records.
    pub(super) fn len(&self) -> usize {
        self.state.lock().all.len()
    }

    /// Whether the record of `tunnel` is written and unchanged.
    pub(super) fn is_kept(&self, tunnel: TunnelId) -> bool {
        let state = self.state.lock();
        state.all.contains_key(&tunnel) && !state.unwritten.contains(&tunnel)
    }

    /// Any tunnel whose record is written and unchanged.
    pub(super) fn any_kept(&self) -> Option<TunnelId> {
        let state = self.state.lock();
        state.all.keys().find(|tunnel| !state.unwritten.contains(tunnel)).copied()
    }

    /// Whether all changes are taken for writing.
    pub(super) fn is_written(&self) -> bool {
        self.state.lock().unwritten.is_empty()
    }

    /// Takes a batch of changes; after a failure the caller returns it with [`back`](Self::back).
    pub(super) fn take(&self) -> Changes {
        let mut state = self.state.lock();
        let chosen: Vec<_> = state.unwritten.iter().copied().take(CHUNK).collect();
        let mut changes = Changes::default();
        for tunnel in chosen {
            state.unwritten.remove(&tunnel);
            match state.all.get(&tunnel) {
                Some(bytes) => changes.put.push((tunnel, bytes.clone())),
                None => {
                    changes.delete.push(tunnel);
                    if !state.given_up.contains(&tunnel) && !state.adopted.contains(&tunnel) {
                        changes.ended.push(tunnel);
                    }
                }
            }
        }
        changes
    }

    /// Tunnels that this node serves, or whose close events it has not finished, behind `last` in order; not adopted ones.
    pub(super) fn served_after(&self, last: Option<TunnelId>, count: usize) -> Vec<TunnelId> {
        let state = self.state.lock();
        let behind = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let served = state.all.range(behind).map(|(tunnel, _)| *tunnel);
        served.filter(|tunnel| !state.adopted.contains(tunnel)).take(count).collect()
    }

    /// Whether `tunnel` is one of those.
    pub(super) fn is_served(&self, tunnel: TunnelId) -> bool {
        let state = self.state.lock();
        state.all.contains_key(&tunnel) && !state.adopted.contains(&tunnel)
    }

    /// Returns changes that could not be written.
    pub(super) fn back(&self, changes: Changes) {
        let tunnels = changes.put.into_iter().map(|(tunnel, _)| tunnel).chain(changes.delete);
        self.state.lock().unwritten.extend(tunnels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::close::CloseReason;

    const CLOSED: Closed = Closed { reason: CloseReason::Drain, unix_ms: 5 };

    fn tunnel(number: u8) -> TunnelId {
        TunnelId::from_bytes([number; 16])
    }

    fn record() -> Record {
        Record {
            tenant: "t".into(),
            receive_url: "http://h/".into(),
            key_fingerprint: 1,
            native: None,
            connector: None,
            closed: None,
        }
    }

    #[test]
    fn of_each_tunnel_the_last_state_is_written() {
        let records = Records::default();
        records.add(tunnel(1), &record());
        records.add(tunnel(2), &record());
        assert!(records.take().is_empty(), "the caller of add writes it");

        records.close(tunnel(1), CLOSED);
        records.close(tunnel(2), CLOSED);
        records.remove(tunnel(2));
        records.remove(tunnel(3));

        let changes = records.take();
        assert_eq!(changes.delete, [tunnel(2)]);
        assert_eq!(changes.put.len(), 1);
        assert_eq!(Record::read(&changes.put[0].1).expect("a record").closed, Some(CLOSED));
        assert!(records.is_written());
    }

    #[test]
    fn the_claim_of_a_tunnel_ends_with_its_record_unless_its_client_may_come_back_or_it_was_adopted() {
        let records = Records::default();
        [1, 2].into_iter().for_each(|number| records.add(tunnel(number), &record()));
        assert!(records.adopt(tunnel(3), &record()));
        records.take();
        assert_eq!(records.served_after(None, 9), [tunnel(1), tunnel(2)]);
        assert_eq!(records.served_after(Some(tunnel(1)), 9), [tunnel(2)]);
        assert_eq!(records.served_after(None, 1), [tunnel(1)]);

        records.remove(tunnel(1));
        records.give_up(tunnel(2));
        records.remove(tunnel(3));
        let changes = records.take();

        assert_eq!((changes.delete.len(), changes.ended), (3, vec![tunnel(1)]));
        assert!(!records.is_served(tunnel(1)));
    }

    #[test]
    fn what_is_there_again_is_written_behind_its_deletion() {
        let records = Records::default();
        records.add(tunnel(1), &record());
        records.give_up(tunnel(1));
        let deletion = records.take();
        assert_eq!(deletion.delete, [tunnel(1)]);

        records.add(tunnel(1), &record());
        for _ in 0..WRITTEN_AGAIN {
            assert!(records.is_written());
            records.write_again();
            assert_eq!(records.take().put.len(), 1, "the deletion may only just have come");
        }
        records.write_again();
        assert!(records.is_written());

        records.give_up(tunnel(1));
        records.take();
        records.write_again();
        assert!(records.is_written(), "it is not there");
    }

    #[test]
    fn what_failed_is_written_later_in_its_state_of_then() {
        let records = Records::default();
        assert!(records.adopt(tunnel(1), &record()));
        assert!(!records.adopt(tunnel(1), &record()));
        let changes = records.take();
        records.remove(tunnel(1));
        records.back(changes);

        assert_eq!(records.take(), Changes { put: vec![], delete: vec![tunnel(1)], ended: vec![] });
    }

    #[test]
    fn what_comes_back_from_the_past_is_deleted_and_not_adopted_again() {
        let records = Records::default();
        records.add(tunnel(1), &record());
        assert!(records.adopt(tunnel(2), &record()));
        records.remove(tunnel(2));
        records.take();

        records.write_all();
        assert!(records.has_surplus());
        records.look_for_surplus();
        [1, 2, 3].into_iter().for_each(|number| records.found(tunnel(number)));

        let mut changes = records.take();
        changes.delete.sort();
        assert_eq!(changes.delete, [tunnel(2), tunnel(3)]);
        assert_eq!(changes.put.len(), 1);
        assert!(!records.adopt(tunnel(2), &record()), "its close event is finished");
    }

    #[test]
    fn everything_can_be_written_again_in_chunks() {
        let records = Records::default();
        let count = u16::try_from(CHUNK).expect("small") + 1;
        for number in 0..count {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            records.add(TunnelId::from_bytes(bytes), &record());
        }
        records.write_all();

        assert_eq!(records.take().put.len(), CHUNK);
        assert_eq!(records.take().put.len(), 1);
        assert!(records.is_written());
    }
}

//! What this node has registered: kept here too, so that it can be written again, and written by one task in the order of its changes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::Closed;
use super::super::Record;
use crate::id::TunnelId;
use crate::protocol::native::Name;

/// Most records that travel in one command.
pub(super) const CHUNK: usize = 500;

/// Most adopted tunnels that are remembered after they were settled.
const MAX_ADOPTED: usize = 100_000;

/// So many times a record is written again that is there after it was given up, once a second: its deletion may be under way for so long.
const WRITTEN_AGAIN: u8 = 3;

/// The records of one life of this node.
#[derive(Default)]
pub(super) struct Records {
    state: Mutex<State>,
    /// Told when there is something to write.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct State {
    all: BTreeMap<TunnelId, Box<[u8]>>,
    /// What Redis may not know: of each tunnel its record as it is in `all`, or that it is gone from there.
    unwritten: BTreeSet<TunnelId>,
    /// Whether Redis may have records that are no longer in `all`.
    has_surplus: bool,
    /// What was adopted, also when it is settled: a set of the dead that comes back from the past is not told of again.
    adopted: BTreeSet<TunnelId>,
    adopted_in_turn: VecDeque<TunnelId>,
    /// Records that nobody could be sure were written, and that are to be deleted.
    given_up: BTreeSet<TunnelId>,
    /// Those of them that are there again, and how often they are still to be written.
    again: BTreeMap<TunnelId, u8>,
}

/// Some changes, to be written in one go.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Changes {
    pub(super) put: Vec<(TunnelId, Box<[u8]>)>,
    pub(super) delete: Vec<TunnelId>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.put.is_empty() && self.delete.is_empty()
    }
}

impl Records {
    /// Adds a record; whether it is written is for the caller to see to.
    pub(super) fn add(&self, tunnel: TunnelId, record: &Record) {
        let mut state = self.state.lock();
        state.all.insert(tunnel, record.write().into());
        if state.given_up.remove(&tunnel) {
            state.again.insert(tunnel, WRITTEN_AGAIN);
        }
    }

    /// Forgets a tunnel whose record may be written or not. Its client may come again, and be there before it is deleted.
    pub(super) fn give_up(&self, tunnel: TunnelId) {
        self.remove(tunnel);
        let mut state = self.state.lock();
        state.again.remove(&tunnel);
        state.given_up.insert(tunnel);
        if state.given_up.len() > MAX_ADOPTED {
            state.given_up.pop_first();
        }
    }

    /// Has records written again whose deletion may have come behind them; to be called once a second.
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

    /// Adds a record that is to be written by and by; false if it is there already, or was.
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

    /// Notes why a tunnel ended.
    pub(super) fn close(&self, tunnel: TunnelId, closed: Closed) {
        self.change(tunnel, |record| record.closed = Some(closed));
    }

    /// Notes whose a native tunnel is now.
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

    /// Forgets a tunnel.
    pub(super) fn remove(&self, tunnel: TunnelId) {
        let mut state = self.state.lock();
        if state.all.remove(&tunnel).is_some() {
            state.unwritten.insert(tunnel);
            self.changed.notify_one();
        }
    }

    /// Redis may have lost anything, or have again what was deleted: all is to be written again, and the rest to be found.
    pub(super) fn write_all(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.unwritten.extend(state.all.keys());
        state.has_surplus = true;
        self.changed.notify_one();
    }

    /// Whether Redis may have records that are no longer here.
    pub(super) fn has_surplus(&self) -> bool {
        self.state.lock().has_surplus
    }

    /// They are being looked for from now on.
    pub(super) fn look_for_surplus(&self) {
        self.state.lock().has_surplus = false;
    }

    /// They could not be looked for.
    pub(super) fn surplus_is_left(&self) {
        self.state.lock().has_surplus = true;
    }

    /// Redis has a record of `tunnel`: it is to be deleted if there is none here.
    pub(super) fn found(&self, tunnel: TunnelId) {
        let mut state = self.state.lock();
        if !state.all.contains_key(&tunnel) {
            state.unwritten.insert(tunnel);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(TunnelId, Record)> {
        let state = self.state.lock();
        state.all.iter().filter_map(|(tunnel, bytes)| Some((*tunnel, Record::read(bytes)?))).collect()
    }

    /// The node begins another life: these records are others' now.
    pub(super) fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.state.lock().all.len()
    }

    /// Whether there is a record of `tunnel`, and nothing of it to be written.
    pub(super) fn is_kept(&self, tunnel: TunnelId) -> bool {
        let state = self.state.lock();
        state.all.contains_key(&tunnel) && !state.unwritten.contains(&tunnel)
    }

    /// Any such tunnel.
    pub(super) fn any_kept(&self) -> Option<TunnelId> {
        let state = self.state.lock();
        state.all.keys().find(|tunnel| !state.unwritten.contains(tunnel)).copied()
    }

    /// Whether Redis knows all there is to know.
    pub(super) fn is_written(&self) -> bool {
        self.state.lock().unwritten.is_empty()
    }

    /// Some of what is to be written; whoever takes it and fails gives it [`back`](Self::back).
    pub(super) fn take(&self) -> Changes {
        let mut state = self.state.lock();
        let chosen: Vec<_> = state.unwritten.iter().copied().take(CHUNK).collect();
        let mut changes = Changes::default();
        for tunnel in chosen {
            state.unwritten.remove(&tunnel);
            match state.all.get(&tunnel) {
                Some(bytes) => changes.put.push((tunnel, bytes.clone())),
                None => changes.delete.push(tunnel),
            }
        }
        changes
    }

    /// Takes back what could not be written.
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
        Record { tenant: "t".into(), receive_url: "http://h/".into(), key_fingerprint: 1, native: None, closed: None }
    }

    #[test]
    fn of_each_tunnel_the_last_state_is_written() {
        let records = Records::default();
        records.add(tunnel(1), &record());
        records.add(tunnel(2), &record());
        assert!(records.take().is_empty(), "whoever adds one writes it");

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

        assert_eq!(records.take(), Changes { put: vec![], delete: vec![tunnel(1)] });
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
        assert!(!records.adopt(tunnel(2), &record()), "its story has been told");
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

//! Memory for long answers of business servers: a tenant whose servers stall waits for its own room only.

use crate::fair_semaphore::FairPermit;
use crate::fair_semaphore::FairSemaphore;
use crate::id::TenantId;

/// Memory limit for all long answers that are being read.
const ANSWERS_BYTES: u64 = 256 * 1024 * 1024;

/// What the longest answer takes: its head, then its body, in buffers that double when they grow.
const LONGEST_BYTES: u64 = 256 * 1024;

/// Up to this size an answer needs no room beside what each request in flight takes.
pub(crate) const SHORT_BYTES: usize = 8 * 1024;

/// The room of all tenants. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AnswerRooms(FairSemaphore<TenantId>);

/// The room for one answer.
#[derive(Debug)]
pub(crate) struct AnswerRoom {
    rooms: AnswerRooms,
    tenant: TenantId,
    held: Option<FairPermit<TenantId>>,
}

impl Default for AnswerRooms {
    fn default() -> Self {
        Self(FairSemaphore::of(ANSWERS_BYTES))
    }
}

impl AnswerRooms {
    /// The room for an answer to a request of `tenant`, empty at first.
    pub(crate) fn of(&self, tenant: &TenantId) -> AnswerRoom {
        AnswerRoom { rooms: self.clone(), tenant: tenant.clone(), held: None }
    }
}

impl AnswerRoom {
    /// Waits until more may be read, with `bytes` read so far.
    pub(crate) async fn beyond(&mut self, bytes: usize) {
        if bytes >= SHORT_BYTES && self.held.is_none() {
            self.held = Some(self.rooms.0.acquire(self.tenant.clone(), LONGEST_BYTES).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn long_answers_of_a_tenant_leave_room_to_another() {
        let (rooms, [loud, quiet]) = (AnswerRooms::default(), ["loud", "quiet"].map(TenantId::new));
        let mut answers: Vec<_> = (0..1_000).map(|_| rooms.of(&loud)).collect();
        assert!(answers.iter_mut().all(|room| room.beyond(SHORT_BYTES - 1).now_or_never().is_some()), "short ones");

        let long = answers.iter_mut().filter_map(|room| room.beyond(SHORT_BYTES).now_or_never()).count();

        assert_eq!(long as u64, ANSWERS_BYTES / LONGEST_BYTES / 2);
        assert!(rooms.of(&quiet).beyond(SHORT_BYTES).now_or_never().is_some());
        drop(answers);
        assert!(rooms.0.is_idle());
    }
}

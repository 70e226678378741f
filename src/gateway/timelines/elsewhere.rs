//! What other nodes ask of this one: its part of a timeline, and its records for their readers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::tail::BATCH;
use super::tail::Watched;
use super::wanted::Wanted;
use crate::gateway::Gateway;
use crate::tenant::Tenant;
use crate::timeline::Origin;
use crate::timeline::Row;
use crate::timeline::Seen;
use crate::timeline::Watch;

/// How long a watcher stays whose node does not ask any more.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Most bytes of payloads in an answer.
const MAX_PAYLOADS_BYTES: usize = 256 * 1024;

/// The watchers of this node that other nodes have asked for.
#[derive(Debug, Default)]
pub(in crate::gateway) struct WatchesForOthers(Mutex<HashMap<[u8; 16], (Watch, Instant)>>);

impl WatchesForOthers {
    /// Drops the watchers that no node has asked about lately.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.0.lock().retain(|_, (_, asked)| now.saturating_duration_since(*asked) < KEPT_FOR);
    }
}

impl Gateway {
    /// What has happened since the same question before; the first one begins the watch.
    pub(in crate::gateway) fn watch_for_another(
        &self,
        tenant: &Arc<Tenant>,
        watch: [u8; 16],
        wanted: &Wanted,
    ) -> impl serde::Serialize + use<> {
        let node = self.tunnels.node().to_owned();
        let mut watches = self.watches_for_others.0.lock();
        let now = Instant::now();
        let (is_new, (watch, asked)) = match watches.entry(watch) {
            Entry::Occupied(known) => (false, known.into_mut()),
            Entry::Vacant(place) => {
                match self.timeline.watchers().watch(Origin::Elsewhere, self.filter(tenant, wanted)) {
                    Ok(new) => (true, place.insert((new, now))),
                    Err(_) => return Watched { node, rows: vec![], skipped: 0, is_full: true, is_new: true },
                }
            }
        };
        *asked = now;
        let Seen { records, skipped } = watch.take(BATCH);
        drop(watches);
        let mut rows = self.timeline.rows(&records);
        fit_payloads(&mut rows);
        Watched { node, rows, skipped, is_full: false, is_new }
    }
}

/// Shortens payloads so that all of them fit into an answer, those of the oldest records first. They keep their length, so that this
/// shows.
pub(super) fn fit_payloads(rows: &mut [Row]) {
    let mut left = MAX_PAYLOADS_BYTES;
    for payload in rows.iter_mut().rev().filter_map(|row| row.payload.as_mut()) {
        payload.bytes.truncate(left);
        left -= payload.bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Payload;
    use crate::timeline::Record;
    use crate::timeline::Timeline;

    #[test]
    fn payloads_of_the_oldest_are_shortened_and_keep_their_length() {
        let timeline = Timeline::new(1_024, 1, Duration::from_secs(1));
        let mut rows = timeline.rows(&[Record::default(); 70]);
        for row in &mut rows {
            row.payload = Some(Payload { is_binary: false, bytes: vec![b'x'; 4_096], length: 5_000 });
        }

        fit_payloads(&mut rows);

        let payloads: Vec<_> = rows.iter().filter_map(|row| row.payload.as_ref()).collect();
        let left: Vec<usize> = payloads.iter().map(|payload| payload.bytes.len()).collect();
        assert_eq!((&left[..6], &left[6..]), (&[0; 6][..], &[4_096; 64][..]));
        assert!(payloads.iter().all(|payload| payload.length == 5_000));
    }
}

//! Closes many tunnels: at the end of this node, of a tenant, or of an incarnation.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep_until;

use super::Tunnels;
use crate::id::TunnelId;
use crate::protocol::close::CloseReason;

impl Tunnels {
    /// Closes all tunnels with 1001, evenly over `window`; tunnels that open later are closed at once.
    ///
    /// Without a `close` packet, so that Wafer clients reconnect, to another node or the next process.
    pub async fn release_sockets(&self, window: Duration) {
        let begin = Instant::now();
        let tunnels = self.open_ids();
        let count = u32::try_from(tunnels.len()).unwrap_or(u32::MAX).max(1);
        for (index, tunnel) in (0..).zip(&tunnels) {
            sleep_until(begin + window * index / count).await;
            self.release(*tunnel);
        }
        if !tunnels.is_empty() {
            sleep_until(begin + window).await;
        }
        self.is_released.store(true, Ordering::Release);
        self.open_ids().into_iter().for_each(|tunnel| self.release(tunnel));
    }

    /// Closes the tunnels of a tenant, as by its business server; returns their number.
    pub(in crate::gateway) fn close_all_of(&self, tenant: &str) -> usize {
        let of_tenant = self.open.iter().filter(|entry| entry.value().event_queue.tenant.id.as_str() == tenant);
        let connections: Vec<_> = of_tenant.map(|entry| entry.value().clone()).collect();
        for connection in &connections {
            connection.close(CloseReason::PushedClose, Instant::now());
            self.detach(connection);
        }
        connections.len()
    }

    /// Closes the tunnels of ended incarnations: other nodes own them.
    pub(in crate::gateway) fn cut_off(&self) {
        let tunnels: Vec<_> = self.open.iter().map(|entry| entry.value().clone()).collect();
        let incarnation = self.engine.lease_guard.incarnation();
        for connection in tunnels.into_iter().filter(|connection| connection.event_queue.incarnation != incarnation) {
            connection.close(CloseReason::CutOff, Instant::now());
            self.detach(&connection);
        }
    }

    /// The open tunnels in a stable order.
    fn open_ids(&self) -> Vec<TunnelId> {
        let mut ids: Vec<_> = self.open.iter().map(|entry| *entry.key()).collect();
        ids.sort_unstable();
        ids
    }

    fn release(&self, tunnel: TunnelId) {
        let connection = self.open.get(&tunnel).map(|entry| entry.value().clone());
        if let Some(connection) = connection {
            connection.close(CloseReason::Drain, Instant::now());
        }
    }
}

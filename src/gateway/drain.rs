//! Graceful shutdown: no new tunnels, then sockets close evenly over a window.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout;

use super::Gateway;
use crate::id::TunnelId;
use crate::protocol::close::CloseReason;

impl Gateway {
    /// Refuses new tunnels from now on. Issued connect URLs stay valid.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

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

    /// Closes this node's tunnels of a tenant removed from the configuration, as by its business server. Returns their
    /// number; `None` if the tenant is configured.
    pub fn end_tunnels_of(&self, tenant: &str) -> Option<usize> {
        if self.tenants.tenant(tenant).is_some() {
            return None;
        }
        let of_tenant = self.open.iter().filter(|entry| entry.value().event_queue.tenant.id.as_str() == tenant);
        let connections: Vec<_> = of_tenant.map(|entry| entry.value().clone()).collect();
        for connection in &connections {
            connection.close(CloseReason::PushedClose, Instant::now());
            self.detach(connection);
        }
        Some(connections.len())
    }

    /// Waits for the tasks of all connections, at most `patience` in each step. Clients that arrive meanwhile are
    /// closed again with 1001; once this returns, none is accepted.
    pub async fn connections_ended(&self, patience: Duration) {
        self.connections.close();
        // Late tasks end with the process; their events are queued.
        let _ = timeout(patience, self.connections.wait()).await;
        self.shut.cancel();
        self.arrivals.close();
        let _ = timeout(patience, self.arrivals.wait()).await;
        let _ = timeout(patience, self.connections.wait()).await;
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

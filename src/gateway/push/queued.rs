//! Connections with queued frames, so that each client gets those of a batch in one write.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;

use crate::gateway::tunnels::Connection;
use crate::gateway::tunnels::Socket;
use crate::gateway::turns::Turns;

/// Connections with frames to write at the end of the batch.
#[derive(Default)]
pub(super) struct Queued(Vec<Arc<Connection<dyn Socket>>>);

impl Queued {
    /// Adds a connection with its first frame.
    pub(super) fn add(&mut self, connection: Arc<Connection<dyn Socket>>) {
        self.0.push(connection);
    }

    /// Writes all of them, in turns.
    pub(super) async fn write(self, turns: &mut Turns<'_>) {
        for connection in self.0 {
            turns.next().await;
            if catch_unwind(AssertUnwindSafe(|| connection.flush_queued())).is_err() {
                tracing::error!(tunnel.id = %connection.event_queue.tunnel, "a write to a client has failed by an error in the gateway");
            }
        }
    }
}

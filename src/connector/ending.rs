//! The end of all connections: this node drains, was cut off, or has other settings.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::timeout;
use tokio::time::timeout_at;

use super::Connectors;
use super::Link;
use super::Refused;
use crate::protocol::connector::Cancel;
use crate::protocol::connector::Drain;
use crate::protocol::connector::close_code;

impl Connectors {
    /// Tells all connectors that this node leaves, and will be there for so long.
    pub fn announce_drain(&self, within: Duration) {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.each(|link| link.tell(&Drain { within_ms }.head(), b""));
    }

    /// Waits until all connectors have left, at most until `deadline`.
    pub async fn until_left(&self, deadline: Instant) {
        let fleets: Vec<_> = self.fleets.iter().map(|shared| Arc::clone(&shared)).collect();
        let left = async {
            for shared in fleets {
                loop {
                    let mut changed = pin!(shared.changed.notified());
                    changed.as_mut().enable();
                    if !shared.fleet.lock().members().any(|member| member.is_local) {
                        break;
                    }
                    changed.await;
                }
            }
        };
        // Those that stay are closed.
        let _ = timeout_at(deadline, left).await;
    }

    /// Closes all connections and waits at most `patience` for their ends.
    pub async fn close_all(&self, patience: Duration) {
        let fleets: Vec<_> = self.fleets.iter().map(|shared| Arc::clone(&shared)).collect();
        for shared in fleets {
            let fleet = shared.fleet.lock();
            for (id, attempt, session) in fleet.sent() {
                let cancel = Cancel { id: id.to_owned(), attempt, reason: "this node leaves".to_owned() };
                let link = fleet.member(session).and_then(|member| member.link.here());
                link.into_iter().for_each(|link| link.tell(&cancel.head(), b""));
            }
        }
        self.closing.cancel();
        self.each(|link| link.close(close_code::LEAVING, "this node leaves: connect again"));
        self.tasks.close();
        // Later ones end with the process.
        let _ = timeout(patience, self.tasks.wait()).await;
    }

    /// Closes the connections that `verdict` finds not allowed any more, and lets waiting events see the new settings.
    pub fn review(&self, verdict: impl Fn(&Link) -> Option<Refused>) {
        self.each(|link| {
            if let Some(Refused { code, reason }) = verdict(link) {
                link.close(code, reason);
            }
        });
        self.fleets.iter().for_each(|shared| shared.changed.notify_waiters());
    }

    /// Closes all connections for now: this node was declared dead, and others do not know any more what it has.
    pub fn cut_off(&self) {
        self.each(|link| link.close(close_code::LEAVING, "this node was cut off from the others: connect again"));
    }

    fn each(&self, visit: impl Fn(&Link)) {
        let fleets: Vec<_> = self.fleets.iter().map(|shared| Arc::clone(&shared)).collect();
        for shared in fleets {
            let links: Vec<_> =
                shared.fleet.lock().members().filter_map(|member| member.link.here()).map(Arc::clone).collect();
            links.iter().for_each(|link| visit(link));
        }
    }
}

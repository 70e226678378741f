//! Pushing to tunnels, and closing them: every target is decided before the answer.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Connection;
use super::Gateway;
use super::Sent;
use super::Socket;
use super::batch::Queued;
use crate::id::TunnelId;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Profile;
use crate::protocol::frame;
use crate::protocol::packet;
use crate::protocol::wafer::Order;
use crate::protocol::wafer::PushPacket;
use crate::protocol::wafer::Target;
use crate::tenant::Tenant;

/// Why nothing of a push was done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PushError {
    /// Too many tunnel ids in one request.
    #[error("{targets} tunnel ids in one push, the limit is {limit} (limits.max_push_targets): split it")]
    TooManyTargets {
        /// How many there are.
        targets: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The content does not fit into half an outbox.
    #[error("content of {actual_bytes} bytes, the limit is {limit_bytes} (half of tunnel.outbox_bytes)")]
    TooLarge {
        /// How long it is.
        actual_bytes: usize,
        /// How long it may be.
        limit_bytes: usize,
    },
    /// Too many requests.
    #[error("more pushes than limits.pushes_per_sec allows, try again in {wait_ms} ms")]
    TooFast {
        /// When there will be room, in milliseconds.
        wait_ms: u64,
    },
}

/// The frames of one order: each is encoded at most once, however many targets there are.
struct Frames<'a> {
    order: &'a Order,
    wafer: Option<Bytes>,
    native: Option<Bytes>,
}

impl Frames<'_> {
    /// The frame for a socket that speaks `profile`; none for an order to close.
    fn frame(&mut self, profile: Profile) -> Option<&Bytes> {
        let Order::Message(content) = self.order else {
            return None;
        };
        Some(match profile {
            Profile::Wafer => self.wafer.get_or_insert_with(|| frame::text(packet::MESSAGE_PREFIX, content)),
            Profile::Native => self.native.get_or_insert_with(|| frame::text("", content)),
        })
    }
}

impl Gateway {
    /// Does what `packets` ask for, in order, and returns the ids that are no open tunnels of `tenant`: as they were given, in the
    /// order given, once each.
    ///
    /// Pushes that come together are done together, so that each client's frames leave in one write.
    ///
    /// # Errors
    ///
    /// If a limit forbids it; nothing has been done then.
    pub async fn push(&self, tenant: Arc<Tenant>, packets: Vec<PushPacket>) -> Result<Vec<Target>, PushError> {
        self.check_limits(&tenant, &packets, Instant::now())?;
        Ok(self.push_together(tenant, packets).await)
    }

    /// Does one push. What it sends is written at once, or queued for the connections that it adds to `queued`.
    pub(super) fn push_now(
        &self,
        tenant: &Arc<Tenant>,
        packets: Vec<PushPacket>,
        mut queued: Option<&mut Queued>,
    ) -> Vec<Target> {
        let now = Instant::now();
        let mut invalid = Invalid::default();
        for packet in packets {
            self.push_packet(tenant, packet, now, queued.as_deref_mut(), &mut invalid);
        }
        invalid.targets
    }

    fn push_packet(
        &self,
        tenant: &Arc<Tenant>,
        packet: PushPacket,
        now: Instant,
        mut queued: Option<&mut Queued>,
        invalid: &mut Invalid,
    ) {
        let PushPacket { targets, order } = packet;
        let mut frames = Frames { order: &order, wafer: None, native: None };
        let mut seen = HashSet::new();
        let may_repeat = targets.len() > 1;
        let deliveries = &self.metrics.deliveries;
        let mut accepted = 0;
        for target in targets {
            let Target::Tunnel(id) = target else {
                deliveries.invalid.inc();
                invalid.add(target);
                continue;
            };
            if may_repeat && !seen.insert(id) {
                continue;
            }
            let sent = match self.find(tenant, id) {
                None => Sent::Closed,
                Some(connection) => match frames.frame(connection.profile) {
                    Some(frame) => match &mut queued {
                        None => self.send(&connection, frame, now),
                        Some(queued) => self.queue(connection, frame, now, queued),
                    },
                    None if connection.close(CloseReason::PushedClose, None, now) => {
                        self.detach(&connection);
                        Sent::Accepted
                    }
                    None => Sent::Closed,
                },
            };
            match sent {
                Sent::Accepted => accepted += 1,
                Sent::Slow => deliveries.slow.inc(),
                Sent::Closed => {
                    deliveries.invalid.inc();
                    invalid.add(target);
                }
            }
        }
        deliveries.accepted.inc_by(accepted);
    }

    /// An open tunnel of `tenant`. Another tenant's is as unknown as one that never was.
    fn find(&self, tenant: &Arc<Tenant>, id: TunnelId) -> Option<Arc<Connection<dyn Socket>>> {
        let connection = self.open.get(&id)?;
        Arc::ptr_eq(&connection.inbox.tenant, tenant).then(|| Arc::clone(&connection))
    }

    fn check_limits(&self, tenant: &Tenant, packets: &[PushPacket], now: Instant) -> Result<(), PushError> {
        let settings = tenant.settings();
        let targets = packets.iter().map(|packet| packet.targets.len()).sum();
        let limit = settings.limits.max_push_targets;
        if limit != 0 && targets > limit {
            return Err(PushError::TooManyTargets { targets, limit });
        }
        let limit_bytes = self.options.outbox_bytes / 2;
        let longest = packets.iter().map(|packet| match &packet.order {
            Order::Message(content) => content.len(),
            Order::Close => 0,
        });
        match longest.max() {
            Some(actual_bytes) if actual_bytes > limit_bytes => {
                return Err(PushError::TooLarge { actual_bytes, limit_bytes });
            }
            _ => {}
        }
        if let Some(rate) = settings.push_rate() {
            tenant.usage.take_push(rate, now.into_std()).map_err(|wait| PushError::TooFast {
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
            })?;
        }
        Ok(())
    }
}

/// Ids that are no open tunnels, each once, in the order of their first mention.
#[derive(Default)]
struct Invalid {
    targets: Vec<Target>,
    seen: HashSet<Target>,
}

impl Invalid {
    fn add(&mut self, target: Target) {
        if self.seen.insert(target.clone()) {
            self.targets.push(target);
        }
    }
}

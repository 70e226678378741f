//! Opens a tunnel for a connect URL, once, and closes it, once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Connection;
use super::Gateway;
use super::Phase;
use super::Sent;
use super::Socket;
use super::sealing::Sealed;
use crate::clock::millis;
use crate::delivery::EventKind;
use crate::engine::Announcement;
use crate::engine::Claim;
use crate::engine::ClaimStore;
use crate::engine::Closed;
use crate::engine::EngineError;
use crate::engine::Installation;
use crate::engine::Native;
use crate::engine::Record;
use crate::engine::Token;
use crate::engine::TunnelRegistry;
use crate::id::TunnelId;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Profile;
use crate::protocol::frame;
use crate::protocol::native::Audience;
use crate::protocol::packet;
use crate::protocol::subprotocol::Offer;
use crate::protocol::subprotocol::Unacceptable;
use crate::protocol::ticket::Ticket;
use crate::tenant::Tenant;
use crate::webhook::Endpoint;
use crate::webhook::EventQueue;

/// Delay before a waiting client's ticket is checked again while the engine is away.
const ENGINE_RETRY: Duration = Duration::from_millis(500);

/// A client that may be upgraded: its ticket is claimed.
pub struct Admission {
    ticket: Ticket,
    tenant: Arc<Tenant>,
    endpoint: Arc<Endpoint>,
    subprotocol: Option<Arc<str>>,
    claimed: Claimed,
    registration: Registration,
    arriving: TaskTrackerToken,
}

/// The claim of a connect URL; released on drop unless the tunnel opens.
struct Claimed {
    claims: Arc<dyn ClaimStore>,
    tunnel: TunnelId,
    token: Token,
    /// Remaining life of the URL.
    life: Duration,
    /// Whether there is nothing to release.
    is_kept: bool,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if !self.is_kept {
            self.claims.release(self.tunnel, self.token, self.life);
        }
    }
}

/// The registration of a tunnel; removed on drop unless the tunnel opens.
struct Registration {
    registry: Arc<dyn TunnelRegistry>,
    tunnel: TunnelId,
    /// The incarnation of this node that owns it.
    incarnation: u32,
    is_kept: bool,
    /// Index entries of its groups and user, held until the tunnel has joined.
    announcements: Vec<Announcement>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.is_kept {
            self.registry.unregister(self.tunnel);
        }
    }
}

impl Admission {
    /// The protocol of the socket.
    pub fn profile(&self) -> Profile {
        if self.ticket.native.is_some() { Profile::Native } else { Profile::Wafer }
    }

    /// Delays shutdown while it is held.
    pub fn arriving(&self) -> TaskTrackerToken {
        self.arriving.clone()
    }

    /// The subprotocol chosen from the client's offer, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }
}

/// Why a connect URL opens no tunnel.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not issued by this installation, or altered.
    #[error("this connect URL was not issued by this gateway, or it has been changed: ask for a new tunnel")]
    Unknown,
    /// Its tenant is not configured any more.
    #[error("the tenant of this connect URL is gone")]
    TenantGone,
    /// The client offers only subprotocols that its tenant does not support.
    #[error(transparent)]
    Subprotocol(#[from] Unacceptable),
    /// A client has used it.
    #[error("this connect URL has been used: it is good for one connection, ask for a new tunnel")]
    Used,
    /// It expired before use.
    #[error("this connect URL has expired: ask for a new tunnel")]
    Expired,
    /// The engine did not answer before the ticket expired.
    #[error("the gateway cannot check this connect URL at present: ask for a new tunnel")]
    EngineAway,
    /// The process has no descriptors left.
    #[error("this gateway has no descriptors left for more tunnels, try again")]
    NoDescriptors,
    /// The process is ending: the `close` event of a new tunnel could not be delivered.
    #[error("this gateway ends: ask for a new tunnel")]
    Draining,
}

impl Gateway {
    /// Checks and claims a connect URL, for a complete and valid WebSocket handshake with these subprotocols.
    ///
    /// While the engine is away it waits until the ticket expires. Dropping the future or the admission releases the
    /// URL.
    ///
    /// # Errors
    ///
    /// If the URL opens no tunnel; it is not claimed then.
    pub async fn admit(&self, ticket: &str, offer: &Offer) -> Result<Admission, Refusal> {
        // Taken before the check of `shut`, since shutdown waits for these tokens.
        let arriving = self.arrivals.token();
        tokio::select! {
            biased;
            () = self.shut.cancelled() => Err(Refusal::Draining),
            admission = self.check(ticket, offer, arriving) => admission,
        }
    }

    async fn check(&self, ticket: &str, offer: &Offer, arriving: TaskTrackerToken) -> Result<Admission, Refusal> {
        if !self.descriptors.admits(self.open.len() as u64) {
            return Err(Refusal::NoDescriptors);
        }
        let ticket = self.open_ticket(ticket).await?;
        let tenant = self.tenants.tenant(&ticket.tenant).ok_or(Refusal::TenantGone)?;
        let endpoint = self.endpoints.endpoint(&tenant.id, &ticket.receive_url).map_err(|_| Refusal::Unknown)?;
        let subprotocol = offer.choose(&tenant.settings().subprotocols)?;
        let (tunnel, token) = (ticket.tunnel, rand::random());
        let (claims, mut was_away) = (Arc::clone(&self.engine.claims), false);
        let incarnation = self.engine.lease_guard.incarnation();
        let mut claimed = Claimed { claims, tunnel, token, life: Duration::ZERO, is_kept: true };
        loop {
            let left = Duration::from_millis(ticket.expires_unix_ms).saturating_sub(self.ticket_clock.unix_time());
            if left.is_zero() {
                return Err(if was_away { Refusal::EngineAway } else { Refusal::Expired });
            }
            // From here on a cancelled call leaves a claim to release.
            (claimed.life, claimed.is_kept) = (left, false);
            let registration = match self.engine.claims.claim(tunnel, token, left).await {
                Ok(Claim::Used) => {
                    claimed.is_kept = true;
                    return Err(Refusal::Used);
                }
                Ok(Claim::Granted) => self.register(&ticket).await,
                Err(away) => Err(away),
            };
            if let Ok(registration) = registration {
                return Ok(Admission { ticket, tenant, endpoint, subprotocol, claimed, registration, arriving });
            }
            if self.engine.lease_guard.incarnation() != incarnation {
                // Other nodes may have adopted its record and sent a close event.
                claimed.is_kept = true;
                return Err(Refusal::EngineAway);
            }
            was_away = true;
            tokio::time::sleep(left.min(ENGINE_RETRY)).await;
        }
    }

    /// Opens a ticket; a new node first waits for the installation id and the engine's time.
    async fn open_ticket(&self, text: &str) -> Result<Ticket, Refusal> {
        let patience = Instant::now() + self.options.connect_ttl();
        loop {
            let installation = self.engine.claims.installation();
            let has_heard = installation != Installation::Unknown || self.engine.cluster.is_up();
            match self.sealing.open(text, &installation) {
                Ok(ticket) if has_heard => return Ok(ticket),
                Err(Sealed::Elsewhere) => return Err(Refusal::Unknown),
                Ok(_) | Err(Sealed::Perhaps) if Instant::now() >= patience => return Err(Refusal::EngineAway),
                Ok(_) | Err(Sealed::Perhaps) => tokio::time::sleep(ENGINE_RETRY).await,
            }
        }
    }

    async fn register(&self, ticket: &Ticket) -> Result<Registration, EngineError> {
        let about = ticket.native.as_deref();
        let record = Record {
            tenant: ticket.tenant.clone(),
            receive_url: ticket.receive_url.clone(),
            key_fingerprint: ticket.key_fingerprint,
            native: about.map(|about| Native { user: about.user.clone(), trace: about.trace }),
            closed: None,
        };
        let groups = about.into_iter().flat_map(|about| about.groups.iter().cloned().map(Audience::Group));
        let user = about.and_then(|about| about.user.clone()).map(Audience::User);
        let audiences: Vec<Audience> = groups.chain(user).collect();
        let current = self.engine.lease_guard.incarnation();
        let announcing = audiences.iter().map(|audience| self.engine.group_index.announce(&ticket.tenant, audience));
        let announcements = try_join_all(announcing).await?;
        let incarnation = self.engine.registry.register(ticket.tunnel, record).await?;
        let registry = Arc::clone(&self.engine.registry);
        let registration = Registration { registry, tunnel: ticket.tunnel, incarnation, is_kept: false, announcements };
        // The index entries carry the node name of the incarnation before.
        if incarnation == current { Ok(registration) } else { Err(EngineError::NotMember) }
    }

    /// Opens the tunnel of a client after its handshake; `answer` is the handshake response. Pushes can reach it before
    /// its `connect` event is sent.
    pub fn attach<S: Socket>(
        &self,
        admission: Admission,
        profile: Profile,
        socket: S,
        answer: Bytes,
    ) -> Arc<Connection<S>> {
        let Admission { ticket, tenant, endpoint, subprotocol, mut claimed, mut registration, arriving: _arriving } =
            admission;
        (claimed.is_kept, registration.is_kept) = (true, true);
        tenant.usage.take_reservation(ticket.expires_unix_ms / 1_000);
        self.expected.lock().remove(ticket.expires_unix_ms / 1_000);
        let (now, opened_unix) = (Instant::now(), self.clock.unix_time());
        let about = ticket.native.map(|about| *about);
        let (groups, user) = about.as_ref().map_or((vec![], None), |about| (about.groups.clone(), about.user.clone()));
        let event_queue = EventQueue::new(ticket.tunnel, tenant, endpoint, ticket.key_fingerprint)
            .of_incarnation(registration.incarnation);
        let event_queue = Arc::new(match about {
            Some(about) => event_queue.native(about, now, opened_unix),
            None => event_queue,
        });
        let connection = Arc::new(Connection::new(event_queue, profile, socket, opened_unix, self.now_ms()));
        let first = match profile {
            Profile::Wafer => {
                let timeout = frame::text(&packet::timeout(self.options.heartbeat_secs), "");
                [answer, timeout].concat().into()
            }
            Profile::Native => answer,
        };
        // Queue the response until other nodes can find the tunnel.
        connection.queue(&first, self.options.outbox_bytes, now);
        let shared: Arc<Connection<dyn Socket>> = connection.clone();
        self.idle_timeouts.watch(Arc::downgrade(&shared), profile, self.now_ms());
        self.open.insert(ticket.tunnel, shared);
        self.join_first(&connection.event_queue, &groups, user.as_ref());
        connection.flush_queued();
        registration.announcements.clear();
        self.metrics.connections.inc();
        tracing::debug!(tunnel.id = %ticket.tunnel, tenant.id = %connection.event_queue.tenant.id, "tunnel open");
        self.events.enqueue(&connection.event_queue, EventKind::Connect { subprotocol }, now);
        if self.is_released.load(Ordering::Acquire) {
            connection.close(CloseReason::Drain, now);
        }
        if registration.incarnation != self.engine.lease_guard.incarnation() {
            connection.close(CloseReason::CutOff, now);
        }
        connection
    }

    /// Removes a closing connection from the open tunnels. Idempotent; returns why it ended.
    ///
    /// The connection's own task sends the `close` event, so that no message follows it.
    pub fn detach<S: Socket + ?Sized>(&self, connection: &Connection<S>) -> Option<CloseReason> {
        let Phase::Closing(reason) = connection.phase() else {
            return None;
        };
        if self.open.remove(&connection.event_queue.tunnel).is_some() {
            connection.event_queue.close();
            self.leave_all(&connection.event_queue);
            self.metrics.connections.dec();
            if reason != CloseReason::CutOff {
                // Another node sends its event and counts it.
                self.metrics.close(reason);
                let closed = Closed { reason, unix_ms: millis(self.clock.unix_time()) };
                self.engine.registry.set_closed(connection.event_queue.tunnel, closed);
            }
            tracing::debug!(tunnel.id = %connection.event_queue.tunnel, reason = reason.as_str(), "tunnel closed");
        }
        Some(reason)
    }

    /// Sends a frame to an open tunnel; closes a client with a full outbox.
    pub fn send<S: Socket + ?Sized>(&self, connection: &Connection<S>, frame: &bytes::Bytes, now: Instant) -> Sent {
        close_if_slow(connection, connection.send(frame, self.options.outbox_bytes, now), now)
    }
}

/// Closes a client with a full outbox.
pub(super) fn close_if_slow<S: Socket + ?Sized>(connection: &Connection<S>, sent: Sent, now: Instant) -> Sent {
    if sent == Sent::Slow {
        connection.close(CloseReason::SlowConsumer, now);
    }
    sent
}

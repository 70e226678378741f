//! Admits a client with a connect URL, once.

use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::ConnectUrls;
use super::sealing::Sealed;
use crate::engine::Claim;
use crate::engine::EngineError;
use crate::engine::Installation;
use crate::engine::Native;
use crate::engine::Record;
use crate::gateway::tunnels::Admission;
use crate::gateway::tunnels::Claimed;
use crate::gateway::tunnels::Registration;
use crate::id::TunnelId;
use crate::login::CheckError;
use crate::protocol::native::Audience;
use crate::protocol::origin::ForeignOrigin;
use crate::protocol::subprotocol::Offer;
use crate::protocol::subprotocol::Unacceptable;
use crate::protocol::ticket::About;
use crate::protocol::ticket::Ticket;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::session::SessionId;
use crate::tenant::Tenant;
use crate::timeline;

/// Delay before a waiting client's ticket is checked again while the engine is away.
const ENGINE_RETRY: Duration = Duration::from_millis(500);

/// Why a connect URL opens no tunnel.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not issued by this installation, or altered.
    #[error("{}", Reason::TicketUnknown.text())]
    Unknown,
    /// Its tenant is not configured any more.
    #[error("{}", Reason::TenantGone.text())]
    TenantGone,
    /// The client offers only subprotocols that its tenant does not support.
    #[error(transparent)]
    Subprotocol(#[from] Unacceptable),
    /// The business server has withdrawn its tunnel.
    #[error("the tunnel of this connect URL was withdrawn by its business server: ask for a new tunnel")]
    Withdrawn,
    /// A web page of an origin that its tenant does not allow.
    #[error(transparent)]
    Origin(#[from] ForeignOrigin),
    /// A client has used it.
    #[error("{}", Reason::TicketUsed.text())]
    Used,
    /// The session that it was asked for with has ended.
    #[error("{}", Reason::SessionEnded.text())]
    SessionEnded,
    /// The session store did not answer.
    #[error("{}", Reason::SessionStoreAway.text())]
    SessionStoreAway,
    /// It expired before use.
    #[error("{}", Reason::TicketExpired.text())]
    Expired,
    /// The engine did not answer before the ticket expired.
    #[error("the gateway cannot check this connect URL at present: ask for a new tunnel")]
    EngineAway,
    /// The process has no descriptors left.
    #[error("this gateway has no descriptors left for more tunnels, try again")]
    NoDescriptors,
    /// The process is ending: the `close` event of a new tunnel could not be delivered.
    #[error("{}", Reason::Draining.text())]
    Draining,
}

impl Refusal {
    /// Why, for timelines; its code is that of the answer.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unknown => Reason::TicketUnknown,
            Self::TenantGone => Reason::TenantGone,
            Self::Subprotocol(_) => Reason::SubprotocolUnacceptable,
            Self::Used => Reason::TicketUsed,
            Self::Withdrawn => Reason::TunnelWithdrawn,
            Self::Origin(_) => Reason::OriginRefused,
            Self::SessionEnded => Reason::SessionEnded,
            Self::SessionStoreAway => Reason::SessionStoreAway,
            Self::Expired => Reason::TicketExpired,
            Self::EngineAway => Reason::EngineAway,
            Self::NoDescriptors => Reason::NoDescriptors,
            Self::Draining => Reason::Draining,
        }
    }
}

impl ConnectUrls {
    /// Checks and claims a connect URL, for a complete and valid WebSocket handshake with these subprotocols, by a page of
    /// this origin.
    ///
    /// While the engine is away it waits until the ticket expires. Dropping the future or the admission releases the
    /// URL.
    ///
    /// # Errors
    ///
    /// If the URL opens no tunnel. It is not claimed then: a proxy that is refused may try the next node at once.
    pub async fn admit(&self, ticket: &str, offer: &Offer, origin: Option<&str>) -> Result<Admission, Refusal> {
        // Taken before the check of `shut`, since shutdown waits for these tokens.
        let arriving = self.arrivals.token();
        let (ticket, tenant) = self.unless_shut(pin!(self.check(ticket, origin))).await?;
        let endpoint = self.endpoints.endpoint(&tenant.id, &ticket.receive_url).map_err(|_| Refusal::Unknown)?;
        let subprotocol = offer.choose(&tenant.settings().subprotocols)?;
        let opening = self.tunnels.openings.begin(ticket.tunnel, &tenant);
        let mut claimed = Claimed {
            claims: Arc::clone(&self.engine.claims),
            tunnel: ticket.tunnel,
            token: rand::random(),
            life: Duration::ZERO,
            is_kept: true,
        };
        let registered = self.unless_shut(pin!(self.claim(&ticket, &mut claimed))).await;
        match registered {
            Ok(registration) => {
                Ok(Admission { ticket, tenant, endpoint, subprotocol, claimed, registration, opening, arriving })
            }
            Err(refusal) => {
                drop(opening);
                claimed.give_back().await;
                Err(refusal)
            }
        }
    }

    /// The outcome of a step that ends when this node does; pinned by the caller, so that it is not copied.
    async fn unless_shut<T>(&self, step: Pin<&mut impl Future<Output = Result<T, Refusal>>>) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            () = self.shut.cancelled() => Err(Refusal::Draining),
            result = step => result,
        }
    }

    /// Tunnel and tenant of a connect URL that this gateway has issued, for log and timeline.
    pub fn holder_of_ticket(&self, ticket: &str) -> Option<(TunnelId, Arc<Tenant>)> {
        let ticket = self.sealing.open(ticket, &self.engine.claims.installation()).ok()?;
        Some((ticket.tunnel, self.tenants.tenant_of_tunnels(&ticket.tenant)?))
    }

    /// Records a refused handshake; tunnel and tenant are known from a connect URL that this gateway has issued.
    pub fn record_refusal(&self, reason: Reason, holder: Option<&(TunnelId, Arc<Tenant>)>, status: u16, detail: &str) {
        let records = &self.tunnels.timeline;
        let record = timeline::Record::new(Kind::Refused, reason, self.tunnels.unix_time());
        let record =
            holder.map_or(record, |(tunnel, tenant)| record.of(records.tenant(&tenant.number, &tenant.id), *tunnel));
        records.record_refused(record.with_status(status), detail);
    }

    /// All that can be checked before the connect URL is claimed, except the client's offer.
    async fn check(&self, ticket: &str, origin: Option<&str>) -> Result<(Ticket, Arc<Tenant>), Refusal> {
        if !self.tunnels.admits() {
            return Err(Refusal::NoDescriptors);
        }
        let ticket = self.open_ticket(ticket).await?;
        let tenant = self.tenants.tenant(&ticket.tenant).ok_or(Refusal::TenantGone)?;
        tenant.settings().origins.check(origin)?;
        self.confirm_session(&ticket).await?;
        Ok((ticket, tenant))
    }

    /// Claims a connect URL and registers its tunnel. `claimed` says what is left to release, also of a dropped call.
    async fn claim(&self, ticket: &Ticket, claimed: &mut Claimed) -> Result<Registration, Refusal> {
        let (tunnel, token, mut was_away) = (claimed.tunnel, claimed.token, false);
        let incarnation = self.engine.lease_guard.incarnation();
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
                // A withdrawal behind the claim finds this node by it.
                Ok(Claim::Granted) => {
                    let is_withdrawn = self.engine.claims.is_withdrawn(&ticket.tenant, tunnel, left);
                    try_join(is_withdrawn, self.register(ticket)).await
                }
                Err(away) => Err(away),
            };
            match registration {
                Ok((true, _)) => return Err(Refusal::Withdrawn),
                Ok((false, registration)) => return Ok(registration),
                Err(_) => {}
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
        let patience = Instant::now() + self.connect_ttl;
        loop {
            let installation = self.engine.claims.installation();
            let has_heard = installation != Installation::Unknown || self.engine.cluster.is_up();
            match self.sealing.open(text, &installation) {
                Ok(ticket) if has_heard => return Ok(ticket),
                // Another node may have issued it, which the client's next try meets.
                Err(Sealed::Elsewhere) if self.shared_limits.is_stranger() => return Err(Refusal::EngineAway),
                Err(Sealed::Elsewhere) => return Err(Refusal::Unknown),
                Ok(_) | Err(Sealed::Perhaps) if Instant::now() >= patience => return Err(Refusal::EngineAway),
                Ok(_) | Err(Sealed::Perhaps) => tokio::time::sleep(ENGINE_RETRY).await,
            }
        }
    }

    /// Fails if the session of a connect URL has ended.
    async fn confirm_session(&self, ticket: &Ticket) -> Result<(), Refusal> {
        let Some(session) = ticket.native.as_ref().and_then(|about| about.session.as_ref()) else { return Ok(()) };
        let sessions = self.sessions.as_ref().ok_or(Refusal::SessionStoreAway)?;
        let id = SessionId::new(session.as_str()).map_err(|_| Refusal::SessionEnded)?;
        sessions.confirm(&id, &ticket.tenant).await.map_err(|error| match error {
            CheckError::NoSession => Refusal::SessionEnded,
            CheckError::StoreAway(_) => Refusal::SessionStoreAway,
        })
    }

    async fn register(&self, ticket: &Ticket) -> Result<Registration, EngineError> {
        let about = ticket.native.as_deref();
        let record = Record {
            tenant: ticket.tenant.clone(),
            receive_url: ticket.receive_url.clone(),
            key_fingerprint: ticket.key_fingerprint,
            native: about.map(|about| Native { user: about.user.clone(), trace: about.trace }),
            connector: ticket.connector.clone(),
            closed: None,
        };
        let audiences: Vec<Audience> = about.into_iter().flat_map(About::audiences).collect();
        let current = self.engine.lease_guard.incarnation();
        let announcing = audiences.iter().map(|audience| self.engine.group_index.announce(&ticket.tenant, audience));
        let announcements = try_join_all(announcing).await?;
        let incarnation = self.engine.registry.register(ticket.tunnel, record).await?;
        let registry = Arc::clone(&self.engine.registry);
        let registration = Registration { registry, tunnel: ticket.tunnel, incarnation, is_kept: false, announcements };
        // The index entries carry the node name of the incarnation before.
        if incarnation == current { Ok(registration) } else { Err(EngineError::NotMember) }
    }
}

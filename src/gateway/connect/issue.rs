//! Issues tunnels. Nothing is stored: the connect URL holds all data.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::ConnectUrls;
use crate::clock::millis;
use crate::http_client::receive_url::ReceiveUrl;
use crate::id::TunnelId;
use crate::options::ConnectorUse;
use crate::protocol::connector::ConnectorName;
use crate::protocol::native::Name;
use crate::protocol::native::Trace;
use crate::protocol::ticket::About;
use crate::protocol::ticket::Ticket;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::tenant::Key;
use crate::tenant::NoRoomForNames;
use crate::tenant::Tenant;
use crate::timeline::Record;
use crate::timeline::user_words;

/// A tunnel without a client yet.
#[derive(Debug)]
pub struct Issued {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The path of its connect URL.
    pub path: String,
    /// When it expires, in milliseconds since 1970.
    pub expires_unix_ms: u64,
}

/// Why no tunnel was issued.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IssueError {
    /// Not a valid URL for events.
    #[error("{0}")]
    NotAUrl(String),
    /// The host is not one of this tenant.
    #[error("host {authority} does not belong to this tenant: {fix}", fix = Reason::HostNotOwned.fix())]
    NotOwned {
        /// Host and port, as the URL has them.
        authority: String,
    },
    /// The address is not allowed.
    #[error("{reason}")]
    Forbidden {
        /// Which rule forbids it.
        code: Reason,
        /// In words.
        reason: String,
    },
    /// The tenant has reached its connection limit.
    #[error("this tenant has {open} of {limit} allowed tunnels open or asked for (limits.connections)")]
    TooManyTunnels {
        /// Tunnels open or issued.
        open: u64,
        /// The limit.
        limit: u64,
    },
    /// Too many tunnels without an accepted close event.
    #[error(
        "{pending} tunnels are asked for, open or wait for their close event to be accepted (webhook.max_pending_closes)"
    )]
    TooManyPending {
        /// Their number.
        pending: u64,
    },
    /// The tenant has too many groups and users.
    #[error(transparent)]
    NoRoomForNames(#[from] NoRoomForNames),
    /// The process has no descriptors left.
    #[error("this gateway has no descriptors left for more tunnels (its limit of open files), try again")]
    NoDescriptors,
    /// This node is draining.
    #[error("this gateway is draining, try again")]
    Draining,
    /// The other nodes would not know its connect URL.
    #[error("this node has another ticket_key than the others, which its log explains: try again")]
    OtherTicketKey,
    /// Its tenant has switched connectors off.
    #[error("connectors are off for this tenant (connectors = \"off\"): leave out the name, or switch them on")]
    ConnectorsOff,
    /// A node of the last release could not open the connect URL.
    #[error(
        "a node of the last release, which does not know connectors, is still running: try again when all nodes are upgraded"
    )]
    UpgradeRunning,
    /// Without the engine a connect URL could be used twice.
    #[error("this gateway is cut off from its engine, try again")]
    EngineAway,
}

impl IssueError {
    fn forbidden(code: Reason, reason: &dyn Display) -> Self {
        Self::Forbidden { code, reason: reason.to_string() }
    }

    /// Why, for timelines.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotAUrl(_) => Reason::UrlInvalid,
            Self::NotOwned { .. } => Reason::HostNotOwned,
            Self::Forbidden { code, .. } => *code,
            Self::TooManyTunnels { .. } => Reason::TooManyTunnels,
            Self::TooManyPending { .. } => Reason::TooManyPending,
            Self::NoRoomForNames(_) => Reason::TooManyNames,
            Self::NoDescriptors => Reason::NoDescriptors,
            Self::Draining => Reason::Draining,
            Self::OtherTicketKey => Reason::OtherTicketKey,
            Self::ConnectorsOff => Reason::ConnectorsOff,
            Self::UpgradeRunning => Reason::UpgradeRunning,
            Self::EngineAway => Reason::EngineAway,
        }
    }
}

impl ConnectUrls {
    /// Issues a tunnel of `tenant` with events to `receive_url`; `key` signed the request. Waits until all nodes will accept
    /// its connect URL.
    ///
    /// # Errors
    ///
    /// With a message that says what to change. Refusing here is best under load: a Wafer client tries again.
    pub async fn issue(&self, tenant: &Arc<Tenant>, key: &Key, receive_url: &str) -> Result<Issued, IssueError> {
        self.issue_as(tenant, key, receive_url, None, None).await
    }

    /// Issues a native tunnel with `about`, or a Wafer tunnel: see [`issue`](Self::issue). Nothing is dialled for a tunnel with a
    /// `connector`, so no rule about addresses applies to its URL.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue).
    pub async fn issue_as(
        &self,
        tenant: &Arc<Tenant>,
        key: &Key,
        receive_url: &str,
        about: Option<About>,
        connector: Option<ConnectorName>,
    ) -> Result<Issued, IssueError> {
        let trace = about.as_ref().and_then(|about| about.trace);
        let user = about.as_ref().and_then(|about| about.user.clone());
        let name = connector.clone();
        let issued = self.try_issue(tenant, key, receive_url, about, connector).await;
        if self.tunnels.timeline.is_on() {
            self.record(tenant, receive_url, (trace, user.as_ref(), name.as_ref()), &issued);
        }
        issued
    }

    fn record(
        &self,
        tenant: &Tenant,
        receive_url: &str,
        (trace, user, connector): (Option<Trace>, Option<&Name>, Option<&ConnectorName>),
        issued: &Result<Issued, IssueError>,
    ) {
        let (timeline, now) = (&self.tunnels.timeline, self.tunnels.unix_time());
        let (number, url) =
            (timeline.tenant(&tenant.number, &tenant.id), timeline.url(&AtomicU32::new(0), receive_url));
        let of_connector =
            |record: Record| connector.map_or(record, |name| record.by_connector(timeline.connector(name)));
        match issued {
            Ok(Issued { tunnel, .. }) => {
                let trace = trace.unwrap_or_else(|| Trace::of_tunnel(*tunnel));
                let user = user.map(|user| timeline.word(&user_words(user.as_str())));
                let record = Record::new(Kind::Requested, Reason::None, now).of(number, *tunnel).to(url);
                timeline.record(of_connector(record.traced(trace.mark(0)).with_words(user.unwrap_or_default())));
            }
            Err(error) => {
                let record = Record::new(Kind::Refused, error.reason(), now).of_tenant(number).to(url);
                timeline.record_refused(of_connector(record), &error.to_string());
            }
        }
    }

    async fn try_issue(
        &self,
        tenant: &Arc<Tenant>,
        key: &Key,
        receive_url: &str,
        about: Option<About>,
        connector: Option<ConnectorName>,
    ) -> Result<Issued, IssueError> {
        self.engine.claims.issues_good_urls().await;
        self.check_node()?;
        if !self.engine.cluster.is_up() {
            return Err(IssueError::EngineAway);
        }
        let receive_url = match &connector {
            None => {
                self.check_url(tenant, receive_url)?;
                Cow::Borrowed(receive_url)
            }
            Some(_) => {
                self.check_connectors(tenant)?;
                ReceiveUrl::undialled(receive_url).map_err(|error| IssueError::NotAUrl(error.to_string()))?
            }
        };
        self.check_room(tenant)?;
        about
            .iter()
            .flat_map(About::audiences)
            .try_for_each(|audience| tenant.groups.check_room(&audience, self.max_unsettled))?;

        let ticket = Ticket {
            tunnel: TunnelId::from_bytes((self.random_id)()),
            tenant: tenant.id.to_string(),
            receive_url: receive_url.into_owned(),
            key_fingerprint: key.fingerprint(),
            expires_unix_ms: millis(self.ticket_clock.unix_time() + self.connect_ttl),
            native: about.map(Box::new),
            connector,
        };
        tenant.usage.reserve(ticket.expires_unix_ms / 1_000);
        self.tunnels.expect(ticket.expires_unix_ms / 1_000);
        self.metrics.tunnels_requested.inc();
        let path = format!("/ws/{}", self.sealing.seal(&ticket, &self.engine.claims.installation()));
        Ok(Issued { tunnel: ticket.tunnel, path, expires_unix_ms: ticket.expires_unix_ms })
    }

    /// Checks what keeps this node from issuing any tunnel, though another node may.
    ///
    /// # Errors
    ///
    /// If it is draining alone, has another `ticket_key` than the other nodes, or has no descriptors left.
    pub fn check_node(&self) -> Result<(), IssueError> {
        // With other nodes a connect URL is good on each of them, also after this one has gone.
        if self.is_draining() && !self.shared_limits.has_others() {
            return Err(IssueError::Draining);
        }
        if self.shared_limits.is_stranger() {
            return Err(IssueError::OtherTicketKey);
        }
        if self.tunnels.has_room() { Ok(()) } else { Err(IssueError::NoDescriptors) }
    }

    /// The connect URL of an issued tunnel: at the public address, or else at the `origin` of the request.
    ///
    /// # Errors
    ///
    /// If `origin` is needed and fails.
    pub fn connect_url<E>(&self, issued: &Issued, origin: impl FnOnce() -> Result<String, E>) -> Result<String, E> {
        let origin = match self.public_url.trim_end_matches('/') {
            "" => origin()?,
            public_url => public_url.to_owned(),
        };
        Ok(origin + &issued.path)
    }

    /// Checks that events of the tenant may be posted to this URL.
    fn check_url(&self, tenant: &Tenant, receive_url: &str) -> Result<(), IssueError> {
        let endpoint = self.endpoints.endpoint(&tenant.id, receive_url);
        let endpoint = endpoint.map_err(|error| IssueError::NotAUrl(error.to_string()))?;
        let url = &endpoint.url;
        let host = url.host_as_written();
        if !tenant.owns_authority(url.authority_as_written(), host) {
            return Err(IssueError::NotOwned { authority: url.authority_as_written().to_owned() });
        }
        let url = &endpoint.target(tenant.settings().forward_to.as_deref());
        let guard = self.guard.load();
        guard.admits_literal(url.host()).map_err(|refusal| IssueError::forbidden(refusal.code(), &refusal))?;
        let port = guard.admits_port_of(url.host(), url.port());
        port.map_err(|port| IssueError::forbidden(Reason::PortBlocked, &port))
    }

    /// Checks that a tunnel of the tenant may have a connector, and that every node can open its connect URL.
    fn check_connectors(&self, tenant: &Tenant) -> Result<(), IssueError> {
        if tenant.settings().connectors == ConnectorUse::Off {
            return Err(IssueError::ConnectorsOff);
        }
        let cluster = &self.engine.cluster;
        if cluster.others().iter().any(|node| !cluster.understands(*node)) {
            return Err(IssueError::UpgradeRunning);
        }
        Ok(())
    }

    fn check_room(&self, tenant: &Tenant) -> Result<(), IssueError> {
        let now_unix_secs = self.ticket_clock.unix_time().as_secs();
        let limit = tenant.settings().limits.connections;
        let open = tenant.usage.tunnels_everywhere(now_unix_secs);
        if limit != 0 && open >= limit {
            return Err(IssueError::TooManyTunnels { open, limit });
        }
        let pending = tenant.usage.pending_everywhere(now_unix_secs);
        if pending >= self.max_unsettled {
            return Err(IssueError::TooManyPending { pending });
        }
        Ok(())
    }
}

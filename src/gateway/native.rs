//! What native calls do: push and close by tunnel, group or user; and what the answers to events ask for.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::time::Instant;

use super::Connection;
use super::Gateway;
use super::PushError;
use super::Sent;
use super::Socket;
use crate::id::TunnelId;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Profile;
use crate::protocol::frame;
use crate::protocol::native::Action;
use crate::protocol::native::CloseRequest;
use crate::protocol::native::Name;
use crate::protocol::native::Payload;
use crate::protocol::native::PushRequest;
use crate::protocol::native::To;
use crate::protocol::native::request::Reason;
use crate::protocol::packet;
use crate::protocol::wafer::Target;
use crate::tenant::Tenant;
use crate::tenant::TooManyGroups;
use crate::webhook::Act;
use crate::webhook::Inbox;

/// What became of the targets of a push or a close. Those not named were reached.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// How many targets there were.
    pub targets: usize,
    /// How many of them were reached.
    pub accepted: usize,
    /// Not open: unknown, closed, never connected, another tenant's.
    pub gone: Vec<Target>,
    /// Closed, since their clients do not read.
    pub slow: Vec<Target>,
    /// On a node that does not answer.
    pub unreachable: Vec<Target>,
}

/// Why nothing was done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NativeError {
    /// A limit forbids it.
    #[error(transparent)]
    Limit(#[from] PushError),
    /// Nobody is in the group.
    #[error(
        "no open tunnel is in the group \"{0}\": tunnels join when they open, by PUT /v1/groups/{{group}}/tunnels/{{id}}, or by a join action"
    )]
    GroupUnknown(Name),
    /// The user has no tunnel.
    #[error("the user \"{0}\" has no open tunnel: a tunnel gets its user when it is requested, or by a user action")]
    UserUnknown(Name),
    /// The tunnel is not open.
    #[error("the tunnel {0} is not open: it was only requested, has been closed, or is none of this tenant's")]
    TunnelNotOpen(String),
    /// The tunnel is in too many groups.
    #[error(transparent)]
    TooManyGroups(#[from] TooManyGroups),
}

/// The frames of one push: each is encoded at most once, however many targets there are.
struct Frames<'a> {
    payload: &'a Payload,
    wafer: Option<Bytes>,
    native: Option<Bytes>,
}

impl Frames<'_> {
    fn frame(&mut self, profile: Profile) -> &Bytes {
        let payload = self.payload;
        match profile {
            Profile::Wafer => self.wafer.get_or_insert_with(|| match payload {
                Payload::Text(text) => frame::text(packet::MESSAGE_PREFIX, text),
                Payload::Binary(bytes) => frame::text(packet::MESSAGE_PREFIX, &STANDARD.encode(bytes)),
            }),
            Profile::Native => self.native.get_or_insert_with(|| match payload {
                Payload::Text(text) => frame::text("", text),
                Payload::Binary(bytes) => frame::binary(bytes),
            }),
        }
    }
}

impl Gateway {
    /// Pushes to all targets, each once.
    ///
    /// # Errors
    ///
    /// If a limit forbids it, or nobody is meant; nothing has been sent then.
    pub async fn push_native(&self, tenant: &Arc<Tenant>, to: To, push: &PushRequest) -> Result<Report, NativeError> {
        let now = Instant::now();
        self.check_push(tenant, named(&to), push.payload.len(), now)?;
        let mut frames = Frames { payload: &push.payload, wafer: None, native: None };
        let report = self.each(tenant, to, &push.except, |connection| {
            let sent = self.send(connection, frames.frame(connection.profile), now);
            if sent == Sent::Accepted {
                connection.inbox.count_pushed();
            }
            sent
        })?;
        let deliveries = &self.metrics.deliveries;
        deliveries.accepted.inc_by(report.accepted as u64);
        deliveries.slow.inc_by(report.slow.len() as u64);
        deliveries.invalid.inc_by(report.gone.len() as u64);
        Ok(report)
    }

    /// Closes all targets.
    ///
    /// # Errors
    ///
    /// If a limit forbids it, or nobody is meant; nothing has been closed then.
    pub async fn close_native(&self, tenant: &Arc<Tenant>, close: CloseRequest) -> Result<Report, NativeError> {
        let CloseRequest { to, except, reason } = close;
        self.check_push(tenant, named(&to), 0, Instant::now())?;
        self.each(tenant, to, &except, |connection| self.close_for(connection, reason.as_ref()))
    }

    /// Puts a tunnel into a group.
    ///
    /// # Errors
    ///
    /// If it is not open, or in too many groups.
    pub fn join(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, group: &Name) -> Result<(), NativeError> {
        let is_open = || self.find(tenant, tunnel).is_some();
        if tenant.groups.join(tunnel, group, is_open)? { Ok(()) } else { Err(not_open(tunnel)) }
    }

    /// Takes a tunnel out of a group, if it is in it.
    ///
    /// # Errors
    ///
    /// If it is not open.
    pub fn leave(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, group: &Name) -> Result<(), NativeError> {
        self.find(tenant, tunnel).ok_or_else(|| not_open(tunnel))?;
        tenant.groups.leave(tunnel, group);
        Ok(())
    }

    /// Makes a tunnel this user's.
    ///
    /// # Errors
    ///
    /// If it is not open.
    pub fn set_user(&self, inbox: &Inbox, user: &Name) -> Result<(), NativeError> {
        let (tenant, tunnel) = (&inbox.tenant, inbox.tunnel);
        if !tenant.groups.set_user(tunnel, user, || self.find(tenant, tunnel).is_some()) {
            return Err(not_open(tunnel));
        }
        inbox.set_user(user);
        Ok(())
    }

    /// An open tunnel of `tenant`.
    ///
    /// # Errors
    ///
    /// If there is none with this id.
    pub fn open_tunnel(
        &self,
        tenant: &Arc<Tenant>,
        tunnel: TunnelId,
    ) -> Result<Arc<Connection<dyn Socket>>, NativeError> {
        self.find(tenant, tunnel).ok_or_else(|| not_open(tunnel))
    }

    /// Gives a tunnel that opens what it was requested with. If it has ended meanwhile there is nothing to give.
    pub(super) fn join_first(&self, inbox: &Inbox, groups: &[Name], user: Option<&Name>) {
        let is_open = || self.open.contains_key(&inbox.tunnel);
        for group in groups {
            // A tunnel opens in fewer groups than it may be in.
            let _ = inbox.tenant.groups.join(inbox.tunnel, group, is_open);
        }
        if let Some(user) = user {
            inbox.tenant.groups.set_user(inbox.tunnel, user, is_open);
        }
    }

    /// Does something to each target once, and sorts them by what became of it.
    fn each(
        &self,
        tenant: &Arc<Tenant>,
        to: To,
        except: &[Target],
        mut act: impl FnMut(&Connection<dyn Socket>) -> Sent,
    ) -> Result<Report, NativeError> {
        let targets = select(tenant, to)?;
        let mut seen: HashSet<&Target> = except.iter().collect();
        let mut report = Report::default();
        for target in &targets {
            if !seen.insert(target) {
                continue;
            }
            report.targets += 1;
            let connection = match target {
                Target::Tunnel(id) => self.find(tenant, *id),
                Target::Foreign(_) => None,
            };
            match connection.map_or(Sent::Closed, |connection| act(&connection)) {
                Sent::Accepted => report.accepted += 1,
                Sent::Slow => report.slow.push(target.clone()),
                Sent::Closed => report.gone.push(target.clone()),
            }
        }
        Ok(report)
    }

    fn close_for(&self, connection: &Connection<dyn Socket>, reason: Option<&Reason>) -> Sent {
        let text = reason.map_or(CloseReason::PushedClose.text(), |reason| reason.0.as_str());
        if !connection.close_saying(CloseReason::PushedClose, None, text, Instant::now()) {
            return Sent::Closed;
        }
        self.detach(connection);
        Sent::Accepted
    }

    async fn act_one(&self, inbox: &Inbox, action: Action) -> Result<(), NativeError> {
        let (tenant, tunnel) = (&inbox.tenant, inbox.tunnel);
        let itself = || To::Tunnels(vec![Target::Tunnel(tunnel)]);
        let (report, is_own) = match action {
            Action::Join(group) => return self.join(tenant, tunnel, &group),
            Action::Leave(group) => return self.leave(tenant, tunnel, &group),
            Action::User(user) => return self.set_user(inbox, &user),
            Action::Close(close) => {
                let request = CloseRequest { to: itself(), except: vec![], reason: close.reason };
                (self.close_native(tenant, request).await?, true)
            }
            Action::Push(mut push) => {
                let to = push.to.take();
                let is_own = to.is_none();
                (self.push_native(tenant, to.unwrap_or_else(itself), &push).await?, is_own)
            }
        };
        if is_own && report.accepted == 0 { Err(not_open(tunnel)) } else { Ok(()) }
    }
}

#[async_trait]
impl Act for Gateway {
    async fn act(&self, inbox: &Inbox, actions: Vec<Action>) {
        for action in actions {
            let word = action.as_str();
            match self.act_one(inbox, action).await {
                Ok(()) => self.metrics.action("ok"),
                Err(error) => {
                    self.metrics.action("failed");
                    tracing::info!(
                        tunnel.id = %inbox.tunnel,
                        tenant.id = %inbox.tenant.id,
                        action = word,
                        reason = %error,
                        "an action of an answer could not be done",
                    );
                }
            }
        }
    }
}

/// How many targets a request names.
fn named(to: &To) -> usize {
    match to {
        To::Tunnels(tunnels) => tunnels.len(),
        To::Group(_) | To::User(_) => 1,
    }
}

/// The targets that are meant.
fn select(tenant: &Tenant, to: To) -> Result<Vec<Target>, NativeError> {
    let (tunnels, unknown) = match to {
        To::Tunnels(targets) => return Ok(targets),
        To::Group(group) => (tenant.groups.in_group(&group), NativeError::GroupUnknown(group)),
        To::User(user) => (tenant.groups.of_user(&user), NativeError::UserUnknown(user)),
    };
    if tunnels.is_empty() { Err(unknown) } else { Ok(tunnels.into_iter().map(Target::Tunnel).collect()) }
}

fn not_open(tunnel: TunnelId) -> NativeError {
    NativeError::TunnelNotOpen(tunnel.to_string())
}

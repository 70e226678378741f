//! Groups and users of open tunnels: the owner makes each change, after the other nodes can see it.

use std::sync::Arc;
use std::time::Duration;

use super::Groups;
use crate::engine::EngineError;
use crate::gateway::cluster::Joined;
use crate::gateway::cluster::NodeRequest;
use crate::gateway::cluster::read_answer;
use crate::gateway::error::NativeError;
use crate::id::TunnelId;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::tenant::NoRoomForNames;
use crate::tenant::Tenant;
use crate::tenant::TooManyGroups;
use crate::timeline::Record;
use crate::timeline::group_words;
use crate::timeline::user_words;
use crate::webhook::EventQueue;

impl Groups {
    /// Adds a tunnel on any node to a group.
    ///
    /// # Errors
    ///
    /// If it is not open, or in too many groups, or another node or the engine does not answer.
    pub async fn join(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, group: &Name) -> Result<(), NativeError> {
        self.engine.lease_guard.while_valid(|| self.join_once(tenant, tunnel, group)).await
    }

    async fn join_once(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, group: &Name) -> Result<(), NativeError> {
        if self.tunnels.find(tenant, tunnel).is_some() {
            return self.join_here(tenant, tunnel, group).await;
        }
        let request = NodeRequest::Join { tenant: tenant.id.as_str(), tunnel: tunnel.to_bytes(), group: group.clone() };
        self.change_on_owner(tenant, tunnel, &request).await
    }

    /// Removes a tunnel on any node from a group, if it is in it.
    ///
    /// # Errors
    ///
    /// If it is not open, or another node does not answer.
    pub async fn leave(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, group: &Name) -> Result<(), NativeError> {
        self.engine.lease_guard.while_valid(|| self.leave_once(tenant, tunnel, group)).await
    }

    async fn leave_once(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, group: &Name) -> Result<(), NativeError> {
        if self.tunnels.find(tenant, tunnel).is_some() {
            return self.leave_here(tenant, tunnel, group);
        }
        let request =
            NodeRequest::Leave { tenant: tenant.id.as_str(), tunnel: tunnel.to_bytes(), group: group.clone() };
        self.change_on_owner(tenant, tunnel, &request).await
    }

    /// Adds a tunnel of this node to a group.
    pub(in crate::gateway) async fn join_here(
        &self,
        tenant: &Arc<Tenant>,
        tunnel: TunnelId,
        group: &Name,
    ) -> Result<(), NativeError> {
        let audience = Audience::Group(group.clone());
        self.check_names(tenant, &audience)?;
        let _announcement = self.engine.group_index.announce(tenant.id.as_str(), &audience).await.map_err(away)?;
        let is_open = || self.tunnels.find(tenant, tunnel).is_some();
        let since = self.tunnels.unix_time();
        if !tenant.groups.join(tunnel, group, is_open)? {
            return Err(NativeError::not_open(tunnel));
        }
        self.record(tenant, tunnel, Reason::Joined, &group_words(group.as_str()), since);
        Ok(())
    }

    /// Removes a tunnel of this node from a group.
    pub(in crate::gateway) fn leave_here(
        &self,
        tenant: &Arc<Tenant>,
        tunnel: TunnelId,
        group: &Name,
    ) -> Result<(), NativeError> {
        self.tunnels.find(tenant, tunnel).ok_or_else(|| NativeError::not_open(tunnel))?;
        let since = self.tunnels.unix_time();
        self.emptied(tenant, tenant.groups.leave(tunnel, group));
        self.record(tenant, tunnel, Reason::Left, &group_words(group.as_str()), since);
        Ok(())
    }

    /// Sets the user of a tunnel of this node.
    pub(in crate::gateway) async fn set_user(&self, event_queue: &EventQueue, user: &Name) -> Result<(), NativeError> {
        let (tenant, tunnel) = (&event_queue.tenant, event_queue.tunnel);
        let audience = Audience::User(user.clone());
        self.check_names(tenant, &audience)?;
        let _announcement = self.engine.group_index.announce(tenant.id.as_str(), &audience).await.map_err(away)?;
        let is_open = || self.tunnels.find(tenant, tunnel).is_some();
        let since = self.tunnels.unix_time();
        let emptied = tenant.groups.set_user(tunnel, user, is_open).ok_or_else(|| NativeError::not_open(tunnel))?;
        self.emptied(tenant, emptied);
        event_queue.set_user(user);
        self.record(tenant, tunnel, Reason::UserSet, &user_words(user.as_str()), since);
        self.engine.registry.set_user(tunnel, user);
        Ok(())
    }

    /// Records a change that began then, so that a push meanwhile is in the timeline of the tunnel.
    fn record(&self, tenant: &Tenant, tunnel: TunnelId, reason: Reason, words: &str, began: Duration) {
        let (timeline, now) = (&self.tunnels.timeline, self.tunnels.unix_time());
        if !timeline.is_on() {
            return;
        }
        let record = Record::new(Kind::Action, reason, now).took(now.saturating_sub(began));
        let record = record.of(timeline.tenant(&tenant.number, &tenant.id), tunnel);
        timeline.record(record.changing(timeline.audience(words)).with_words(timeline.word(words)));
    }

    /// Checks that the tenant may have this group or user. It may take as much for all of them as for its close events.
    fn check_names(&self, tenant: &Tenant, audience: &Audience) -> Result<(), NoRoomForNames> {
        tenant.groups.check_room(audience, self.max_unsettled)
    }

    fn emptied(&self, tenant: &Tenant, audiences: impl IntoIterator<Item = Audience>) {
        for audience in audiences {
            self.engine.group_index.withdraw(tenant.id.as_str(), &audience);
        }
    }

    async fn change_on_owner(
        &self,
        tenant: &Arc<Tenant>,
        tunnel: TunnelId,
        request: &NodeRequest<'_>,
    ) -> Result<(), NativeError> {
        let owner = self.router.owner(tenant, tunnel).await?;
        let answer = self.router.ask(tenant, owner, request).await?;
        match read_answer(&answer).ok_or(NativeError::NodeAway)? {
            Joined::Done => Ok(()),
            Joined::NotMine => Err(NativeError::not_open(tunnel)),
            Joined::TooManyGroups => Err(TooManyGroups.into()),
            Joined::NoRoomForNames => Err(NoRoomForNames { limit_kib: self.max_unsettled }.into()),
            Joined::EngineAway => Err(NativeError::EngineAway),
        }
    }
}

impl From<Result<(), NativeError>> for Joined {
    fn from(result: Result<(), NativeError>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(NativeError::TooManyGroups(_)) => Self::TooManyGroups,
            Err(NativeError::NoRoomForNames(_)) => Self::NoRoomForNames,
            Err(NativeError::EngineAway) => Self::EngineAway,
            Err(_) => Self::NotMine,
        }
    }
}

fn away(_: EngineError) -> NativeError {
    NativeError::EngineAway
}

//! Groups and users of open tunnels: each change is made where the tunnel is, when all nodes can know of it.

use std::sync::Arc;

use crate::engine::EngineError;
use crate::gateway::Gateway;
use crate::gateway::NativeError;
use crate::gateway::cluster::Joined;
use crate::gateway::cluster::NodeRequest;
use crate::gateway::cluster::PendingTarget;
use crate::gateway::cluster::TargetOutcome;
use crate::gateway::cluster::read_answer;
use crate::gateway::command::Command;
use crate::gateway::native::not_open;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;
use crate::tenant::Tenant;
use crate::tenant::TooManyGroups;
use crate::webhook::EventQueue;

impl Gateway {
    /// Puts a tunnel into a group, wherever it is.
    ///
    /// # Errors
    ///
    /// If it is not open, or in too many groups, or other nodes cannot be asked or told.
    pub async fn join(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, group: &Name) -> Result<(), NativeError> {
        self.engine.lease_guard().while_valid(|| self.join_once(tenant, tunnel, group)).await
    }

    async fn join_once(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, group: &Name) -> Result<(), NativeError> {
        if self.find(tenant, tunnel).is_some() {
            return self.join_here(tenant, tunnel, group).await;
        }
        let request = NodeRequest::Join { tenant: tenant.id.as_str(), tunnel: tunnel.to_bytes(), group: group.clone() };
        self.ask_to_join(tenant, tunnel, &request).await
    }

    /// Takes a tunnel out of a group, if it is in it.
    ///
    /// # Errors
    ///
    /// If it is not open, or other nodes cannot be asked.
    pub async fn leave(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, group: &Name) -> Result<(), NativeError> {
        self.engine.lease_guard().while_valid(|| self.leave_once(tenant, tunnel, group)).await
    }

    async fn leave_once(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, group: &Name) -> Result<(), NativeError> {
        if self.find(tenant, tunnel).is_some() {
            return self.leave_here(tenant, tunnel, group);
        }
        let request =
            NodeRequest::Leave { tenant: tenant.id.as_str(), tunnel: tunnel.to_bytes(), group: group.clone() };
        self.ask_to_join(tenant, tunnel, &request).await
    }

    /// Puts a tunnel of this node into a group.
    pub(in crate::gateway) async fn join_here(
        &self,
        tenant: &Arc<Tenant>,
        tunnel: TunnelId,
        group: &Name,
    ) -> Result<(), NativeError> {
        let audience = Audience::Group(group.clone());
        let _entered = self.engine.announce(tenant.id.as_str(), &audience).await.map_err(away)?;
        let is_open = || self.find(tenant, tunnel).is_some();
        if tenant.groups.join(tunnel, group, is_open)? { Ok(()) } else { Err(not_open(tunnel)) }
    }

    /// Takes a tunnel of this node out of a group.
    pub(in crate::gateway) fn leave_here(
        &self,
        tenant: &Arc<Tenant>,
        tunnel: TunnelId,
        group: &Name,
    ) -> Result<(), NativeError> {
        self.find(tenant, tunnel).ok_or_else(|| not_open(tunnel))?;
        self.emptied(tenant, tenant.groups.leave(tunnel, group));
        Ok(())
    }

    /// Makes a tunnel of this node this user's.
    pub(in crate::gateway) async fn set_user(&self, event_queue: &EventQueue, user: &Name) -> Result<(), NativeError> {
        let (tenant, tunnel) = (&event_queue.tenant, event_queue.tunnel);
        let audience = Audience::User(user.clone());
        let _entered = self.engine.announce(tenant.id.as_str(), &audience).await.map_err(away)?;
        let is_open = || self.find(tenant, tunnel).is_some();
        let emptied = tenant.groups.set_user(tunnel, user, is_open).ok_or_else(|| not_open(tunnel))?;
        self.emptied(tenant, emptied);
        event_queue.set_user(user);
        self.engine.belongs_to(tunnel, user);
        Ok(())
    }

    /// Gives a tunnel that opens what it was requested with. If it has ended meanwhile there is nothing to give.
    pub(in crate::gateway) fn join_first(&self, event_queue: &EventQueue, groups: &[Name], user: Option<&Name>) {
        let is_open = || self.open.contains_key(&event_queue.tunnel);
        for group in groups {
            // A tunnel opens in fewer groups than it may be in.
            let _ = event_queue.tenant.groups.join(event_queue.tunnel, group, is_open);
        }
        if let Some(user) = user {
            let _ = event_queue.tenant.groups.set_user(event_queue.tunnel, user, is_open);
        }
    }

    /// A tunnel has ended: it is in no group and nobody's.
    pub(in crate::gateway) fn leave_all(&self, event_queue: &EventQueue) {
        self.emptied(&event_queue.tenant, event_queue.tenant.groups.remove(event_queue.tunnel));
    }

    fn emptied(&self, tenant: &Tenant, audiences: impl IntoIterator<Item = Audience>) {
        for audience in audiences {
            self.engine.withdraw(tenant.id.as_str(), &audience);
        }
    }

    async fn ask_to_join(
        &self,
        tenant: &Arc<Tenant>,
        tunnel: TunnelId,
        request: &NodeRequest<'_>,
    ) -> Result<(), NativeError> {
        let owner = self.owner(tenant, tunnel).await?;
        let answer =
            self.engine.ask(owner, tenant.id.as_str(), request.write()).await.map_err(|_| NativeError::NodeAway)?;
        match read_answer(&answer).ok_or(NativeError::NodeAway)? {
            Joined::Done => Ok(()),
            Joined::NotMine => Err(not_open(tunnel)),
            Joined::TooManyGroups => Err(TooManyGroups.into()),
            Joined::EngineAway => Err(NativeError::EngineAway),
        }
    }

    /// The other node that has this tunnel.
    pub(in crate::gateway) async fn owner(&self, tenant: &Tenant, tunnel: TunnelId) -> Result<NodeId, NativeError> {
        let open = vec![PendingTarget { packet: 0, tunnel }];
        match self.decide(tenant.id.as_str(), &[Command::Nothing], open).await[..] {
            [TargetOutcome::Accepted] => {
                self.locations.lock().get(tenant.id.as_str(), tunnel).ok_or(NativeError::NodeAway)
            }
            [TargetOutcome::Gone] => Err(not_open(tunnel)),
            _ => Err(NativeError::NodeAway),
        }
    }
}

impl From<Result<(), NativeError>> for Joined {
    fn from(result: Result<(), NativeError>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(NativeError::TooManyGroups(_)) => Self::TooManyGroups,
            Err(NativeError::EngineAway) => Self::EngineAway,
            Err(_) => Self::NotMine,
        }
    }
}

fn away(_: EngineError) -> NativeError {
    NativeError::EngineAway
}

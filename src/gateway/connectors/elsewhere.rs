//! The way to the connectors of other nodes, over the bus between them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::presence::audience;
use crate::clock::millis;
use crate::connector::Attempted;
use crate::connector::Described;
use crate::connector::Elsewhere;
use crate::connector::Found;
use crate::connector::Offer;
use crate::connector::Silence;
use crate::connector::Sought;
use crate::connector::Taken;
use crate::delivery::Session;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::gateway::cluster::NodeRequest;
use crate::gateway::cluster::Router;
use crate::gateway::cluster::read_answer;
use crate::id::NodeId;
use crate::id::TenantId;
use crate::tenant::Directory;
use crate::tenant::Tenant;

/// How long another node gets to hear that an attempt is over.
const TELL_WITHIN: Duration = Duration::from_secs(5);

/// The other nodes, as connectors need them.
pub(super) struct OtherNodes {
    pub(super) tenants: Arc<Directory>,
    pub(super) router: Arc<Router>,
    pub(super) engine: Engine,
}

impl OtherNodes {
    fn tenant(&self, tenant: &TenantId) -> Option<Arc<Tenant>> {
        self.tenants.tenant_of_tunnels(tenant.as_str())
    }

    /// Those that may have such connectors; `None` if that cannot be said.
    async fn nodes_with(&self, tenant: &TenantId, sought: &Sought) -> Option<Vec<NodeId>> {
        if !self.engine.cluster.is_up() {
            return None;
        }
        if self.engine.cluster.others().is_empty() {
            return Some(vec![]);
        }
        let nodes = self.engine.group_index.nodes_with(tenant.as_str(), &audience(sought)).await.ok()?;
        Some(nodes.into_iter().filter(|node| self.engine.cluster.understands(*node)).collect())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        node: NodeId,
        tenant: &TenantId,
        request: &NodeRequest<'_>,
    ) -> Result<T, EngineError> {
        let tenant = self.tenant(tenant).ok_or(EngineError::NotMember)?;
        let answer = self.engine.cluster.ask(node, tenant.flow().as_str(), request.write()).await?;
        read_answer(&answer).ok_or(EngineError::NoReply)
    }
}

fn attempted_request<'a>(tenant: &'a TenantId, attempted: &'a Attempted) -> NodeRequest<'a> {
    NodeRequest::Attempted {
        tenant: tenant.as_str(),
        instance: attempted.instance,
        id: &attempted.id,
        attempt: attempted.attempt,
        report: attempted.report.clone(),
    }
}

#[async_trait]
impl Elsewhere for OtherNodes {
    fn may_have_nodes(&self) -> bool {
        self.engine.cluster.own().is_some()
    }

    async fn find(&self, tenant: &TenantId, sought: &Sought) -> Option<Found> {
        let nodes = self.nodes_with(tenant, sought).await?;
        if nodes.is_empty() {
            return Some(vec![]);
        }
        let asked = self.tenant(tenant)?;
        let request = NodeRequest::Connectors { tenant: tenant.as_str(), sought: audience(sought) };
        let answers = self.router.ask_those(&asked, nodes, &request).await;
        let read = |answer: Option<bytes::Bytes>| answer.and_then(|answer| read_answer::<Vec<Described>>(&answer));
        Some(answers.into_iter().map(|(node, answer)| (node, read(answer))).collect())
    }

    async fn offer(&self, node: NodeId, tenant: &TenantId, offer: &Offer) -> Result<Taken, Silence> {
        // The bus asks whether there is a lease; this, whether it is that of the tunnel.
        if !self.engine.lease_guard.is_valid_for(offer.incarnation) {
            return Err(Silence::NotAsked);
        }
        let Some(own) = self.engine.cluster.own() else { return Err(Silence::NotAsked) };
        let request = NodeRequest::Attempt {
            tenant: tenant.as_str(),
            asker: own.to_bytes(),
            session: offer.session,
            tunnel: offer.tunnel.to_bytes(),
            limit_ms: millis(offer.limit),
            message: &offer.message,
        };
        self.ask(node, tenant, &request).await.map_err(|error| match error {
            EngineError::NotMember | EngineError::NotThere | EngineError::Full => Silence::NotAsked,
            EngineError::Away | EngineError::Unsure | EngineError::NoReply => Silence::Unknown,
        })
    }

    async fn cancel(&self, node: NodeId, tenant: &TenantId, id: &str, attempt: u32) {
        let request = NodeRequest::Cancel { tenant: tenant.as_str(), id, attempt };
        // Without an answer the attempt ends by its own limit, and nothing waits for it.
        let _ = timeout(TELL_WITHIN, self.ask::<bool>(node, tenant, &request)).await;
    }

    async fn report(&self, node: NodeId, tenant: &TenantId, attempted: &Attempted) -> Option<bool> {
        let request = attempted_request(tenant, attempted);
        if let Ok(is_awaited) = self.ask(node, tenant, &request).await {
            return Some(is_awaited);
        }
        // A node that is dead sends the event no more, and its successor begins anew.
        let living = self.engine.cluster.all_others().await.ok()?;
        if living.contains(&node) { None } else { Some(false) }
    }

    async fn pass_on(&self, tenant: &TenantId, attempted: &Attempted) -> bool {
        let Some(asked) = self.tenant(tenant) else { return false };
        let request = attempted_request(tenant, attempted);
        // The tunnel may be closed, and is then in no index: the node that waits for the answer knows it. Without it the event is
        // sent again.
        let answers = timeout(TELL_WITHIN, self.router.ask_those(&asked, self.engine.cluster.others(), &request)).await;
        let answers = answers.unwrap_or_default().into_iter().filter_map(|(_, answer)| answer);
        answers.filter_map(|answer| read_answer(&answer)).any(|is_awaited: bool| is_awaited)
    }

    async fn replaced(&self, tenant: &TenantId, sought: &Sought, session: Session) {
        let (Some(nodes), Some(asked)) = (self.nodes_with(tenant, sought).await, self.tenant(tenant)) else { return };
        let request = NodeRequest::Replaced { tenant: tenant.as_str(), session };
        // One that does not hear it closes the connection by its silence.
        let _ = timeout(TELL_WITHIN, self.router.ask_those(&asked, nodes, &request)).await;
    }
}

//! Handles requests of other nodes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::messages::Ids;
use super::messages::Joined;
use super::messages::Listed;
use super::messages::Members;
use super::messages::Names;
use super::messages::NodeRequest;
use super::messages::OwnerReply;
use super::messages::Reached;
use super::messages::write_answer;
use crate::connector::Asked;
use crate::connector::Attempted;
use crate::connector::Described;
use crate::connector::Taken;
use crate::gateway::Gateway;
use crate::gateway::connectors;
use crate::gateway::groups::Except;
use crate::gateway::push::Call;
use crate::gateway::push::Command;
use crate::gateway::push::EncodedCommand;
use crate::gateway::push::Recording;
use crate::gateway::push::execute;
use crate::gateway::tunnels::Sent;
use crate::gateway::turns::FEW;
use crate::gateway::turns::Turns;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::tenant::Page;
use crate::tenant::Tenant;

/// How long an event of another node may wait to be written to its connector. With the age at which a request is not begun any
/// more, that is less than the lease of that node lasts longer than it relies on it.
const WRITE_WITHIN: Duration = Duration::from_secs(1);

impl Gateway {
    /// Executes a request and encodes its answer.
    pub(in crate::gateway) async fn handle_request(&self, request: NodeRequest<'_>) -> Vec<u8> {
        let Some(tenant) = self.tenants.tenant_of_tunnels(request.tenant()) else {
            return answer_without_tunnels(&request);
        };
        match request {
            NodeRequest::Tunnels { commands, .. } => write_answer(&self.execute_all(&tenant, commands, 0).await),
            NodeRequest::TracedTunnels { trace, commands, .. } => {
                write_answer(&self.execute_all(&tenant, commands, trace).await)
            }
            NodeRequest::Audience { audience, command, except, .. } => {
                let except = Except::from_iter(except.iter());
                write_answer(
                    &self.groups.command_here(&tenant, &audience, command, &except, FEW, Call::default()).await,
                )
            }
            NodeRequest::CalledAudience { call: id, trace, audience, command, except, .. } => {
                let except = Except::from_iter(except.iter());
                let call = Call { id, trace };
                write_answer(&self.groups.command_here(&tenant, &audience, command, &except, FEW, call).await)
            }
            NodeRequest::Join { tunnel, group, .. } => {
                write_answer(&Joined::from(self.groups.join_here(&tenant, TunnelId::from_bytes(tunnel), &group).await))
            }
            NodeRequest::Leave { tunnel, group, .. } => {
                write_answer(&Joined::from(self.groups.leave_here(&tenant, TunnelId::from_bytes(tunnel), &group)))
            }
            NodeRequest::Describe { tunnel, .. } => {
                let connection = self.tunnels.find(&tenant, TunnelId::from_bytes(tunnel));
                let description = connection.map(|connection| self.tunnels.describe(&connection));
                description.map_or(vec![], |description| serde_json::to_vec(&description).unwrap_or_default())
            }
            NodeRequest::List { audience, after, limit, .. } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let page = tenant.groups.page(&audience, after.map(TunnelId::from_bytes), limit);
                write_answer(&Listed::from(page))
            }
            NodeRequest::Members { audience, after, limit, .. } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let after = after.map(TunnelId::from_bytes);
                write_answer(&Members::from(self.groups.page_here(&tenant, audience.as_ref(), after, limit).await))
            }
            NodeRequest::Names { roster, after, limit, .. } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                write_answer(&Names::from(tenant.groups.names(roster, after.as_ref(), limit)))
            }
            NodeRequest::Timeline { tunnel, before_us, limit, .. } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let tunnel = TunnelId::from_bytes(tunnel);
                write_answer(&self.story(&tenant, tunnel, before_us, limit).await)
            }
            NodeRequest::Watch { watch, wanted, .. } => write_answer(&self.watch_for_another(&tenant, watch, &wanted)),
            NodeRequest::Capture { of, until_ms, max_bytes, by, .. } => {
                let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
                write_answer(&self.capture_here(&tenant, of, until_ms, max_bytes, by).is_ok())
            }
            NodeRequest::Connectors { sought, .. } => {
                let sought = connectors::sought(&sought);
                write_answer(&sought.map_or(vec![], |sought| self.connectors.describe(&tenant.id, &sought)))
            }
            NodeRequest::Attempt { asker, session, tunnel, limit_ms, message, .. } => {
                let asked = Asked {
                    asker: NodeId::from_bytes(asker),
                    session,
                    tunnel: TunnelId::from_bytes(tunnel),
                    message: Bytes::copy_from_slice(message),
                    limit: Duration::from_millis(limit_ms),
                    until: self.engine.lease_guard.now() + WRITE_WITHIN,
                };
                write_answer(&self.connectors.attempt_for(&tenant.id, asked).await)
            }
            NodeRequest::Attempted { instance, id, attempt, report, .. } => {
                let attempted = Attempted { instance, id: id.to_owned(), attempt, report };
                write_answer(&self.connectors.attempted(&tenant.id, attempted))
            }
            NodeRequest::Cancel { id, attempt, .. } => {
                self.connectors.cancelled(&tenant.id, id, attempt);
                write_answer(&true)
            }
            NodeRequest::Replaced { session, .. } => {
                self.connectors.replaced(&tenant.id, session);
                write_answer(&true)
            }
        }
    }

    async fn execute_all(
        &self,
        tenant: &Arc<Tenant>,
        commands: Vec<(Command<'_>, Ids)>,
        trace: u64,
    ) -> Vec<OwnerReply> {
        let tunnels = commands.iter().map(|(_, tunnels)| tunnels.len()).sum();
        let mut turns = Turns::shared(&self.engine.lease_guard, &self.turns, tenant.flow(), tunnels, FEW);
        let mut replies = vec![];
        for (command, tunnels) in commands {
            let recording = Recording::of(&self.tunnels, tenant, tunnels.len(), trace);
            let mut encoded = EncodedCommand::new(command, &self.metrics).recorded(recording);
            for tunnel in tunnels.iter() {
                let now = turns.next().await;
                replies.push(match execute(&self.tunnels, tenant, tunnel, &mut encoded, now) {
                    Sent::Accepted => OwnerReply::Accepted,
                    Sent::Slow => OwnerReply::Slow,
                    Sent::Closed => OwnerReply::NotMine,
                });
            }
            encoded.finish();
        }
        replies
    }
}

/// The answer for a tenant without tunnels here, or unknown because a reload has not reached all nodes yet.
fn answer_without_tunnels(request: &NodeRequest<'_>) -> Vec<u8> {
    match request {
        NodeRequest::Tunnels { commands, .. } | NodeRequest::TracedTunnels { commands, .. } => {
            let tunnels: usize = commands.iter().map(|(_, tunnels)| tunnels.len()).sum();
            write_answer(&vec![OwnerReply::NotMine; tunnels])
        }
        NodeRequest::Audience { .. } | NodeRequest::CalledAudience { .. } => write_answer(&Reached::default()),
        NodeRequest::Join { .. } | NodeRequest::Leave { .. } => write_answer(&Joined::NotMine),
        NodeRequest::Describe { .. } => vec![],
        NodeRequest::List { .. } => write_answer(&Listed::from(Page::default())),
        NodeRequest::Members { .. } => write_answer(&Members::default()),
        NodeRequest::Names { .. } => write_answer(&Names::default()),
        // An answer that cannot be read says that this node is not covered.
        NodeRequest::Timeline { .. } | NodeRequest::Watch { .. } => vec![],
        NodeRequest::Capture { .. }
        | NodeRequest::Attempted { .. }
        | NodeRequest::Cancel { .. }
        | NodeRequest::Replaced { .. } => write_answer(&false),
        NodeRequest::Connectors { .. } => write_answer(&Vec::<Described>::new()),
        NodeRequest::Attempt { .. } => write_answer(&Taken::Gone),
    }
}

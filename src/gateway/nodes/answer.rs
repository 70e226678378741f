//! What this node answers to the questions of others.

use std::sync::Arc;

use super::question::Ids;
use super::question::Joined;
use super::question::Listed;
use super::question::Question;
use super::question::Reached;
use super::question::Said;
use super::question::write_answer;
use crate::gateway::Gateway;
use crate::gateway::Sent;
use crate::gateway::audience::Except;
use crate::gateway::order::Frames;
use crate::gateway::order::Order;
use crate::gateway::turns::Turns;
use crate::id::TunnelId;
use crate::tenant::Page;
use crate::tenant::Tenant;

impl Gateway {
    /// Does what is asked, and answers.
    pub(in crate::gateway) async fn answer_question(&self, question: Question<'_>) -> Vec<u8> {
        let Some(tenant) = self.tenants.tenant_of_tunnels(question.tenant()) else {
            return answer_for_nobody(&question);
        };
        match question {
            Question::Tunnels { orders, .. } => write_answer(&self.carry_out_all(&tenant, orders).await),
            Question::Audience { audience, order, except, .. } => {
                let except = Except::from_iter(except.iter());
                write_answer(&self.order_members(&tenant, &audience, order, &except).await)
            }
            Question::Join { tunnel, group, .. } => {
                write_answer(&Joined::from(self.join_here(&tenant, TunnelId::from_bytes(tunnel), &group).await))
            }
            Question::Leave { tunnel, group, .. } => {
                write_answer(&Joined::from(self.leave_here(&tenant, TunnelId::from_bytes(tunnel), &group)))
            }
            Question::Describe { tunnel, .. } => {
                let connection = self.find(&tenant, TunnelId::from_bytes(tunnel));
                let description = connection.map(|connection| self.describe_here(&connection));
                description.map_or(vec![], |description| serde_json::to_vec(&description).unwrap_or_default())
            }
            Question::List { audience, after, limit, .. } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let page = tenant.groups.page(&audience, after.map(TunnelId::from_bytes), limit);
                write_answer(&Listed::from(page))
            }
        }
    }

    async fn carry_out_all(&self, tenant: &Arc<Tenant>, orders: Vec<(Order<'_>, Ids)>) -> Vec<Said> {
        let tunnels = orders.iter().map(|(_, tunnels)| tunnels.len()).sum();
        let mut turns = Turns::shared(self.engine.lease_guard(), &self.turns, &tenant.id, tunnels);
        let mut said = vec![];
        for (order, tunnels) in orders {
            let mut frames = Frames::new(order, &self.metrics);
            for tunnel in tunnels.iter() {
                let now = turns.next().await;
                said.push(match self.push_one(tenant, tunnel, &mut frames, now, None) {
                    Sent::Accepted => Said::Accepted,
                    Sent::Slow => Said::Slow,
                    Sent::Closed => Said::NotMine,
                });
            }
        }
        said
    }
}

/// The answer of a node that has never known the tenant, or has none of its tunnels any more: a reload has not reached all nodes yet.
fn answer_for_nobody(question: &Question<'_>) -> Vec<u8> {
    match question {
        Question::Tunnels { orders, .. } => {
            let tunnels: usize = orders.iter().map(|(_, tunnels)| tunnels.len()).sum();
            write_answer(&vec![Said::NotMine; tunnels])
        }
        Question::Audience { .. } => write_answer(&Reached::default()),
        Question::Join { .. } | Question::Leave { .. } => write_answer(&Joined::NotMine),
        Question::Describe { .. } => vec![],
        Question::List { .. } => write_answer(&Listed::from(Page::default())),
    }
}

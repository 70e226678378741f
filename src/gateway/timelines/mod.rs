//! Timelines over all nodes: what happened to a tunnel, what happens now, and copies of payloads.

mod capture;
mod elsewhere;
mod tail;
mod wanted;

pub use capture::CaptureError;
pub use capture::Capturing;
pub(in crate::gateway) use elsewhere::WatchesForOthers;
pub use tail::Tail;
pub use tail::TailItem;
pub use wanted::Wanted;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::gateway::Gateway;
use crate::gateway::cluster::NodeRequest;
use crate::gateway::cluster::read_answer;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::tenant::Tenant;
use crate::timeline::Gap;
use crate::timeline::Merged;
use crate::timeline::Part;
use crate::timeline::Question;
use crate::timeline::Story;
use crate::timeline::TenantNumber;
use crate::timeline::group_words;
use crate::timeline::merge;
use crate::timeline::user_words;

impl Gateway {
    /// What happened to a tunnel of `tenant` on all nodes, also to one that is closed or was never opened: at most `limit` records
    /// before `before_us` (microseconds since 1970), the newest ones.
    pub async fn timeline_of(
        &self,
        tenant: &Arc<Tenant>,
        tunnel: TunnelId,
        before_us: Option<u64>,
        limit: usize,
    ) -> Merged {
        let own = self.engine.cluster.own();
        let mut parts = vec![Part { node: own, answer: Ok(self.story(tenant, tunnel, before_us, limit).await) }];
        let nodes = match self.engine.cluster.all_others().await {
            Ok(nodes) => nodes,
            Err(_) => {
                parts.push(Part { node: None, answer: Err(Gap::EngineAway) });
                self.engine.cluster.others()
            }
        };
        let (asked, too_old): (Vec<NodeId>, Vec<NodeId>) =
            nodes.into_iter().partition(|node| self.engine.cluster.understands(*node));
        parts.extend(too_old.into_iter().map(|node| Part { node: Some(node), answer: Err(Gap::TooOld) }));
        let request = NodeRequest::Timeline {
            tenant: tenant.id.as_str(),
            tunnel: tunnel.to_bytes(),
            before_us,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        for (node, answer) in self.router.ask_those(tenant, asked, &request).await {
            let story = answer.and_then(|answer| read_answer::<Story>(&answer));
            parts.push(Part { node: Some(node), answer: story.ok_or(Gap::NoAnswer) });
        }
        merge(parts, limit)
    }

    /// This node's part of [`timeline_of`](Self::timeline_of). It looks at all records of the node, those of other tenants too, so it
    /// waits for the tenant's turn.
    pub async fn story(&self, tenant: &Tenant, tunnel: TunnelId, before_us: Option<u64>, limit: usize) -> Story {
        let _turn = self.turns.acquire(tenant.flow().clone(), 1).await;
        let (user, groups) = tenant.groups.of(tunnel);
        let audiences = groups.iter().map(|group| group_words(group.as_str()));
        let audiences = audiences.chain(user.iter().map(|user| user_words(user.as_str()))).collect();
        let question = Question { tenant: self.tenant_number(tenant), tunnel, audiences, before_us, limit };
        let mut story = self.timeline.story(&question);
        elsewhere::fit_payloads(&mut story.rows);
        Story { node: self.tunnels.node().to_owned(), ..story }
    }

    /// Follows the clock and forgets readers of other nodes that have gone, until dropped.
    pub async fn keep_timelines(self: Arc<Self>) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.timeline.check_clock(self.clock.unix_time());
            self.watches_for_others.sweep();
        }
    }

    /// The number of a tenant in the timeline of this node.
    pub fn tenant_number(&self, tenant: &Tenant) -> TenantNumber {
        self.timeline.tenant(&tenant.number, &tenant.id)
    }
}

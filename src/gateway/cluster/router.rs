//! Routes commands to tunnels on other nodes, in one request to each owner.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::location_cache::LocationCache;
use super::messages;
use super::messages::NodeRequest;
use super::messages::OwnerReply;
use super::resolution::PendingTarget;
use super::resolution::Resolution;
use super::resolution::Share;
use super::resolution::TargetOutcome;
use super::resolution::merged;
use super::rounds::Rounds;
use crate::engine::Cluster;
use crate::engine::TunnelIndex;
use crate::gateway::error::NativeError;
use crate::gateway::push::Call;
use crate::gateway::push::Command;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::tenant::Tenant;

/// Limit of a request: a push of default size fits into one. A longer push takes several, in sequence, with other
/// tenants' turns in between.
const MAX_REQUEST_BYTES: usize = 384 * 1024;

/// Reaches tunnels on other nodes.
pub(in crate::gateway) struct Router {
    cluster: Arc<dyn Cluster>,
    index: Arc<dyn TunnelIndex>,
    locations: Mutex<LocationCache>,
}

impl Router {
    pub(in crate::gateway) fn new(cluster: Arc<dyn Cluster>, index: Arc<dyn TunnelIndex>) -> Self {
        Self { cluster, index, locations: Mutex::default() }
    }

    /// Executes `commands` on tunnels that are not open here, through other nodes: those that cached locations name, or else
    /// the index. They record them in this trace.
    ///
    /// A target counts as gone only if all nodes that may hold it have denied it.
    pub(in crate::gateway) async fn decide(
        &self,
        tenant: &Tenant,
        commands: &[Command<'_>],
        pending: Vec<PendingTarget>,
        trace: u64,
    ) -> Vec<TargetOutcome> {
        let mut resolution = Resolution::new(pending);
        let nodes = self.cluster.others();
        let (hinted, cold) = resolution.hinted(tenant.id.as_str(), &nodes, &self.locations.lock());
        let mut is_readable = self.locate(cold, &mut resolution).await;
        let shares = merged(hinted, resolution.next_round());
        self.ask_all(tenant, commands, shares, &mut resolution, trace).await;
        if is_readable {
            is_readable = self.locate(resolution.unlocated(), &mut resolution).await;
        }
        if !is_readable {
            self.ask_all(tenant, commands, resolution.all_round(&nodes), &mut resolution, trace).await;
        }
        // To the owners of what was hinted wrongly, and to nodes whose entries may be missing.
        for _ in 0..2 {
            self.ask_all(tenant, commands, resolution.next_round(), &mut resolution, trace).await;
        }
        if resolution.is_unsure()
            && let Ok(living) = self.cluster.all_others().await
        {
            // A node that is not alive holds no tunnels.
            resolution.only(&living);
        }
        resolution.outcomes()
    }

    /// The other node that holds this tunnel.
    pub(in crate::gateway) async fn owner(&self, tenant: &Tenant, tunnel: TunnelId) -> Result<NodeId, NativeError> {
        let pending = vec![PendingTarget { packet: 0, tunnel }];
        match self.decide(tenant, &[Command::Nothing], pending, 0).await[..] {
            [TargetOutcome::Accepted] => {
                self.locations.lock().get(tenant.id.as_str(), tunnel).ok_or(NativeError::NodeAway)
            }
            [TargetOutcome::Gone] => Err(NativeError::not_open(tunnel)),
            _ => Err(NativeError::NodeAway),
        }
    }

    /// The other node on which a tunnel was found last.
    pub(in crate::gateway) fn location(&self, tenant: &str, tunnel: TunnelId) -> Option<NodeId> {
        self.locations.lock().get(tenant, tunnel)
    }

    /// Sends a request to the owner of a tunnel.
    pub(in crate::gateway) async fn ask(
        &self,
        tenant: &Tenant,
        owner: NodeId,
        request: &NodeRequest<'_>,
    ) -> Result<Bytes, NativeError> {
        self.cluster.ask(owner, tenant.flow().as_str(), request.write()).await.map_err(|_| NativeError::NodeAway)
    }

    /// Sends a request to all of `nodes`, in turns. A silent node that is dead holds no tunnels.
    pub(in crate::gateway) async fn ask_each(
        &self,
        tenant: &Tenant,
        nodes: Vec<NodeId>,
        request: &NodeRequest<'_>,
        call: Call,
    ) -> Result<Vec<Bytes>, NativeError> {
        let plain = request.write();
        let called = (call != Call::default()).then(|| request.clone().of_call(call).write());
        let request = |node| called.clone().filter(|_| self.cluster.understands(node)).unwrap_or_else(|| plain.clone());
        let rounds = Rounds::of(nodes.len());
        let requests = nodes.into_iter().map(async |node| {
            if rounds.are_over() {
                return (node, None);
            }
            (node, Some(self.cluster.ask(node, tenant.flow().as_str(), request(node)).await))
        });
        let (mut answers, mut silent, mut left_out) = (vec![], vec![], 0);
        for (node, answer) in rounds.run(requests).await {
            match answer {
                Some(Ok(answer)) => answers.push(answer),
                Some(Err(_)) => silent.push(node),
                None => left_out += 1,
            }
        }
        if left_out > 0 {
            tracing::warn!(tenant.id = %tenant.id, left_out, "nodes were not asked: the others took too long");
            return Err(NativeError::NodeAway);
        }
        if !silent.is_empty() {
            let living = self.cluster.all_others().await.map_err(|_| NativeError::NodeAway)?;
            if silent.iter().any(|node| living.contains(node)) {
                return Err(NativeError::NodeAway);
            }
        }
        Ok(answers)
    }

    /// Sends a request to each of `nodes`, in turns, and returns what each has answered, if it has.
    pub(in crate::gateway) async fn ask_those(
        &self,
        tenant: &Tenant,
        nodes: Vec<NodeId>,
        request: &NodeRequest<'_>,
    ) -> Vec<(NodeId, Option<Bytes>)> {
        let request = request.write();
        let rounds = Rounds::of(nodes.len());
        let requests = nodes.into_iter().map(async |node| {
            if rounds.are_over() {
                return (node, None);
            }
            (node, self.cluster.ask(node, tenant.flow().as_str(), request.clone()).await.ok())
        });
        rounds.run(requests).await
    }

    /// Reads where the targets at `places` are; false if that cannot be said.
    async fn locate(&self, places: Vec<usize>, resolution: &mut Resolution) -> bool {
        if places.is_empty() {
            return true;
        }
        let tunnels: Vec<TunnelId> = places.iter().map(|place| resolution.targets()[*place].tunnel).collect();
        let located = self.index.locate(&tunnels).await;
        located.map(|located| resolution.located(&places, located)).is_ok()
    }

    async fn ask_all(
        &self,
        tenant: &Tenant,
        commands: &[Command<'_>],
        shares: Vec<Share>,
        resolution: &mut Resolution,
        trace: u64,
    ) {
        let targets = resolution.targets();
        let rounds = Rounds::of(shares.len());
        let requests = shares.into_iter().map(async |(node, places)| {
            let mut replies = Vec::with_capacity(places.len());
            if rounds.are_over() {
                return (node, places, None);
            }
            for part in parts(commands, targets, &places) {
                let request = request(tenant.id.as_str(), commands, targets, part);
                let request = match trace != 0 && self.cluster.understands(node) {
                    true => request.of_call(Call::in_trace(trace)).write(),
                    false => request.write(),
                };
                let answer = self.cluster.ask(node, tenant.flow().as_str(), request).await.ok();
                let answer = answer.and_then(|answer| messages::read_answer::<Vec<OwnerReply>>(&answer));
                let Some(answer) = answer.filter(|answer| answer.len() == part.len()) else { break };
                replies.extend(answer);
            }
            (node, places, Some(replies))
        });
        let answers = rounds.run(requests).await;
        let left_out = answers.iter().filter(|(_, _, replies)| replies.is_none()).count();
        if left_out > 0 {
            tracing::warn!(
                tenant.id = %tenant.id,
                nodes = answers.len(),
                left_out,
                "nodes were not asked: the others took too long"
            );
        }
        for (node, places, replies) in answers {
            self.take_replies(tenant.id.as_str(), node, &places, &replies.unwrap_or_default(), resolution);
        }
    }

    fn take_replies(
        &self,
        tenant: &str,
        node: NodeId,
        places: &[usize],
        replies: &[OwnerReply],
        resolution: &mut Resolution,
    ) {
        let mut locations = self.locations.lock();
        for (place, reply) in places.iter().zip(replies) {
            let tunnel = resolution.targets()[*place].tunnel;
            if *reply != OwnerReply::NotMine {
                locations.learn(tenant, tunnel, node);
            } else if locations.get(tenant, tunnel) == Some(node) {
                locations.forget(tenant, tunnel);
            }
        }
        drop(locations);
        resolution.answered(node, &places[..replies.len()], replies);
        if replies.len() < places.len() {
            resolution.was_silent(node);
        }
    }
}

/// The request about the targets at `places`, grouped by command.
fn request<'a>(
    tenant: &'a str,
    commands: &[Command<'a>],
    targets: &[PendingTarget],
    places: &[usize],
) -> NodeRequest<'a> {
    let by_packet = places.chunk_by(|one, next| targets[*one].packet == targets[*next].packet);
    let commands = by_packet.map(|places| {
        let command = commands[targets[places[0]].packet];
        (command, places.iter().map(|place| targets[*place].tunnel).collect())
    });
    NodeRequest::Tunnels { tenant, commands: commands.collect() }
}

/// Splits `places` so that no request exceeds the limit, unless a single packet does.
fn parts<'a>(commands: &[Command<'_>], targets: &[PendingTarget], places: &'a [usize]) -> Vec<&'a [usize]> {
    let mut parts = vec![];
    let mut begin = 0;
    let mut bytes = 0;
    let mut last_packet = None;
    for (at, place) in places.iter().enumerate() {
        let packet = targets[*place].packet;
        let content_bytes = if last_packet == Some(packet) { 0 } else { commands[packet].bytes() };
        if at > begin && bytes + content_bytes > MAX_REQUEST_BYTES {
            parts.push(&places[begin..at]);
            begin = at;
            bytes = 0;
        }
        last_packet = Some(packet);
        bytes += content_bytes + 32;
    }
    parts.push(&places[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_cut_only_where_it_is_too_long() {
        let contents = [10, MAX_REQUEST_BYTES - 1, MAX_REQUEST_BYTES * 2, 5].map(|bytes| "x".repeat(bytes));
        let commands: Vec<Command<'_>> = contents.iter().map(|content| Command::Text(content)).collect();
        let target = |packet| PendingTarget { packet, tunnel: TunnelId::from_bytes([1; 16]) };
        let targets: Vec<PendingTarget> = [0, 0, 1, 2, 3, 3].map(target).to_vec();

        let parts = parts(&commands, &targets, &[0, 1, 2, 3, 4, 5]);

        assert_eq!(parts, [&[0, 1][..], &[2], &[3], &[4, 5]]);
        let NodeRequest::Tunnels { commands, .. } = request("t", &commands, &targets, parts[3]) else {
            panic!("of tunnels")
        };
        assert_eq!(commands.len(), 1);
        assert_eq!(commands[0].1.iter().count(), 2);
    }
}

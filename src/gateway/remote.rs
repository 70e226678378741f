//! Pushes to tunnels on other nodes: their owners are asked, each once for all of its tunnels.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::future::join_all;

use super::Gateway;
use super::PushError;
use super::push::Miss;
use super::question::Asked;
use super::question::Question;
use super::question::Said;
use super::question::read_answer;
use super::undecided::Fate;
use super::undecided::Open;
use super::undecided::Share;
use super::undecided::Undecided;
use crate::id::NodeId;
use crate::protocol::wafer::PushPacket;
use crate::protocol::wafer::Target;

/// Longest question; a longer push is asked in several, one after the other.
const MAX_QUESTION_BYTES: usize = 1024 * 1024;

impl Gateway {
    /// Asks the other nodes for what this one does not have, and returns the ids that nobody has, in the order given, once each.
    ///
    /// # Errors
    ///
    /// If it cannot be said for sure who has what: nothing is ever called invalid then.
    pub(super) async fn push_elsewhere(
        &self,
        tenant: &str,
        packets: &[PushPacket],
        misses: Vec<Miss>,
    ) -> Result<Vec<Target>, PushError> {
        let open = misses.iter().filter_map(|miss| match miss.target {
            Target::Tunnel(tunnel) => Some(Open { packet: miss.packet, tunnel }),
            Target::Foreign(_) => None,
        });
        let mut undecided = Undecided::new(open.collect());
        if undecided.is_open() {
            self.decide(tenant, packets, &mut undecided).await;
        }
        let is_sure = !undecided.is_open() || self.is_sure(tenant, packets, &mut undecided).await;

        let deliveries = &self.metrics.deliveries;
        let mut fates = undecided.fates().iter();
        let mut seen = HashSet::new();
        let mut invalid = vec![];
        let mut unreachable = 0;
        for Miss { target, .. } in misses {
            let fate = match target {
                Target::Tunnel(_) => *fates.next().expect("one for each tunnel"),
                Target::Foreign(_) => Fate::Undecided,
            };
            // What was accepted, or was too much, has been counted by its owner.
            if fate != Fate::Undecided {
                continue;
            }
            if !is_sure && matches!(target, Target::Tunnel(_)) {
                unreachable += 1;
                deliveries.unreachable.inc();
                continue;
            }
            deliveries.invalid.inc();
            if seen.insert(target.clone()) {
                invalid.push(target);
            }
        }
        if unreachable > 0 { Err(PushError::Unreachable { targets: unreachable }) } else { Ok(invalid) }
    }

    /// Asks the nodes that are known.
    async fn decide(&self, tenant: &str, packets: &[PushPacket], undecided: &mut Undecided) {
        let nodes = self.engine.others();
        let shares = undecided.first_round(&nodes, &self.hints.lock());
        self.ask_all(tenant, packets, shares, undecided).await;
        self.ask_all(tenant, packets, undecided.next_round(&nodes), undecided).await;
    }

    /// Makes sure that all nodes there are have been asked for what nobody has.
    async fn is_sure(&self, tenant: &str, packets: &[PushPacket], undecided: &mut Undecided) -> bool {
        let Ok(nodes) = self.engine.all_others().await else { return false };
        undecided.only(&nodes);
        self.ask_all(tenant, packets, undecided.next_round(&nodes), undecided).await;
        !undecided.is_open() || undecided.is_denied_by(&nodes)
    }

    async fn ask_all(&self, tenant: &str, packets: &[PushPacket], shares: Vec<Share>, undecided: &mut Undecided) {
        let targets = undecided.targets();
        let asked = shares.into_iter().map(async |(node, places)| {
            let mut said = Vec::with_capacity(places.len());
            for part in parts(packets, targets, &places) {
                let question: Bytes = question(tenant, packets, targets, part).write().into();
                let answer = self.engine.ask(node, question).await.ok();
                let Some(answer) = answer.and_then(|answer| read_answer(&answer, part.len())) else { break };
                said.extend(answer);
            }
            (node, places, said)
        });
        for (node, places, said) in join_all(asked).await {
            self.take_answer(node, &places, &said, undecided);
        }
    }

    fn take_answer(&self, node: NodeId, places: &[usize], said: &[Said], undecided: &mut Undecided) {
        let mut hints = self.hints.lock();
        for (place, said) in places.iter().zip(said) {
            let tunnel = undecided.targets()[*place].tunnel;
            if *said != Said::NotMine {
                hints.learn(tunnel, node);
            } else if hints.get(tunnel) == Some(node) {
                hints.forget(tunnel);
            }
        }
        drop(hints);
        undecided.answered(node, &places[..said.len()], said);
        if said.len() < places.len() {
            undecided.was_silent(node);
        }
    }
}

/// The question about the targets at `places`, packet by packet.
fn question<'a>(tenant: &'a str, packets: &'a [PushPacket], targets: &[Open], places: &[usize]) -> Question<'a> {
    let by_packet = places.chunk_by(|one, next| targets[*one].packet == targets[*next].packet);
    let packets = by_packet.map(|places| {
        let order = &packets[targets[places[0]].packet].order;
        (Asked::from(order), places.iter().map(|place| targets[*place].tunnel).collect())
    });
    Question { tenant, packets: packets.collect() }
}

/// Cuts `places` so that no question is too long, unless a single packet is.
fn parts<'a>(packets: &[PushPacket], targets: &[Open], places: &'a [usize]) -> Vec<&'a [usize]> {
    let mut parts = vec![];
    let mut begin = 0;
    let mut bytes = 0;
    let mut last_packet = None;
    for (at, place) in places.iter().enumerate() {
        let packet = targets[*place].packet;
        let content_bytes = match Asked::from(&packets[packet].order) {
            Asked::Message(content) if last_packet != Some(packet) => content.len(),
            _ => 0,
        };
        if at > begin && bytes + content_bytes > MAX_QUESTION_BYTES {
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
    use crate::id::TunnelId;
    use crate::protocol::wafer::Order;

    #[test]
    fn a_push_is_cut_only_where_it_is_too_long() {
        let packet =
            |content_bytes: usize| PushPacket { targets: vec![], order: Order::Message("x".repeat(content_bytes)) };
        let packets = [packet(10), packet(MAX_QUESTION_BYTES - 1), packet(MAX_QUESTION_BYTES * 2), packet(5)];
        let target = |packet| Open { packet, tunnel: TunnelId::from_bytes([1; 16]) };
        let targets: Vec<Open> = [0, 0, 1, 2, 3, 3].map(target).to_vec();

        let parts = parts(&packets, &targets, &[0, 1, 2, 3, 4, 5]);

        assert_eq!(parts, [&[0, 1][..], &[2], &[3], &[4, 5]]);
        let question = question("t", &packets, &targets, parts[3]);
        assert_eq!(question.packets.len(), 1);
        assert_eq!(question.packets[0].1.len(), 2);
    }
}

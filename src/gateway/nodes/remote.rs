//! Commands to tunnels on other nodes: their owners are asked, each once for all of its tunnels.

use futures_util::future::join_all;

use super::question;
use super::question::Question;
use super::question::Said;
use super::undecided::Fate;
use super::undecided::Open;
use super::undecided::Share;
use super::undecided::Undecided;
use crate::gateway::Gateway;
use crate::gateway::command::Command;
use crate::id::NodeId;

/// Longest question, so that what a push may name by default is one; a longer push is asked in several, one after the other, and other
/// tenants have their turn between them.
const MAX_QUESTION_BYTES: usize = 384 * 1024;

impl Gateway {
    /// Has the other nodes do what `commands` say to the tunnels that are not open here.
    ///
    /// Nothing is ever called gone unless all nodes have said so.
    pub(in crate::gateway) async fn decide(
        &self,
        tenant: &str,
        commands: &[Command<'_>],
        open: Vec<Open>,
    ) -> Vec<Fate> {
        let mut undecided = Undecided::new(open);
        if undecided.is_open() {
            let nodes = self.engine.others();
            let shares = undecided.first_round(tenant, &nodes, &self.hints.lock());
            self.ask_all(tenant, commands, shares, &mut undecided).await;
            self.ask_all(tenant, commands, undecided.next_round(&nodes), &mut undecided).await;
        }
        let is_sure = !undecided.is_open() || self.is_sure(tenant, commands, &mut undecided).await;
        undecided.fates(is_sure)
    }

    /// Makes sure that all nodes there are have been asked for what nobody has.
    async fn is_sure(&self, tenant: &str, commands: &[Command<'_>], undecided: &mut Undecided) -> bool {
        let Ok(nodes) = self.engine.all_others().await else { return false };
        undecided.only(&nodes);
        self.ask_all(tenant, commands, undecided.next_round(&nodes), undecided).await;
        !undecided.is_open() || undecided.is_denied_by(&nodes)
    }

    async fn ask_all(&self, tenant: &str, commands: &[Command<'_>], shares: Vec<Share>, undecided: &mut Undecided) {
        let targets = undecided.targets();
        let asked = shares.into_iter().map(async |(node, places)| {
            let mut said = Vec::with_capacity(places.len());
            for part in parts(commands, targets, &places) {
                let question = question(tenant, commands, targets, part).write();
                let answer = self.engine.ask(node, tenant, question).await.ok();
                let answer = answer.and_then(|answer| question::read_answer::<Vec<Said>>(&answer));
                let Some(answer) = answer.filter(|answer| answer.len() == part.len()) else { break };
                said.extend(answer);
            }
            (node, places, said)
        });
        for (node, places, said) in join_all(asked).await {
            self.take_answer(tenant, node, &places, &said, undecided);
        }
    }

    fn take_answer(&self, tenant: &str, node: NodeId, places: &[usize], said: &[Said], undecided: &mut Undecided) {
        let mut hints = self.hints.lock();
        for (place, said) in places.iter().zip(said) {
            let tunnel = undecided.targets()[*place].tunnel;
            if *said != Said::NotMine {
                hints.learn(tenant, tunnel, node);
            } else if hints.get(tenant, tunnel) == Some(node) {
                hints.forget(tenant, tunnel);
            }
        }
        drop(hints);
        undecided.answered(node, &places[..said.len()], said);
        if said.len() < places.len() {
            undecided.was_silent(node);
        }
    }
}

/// The question about the targets at `places`, order by order.
fn question<'a>(tenant: &'a str, commands: &[Command<'a>], targets: &[Open], places: &[usize]) -> Question<'a> {
    let by_packet = places.chunk_by(|one, next| targets[*one].packet == targets[*next].packet);
    let commands = by_packet.map(|places| {
        let command = commands[targets[places[0]].packet];
        (command, places.iter().map(|place| targets[*place].tunnel).collect())
    });
    Question::Tunnels { tenant, commands: commands.collect() }
}

/// Cuts `places` so that no question is too long, unless a single packet is.
fn parts<'a>(commands: &[Command<'_>], targets: &[Open], places: &'a [usize]) -> Vec<&'a [usize]> {
    let mut parts = vec![];
    let mut begin = 0;
    let mut bytes = 0;
    let mut last_packet = None;
    for (at, place) in places.iter().enumerate() {
        let packet = targets[*place].packet;
        let content_bytes = if last_packet == Some(packet) { 0 } else { commands[packet].bytes() };
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

    #[test]
    fn a_push_is_cut_only_where_it_is_too_long() {
        let contents = [10, MAX_QUESTION_BYTES - 1, MAX_QUESTION_BYTES * 2, 5].map(|bytes| "x".repeat(bytes));
        let commands: Vec<Command<'_>> = contents.iter().map(|content| Command::Text(content)).collect();
        let target = |packet| Open { packet, tunnel: TunnelId::from_bytes([1; 16]) };
        let targets: Vec<Open> = [0, 0, 1, 2, 3, 3].map(target).to_vec();

        let parts = parts(&commands, &targets, &[0, 1, 2, 3, 4, 5]);

        assert_eq!(parts, [&[0, 1][..], &[2], &[3], &[4, 5]]);
        let Question::Tunnels { commands, .. } = question("t", &commands, &targets, parts[3]) else {
            panic!("of tunnels")
        };
        assert_eq!(commands.len(), 1);
        assert_eq!(commands[0].1.iter().count(), 2);
    }
}

//! Invariants of every simulation, whatever faults it has.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::gateway;
use crate::history::Attempt;
use crate::history::End;
use crate::history::History;
use crate::history::Tunnel;
use crate::plan::Machine;
use crate::plan::Plan;
use crate::world;
use crate::world::PHONES;
use crate::world::Shared;

/// Longest duration of one attempt.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

/// An answer that took longer may have come too late.
const IN_TIME: Duration = Duration::from_secs(1);

/// Minimum number of messages in each direction.
const MIN_MESSAGES: usize = 200;

/// The results of a simulation.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    pub(crate) tunnels: usize,
    /// Messages that business servers got, repetitions left out.
    pub(crate) up: usize,
    /// Messages that clients got.
    pub(crate) down: usize,
    pub(crate) faults: usize,
    pub(crate) repeats: usize,
    pub(crate) took: Duration,
    /// A digest of all that happened: the same seed is the same story.
    pub(crate) story: u64,
}

/// Memory-engine tunnels are lost with the node: events unfinished now may never be delivered.
pub(crate) fn gateway_was_killed(shared: &Shared) {
    for tunnel in shared.journal.borrow_mut().tunnels.values_mut() {
        tunnel.is_lost = true;
    }
}

/// Whether the gateway has nothing left to do.
pub(crate) fn is_at_rest(shared: &Shared) -> bool {
    let node = shared.node.borrow();
    let Some(node) = node.as_ref() else { return false };
    node.gateway.tunnels.count() == 0 && node.dispatcher.pending() == 0 && node.gateway.tunnels.tasks.is_empty()
}

pub(crate) fn judge(shared: &Shared, shops: &[IpAddr], took: Duration, is_over: bool) -> Report {
    let journal = shared.journal.borrow();
    let mut report = Report { faults: shared.plan.faults.len(), took, ..Report::default() };
    if !is_over {
        report.violations.push("it did not come to rest".to_owned());
    }
    for (id, tunnel) in &journal.tunnels {
        judge_tunnel(&journal, &shared.plan, id, tunnel, &mut report);
    }
    judge_rest(shared, shops, took, &mut report.violations);
    if report.tunnels < PHONES || report.up < MIN_MESSAGES || report.down < MIN_MESSAGES || report.faults < 3 {
        report.violations.push(format!("too little happened: {report:?}"));
    }
    report.story = fnv(&format!("{:?}{took:?}", *journal));
    report
}

fn judge_tunnel(journal: &History, plan: &Plan, id: &str, tunnel: &Tunnel, report: &mut Report) {
    let violations = &mut report.violations;
    let mut complain = |what: String| {
        let attempts: Vec<_> = journal.attempts.iter().filter(|attempt| attempt.tunnel == id).collect();
        violations.push(shown(&format!("{id}: {what}\n{:?}\n{tunnel:?}\n{attempts:?}", plan.faults)));
    };
    let attempts: Vec<_> = journal.attempts.iter().filter(|attempt| attempt.tunnel == id).collect();
    let mut events: Vec<&Attempt> = vec![];
    for attempt in &attempts {
        if attempt.shop != tunnel.shop {
            complain(format!("event {} came to another tenant", attempt.sequence));
        }
        let newest = events.last().map_or(0, |event| event.sequence);
        if attempt.sequence == newest + 1 {
            if events.last().is_some_and(|last| last.accepted.is_none() && is_undisturbed(last, plan)) {
                complain(format!("event {} came while {newest} was in flight", attempt.sequence));
            }
            events.push(attempt);
        } else if attempt.sequence <= newest {
            report.repeats += 1;
            // A request that was given up may still arrive, behind later ones, as long as the way is disturbed.
            if attempt.sequence < newest && is_undisturbed(attempt, plan) {
                complain(format!("event {} came back behind {newest}", attempt.sequence));
            }
            let earlier = attempts.iter().take_while(|earlier| !std::ptr::eq(**earlier, *attempt));
            for earlier in earlier.filter(|earlier| earlier.sequence == attempt.sequence) {
                if (&earlier.kind, &earlier.content) != (&attempt.kind, &attempt.content) {
                    complain(format!("one id, two events: {}", attempt.sequence));
                }
                if is_known_accepted(earlier, plan) && is_undisturbed(attempt, plan) {
                    complain(format!("event {} came again though it was accepted in time", attempt.sequence));
                }
            }
        } else {
            complain(format!("event {} was skipped", newest + 1));
            events.push(attempt);
        }
    }
    if !tunnel.is_attached {
        if !events.is_empty() {
            complain("events of a tunnel that was never open".to_owned());
        }
        return;
    }
    report.tunnels += 1;

    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    let is_whole =
        matches!(&kinds[..], ["connect", messages @ .., "close"] if messages.iter().all(|kind| *kind == "message"));
    let is_begun = matches!(&kinds[..], ["connect", messages @ ..] if messages.iter().all(|kind| *kind == "message"));
    if !(is_whole || tunnel.is_lost && (is_begun || kinds.is_empty())) {
        complain(format!("not connect, messages, close: {kinds:?}"));
    }
    let messages: Vec<_> = events.iter().filter(|event| event.kind == "message").map(|event| &event.content).collect();
    report.up += messages.len();
    if messages.len() > tunnel.sent.len() || messages.iter().zip(&tunnel.sent).any(|(got, sent)| *got != sent) {
        complain("messages are not those that the client sent, in order".to_owned());
    }
    if messages.len() < tunnel.acked && !tunnel.is_lost {
        complain(format!("{} messages were lost that the gateway had read", tunnel.acked - messages.len()));
    }
    report.down += tunnel.received.len();
    let got_all = judge_pushes(journal, id, tunnel, &mut complain);
    // One that has not got all pushes may have been closed as too slow before the end of its own stream was read.
    let is_orderly = tunnel.end == Some(End::Confirmed) || tunnel.end == Some(End::HalfClosed) && got_all;
    if is_orderly && messages.len() < tunnel.sent.len() && !tunnel.is_lost {
        complain("messages were lost before an orderly end".to_owned());
    }
}

/// Pushes arrive in order and without gaps, up to the end of the tunnel. Returns whether all arrived.
fn judge_pushes(journal: &History, id: &str, tunnel: &Tunnel, complain: &mut impl FnMut(String)) -> bool {
    let mut accepted = vec![];
    let mut unknown = BTreeSet::new();
    let mut is_invalid = false;
    for push in journal.pushes.iter().filter(|push| push.tunnels.iter().any(|target| target == id)) {
        match (&push.invalid, &push.content) {
            (None, Some(content)) => drop(unknown.insert(content)),
            (Some(invalid), _) if invalid.iter().any(|target| target == id) => is_invalid = true,
            (Some(_), _) if is_invalid => complain("accepted a push after it had been called invalid".to_owned()),
            (Some(_), Some(content)) => accepted.push(content),
            (_, None) => {}
        }
    }
    let mut seen = BTreeSet::new();
    let mut next = 0;
    for content in &tunnel.received {
        if !seen.insert(content) {
            complain(format!("{content} was pushed twice"));
        }
        if accepted.get(next) == Some(&content) {
            next += 1;
        } else if !unknown.contains(content) {
            complain(format!("{content} arrived in place of {:?}", accepted.get(next)));
            return false;
        }
    }
    next == accepted.len()
}

/// Whether the gateway must have got the answer that accepts the event.
fn is_known_accepted(attempt: &Attempt, plan: &Plan) -> bool {
    attempt.accepted.is_some_and(|at| at - attempt.began < IN_TIME) && is_undisturbed(attempt, plan)
}

/// Whether nothing went wrong near this attempt.
fn is_undisturbed(attempt: &Attempt, plan: &Plan) -> bool {
    let (from, until) = (attempt.began.saturating_sub(2 * TIMEOUT), attempt.began + 2 * TIMEOUT);
    !attempt.is_spoilt
        && !plan.faults.iter().any(|fault| {
            [Machine::Gateway, Machine::BusinessServer(attempt.shop)].contains(&fault.machine)
                && fault.from < until
                && fault.until > from
        })
}

/// Nothing is left behind.
fn judge_rest(shared: &Shared, shops: &[IpAddr], took: Duration, violations: &mut Vec<String>) {
    let node = shared.node.borrow();
    let Some(node) = node.as_ref() else {
        violations.push("the gateway is not there".to_owned());
        return;
    };
    let gateway = &node.gateway;
    let mut left = |what: &str, count: u64| {
        if count != 0 {
            violations.push(format!("{count} left: {what}"));
        }
    };
    left("open tunnels", gateway.tunnels.count() as u64);
    left("tasks", gateway.tunnels.tasks.len() as u64);
    left("pending events", node.dispatcher.pending() as u64);
    left("metric connections", gateway.metrics.connections.get().unsigned_abs());
    left("metric webhook_queue", gateway.metrics.webhook_queue.get().unsigned_abs());
    for shop in shops {
        let tenant = gateway::tenant(gateway, *shop);
        left("tenant's open tunnels", tenant.usage.open());
        left("tenant's unsettled tunnels", tenant.usage.unsettled());
        left("tenant's reservations", tenant.usage.reserved((world::EPOCH + took).as_secs()).unsigned_abs());
    }
    let alive = node.connections.iter().filter_map(std::sync::Weak::upgrade);
    for connection in alive {
        left("queued bytes and its connection", 1 + connection.queued_bytes() as u64);
    }
}

/// The text without its padding.
fn shown(text: &str) -> String {
    let is_padding = |text: &str, at: usize| {
        at > 0 && matches!(text.as_bytes()[at], b'x' | b'y') && text.as_bytes()[at - 1] == text.as_bytes()[at]
    };
    text.char_indices().filter(|(at, _)| !is_padding(text, *at)).map(|(_, character)| character).collect()
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

//! The verdict on a run, computed from its logs alone: the violations of the gateway's guarantees.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

use super::logs::Attempt;
use super::logs::ClientLog;
use super::logs::GivenUp;
use super::logs::Logs;
use super::logs::Push;
use super::logs::Rules;
use super::logs::What;
use crate::support::Outcome;

/// How inexactly the clocks of a run are read.
const EXACTNESS: Duration = Duration::from_millis(5);

/// How late an attempt may arrive on a busy machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// The kinds of violations.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
    /// It never arrived, and the loss was not reported.
    Lost,
    /// It arrived behind later ones.
    Reordered,
    /// It came again although its outcome was known, or with another `webhook-id`.
    Repeated,
    /// It arrived, was never accepted, and giving it up was not reported.
    UnannouncedGap,
    /// It was never sent.
    Invented,
    /// An open tunnel without a `connect` event.
    NoConnect,
    /// A second `connect` event.
    SecondConnect,
    /// An ended tunnel without a `close` event.
    NoClose,
    /// A second `close` event.
    SecondClose,
    /// `connect` was not the first event, or `close` not the last.
    OutOfPlace,
    /// An attempt before its time.
    TooSoon,
    /// An attempt after the event's time was over.
    TooLate,
    /// An event given up before its time was over, and without a final answer.
    GivenUpTooSoon,
    /// A push that called an open tunnel invalid.
    OpenCalledInvalid,
    /// A push that took an ended tunnel for open.
    EndedCalledOpen,
    /// A counter that does not agree with the log.
    Miscounted,
    /// Something that was not given back.
    Leaked,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    pub(crate) fault: Fault,
    /// Place and details, for a person.
    pub(crate) detail: String,
}

/// How much of everything there was in one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Traffic {
    /// Sent by a client, or accepted from a push.
    pub(crate) sent: u64,
    /// Delivered, each counted once.
    pub(crate) delivered: u64,
    /// Given up, and announced.
    pub(crate) given_up: u64,
    /// Cut off with their connection: the sender could not know whether they had been read.
    pub(crate) cut_off: u64,
    /// Further attempts or copies.
    pub(crate) repeated: u64,
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) tunnels: u64,
    pub(crate) connects: u64,
    pub(crate) closes: u64,
    pub(crate) up: Traffic,
    pub(crate) down: Traffic,
    pub(crate) findings: Vec<Finding>,
}

/// Judges a run.
pub(crate) fn judge(logs: &Logs) -> Verdict {
    let mut verdict = Verdict { tunnels: logs.clients.len() as u64, ..Verdict::default() };
    let mut attempts = by_tunnel(&logs.attempts, |attempt| &attempt.tunnel);
    let mut pushes = by_tunnel(&logs.pushes, |push| &push.tunnel);
    let mut given_up = by_tunnel(&logs.given_up, |event| &event.tunnel);
    for client in &logs.clients {
        let tunnel = Tunnel {
            client,
            attempts: attempts.remove(client.tunnel.as_str()).unwrap_or_default(),
            pushes: pushes.remove(client.tunnel.as_str()).unwrap_or_default(),
            given_up: given_up.remove(client.tunnel.as_str()).unwrap_or_default(),
            rules: logs.rules,
        };
        tunnel.judge(&mut verdict);
    }
    for tunnel in attempts.keys() {
        verdict.add(Fault::Invented, tunnel, "events of a tunnel that no client opened");
    }
    let announced = logs.given_up.len() as u64;
    if let Some(counted) = logs.counted {
        if announced != counted.given_up {
            let detail = format!("{announced} lines, {} counted", counted.given_up);
            verdict.add(Fault::Miscounted, "events given up", &detail);
        }
        if counted.closes != verdict.tunnels {
            let detail = format!("{} opened, {} ends counted", verdict.tunnels, counted.closes);
            verdict.add(Fault::Miscounted, "tunnels", &detail);
        }
    }
    for leak in &logs.leaks {
        verdict.add(Fault::Leaked, leak.what, &format!("{} before, {} after", leak.before, leak.after));
    }
    verdict
}

impl Verdict {
    /// How often each fault was found.
    pub(crate) fn faults(&self) -> BTreeMap<Fault, usize> {
        let mut faults = BTreeMap::new();
        for finding in &self.findings {
            *faults.entry(finding.fault).or_default() += 1;
        }
        faults
    }

    /// Fails if anything was wrong.
    pub(crate) fn assert_sound(&self) {
        let first: Vec<_> = self.findings.iter().take(20).collect();
        assert!(first.is_empty(), "{} findings: {first:#?}", self.findings.len());
        assert_eq!((self.connects, self.closes), (self.tunnels, self.tunnels));
    }

    fn add(&mut self, fault: Fault, place: &str, detail: &str) {
        self.findings.push(Finding { fault, detail: format!("{place}: {detail}") });
    }
}

/// All that is known of one tunnel.
struct Tunnel<'a> {
    client: &'a ClientLog,
    attempts: Vec<&'a Attempt>,
    pushes: Vec<&'a Push>,
    given_up: Vec<&'a GivenUp>,
    rules: Rules,
}

impl Tunnel<'_> {
    fn judge(&self, verdict: &mut Verdict) {
        self.judge_ends(verdict);
        self.judge_messages(verdict);
        self.judge_attempts(verdict);
        self.judge_given_up(verdict);
        self.judge_received(verdict);
        self.judge_pushes(verdict);
    }

    /// Whether its node was killed before the close event was delivered.
    fn is_bereft(&self) -> bool {
        let told = |lost_at| self.attempts_of(What::Close).any(|attempt| attempt.at <= lost_at);
        self.client.lost_at.is_some_and(|lost_at| !told(lost_at))
    }

    fn is_given_up(&self, what: What) -> bool {
        self.given_up.iter().any(|event| event.what() == what)
    }

    /// The attempts of one event.
    fn attempts_of(&self, what: What) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().copied().filter(move |attempt| attempt.what == what)
    }

    /// One `connect`, first; one `close`, last.
    fn judge_ends(&self, verdict: &mut Verdict) {
        let name = &self.client.tunnel;
        let ends = [
            (What::Connect, Fault::NoConnect, Fault::SecondConnect),
            (What::Close, Fault::NoClose, Fault::SecondClose),
        ];
        for (what, none, second) in ends {
            let attempts: Vec<_> = self.attempts_of(what).collect();
            let is_known = |attempt: &&Attempt| matches!(self.outcome(attempt), Outcome::Accepted | Outcome::Final);
            let has_come = !attempts.is_empty() || self.is_given_up(what);
            if !has_come {
                // Later messages are lost as well then.
                let is_lost = self.is_bereft() && what == What::Connect;
                if !is_lost || self.attempts.iter().any(|attempt| attempt.what != What::Close) {
                    verdict.add(none, name, "never sent");
                }
                verdict.connects += u64::from(is_lost);
                continue;
            }
            *(if what == What::Connect { &mut verdict.connects } else { &mut verdict.closes }) += 1;
            let is_second = |pair: &[&Attempt]| pair[0].id != pair[1].id || is_known(&pair[0]);
            for _ in attempts.windows(2).filter(|pair| is_second(pair)) {
                verdict.add(second, name, "once more");
            }
        }
        if self
            .attempts
            .iter()
            .skip_while(|attempt| attempt.what == What::Connect)
            .any(|attempt| attempt.what == What::Connect)
        {
            verdict.add(Fault::OutOfPlace, name, "connect behind another event");
        }
        if self
            .attempts
            .iter()
            .skip_while(|attempt| attempt.what != What::Close)
            .any(|attempt| attempt.what != What::Close)
        {
            verdict.add(Fault::OutOfPlace, name, "an event behind close");
        }
    }

    /// Every message once, in order, delivered or announced; at the end some may be cut off with their connection.
    fn judge_messages(&self, verdict: &mut Verdict) {
        let name = &self.client.tunnel;
        let sent = self.client.sent.len() as u64;
        let mut seen: BTreeMap<u64, Vec<&Attempt>> = BTreeMap::new();
        let mut highest = 0;
        for attempt in &self.attempts {
            let What::Message(number) = attempt.what else { continue };
            if number == 0 || number > sent {
                verdict.add(Fault::Invented, name, &format!("up {number}"));
            } else if number < highest {
                verdict.add(Fault::Reordered, name, &format!("up {number} behind {highest}"));
            }
            highest = highest.max(number);
            seen.entry(number).or_default().push(attempt);
        }
        let announced = self.given_up.iter().filter_map(|event| match event.what() {
            What::Message(number) => Some(number),
            _ => None,
        });
        let certain = if self.is_bereft() { 0 } else { self.client.certain as u64 };
        let end = announced.chain([highest, certain]).max().unwrap_or_default().min(sent);
        verdict.up.sent += sent;
        verdict.up.cut_off += sent - end;
        for number in 1..=end {
            let attempts = seen.get(&number).map(Vec::as_slice).unwrap_or_default();
            verdict.up.repeated += attempts.len().saturating_sub(1) as u64;
            if self.is_given_up(What::Message(number)) {
                verdict.up.given_up += 1;
            } else if attempts.is_empty() {
                verdict.add(Fault::Lost, name, &format!("up {number} of {sent}"));
            } else if attempts.iter().any(|attempt| attempt.outcome == Outcome::Accepted) {
                verdict.up.delivered += 1;
            } else if self.is_bereft() && number == highest {
                verdict.up.cut_off += 1;
            } else {
                verdict.add(Fault::UnannouncedGap, name, &format!("up {number} of {sent}"));
            }
        }
        if !self.is_given_up(What::Close)
            && self.attempts_of(What::Close).all(|attempt| attempt.outcome != Outcome::Accepted)
            && self.attempts_of(What::Close).next().is_some()
        {
            verdict.add(Fault::UnannouncedGap, name, "close");
        }
    }

    /// Attempts of one event: with one id, one behind the other for a reason, and in their time.
    fn judge_attempts(&self, verdict: &mut Verdict) {
        let name = &self.client.tunnel;
        let mut failures = 0;
        for pair in self.attempts.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            if before.what != after.what {
                failures = 0;
                continue;
            }
            failures += 1;
            let detail = format!("{:?} again, {:?} after {:?}", after.what, after.at - before.at, before.outcome);
            let outcome = self.outcome(before);
            if let What::Message(_) = after.what
                && (before.id != after.id || matches!(outcome, Outcome::Accepted | Outcome::Final))
            {
                verdict.add(Fault::Repeated, name, &detail);
            }
            let asked = if let Outcome::Retry(wait) = outcome { wait.unwrap_or_default() } else { Duration::ZERO };
            let failed_at = if outcome == Outcome::Unknown { before.at } else { before.settled.unwrap_or(before.at) };
            if after.at + EXACTNESS < failed_at + asked.max(shortest_wait(failures)) {
                verdict.add(Fault::TooSoon, name, &detail);
            }
        }
        for attempt in &self.attempts {
            let received = match attempt.what {
                What::Connect => Some(self.client.dialed),
                What::Message(number) => {
                    number.checked_sub(1).and_then(|index| self.client.sent.get(index as usize)).copied()
                }
                What::Close => None,
            };
            // A message may wait for its reader before the gateway has it; only where it does not is its time known.
            let is_late = received.is_some_and(|at| attempt.at > at + self.rules.message_ttl + PATIENCE);
            if is_late && self.rules.message_ttl > Duration::ZERO {
                verdict.add(Fault::TooLate, name, &format!("{:?}", attempt.what));
            }
        }
    }

    /// An event may be given up only after its time limit or a final response.
    fn judge_given_up(&self, verdict: &mut Verdict) {
        for event in &self.given_up {
            let what = event.what();
            let is_refused =
                self.attempts_of(what).last().is_some_and(|attempt| self.outcome(attempt) == Outcome::Final);
            let since = match what {
                What::Connect => Some(self.client.dialed),
                What::Message(number) => self.client.sent.get(number as usize - 1).copied(),
                What::Close => None,
            };
            let is_over = since.is_none_or(|since| event.at + EXACTNESS >= since + self.rules.message_ttl);
            if !is_refused && !is_over || event.reason.is_empty() {
                verdict.add(Fault::GivenUpTooSoon, &self.client.tunnel, &format!("{what:?}: {}", event.reason));
            }
        }
    }

    /// The client receives exactly the accepted pushes, from the first on, in order, once each.
    fn judge_received(&self, verdict: &mut Verdict) {
        let name = &self.client.tunnel;
        let (unknown, known): (Vec<&Push>, Vec<&Push>) = self.pushes.iter().partition(|push| push.is_unknown);
        let unknown: Vec<u64> = unknown.iter().map(|push| push.number).collect();
        let accepted: Vec<u64> = known.iter().filter(|push| !push.is_invalid).map(|push| push.number).collect();
        let received = &self.client.received;
        verdict.down.sent += accepted.len() as u64;
        let mut highest = 0;
        let mut seen = vec![];
        for number in received {
            if seen.contains(number) {
                verdict.down.repeated += 1;
                verdict.add(Fault::Repeated, name, &format!("down {number}"));
                continue;
            }
            if unknown.contains(number) {
                seen.push(*number);
                continue;
            }
            if !accepted.contains(number) {
                verdict.add(Fault::Invented, name, &format!("down {number}"));
            } else if *number < highest {
                verdict.add(Fault::Reordered, name, &format!("down {number} behind {highest}"));
            }
            highest = highest.max(*number);
            seen.push(*number);
        }
        for number in accepted {
            if seen.contains(&number) {
                verdict.down.delivered += 1;
            } else if number < highest || self.client.has_read_all {
                verdict.add(Fault::Lost, name, &format!("down {number}"));
            } else {
                verdict.down.cut_off += 1;
            }
        }
    }

    /// Invalid means not open, and not invalid means open.
    fn judge_pushes(&self, verdict: &mut Verdict) {
        let name = &self.client.tunnel;
        let closed = self.attempts_of(What::Close).map(|attempt| attempt.at).next();
        for push in &self.pushes {
            let was_open = push.began >= self.client.opened && push.ended <= self.client.open_until;
            if push.is_invalid && was_open {
                verdict.add(Fault::OpenCalledInvalid, name, &format!("push {}", push.number));
            }
            if !push.is_invalid && !push.is_unknown && closed.is_some_and(|closed| push.began > closed) {
                verdict.add(Fault::EndedCalledOpen, name, &format!("push {}", push.number));
            }
        }
    }

    /// The outcome of an attempt as the gateway knows it; `None` if the response may have come too late.
    fn outcome(&self, attempt: &Attempt) -> Outcome {
        match attempt.settled {
            Some(settled) if settled - attempt.at < self.rules.timeout / 2 => attempt.outcome,
            _ => Outcome::Unknown,
        }
    }
}

/// The shortest wait after so many failures of one event: none, then 100 ms doubling to 10 s, less the jitter of a half.
fn shortest_wait(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        failures => {
            Duration::from_millis(100).saturating_mul(1 << (failures - 2).min(16)).min(Duration::from_secs(10)) / 2
        }
    }
}

fn by_tunnel<T>(all: &[T], tunnel: impl Fn(&T) -> &str) -> HashMap<&str, Vec<&T>> {
    let mut sorted: HashMap<&str, Vec<&T>> = HashMap::new();
    for one in all {
        sorted.entry(tunnel(one)).or_default().push(one);
    }
    sorted
}

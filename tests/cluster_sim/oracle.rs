//! Invariants of every history, whatever faults it has.

use std::collections::BTreeMap;

use crate::history::Answer;
use crate::history::Call;
use crate::history::Event;
use crate::history::History;
use crate::history::Kind;
use crate::history::Opening;
use crate::history::Post;
use crate::history::Process;
use crate::history::Push;
use crate::history::Story;
use crate::history::Trouble;
use crate::redis::Data;
use crate::redis::Value;

/// A dead node's tunnels have their close by then.
const CLOSE_WITHIN_MS: u64 = 20_000;
/// A node that is away for less is not declared dead.
const HARMLESS_MS: u64 = 5_000;
/// Time limit for a node's changes to reach Redis without faults.
const WRITTEN_MS: u64 = 300;
/// It is so long after something was.
const RETRIED_MS: u64 = 2_500;
/// So long after a loss a node has found it and written its part again.
const MENDED_MS: u64 = 4_000;
/// Time limit for a node to catch up after its connection to Redis is restored.
const HEARD_MS: u64 = 4_000;

/// Why something is no violation: one of the things that docs/scale.md says may happen, or that end by themselves in a moment.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Excuse {
    /// A claim alone was evicted: its node looks at a part of its claims each second, and writes it once more.
    EvictedClaim,
    /// The index of a group alone was: its nodes look once a second whether it is there.
    EvictedGroup,
    /// A node that is cut off cannot know that it was declared dead: it continues with its data.
    CutOff,
    /// The node with the response to a close died before it could report that to Redis.
    DiedWithAnAnswer,
    /// Redis went back in time, and the node that remembers the response died about then.
    DiedWithALoss,
    /// A write sent before a node was cut off arrived after its death.
    LateWrites,
    /// A node was away while data was lost: of what Redis had lost of it before its death, and has in part from the past, it tells itself.
    AwayDuringALoss,
    /// Redis lost the record of a tunnel when its node died.
    LostWithItsNode,
    /// A push was done, and the way back was cut for longer than a node waits.
    LostAnswer,
}

/// The results of a simulation.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    pub(crate) tunnels: usize,
    pub(crate) posts: usize,
    pub(crate) adopted: usize,
    pub(crate) calls: usize,
    pub(crate) faults: usize,
    pub(crate) excused: BTreeMap<Excuse, usize>,
    /// Another one if anything was done or answered differently.
    pub(crate) digest: u64,
}

pub(crate) fn judge(history: &History, data: &Data, first_probe: usize) -> Report {
    let mut report = Report { calls: history.calls.len(), faults: history.troubles.len(), ..Report::default() };
    for (tunnel, story) in &history.stories {
        report.tunnels += story.openings.len();
        report.posts += story.posts.len();
        report.adopted += story.posts.iter().filter(|post| post.is_adopted).count();
        let mut complain = |what: String| report.violations.push(format!("{tunnel}: {what}\n{story:?}"));
        if let [_, second, ..] = story.openings[..] {
            if history.has_lost_claim(&tunnel.to_string(), second.at_ms) {
                *report.excused.entry(Excuse::EvictedClaim).or_default() += 1;
            } else {
                complain("its connect URL was used twice".to_owned());
            }
            continue;
        }
        let mut excuses = vec![];
        judge_order(history, story, &mut complain, &mut excuses);
        judge_closes(history, story, &mut complain, &mut excuses);
        excuses.into_iter().for_each(|excuse| *report.excused.entry(excuse).or_default() += 1);
    }
    for (number, call) in history.calls.iter().enumerate() {
        match judge_call(history, call, number >= first_probe) {
            Some(Err(excuse)) => *report.excused.entry(excuse).or_default() += 1,
            Some(Ok(what)) => {
                report.violations.push(format!("{what}: {call:?}\n{:?}", history.stories.get(&call.tunnel)));
            }
            None => {}
        }
    }
    for push in &history.pushes {
        match judge_push(history, push) {
            Some(Err(excuse)) => *report.excused.entry(excuse).or_default() += 1,
            Some(Ok(what)) => report.violations.push(format!("{what}: {push:?}")),
            None => {}
        }
    }
    report.violations.extend(judge_rest(history, data));
    if !report.violations.is_empty() {
        report.violations.push(history.faults.join("\n"));
    }
    report
}

/// Connect, messages, close, in this order, and nothing behind that.
fn judge_order(history: &History, story: &Story, complain: &mut impl FnMut(String), excuses: &mut Vec<Excuse>) {
    let mut last: Option<Event> = None;
    for post in &story.posts {
        let is_next = match (last, post.event) {
            (None, Event::Connect) | (_, Event::Close) => true,
            (Some(Event::Connect), Event::Message(1)) => true,
            (Some(Event::Message(before)), Event::Message(next)) => next == before + 1,
            _ => false,
        };
        if last == Some(Event::Close) && post.event != Event::Close {
            if history.is_cut_off(post.by, post.at_ms) {
                excuses.push(Excuse::CutOff);
            } else {
                complain(format!("{:?} at {} ms behind the close", post.event, post.at_ms));
            }
        } else if !is_next && last != Some(post.event) {
            complain(format!("{:?} at {} ms behind {last:?}", post.event, post.at_ms));
        } else {
            last = Some(post.event);
        }
    }
}

fn judge_closes(history: &History, story: &Story, complain: &mut impl FnMut(String), excuses: &mut Vec<Excuse>) {
    let closes: Vec<_> = story.posts.iter().filter(|post| post.event == Event::Close).collect();
    let opening = story.openings.last();
    for close in closes.iter().filter(|close| close.is_adopted) {
        let owners: Vec<Process> = opening.map_or_else(|| story.tried_on.clone(), |opening| vec![opening.on]);
        if owners.iter().all(|owner| history.is_healthy(*owner, close.at_ms)) {
            complain(format!("its node was healthy, and another one told of its end at {} ms", close.at_ms));
        }
    }
    for pair in closes.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        let Some(settled_ms) = first.settled_ms else { continue };
        if settled_ms < second.at_ms && first.by != second.by {
            match history.excuses_a_repeat(opening, first, settled_ms, second) {
                Some(excuse) => excuses.push(excuse),
                None => complain(format!(
                    "its close was answered at {settled_ms} ms, and told again at {} ms",
                    second.at_ms
                )),
            }
        }
    }
    let Some(opening) = opening else { return };
    if opening.is_cut_off && opening.ended_ms.is_some_and(|ended| history.is_healthy(opening.on, ended)) {
        complain("its node was healthy, and was declared dead".to_owned());
    }
    let Some(ended_ms) = opening.ended_ms else {
        if !closes.is_empty() {
            complain("it is open, and was told to be closed".to_owned());
        }
        return;
    };
    let first = closes.first().map(|close| close.at_ms);
    match first {
        None if history.is_lost_with(opening.on) => excuses.push(Excuse::LostWithItsNode),
        None => complain(format!("it ended at {ended_ms} ms, and there was no close")),
        Some(at_ms) => {
            let crash = history.crash(opening.on);
            let is_only_trouble = crash.is_some_and(|crash| {
                let around = |trouble: &&Trouble| {
                    trouble.from_ms < at_ms && trouble.until_ms.saturating_add(HEARD_MS) > opening.at_ms
                };
                crash == ended_ms && history.troubles.iter().filter(around).count() == 1
            });
            // The survivor may wait for its permits.
            if is_only_trouble && at_ms > ended_ms + CLOSE_WITHIN_MS + 12_000 {
                complain(format!("its node died at {ended_ms} ms, and its close came at {at_ms} ms"));
            }
        }
    }
}

/// A fault of a response, or its excuse.
fn judge_call(history: &History, call: &Call, is_probe: bool) -> Option<Result<&'static str, Excuse>> {
    let story = history.stories.get(&call.tunnel)?;
    let opening = story
        .openings
        .iter()
        .find(|opening| opening.at_ms < call.began_ms && opening.ended_ms.is_none_or(|ended| ended > call.ended_ms))?;
    let is_sure = is_probe || history.is_healthy(opening.on, call.ended_ms);
    match call.answer {
        Answer::Invalid if is_sure && history.has_lost_entry(call) => Some(Err(Excuse::EvictedClaim)),
        Answer::Invalid if is_sure => Some(Ok("a live tunnel was called invalid")),
        Answer::Missing if is_sure && history.has_lost_group(story.group, call) => Some(Err(Excuse::EvictedGroup)),
        Answer::Missing if is_sure => Some(Ok("a member of a group was not found")),
        Answer::Error if is_probe => Some(Ok("all was well, and a call failed")),
        _ => None,
    }
}

/// A push is done once, and what was done is not answered with "try again" because one message was lost.
fn judge_push(history: &History, push: &Push) -> Option<Result<&'static str, Excuse>> {
    if push.done_by.len() > 1 {
        return Some(Ok("a push was done twice"));
    }
    let (answered_ms, answer) = push.answer?;
    let (done_ms, by) = *push.done_by.first()?;
    match answer {
        Answer::Accepted => None,
        Answer::Error => {
            let around = push.began_ms..=answered_ms;
            let lost = history.lost_messages_ms.iter().filter(|lost_ms| around.contains(lost_ms)).count();
            let is_well = |process| {
                let of_it = |trouble: &&Trouble| trouble.process.is_none_or(|of| of == process);
                history.troubles.iter().filter(of_it).all(|trouble| {
                    trouble.from_ms > answered_ms || trouble.until_ms.saturating_add(HEARD_MS) < push.began_ms
                })
            };
            let is_excused = lost > 1 || !is_well(push.by) || !is_well(by);
            Some(if is_excused { Err(Excuse::LostAnswer) } else { Ok("a push was done, and answered with an error") })
        }
        // Its tunnel may have ended since.
        _ => (done_ms > answered_ms).then_some(Ok("a push was done behind its answer")),
    }
}

/// Nothing is left behind in Redis, and nothing is missing.
fn judge_rest(history: &History, data: &Data) -> Vec<String> {
    let mut violations = vec![];
    let mut records = vec![];
    for (key, value) in &data.keys {
        if let Value::Hash(fields) = value
            && key.starts_with("w:{records:")
        {
            records.extend(fields.keys().cloned());
        }
    }
    let open = |story: &&Story| story.open_on().is_some();
    for (tunnel, story) in history.stories.iter().filter(|(_, story)| story.openings.len() < 2) {
        let count = records.iter().filter(|record| **record == tunnel.to_string()).count();
        let expected = usize::from(open(&story));
        let is_forgotten = story.tried_on.iter().any(|process| history.is_lost_with(*process));
        if count != expected && !(is_forgotten && expected == 0) {
            violations.push(format!("{tunnel}: {count} records in Redis in place of {expected}: {story:?}"));
        }
    }
    violations
}

impl History {
    fn crash(&self, process: Process) -> Option<u64> {
        let crash = |trouble: &&Trouble| trouble.kind == Kind::Crash && trouble.process == Some(process);
        self.troubles.iter().find(crash).map(|trouble| trouble.from_ms)
    }

    fn has_loss(&self, from_ms: u64, until_ms: u64) -> bool {
        let is_loss = |trouble: &Trouble| trouble.kind == Kind::Loss;
        self.troubles.iter().any(|trouble| is_loss(trouble) && (from_ms..=until_ms).contains(&trouble.from_ms))
    }

    /// Whether a claim had just been evicted: its node writes it once more every few seconds.
    fn has_lost_claim(&self, tunnel: &str, used_ms: u64) -> bool {
        self.lost_claims.iter().any(|(lost, at_ms)| lost == tunnel && (*at_ms..at_ms + MENDED_MS).contains(&used_ms))
    }

    /// Whether the claim that names the owner of a tunnel had just been evicted: that looks at a part of its claims each second.
    fn has_lost_entry(&self, call: &Call) -> bool {
        let tunnel = call.tunnel.to_string();
        let is_within = |at_ms: u64| at_ms <= call.ended_ms && call.began_ms <= at_ms + MENDED_MS;
        self.lost_claims.iter().any(|(lost, at_ms)| *lost == tunnel && is_within(*at_ms))
    }

    /// Whether the index of a group had just been evicted: its nodes look once a second whether it is there.
    fn has_lost_group(&self, group: Option<usize>, call: &Call) -> bool {
        self.lost_groups
            .iter()
            .any(|(lost, at_ms)| Some(*lost) == group && *at_ms <= call.ended_ms && call.began_ms <= at_ms + MENDED_MS)
    }

    /// Faults of a process, without losses of data and of messages, which excuse no death.
    fn troubles_of(&self, process: Process) -> impl Iterator<Item = &Trouble> {
        let excuses = |kind| !matches!(kind, Kind::Loss | Kind::Deaf);
        self.troubles
            .iter()
            .filter(move |trouble| excuses(trouble.kind) && trouble.process.is_none_or(|of| of == process))
    }

    /// Whether the others have no reason to believe that a process is dead.
    fn is_healthy(&self, process: Process, at_ms: u64) -> bool {
        let away_ms: u64 = self
            .troubles_of(process)
            .filter(|trouble| trouble.from_ms <= at_ms)
            .map(|trouble| trouble.until_ms.min(at_ms + HARMLESS_MS) - trouble.from_ms)
            .sum();
        away_ms < HARMLESS_MS
    }

    /// Whether a process could not hear from Redis at this time, or only just has.
    fn is_cut_off(&self, process: Process, at_ms: u64) -> bool {
        self.troubles_of(process).any(|trouble| {
            trouble.kind == Kind::Cut && (trouble.from_ms..trouble.until_ms.saturating_add(HEARD_MS)).contains(&at_ms)
        })
    }

    /// Whether a process was dead for the others at `again_ms`, and Redis did not have its knowledge of `known_ms` before.
    fn died_before_it_was_written(&self, process: Process, known_ms: u64, again_ms: u64) -> bool {
        let mut written_ms = known_ms + WRITTEN_MS;
        for trouble in self.troubles_of(process).filter(|trouble| trouble.from_ms <= again_ms) {
            if trouble.from_ms > written_ms || trouble.until_ms.saturating_add(RETRIED_MS) < known_ms {
                continue;
            }
            let ends_it = trouble.until_ms > trouble.from_ms + HARMLESS_MS;
            if ends_it || !self.is_healthy(process, again_ms) && trouble.until_ms > trouble.from_ms {
                return true;
            }
            written_ms = written_ms.max(trouble.until_ms + RETRIED_MS);
        }
        false
    }

    /// Why another node may repeat a close that was answered at `settled_ms`, if it may.
    fn excuses_a_repeat(
        &self,
        opening: Option<&Opening>,
        first: &Post,
        settled_ms: u64,
        again: &Post,
    ) -> Option<Excuse> {
        if self.died_before_it_was_written(first.by, settled_ms, again.at_ms) {
            Some(Excuse::DiedWithAnAnswer)
        } else if self.crash(first.by).is_some_and(|crash| {
            self.has_loss(crash.saturating_sub(MENDED_MS), again.at_ms.min(crash + CLOSE_WITHIN_MS))
        }) {
            Some(Excuse::DiedWithALoss)
        } else if self.is_cut_off(again.by, again.at_ms) {
            Some(Excuse::CutOff)
        } else if opening.is_some_and(|opening| self.is_cut_off(opening.on, settled_ms)) {
            Some(Excuse::LateWrites)
        } else {
            let is_away = opening.is_some_and(|opening| self.losses_while_away(opening.on) > 0);
            is_away.then_some(Excuse::AwayDuringALoss)
        }
    }

    /// How often data was lost while a process was away for so long that it may have been declared dead.
    fn losses_while_away(&self, process: Process) -> usize {
        let is_long = |trouble: &&Trouble| {
            matches!(trouble.kind, Kind::Pause | Kind::Cut) && trouble.until_ms - trouble.from_ms > HARMLESS_MS
        };
        let lost = |away: &Trouble| {
            let is_within = |trouble: &&Trouble| {
                trouble.kind == Kind::Loss
                    && (away.from_ms.saturating_sub(MENDED_MS)..away.until_ms + HEARD_MS).contains(&trouble.from_ms)
            };
            self.troubles.iter().filter(is_within).count()
        };
        self.troubles_of(process).filter(is_long).map(lost).max().unwrap_or(0)
    }

    /// Whether all that was known of a tunnel may have been lost: in Redis, after its node had died and before another one had it.
    fn is_lost_with(&self, process: Process) -> bool {
        let Some(crash) = self.crash(process) else { return false };
        let from_ms = crash;
        // It could not write anything again before it died.
        let away =
            self.troubles_of(process).filter(|trouble| trouble.kind != Kind::Crash && trouble.until_ms >= from_ms);
        let from_ms =
            away.map(|trouble| trouble.from_ms).filter(|from| *from < crash).min().unwrap_or(from_ms).min(from_ms);
        self.has_loss(from_ms.saturating_sub(MENDED_MS), crash + CLOSE_WITHIN_MS)
    }
}

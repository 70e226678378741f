//! Business servers that fail in every way, beside a neighbour that must not be affected.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::yield_now;

use super::load::Load;
use super::load::Roster;
use super::logs::Logs;
use super::logs::What;
use super::scenario::Stage;
use super::seed::Seed;
use super::verdict::Verdict;
use super::verdict::judge;
use crate::support::Answer;
use crate::support::BusinessServer;
use crate::support::Early;
use crate::support::Event;
use crate::support::Gate;
use crate::support::KEY;
use crate::support::within;

/// How many messages pass to a business server and back, and how many of them meet a fault.
const LOAD: Load = Load {
    tunnels: 6,
    messages: 8,
    pushes: 8,
    bytes: 100,
    pace: Duration::from_millis(8),
    leaves: super::load::LEAVES,
};

/// Attempts stop for a second when a breaker opens; a little less on a clock read at the other end.
const PAUSE: Duration = Duration::from_millis(900);

/// Something that is wrong with a business server until it is repaired.
#[derive(Clone, Debug)]
struct Trouble {
    is_on: Arc<AtomicBool>,
    hits: Arc<AtomicU64>,
}

impl Trouble {
    /// Every attempt gets the fault returned by `pick`, or is accepted if there is none. The choice depends on the seed alone.
    fn new(server: &BusinessServer, roster: &Roster, seed: u64, pick: fn(&Event, &mut Seed) -> Option<Answer>) -> Self {
        let trouble = Self { is_on: Arc::new(AtomicBool::new(true)), hits: Arc::default() };
        let (shared, roster) = (trouble.clone(), roster.clone());
        let mut attempts = HashMap::<String, u64>::new();
        server.script(move |event| {
            let attempt = attempts.entry(event.id.clone()).or_default();
            *attempt += 1;
            let sequence = event.id.rsplit('_').next().and_then(|text| text.parse().ok()).unwrap_or_default();
            let mut seed = Seed(seed).of(&[roster.number(&event.tunnel), sequence, *attempt]);
            let answer = pick(event, &mut seed).filter(|_| shared.is_on.load(Ordering::Relaxed));
            if answer.is_some() {
                shared.hits.fetch_add(1, Ordering::Relaxed);
            }
            answer.unwrap_or(Answer::Accept)
        });
        trouble
    }

    fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Waits until so many attempts have met it.
    async fn has_hit(&self, hits: u64) {
        within("enough faults", async {
            while self.hits() < hits {
                yield_now().await;
            }
        })
        .await;
    }

    fn repair(&self) {
        self.is_on.store(false, Ordering::Relaxed);
    }
}

/// A run that is over.
struct Run {
    logs: Logs,
    verdict: Verdict,
}

impl Run {
    /// The run must be sound, and its log must contain these faults.
    fn assert(logs: Logs, words: &[&str]) -> Self {
        let verdict = judge(&logs);
        verdict.assert_sound();
        let given_up = logs.given_up.iter().map(|event| event.reason.as_str());
        let reasons: Vec<_> = logs.failures.iter().map(String::as_str).chain(given_up).collect();
        for words in words {
            assert!(reasons.iter().any(|reason| reason.contains(words)), "{words:?} is not among {reasons:?}");
        }
        Self { logs, verdict }
    }

    /// Nothing has been given up, and all that was surely sent has arrived.
    fn assert_complete(&self) {
        assert_eq!(self.verdict.up.given_up, 0);
        assert_eq!(self.verdict.up.delivered + self.verdict.up.cut_off, self.verdict.up.sent);
    }

    /// There was a time without attempts, as a breaker makes them.
    fn assert_pause(&self) {
        let troubled: HashSet<_> = self.logs.clients[..LOAD.tunnels].iter().map(|client| &client.tunnel).collect();
        let times = self.logs.attempts.iter().filter(|attempt| troubled.contains(&attempt.tunnel));
        let times: Vec<_> = times.map(|attempt| attempt.at).collect();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(longest.is_some_and(|longest| longest >= PAUSE), "{longest:?}");
    }
}

/// Runs a load into trouble; while it lasts, a neighbour's load must come through whole. It is repaired after `hits` faults.
async fn survive(stage: Stage, url: &str, trouble: &Trouble, hits: u64, load: Load, seed: u64) -> Logs {
    let troubled = {
        let (wafer, url, roster) = (stage.wafer.clone(), url.to_owned(), stage.roster.clone());
        tokio::spawn(async move { load.run(&wafer, &url, Seed(seed), &roster).await })
    };
    trouble.has_hit(1).await;

    let neighbours =
        Load::default().run(&stage.other, &stage.neighbour.url(), Seed(seed + 1), &Roster::default()).await;
    let closes = |events: &[Event]| events.iter().filter(|event| event.kind == "close").count();
    stage.neighbour.until(|events| closes(events) == neighbours.clients.len()).await;

    trouble.has_hit(hits).await;
    trouble.repair();
    let talk = troubled.await.expect("no panic").and(neighbours);
    stage.finish(talk).await
}

/// The usual: the first tenant's business server fails as `pick` says.
async fn run(
    settings: &[(&str, &str)],
    seed: u64,
    hits: u64,
    words: &[&str],
    pick: fn(&Event, &mut Seed) -> Option<Answer>,
) -> Run {
    let stage = Stage::with(settings).await;
    let trouble = Trouble::new(&stage.business, &stage.roster, seed, pick);
    let url = stage.business.url();
    Run::assert(survive(stage, &url, &trouble, hits, LOAD, seed).await, words)
}

#[tokio::test]
async fn errors_half_of_the_time() {
    for seed in 1..=2 {
        let flaky = run(&[], seed, 20, &["answered 500: oops", "answered 502"], |_, seed| {
            let status = [500, 502][seed.below(2) as usize];
            seed.percent(50).then_some(Answer::Status(status, "", "oops"))
        });
        let run = flaky.await;
        run.assert_complete();
        assert!(run.verdict.up.repeated > 5, "{:?}", run.verdict);
    }
}

#[tokio::test]
async fn servers_that_ask_for_patience() {
    let words = ["answered 429: slow down", "answered 503"];
    let run = run(&[], 1, 2, &words, |event, seed| match event.content.as_deref() {
        Some(text) if text.starts_with("2:") => match seed.below(4) {
            0 => Some(Answer::Status(429, "Retry-After: 1\r\n", "slow down")),
            1 => Some(Answer::Status(503, "Retry-After: 1\r\n", "")),
            _ => None,
        },
        _ => None,
    });
    run.await.assert_complete();
}

#[tokio::test]
async fn resets_after_the_work() {
    let run = run(&[], 1, 10, &["connection reset"], |_, seed| seed.percent(30).then_some(Answer::Reset));
    run.await.assert_complete();
}

#[tokio::test]
async fn resets_before_the_work() {
    let stage = Stage::with(&[]).await;
    let trouble = Trouble::new(&stage.business, &stage.roster, 1, |_, _| None);
    let (shared, mut seed) = (trouble.clone(), Seed(1));
    stage.business.script_early(move |_| {
        if !shared.is_on.load(Ordering::Relaxed) || !seed.percent(40) {
            return Early::Wait;
        }
        shared.hits.fetch_add(1, Ordering::Relaxed);
        Early::Reset
    });
    let url = stage.business.url();

    let logs = survive(stage, &url, &trouble, 10, LOAD, 1).await;

    let run = Run::assert(logs, &["connection reset"]);
    run.assert_complete();
    assert_eq!(run.verdict.up.repeated, 0, "nobody has seen the first attempts");
}

#[tokio::test]
async fn answers_before_the_body_is_read() {
    let stage = Stage::with(&[]).await;
    let trouble = Trouble::new(&stage.business, &stage.roster, 1, |_, _| None);
    let (shared, mut seed) = (trouble.clone(), Seed(1));
    stage.business.script_early(move |head| {
        if !shared.is_on.load(Ordering::Relaxed) || !seed.percent(50) {
            return Early::Wait;
        }
        shared.hits.fetch_add(1, Ordering::Relaxed);
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        // A truncated request never continues: only a refusal may be early then.
        let is_short = length.is_some_and(|length: usize| length < 8_000);
        Early::Answer(if is_short { Answer::Accept } else { Answer::Status(500, "", "too much") })
    });
    let (url, load) = (stage.business.url(), Load { bytes: 120_000, ..LOAD });

    let logs = survive(stage, &url, &trouble, 10, load, 1).await;

    Run::assert(logs, &["answered 500: too much"]).assert_complete();
}

#[tokio::test]
async fn answers_that_hang_behind_their_head() {
    let words = ["answered 200, but the rest cannot be read: no answer within 400 ms"];
    let run =
        run(&[("webhook.timeout_ms", "400")], 1, 3, &words, |_, seed| seed.percent(8).then_some(Answer::HeadOnly));
    assert_eq!(run.await.verdict.up.repeated, 0, "each was handled");
}

#[tokio::test]
async fn slow_answers() {
    let run = run(&[], 1, 30, &[], |_, seed| {
        let pauses = [5, 20, 60].map(Duration::from_millis);
        Some(Answer::After(pauses[seed.below(3) as usize]))
    });
    let run = run.await;
    run.assert_complete();
    assert_eq!(run.verdict.up.repeated, 0, "slow is not failed");
}

#[tokio::test]
async fn a_black_hole_opens_the_breaker() {
    // One at a time, so that ten have failed before the eleventh is sent.
    let settings = [("webhook.timeout_ms", "250"), ("webhook.max_in_flight_per_endpoint", "1")];
    let run = run(&settings, 1, 11, &["no answer within 250 ms"], |_, _| Some(Answer::BlackHole)).await;
    run.assert_complete();
    run.assert_pause();
}

#[tokio::test]
async fn unavailable_opens_the_breaker() {
    let run = run(&[], 1, 11, &["answered 503"], |_, _| Some(Answer::Status(503, "", ""))).await;
    run.assert_complete();
    run.assert_pause();
}

#[tokio::test]
async fn answers_without_end() {
    let words = ["answered 200, but the rest cannot be read: only its first 65536 bytes are read", "answered 500: xxx"];
    let run = run(&[], 1, 4, &words, |event, seed| {
        let status = [200, 500][seed.below(2) as usize];
        (event.kind == "message" && seed.percent(20)).then_some(Answer::Endless(status))
    });
    assert!(run.await.verdict.up.given_up > 0);
}

#[tokio::test]
async fn answers_that_refuse() {
    let words = [
        "answered 200 without JSON code 0: <html>",
        "answered 200 without JSON code 0: {\"code\":9003}",
        "answered 302: redirects are not followed",
        "answered 404: nobody",
    ];
    let run = run(&[], 1, 12, &words, |event, seed| {
        let answers = [
            Answer::Status(200, "", "<html>"),
            Answer::Status(200, "", "{\"code\":9003}"),
            Answer::Status(302, "Location: /elsewhere\r\n", ""),
            Answer::Status(404, "", "nobody"),
        ];
        // A proxy's response while its server is replaced is not final for a `close`.
        let answer = answers[seed.below(if event.kind == "close" { 2 } else { 4 }) as usize].clone();
        seed.percent(40).then_some(answer)
    });
    let run = run.await;
    assert!(run.verdict.up.given_up > 5, "{:?}", run.verdict);
    assert_eq!(run.verdict.up.repeated, 0, "no is no");
}

#[tokio::test]
async fn connections_that_close_when_they_are_used_again() {
    let run = run(&[], 1, 20, &["connection"], |_, seed| match seed.below(3) {
        0 => Some(Answer::AcceptAndClose),
        1 => Some(Answer::AcceptAndRace),
        _ => None,
    });
    let run = run.await;
    run.assert_complete();
    assert_eq!(run.verdict.up.repeated, 0, "what was accepted does not come again");
}

#[tokio::test]
async fn a_server_that_goes_down_and_comes_back() {
    let mut stage = Stage::with(&[]).await;
    let url = stage.business.url();
    let troubled = {
        let (wafer, url, roster) = (stage.wafer.clone(), url.clone(), stage.roster.clone());
        tokio::spawn(async move { LOAD.run(&wafer, &url, Seed(1), &roster).await })
    };
    stage.business.until(|events| events.len() > 10).await;

    stage.business.go_down().await;
    let neighbours = LOAD.run(&stage.other, &stage.neighbour.url(), Seed(2), &Roster::default()).await;
    let retries = async { while stage.gateway.metrics().await.sum("webhooks_total{", "retry") < 10.0 {} };
    within("ten failures", retries).await;
    let back = BusinessServer::at(&stage.business.address().to_string(), &[KEY]).await;
    stage.earlier.push(std::mem::replace(&mut stage.business, back));

    let talk = troubled.await.expect("no panic").and(neighbours);
    // Refused, reset or closed: by what each tunnel was doing at that moment.
    let run = Run::assert(stage.finish(talk).await, &["connection "]);
    run.assert_complete();
}

#[tokio::test]
async fn events_whose_time_is_over_are_given_up_and_those_behind_them_come() {
    let stage = Stage::with(&[("webhook.message_ttl_secs", "1")]).await;
    stage.business.script(|event| match event.content.as_deref() {
        Some(text) if text.starts_with("3:") => Answer::Status(500, "", ""),
        _ => Answer::Accept,
    });

    let talk = LOAD.run(&stage.wafer, &stage.business.url(), Seed(1), &stage.roster).await;

    let run = Run::assert(stage.finish(talk).await, &["its time is over", "answered 500"]);
    let poison = run.logs.given_up.iter().filter(|event| event.what() == What::Message(3)).count();
    assert!(poison >= 5, "{:?}", run.logs.given_up);
    assert!(run.logs.attempts.iter().any(|attempt| attempt.what == What::Close));
}

#[tokio::test]
async fn queues_stay_within_their_bytes_and_lose_nothing() {
    const INBOX_BYTES: u64 = 4_096;
    const READ_BYTES: u64 = 16 * 1_024;
    let stage = Stage::with(&[("tunnel.inbox_bytes", "4096")]).await;
    let gate = Gate::new();
    let held = gate.clone();
    stage.business.script(move |_| Answer::Gated(held.clone()));
    let load = Load { messages: 150, bytes: 2_000, pace: Duration::from_micros(500), ..LOAD };
    let troubled = {
        let (wafer, url, roster) = (stage.wafer.clone(), stage.business.url(), stage.roster.clone());
        tokio::spawn(async move { load.run(&wafer, &url, Seed(1), &roster).await })
    };

    let neighbours = LOAD.run(&stage.other, &stage.neighbour.url(), Seed(2), &Roster::default()).await;
    stage.neighbour.until(|events| events.iter().filter(|event| event.kind == "close").count() == 6).await;
    let queued = stage.gateway.metric("webhook_queue").await;
    gate.open();

    let most = load.tunnels as u64 * (3 + (INBOX_BYTES + READ_BYTES) / (load.bytes as u64 / 2));
    assert!(queued > 6.0 && queued <= most as f64, "{queued} of {} wait, at most {most} may", load.messages * 6);
    let talk = troubled.await.expect("no panic").and(neighbours);
    Run::assert(stage.finish(talk).await, &[]).assert_complete();
}

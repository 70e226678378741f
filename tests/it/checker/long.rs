//! Everything at once against a real process, for any duration: `WAFERGATE_CHECK_SECONDS=60`, and another
//! `WAFERGATE_CHECK_SEED` for another run.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::task::yield_now;
use tokio::time::Instant;
use tokio::time::interval;
use tokio::time::sleep_until;
use tokio_util::task::AbortOnDropHandle;

use super::clients::attack;
use super::clients::attacks;
use super::load::LEAVES;
use super::load::Load;
use super::load::Roster;
use super::load::Talk;
use super::logs::Leak;
use super::logs::Logs;
use super::logs::Rules;
use super::process::Process;
use super::resources::descriptors;
use super::resources::resident_kib;
use super::scenario::OTHER_KEY;
use super::scenario::counted;
use super::seed::Seed;
use super::table::Table;
use super::table::latency;
use super::verdict::judge;
use crate::support::Answer;
use crate::support::BusinessServer;
use crate::support::Event;
use crate::support::KEY;
use crate::support::Wafer;

const CONFIG: &str = r#"
[webhook]
allow_networks = ["127.0.0.0/8"]
timeout_ms = 1000
message_ttl_secs = 5
[log]
format = "json"
level = "warn,wafergate::webhook=debug" # every line about an event, also a repeated one
"#;

/// How long a business server is down in the middle of the run.
const DOWN: Duration = Duration::from_millis(500);

/// Extra message delay allowed on a busy machine.
const NOISE: Duration = Duration::from_millis(20);

/// Faults by kind, with how often they have been injected.
type Injected = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// A number from the environment.
pub(crate) fn settings<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// The answer to an attempt that a fault meets.
fn fault(seed: &mut Seed) -> (&'static str, Answer) {
    match seed.below(100) {
        0..20 => ("500", Answer::Status(500, "", "oops")),
        20..30 => ("503", Answer::Status(503, "", "")),
        30..35 => ("429 Retry-After", Answer::Status(429, "Retry-After: 1\r\n", "")),
        35..50 => ("reset", Answer::Reset),
        50..60 => ("close of a kept connection", Answer::AcceptAndClose),
        60..75 => ("keep-alive race", Answer::AcceptAndRace),
        75..90 => ("slow", Answer::After(Duration::from_millis(40))),
        90..92 => ("black hole", Answer::BlackHole),
        92..94 => ("hang behind the head", Answer::HeadOnly),
        94..96 => ("endless answer", Answer::Endless(500)),
        96..98 => ("redirect", Answer::Status(302, "Location: /\r\n", "")),
        _ => ("bad JSON", Answer::Status(200, "", "<html>")),
    }
}

/// Lets a quarter of the attempts fail while `is_on`.
fn trouble(server: &BusinessServer, roster: &Roster, seed: Seed, is_on: &Arc<AtomicBool>, injected: &Injected) {
    let (roster, is_on, injected) = (roster.clone(), Arc::clone(is_on), Arc::clone(injected));
    let mut attempts = HashMap::<String, u64>::new();
    server.script(move |event: &Event| {
        let attempt = attempts.entry(event.id.clone()).or_default();
        *attempt += 1;
        let sequence = event.id.rsplit('_').next().and_then(|text| text.parse().ok()).unwrap_or_default();
        let mut seed = seed.of(&[roster.number(&event.tunnel), sequence, *attempt]);
        if !is_on.load(Ordering::Relaxed) || !seed.percent(25) {
            return Answer::Accept;
        }
        let (kind, answer) = fault(&mut seed);
        *injected.lock().entry(kind).or_default() += 1;
        answer
    });
}

/// Results of each wave of the affected tenant.
const WAVE: Load =
    Load { tunnels: 18, messages: 20, pushes: 20, bytes: 400, pace: Duration::from_millis(40), leaves: LEAVES };

/// Results of each wave of the unaffected tenant.
const CALM_WAVE: Load = Load { tunnels: 6, messages: 40, pushes: 10, ..WAVE };

/// Puts one wave of load after the other on a tenant until `end`; with an attacker of each kind in every wave, if these are counted.
async fn waves(
    load: Load,
    wafer: Wafer,
    url: String,
    roster: Roster,
    seed: Seed,
    end: Instant,
    with_attacks: Option<Injected>,
) -> Talk {
    let mut talk = Talk::default();
    for wave in 0_u64.. {
        if Instant::now() >= end {
            break;
        }
        let mut attackers = JoinSet::new();
        if let Some(injected) = &with_attacks {
            for (kind, bytes, code) in attacks().into_iter().filter(|(_, _, code)| [1002, 1007, 1008].contains(code)) {
                let issued = wafer.issue(&url).await;
                *injected.lock().entry("hostile client").or_default() += 1;
                attackers.spawn(async move { (kind, code, attack(issued, bytes).await) });
            }
        }
        talk = talk.and(load.run(&wafer, &url, seed.of(&[wave]), &roster).await);
        for (kind, code, (log, got)) in attackers.join_all().await {
            assert_eq!(got, code, "{kind}");
            talk.clients.push(log);
        }
    }
    talk
}

/// Watches a process's memory; the highest value, in KiB, so far.
fn watch_memory(process: String) -> (Arc<AtomicU64>, AbortOnDropHandle<()>) {
    let peak = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&peak);
    let watching = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            shared.fetch_max(resident_kib(&process), Ordering::Relaxed);
        }
    });
    (peak, AbortOnDropHandle::new(watching))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_all_kinds_at_both_ends() {
    let total = Duration::from_secs(settings("WAFERGATE_CHECK_SECONDS", 2));
    let seed = Seed(settings("WAFERGATE_CHECK_SEED", 1));
    let tenants = [("127.0.0.1", KEY), ("127.0.0.2", OTHER_KEY)]
        .map(|(host, key)| format!("[[tenants]]\nserver_host = {host:?}\nkeys = [{key:?}]\nreceive_hosts = [\"*\"]\n"));
    let process = Process::start(&(CONFIG.to_owned() + &tenants.concat()));
    let mut business = BusinessServer::at("127.0.0.56:0", &[KEY]).await;
    let neighbour = BusinessServer::at("127.0.0.57:0", &[OTHER_KEY]).await;
    let (roster, injected, is_on) = (Roster::default(), Injected::default(), Arc::new(AtomicBool::new(false)));
    trouble(&business, &roster, seed, &is_on, &injected);
    let (memory_before, descriptors_before) = (resident_kib(&process.id()), descriptors(&process.id()));
    let (peak, watching) = watch_memory(process.id());

    let start = Instant::now();
    let (begins, ends, end) = (start + total / 4, start + total * 3 / 4, start + total);
    let wafer = Wafer::new(process.address, "127.0.0.1", KEY);
    let other = Wafer::new(process.address, "127.0.0.2", OTHER_KEY);
    let troubled = waves(WAVE, wafer, business.url(), roster.clone(), seed, end, Some(Arc::clone(&injected)));
    let troubled = tokio::spawn(troubled);
    let unaffected = waves(CALM_WAVE, other, neighbour.url(), Roster::default(), seed.of(&[1]), end, None);
    let unaffected = tokio::spawn(unaffected);
    sleep_until(begins).await;
    is_on.store(true, Ordering::Relaxed);
    sleep_until(start + total / 2).await;
    business.go_down().await;
    *injected.lock().entry("server down").or_default() += 1;
    sleep_until(Instant::now() + DOWN).await;
    let back = BusinessServer::at(&business.address().to_string(), &[KEY]).await;
    trouble(&back, &roster, seed, &is_on, &injected);
    sleep_until(ends).await;
    is_on.store(false, Ordering::Relaxed);

    let (mut talk, unaffected) = (troubled.await.expect("no panic"), unaffected.await.expect("no panic"));
    let neighbours: HashSet<_> = unaffected.clients.iter().map(|client| client.tunnel.clone()).collect();
    talk = talk.and(unaffected);
    process.until_zero("connections").await;
    process.until_zero("webhook_queue").await;
    drop(watching);
    let counted = counted(&process.metrics().await);
    let rules = Rules { timeout: Duration::from_secs(1), message_ttl: Duration::from_secs(5) };
    let given_up = process.given_up(counted.given_up).await;
    let mut logs = Logs { clients: talk.clients, pushes: talk.pushes, given_up, rules, ..Logs::default() };
    logs.counted = Some(counted);
    for server in [business, back, neighbour] {
        assert_eq!(server.violations(), Vec::<String>::new());
        logs.add_events(&server.events());
    }
    logs.leaks.extend(leak(&process.id(), descriptors_before).await);
    let memory_after = resident_kib(&process.id());
    process.end().await;

    let verdict = judge(&logs);
    println!("{}", Table { verdict: &verdict, injected: &injected.lock() });
    let memory = [memory_before, peak.load(Ordering::Relaxed), memory_after].map(|kib| kib / 1_024);
    println!("memory of the gateway: {} MiB before, {} at its peak, {} after", memory[0], memory[1], memory[2]);
    let is_during = |sent: Instant| sent >= begins && sent < ends;
    let calm = latency(&logs, |tunnel, sent| neighbours.contains(tunnel) && !is_during(sent));
    let during = latency(&logs, |tunnel, sent| neighbours.contains(tunnel) && is_during(sent));
    println!(
        "unaffected tenant, message to webhook: p50 {:?}, p99 {:?} in calm; p50 {:?}, p99 {:?} during",
        calm.0, calm.1, during.0, during.1
    );
    verdict.assert_sound();
    assert!(during.1 <= 2 * calm.1 + NOISE, "p99 {:?} instead of {:?}", during.1, calm.1);
    assert!(injected.lock().len() >= 10, "{injected:?}");
}

/// Descriptors that a process keeps although no client is connected.
async fn leak(process: &str, before: usize) -> Option<Leak> {
    let closed = async {
        while descriptors(process) > before {
            yield_now().await;
        }
    };
    let _ = tokio::time::timeout(crate::support::DEADLINE, closed).await;
    let after = descriptors(process);
    (after > before).then_some(Leak { what: "descriptors", before, after })
}

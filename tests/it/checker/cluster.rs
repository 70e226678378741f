//! Three nodes on one Redis, as real processes: clients and pushes through any of them, and trouble in the middle. What guarantee 13 allows
//! is written down here: which answers may say "not now", of what, and until when.
//!
//! `WAFERGATE_CHECK_SECONDS=60` makes `all_kinds_of_trouble_one_after_the_other` longer, and another `WAFERGATE_CHECK_SEED` makes it another.

use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep_until;

use super::connection::Excuse;
use super::connection::Way;
use super::load::LEAVES;
use super::load::Load;
use super::load::Roster;
use super::logs::Attempt;
use super::logs::Counted;
use super::logs::Logs;
use super::logs::What;
use super::process::Process;
use super::scenario::counted;
use super::seed::Seed;
use super::servers::Servers;
use super::verdict::Fault;
use super::verdict::Verdict;
use super::verdict::judge;
use crate::support::BusinessServer;
use crate::support::KEY;
use crate::support::Wafer;
use crate::support::within;

/// How many nodes there are.
pub(super) const NODES: usize = 3;

/// When the trouble begins, and how long it lasts.
const CALM: Duration = Duration::from_secs(1);
pub(super) const TROUBLE: Duration = Duration::from_secs(2);

/// Everything works again so soon after Redis, or a node, is back.
const HEALED: Duration = Duration::from_secs(10);

/// A dead node's tunnels are ended so soon after its death.
const ENDED: Duration = Duration::from_secs(20);

/// About four seconds of talk.
const LOAD: Load =
    Load { tunnels: 24, messages: 120, pushes: 120, bytes: 300, pace: Duration::from_millis(60), leaves: LEAVES };

/// The same for as long as trouble that outlasts a lease.
const LONG_LOAD: Load = Load { messages: 200, pushes: 200, pace: Duration::from_millis(70), ..LOAD };

/// Clients that come in the middle of the trouble.
const NEWCOMERS: Load = Load { tunnels: 9, messages: 40, pushes: 40, ..LOAD };

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// Redis is killed and comes back empty.
    RedisRestarts,
    /// Redis does not answer for a while.
    RedisHangs,
    /// The connections on which nodes hear each other are cut.
    BusCut,
    /// A node is killed.
    NodeKilled,
    /// A node stands still for a while that is shorter than its lease.
    NodeStops,
    /// Redis makes room: each key that the gateway keeps is lost, one after the other.
    KeysLost,
    /// Redis is killed and comes back as it was before the last node came.
    RedisRestored,
    /// The slots of all that the nodes keep move to another server of a Redis Cluster.
    SlotsMoved,
    /// A master whose place a replica has taken is back, and takes writes as if nothing had been.
    OldMaster,
    /// A replica takes the master's place that has not heard of the last two seconds.
    LaggingReplica,
    /// A replica takes the master's place; the old one takes writes of one node, and nothing else reaches it.
    OldMasterCutOff,
    /// One master of a Cluster without replicas comes back empty.
    PartEmpty,
    /// One master of a Cluster without replicas stands still for longer than a lease.
    PartStops,
    /// One master of a Cluster stands still until a replica has taken its place, and comes back.
    MasterStops,
}

const ALL: [Trouble; 14] = [
    Trouble::RedisRestarts,
    Trouble::RedisHangs,
    Trouble::BusCut,
    Trouble::NodeKilled,
    Trouble::NodeStops,
    Trouble::KeysLost,
    Trouble::RedisRestored,
    Trouble::SlotsMoved,
    Trouble::OldMaster,
    Trouble::LaggingReplica,
    Trouble::OldMasterCutOff,
    Trouble::PartEmpty,
    Trouble::PartStops,
    Trouble::MasterStops,
];

impl Trouble {
    /// The clients that are there before it, and those that come when it has begun.
    fn loads(self) -> (Load, Option<Load>) {
        match self {
            Self::OldMasterCutOff | Self::PartStops | Self::MasterStops => (LONG_LOAD, Some(NEWCOMERS)),
            Self::LaggingReplica | Self::PartEmpty => (LOAD, Some(NEWCOMERS)),
            _ => (LOAD, None),
        }
    }
}

/// When the trouble was, and its effects.
#[derive(Clone, Copy, Debug)]
struct Period {
    trouble: Trouble,
    start: Instant,
    began: Instant,
    /// When Redis, or the node, was back; when it was killed, if it never was.
    ended: Instant,
}

impl Period {
    /// Whether "not now" is allowed: only during the trouble or the recovery, and only for affected requests.
    fn allows(&self, excuse: &Excuse, logs: &Logs, way: &Way, troubled: usize, nodes: &[std::net::SocketAddr]) -> bool {
        let overlaps = |from: Instant, until: Instant| excuse.ended >= from && excuse.began <= until;
        let is_open = |tunnel: &String| {
            let client = logs.clients.iter().find(|client| client.tunnel == *tunnel);
            client.is_some_and(|client| excuse.began >= client.opened && excuse.ended <= client.open_until)
        };
        let is_push = !excuse.targets.is_empty();
        // A push to tunnels that are all open at the receiving node needs no other node.
        let is_local = excuse.targets.iter().all(|tunnel| is_open(tunnel) && way.dialled(tunnel) == Some(excuse.node));
        let code = if is_push { 50_302 } else { 50_301 };
        if excuse.code != code || is_push && is_local {
            return false;
        }
        match self.trouble {
            Trouble::RedisRestarts
            | Trouble::RedisHangs
            | Trouble::RedisRestored
            | Trouble::SlotsMoved
            | Trouble::OldMaster
            | Trouble::LaggingReplica
            | Trouble::OldMasterCutOff
            | Trouble::PartEmpty
            | Trouble::PartStops
            | Trouble::MasterStops => overlaps(self.began, self.ended + HEALED),
            // Redis itself is there.
            Trouble::BusCut | Trouble::KeysLost => is_push && overlaps(self.began, self.ended + HEALED),
            Trouble::NodeKilled | Trouble::NodeStops => {
                let end = if self.trouble == Trouble::NodeKilled { self.began + ENDED } else { self.ended + HEALED };
                let concerns = |tunnel: &String| !is_open(tunnel) || way.dialled(tunnel) == Some(nodes[troubled]);
                is_push && excuse.targets.iter().any(concerns) && overlaps(self.began, end)
            }
        }
    }
}

impl Period {
    /// An answer, for a person.
    fn describe(&self, excuse: &Excuse, logs: &Logs, way: &Way) -> String {
        let place = |tunnel: &String| {
            let client = logs.clients.iter().find(|client| client.tunnel == *tunnel).expect("it was opened");
            let since = |at: Instant| at.saturating_duration_since(self.start);
            format!(
                "{tunnel} at {:?}, open from {:?} to {:?}",
                way.dialled(tunnel),
                since(client.opened),
                since(client.open_until)
            )
        };
        let targets: Vec<_> = excuse.targets.iter().map(place).collect();
        let [began, ended, from, until] =
            [excuse.began, excuse.ended, self.began, self.ended].map(|at| at.saturating_duration_since(self.start));
        let Excuse { node, code, .. } = excuse;
        format!(
            "{node} said {code} from {began:?} to {ended:?} ({:?} from {from:?} to {until:?}) of {targets:?}",
            self.trouble
        )
    }
}

/// The result of a round.
struct Outcome {
    logs: Logs,
    verdict: Verdict,
    /// Answers that said "not now", and those among them that had no right to.
    excuses: usize,
    findings: Vec<String>,
}

impl Outcome {
    fn assert_sound(&self) {
        self.verdict.assert_sound();
        assert!(
            self.findings.is_empty(),
            "{} answers: {:#?}",
            self.findings.len(),
            &self.findings[..self.findings.len().min(8)]
        );
    }
}

fn config(redis: &str) -> String {
    format!(
        "[webhook]\nallow_networks = [\"127.0.0.0/8\"]\n[log]\nformat = \"json\"\nlevel = \"warn,wafergate::webhook=debug\"\n\
         [drain]\nwindow_secs = 0\n\
         [limits]\nmessages_per_sec_per_connection = 0\n[server]\nticket_key = \"thirty-two characters or more, on all nodes\"\n\
         [engine]\nkind = \"redis\"\nredis_url = {redis:?}\n[[tenants]]\nserver_host = \"127.0.0.1\"\nkeys = [{KEY:?}]\n"
    )
}

/// One load with one kind of trouble in its middle.
async fn round(trouble: Trouble, seed: Seed) -> Outcome {
    let mut redis = Servers::start(trouble).await;
    // This one has been there for long: in a new one nothing is called invalid for some seconds.
    redis.have_been_there_for_long().await;
    let business = BusinessServer::new().await;
    let start = Instant::now();
    let mut nodes: Vec<Option<Process>> = vec![];
    for place in 0..NODES {
        let node = Process::start(&config(&redis.url(trouble, place)));
        within("a node that is up", async { while node.metrics().await.value("engine_up") != 1.0 {} }).await;
        nodes.push(Some(node));
        if trouble == Trouble::RedisRestored && nodes.len() < NODES {
            // It knows nothing of the last node.
            redis.one().snapshot().await;
        }
    }
    let addresses: Vec<_> = nodes.iter().flatten().map(|node| node.address).collect();
    let way = Way::new(addresses.iter().map(|address| Wafer::new(*address, "127.0.0.1", KEY)).collect());
    let troubled = seed.of(&[0]).below(NODES as u64) as usize;

    let (load, newcomers) = trouble.loads();
    let talk = |load: Load, seed: Seed| {
        let (way, url) = (way.clone(), business.url());
        tokio::spawn(async move { load.run(&way, &url, seed, &Roster::default()).await })
    };
    let talking = talk(load, seed);
    business.until(|events| events.iter().filter(|event| event.kind == "connect").count() == load.tunnels).await;
    sleep_until(Instant::now() + CALM).await;
    let began = Instant::now();
    let coming = newcomers.map(|load| talk(load, seed.of(&[1])));
    match trouble {
        Trouble::NodeKilled => {
            way.take_out(troubled).await;
            nodes[troubled].take().expect("it is there").kill();
        }
        Trouble::NodeStops => {
            way.take_out(troubled).await;
            let node = nodes[troubled].as_ref().expect("it is there");
            node.signal("STOP");
            sleep_until(began + TROUBLE).await;
            node.signal("CONT");
            way.put_back(troubled);
        }
        _ => redis.meet(trouble, began, troubled).await,
    }
    let period = Period { trouble, start, began, ended: Instant::now() };

    let mut talk = talking.await.expect("no panic");
    let mut reused = vec![];
    if let Some(coming) = coming {
        talk = talk.and(coming.await.expect("no panic"));
        reused = way.reused().await;
    }
    let closes = |events: &[crate::support::Event]| events.iter().filter(|event| event.kind == "close").count();
    // Fewer are a finding, and not an error of the test.
    let _ = business.until_at(period.ended + ENDED, |events| closes(events) >= talk.clients.len()).await;
    let mut logs = Logs { clients: talk.clients, pushes: talk.pushes, ..Logs::default() };
    let mut sum = Counted::default();
    for node in nodes.into_iter().flatten() {
        node.until_zero("connections").await;
        node.until_zero("webhook_queue").await;
        let counted = counted(&node.metrics().await);
        logs.given_up.extend(node.given_up(counted.given_up).await);
        sum = Counted { given_up: sum.given_up + counted.given_up, closes: sum.closes + counted.closes };
        node.end().await;
    }
    if trouble == Trouble::NodeKilled {
        // The counters of a dead node are lost with it.
        for client in logs.clients.iter_mut().filter(|client| way.dialled(&client.tunnel) == Some(addresses[troubled]))
        {
            client.lost_at = Some(began);
            client.open_until = client.open_until.min(began);
        }
    } else {
        logs.counted = Some(sum);
    }
    assert_eq!(business.violations(), Vec::<String>::new());
    logs.add_events(&business.events());

    let all = way.excuses();
    let excuses = all.len();
    let unfounded = all.iter().filter(|excuse| !period.allows(excuse, &logs, &way, troubled, &addresses));
    let mut findings: Vec<_> = unfounded.map(|excuse| period.describe(excuse, &logs, &way)).collect();
    findings.extend(reused.into_iter().map(|tunnel| format!("{tunnel}: its connect URL opened it again")));
    Outcome { verdict: judge(&logs), logs, excuses, findings }
}

#[tokio::test]
async fn redis_is_restarted_under_load() {
    let outcome = round(Trouble::RedisRestarts, Seed(1)).await;

    outcome.assert_sound();
    assert!(outcome.excuses > 0, "it was away");
    assert_eq!(outcome.verdict.up.delivered + outcome.verdict.up.cut_off, outcome.verdict.up.sent);
}

#[tokio::test]
async fn redis_is_restored_from_a_snapshot_under_load() {
    let outcome = round(Trouble::RedisRestored, Seed(1)).await;

    outcome.assert_sound();
    assert!(outcome.excuses > 0, "it was away");
    assert_eq!(outcome.verdict.up.delivered + outcome.verdict.up.cut_off, outcome.verdict.up.sent);
}

#[tokio::test]
async fn slots_move_under_load() {
    let outcome = round(Trouble::SlotsMoved, Seed(1)).await;

    outcome.assert_sound();
    assert_eq!(outcome.logs.clients.iter().filter(|client| client.lost_at.is_some()).count(), 0);
}

#[tokio::test]
async fn an_old_master_takes_writes_under_load() {
    let outcome = round(Trouble::OldMaster, Seed(1)).await;

    outcome.assert_sound();
    assert_eq!(outcome.logs.clients.iter().filter(|client| client.lost_at.is_some()).count(), 0);
}

/// The trouble is Redis' alone: no tunnel is lost, and whatever clients say arrives.
async fn none_is_lost(trouble: Trouble) {
    let outcome = round(trouble, Seed(super::long::settings("WAFERGATE_CHECK_SEED", 1))).await;

    outcome.assert_sound();
    let Verdict { tunnels, up, down, .. } = outcome.verdict;
    println!("{trouble:?}: {tunnels} tunnels, to business {up:?}, to clients {down:?}, not now {}", outcome.excuses);
    assert_eq!(up.delivered + up.cut_off, up.sent);
}

#[tokio::test]
async fn a_replica_that_lags_takes_over_under_load() {
    none_is_lost(Trouble::LaggingReplica).await;
}

#[tokio::test]
async fn an_old_master_that_one_node_reaches_takes_writes_under_load() {
    none_is_lost(Trouble::OldMasterCutOff).await;
}

#[tokio::test]
async fn one_master_of_a_cluster_comes_back_empty_under_load() {
    none_is_lost(Trouble::PartEmpty).await;
}

#[tokio::test]
async fn one_master_of_a_cluster_stands_still_under_load() {
    none_is_lost(Trouble::PartStops).await;
}

#[tokio::test]
async fn one_master_of_a_cluster_is_replaced_and_returns_under_load() {
    none_is_lost(Trouble::MasterStops).await;
}

#[tokio::test]
async fn a_node_is_killed_under_load() {
    let outcome = round(Trouble::NodeKilled, Seed(1)).await;

    outcome.assert_sound();
    let mut bereft = 0;
    for client in outcome.logs.clients.iter().filter(|client| client.lost_at.is_some()) {
        bereft += 1;
        let is_close = |attempt: &&Attempt| attempt.tunnel == client.tunnel && attempt.what == What::Close;
        let close = outcome.logs.attempts.iter().find(is_close).expect("it is sound");
        assert!(client.lost_at.is_some_and(|lost_at| close.at < lost_at + ENDED), "{client:?}");
    }
    assert!(bereft > 0 && outcome.excuses > 0, "{bereft} of {} clients were there", LOAD.tunnels);
}

#[tokio::test]
async fn a_node_stands_still_under_load() {
    round(Trouble::NodeStops, Seed(1)).await.assert_sound();
}

#[tokio::test]
async fn each_key_of_the_nodes_is_lost_under_load() {
    let outcome = round(Trouble::KeysLost, Seed(1)).await;

    outcome.assert_sound();
    assert_eq!(outcome.logs.clients.iter().filter(|client| client.lost_at.is_some()).count(), 0);
}

#[tokio::test]
async fn what_a_cluster_must_not_do_is_found() {
    let Outcome { logs: sound, .. } = round(Trouble::BusCut, Seed(2)).await;
    assert_eq!(judge(&sound).findings, []);
    let tunnel = sound.clients.iter().find(|client| client.certain > 20).expect("one that says enough").tunnel.clone();
    let at = |logs: &Logs, what: What| {
        logs.attempts.iter().position(|attempt| attempt.tunnel == tunnel && attempt.what == what).expect("it came")
    };
    let client = |logs: &Logs| logs.clients.iter().position(|client| client.tunnel == tunnel).expect("it talked");

    // A second survivor tells of the end too, under the same id.
    let mut logs = sound.clone();
    let again = logs.attempts[at(&logs, What::Close)].clone();
    logs.attempts.push(again);
    logs.counted = None;
    assert_eq!(judge(&logs).faults().into_keys().collect::<Vec<_>>(), [Fault::SecondClose]);

    // A dead node takes the last messages with it, but none from the middle.
    let last = sound.clients[client(&sound)].sent.len() as u64;
    for (lost, faults) in [(last, vec![]), (10, vec![Fault::Lost])] {
        let mut logs = sound.clone();
        logs.attempts.remove(at(&logs, What::Message(lost)));
        let place = client(&logs);
        logs.clients[place].lost_at = Some(sound.attempts[at(&sound, What::Message(last))].at);
        assert_eq!(judge(&logs).faults().into_keys().collect::<Vec<_>>(), faults, "{lost} of {last}");
    }

    // A push that ended in an error may come once, and not twice.
    let mut logs = sound;
    let place = client(&logs);
    let number = logs.clients[place].received[0];
    for push in logs.pushes.iter_mut().filter(|push| push.tunnel == tunnel && push.number == number) {
        push.is_unknown = true;
    }
    assert_eq!(judge(&logs).findings, []);
    logs.clients[place].received.push(number);
    assert_eq!(judge(&logs).faults().into_keys().collect::<Vec<_>>(), [Fault::Repeated]);
}

/// The long form. Short, it is one round of the cheapest kind, so that it stays true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_kinds_of_trouble_one_after_the_other() {
    let total = Duration::from_secs(super::long::settings("WAFERGATE_CHECK_SECONDS", 0));
    let seed = Seed(super::long::settings("WAFERGATE_CHECK_SEED", 1));
    let start = Instant::now();
    for turn in 0.. {
        let trouble = ALL[(turn as usize + 1) % ALL.len()];
        let outcome = round(trouble, seed.of(&[turn])).await;
        let Verdict { tunnels, up, down, .. } = &outcome.verdict;
        println!(
            "{trouble:?}: {tunnels} tunnels, to business {up:?}, to clients {down:?}, not now {}",
            outcome.excuses
        );
        outcome.assert_sound();
        if start.elapsed() >= total {
            break;
        }
    }
}

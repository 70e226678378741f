//! The engines, as used by the gateway.

mod clock;
mod conformance;
mod group_index;
mod hang_up;
mod rights;
mod secure;
mod size;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;
use wafergate::clock::SystemClock;
use wafergate::engine::BeginResult;
use wafergate::engine::Claim;
use wafergate::engine::ClaimStore as _;
use wafergate::engine::Cluster as _;
use wafergate::engine::ClusterNode;
use wafergate::engine::ClusterUsage;
use wafergate::engine::Engine;
use wafergate::engine::EngineError;
use wafergate::engine::GroupIndex as _;
use wafergate::engine::Heir;
use wafergate::engine::IdempotencyStore as _;
use wafergate::engine::MemoryEngine;
use wafergate::engine::Record;
use wafergate::engine::RedisEngine;
use wafergate::engine::RedisSettings;
use wafergate::id::NodeId;
use wafergate::id::TunnelId;
use wafergate::metrics::Metrics;
use wafergate::protocol::close::CloseReason;
use wafergate::protocol::native::Audience;
use wafergate::protocol::native::Name;

use crate::support::Redis;
use crate::support::within;

/// A question that nothing else is answered beside.
const TAKES_ALL: &[u8] = b"takes all";

/// A question that takes longer than a node waits that does not say that it works on the answer.
const TAKES_LONG: &[u8] = b"takes long";

/// A request after whose response other tasks may run.
const TAKES_TIME: &[u8] = b"takes time";

/// A request whose response fails.
const FAILS: &[u8] = b"fails";

/// The default of `engine.redis_prefix`.
const PREFIX: &str = "wafergate";

#[tokio::test]
async fn memory_is_an_engine() {
    let engine = Engine::of(Arc::new(MemoryEngine::default()));

    conformance::run(&engine, &engine).await;
}

#[tokio::test]
async fn redis_is_an_engine() {
    let redis = Redis::start().await;
    let (here, there) = (Node::join(&redis.url()).await, Node::join(&redis.url()).await);

    conformance::run(&here.ports(), &there.ports()).await;
    conformance::run_shared(&here, &there, async |node| declare_dead(&redis, node).await).await;
}

#[tokio::test]
async fn redis_needs_a_password_where_it_has_one() {
    let redis = Redis::with(&["--requirepass", "p@ss"]).await;
    let here = Node::join(&format!("redis://:p%40ss@127.0.0.1:{}/0", redis.port)).await;

    conformance::run(&here.ports(), &here.ports()).await;
}

#[tokio::test]
async fn gateways_with_different_prefixes_do_not_see_each_other() {
    let redis = Redis::start().await;
    let (blue, green) = (Node::join_as(&redis.url(), "blue").await, Node::join_as(&redis.url(), "green").await);
    let leases = redis.command(&["ZRANGE", "green:{nodes}:leases", "0", "-1"]).await;
    let its_name = leases.lines().last().and_then(|line| line.parse::<NodeId>().ok()).expect("one node");

    let (tunnel, token) = (TunnelId::from_bytes([1; 16]), || rand::random::<[u8; 16]>());
    let life = Duration::from_secs(60);
    let group = Audience::Group(Name::new("room").expect("a name"));
    let _entered = blue.engine.announce("shop", &group).await.expect("told");
    for node in [&blue, &green] {
        within("it is said for sure", async { while node.engine.all_others().await.is_err() {} }).await;
        assert_eq!(node.engine.all_others().await, Ok(vec![]));
        assert_eq!(node.engine.claim(tunnel, token(), life).await, Ok(Claim::Granted));
        assert_eq!(node.engine.claim_nonce("{shop}:nonce", token(), life).await, Ok(Claim::Granted));
        assert_eq!(node.engine.begin("{shop}:call", token(), [1; 32], life, 0).await, Ok(BeginResult::First));
    }
    assert_eq!(green.engine.nodes_with("shop", &group).await, Ok(vec![]));
    assert_eq!(blue.engine.ask(its_name, "t", Bytes::new()).await, Err(EngineError::NotThere));

    let keys = redis.command(&["KEYS", "*"]).await;
    for prefix in ["blue", "green"] {
        assert!(keys.contains(&format!("{prefix}:claim:")), "{keys}");
    }
    let keys: Vec<_> = keys.lines().filter(|line| !line.starts_with(['$', '*'])).collect();
    assert!(keys.iter().all(|key| key.starts_with("blue:") || key.starts_with("green:")), "{keys:?}");
}

#[tokio::test]
async fn another_database_than_the_first_works_and_is_the_only_one_used() {
    let redis = Redis::start().await;
    let url = format!("{}/3", redis.url());
    let (here, there) = (Node::join(&url).await, Node::join(&url).await);

    here.meets_another().await;
    there.meets_another().await;
    conformance::run(&here.ports(), &there.ports()).await;

    let used = redis.command(&["INFO", "keyspace"]).await;
    assert!(used.contains("db3:") && !used.contains("db0:"), "{used}");
}

#[tokio::test]
async fn a_connect_url_that_is_given_back_is_good_again_soon_also_behind_others() {
    let redis = Redis::start().await;
    let (here, there) = (Node::join(&redis.url()).await, Node::join(&redis.url()).await);
    let life = Duration::from_secs(60);

    for number in 0..4 {
        let (tunnel, token) = (TunnelId::from_bytes([number; 16]), rand::random());
        assert_eq!(here.engine.claim(tunnel, token, life).await, Ok(Claim::Granted));
        here.engine.release(tunnel, token, life);

        let given_back =
            async { while there.engine.claim(tunnel, rand::random(), life).await != Ok(Claim::Granted) {} };
        let in_time = tokio::time::timeout(Duration::from_millis(500), given_back).await;
        assert!(in_time.is_ok(), "{number}: it waits for the second time that others are given back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_asked_too_much_stays_alive_and_answers_again() {
    const QUESTIONS: usize = 200;
    let redis = Redis::start().await;
    let (here, there) = (Node::join(&redis.url()).await, Node::join(&redis.url()).await);
    let other = here.meets_another().await;

    let asked = (0..QUESTIONS).map(|_| here.engine.ask(other, "t", Bytes::from_static(TAKES_ALL)));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().any(Result::is_err), "it is more than can be done in time");
    within("it answers again", async { while here.engine.ask(other, "t", Bytes::new()).await.is_err() {} }).await;

    // It would be given up by now if it had not renewed its lease.
    assert!(!there.member.is_cut_off());
    assert_eq!(here.engine.all_others().await, Ok(vec![other]));
    let done = there.member.asked.load(Ordering::Acquire);
    assert!(done < QUESTIONS / 2, "{done} questions were worked on, for most of them in vain");
}

#[tokio::test]
async fn a_node_that_works_on_an_answer_is_waited_for_and_answers_others_meanwhile() {
    let redis = Redis::start().await;
    let (here, _there) = (Node::join(&redis.url()).await, Node::join(&redis.url()).await);
    let other = here.meets_another().await;

    let mut long = pin!(here.engine.ask(other, "t", Bytes::from_static(TAKES_LONG)));
    let meanwhile = async {
        for _ in 0..10 {
            assert!(here.engine.ask(other, "t", Bytes::from_static(b"short")).await.is_ok());
        }
    };
    tokio::select! {
        biased;
        _ = &mut long => panic!("it takes long"),
        () = meanwhile => {}
    }

    assert_eq!(within("an answer", long).await.as_deref(), Ok(&b"you asked takes long"[..]));
}

#[tokio::test]
async fn a_node_works_on_so_many_answers_at_a_time_and_answers_what_it_knows_at_once_beside_them() {
    const QUESTIONS: usize = 400;
    let redis = Redis::start().await;
    let (here, there) = (Node::join(&redis.url()).await, Node::join(&redis.url()).await);
    let other = here.meets_another().await;

    let asked = (0..QUESTIONS).map(|_| here.engine.ask(other, "t", Bytes::from_static(TAKES_LONG)));
    let mut answers = pin!(futures_util::future::join_all(asked));
    let all_came = async {
        while there.member.asked.load(Ordering::Acquire) < QUESTIONS {
            tokio::task::yield_now().await;
        }
        here.engine.ask(other, "t", Bytes::from_static(b"short")).await
    };
    tokio::select! {
        biased;
        _ = &mut answers => panic!("they take long"),
        short = all_came => assert_eq!(short.as_deref(), Ok(&b"you asked short"[..])),
    }
    assert_eq!(there.member.working.load(Ordering::Acquire), 256);

    let answered = within("answers", answers).await.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(answered, 256);
    assert!(here.engine.ask(other, "t", Bytes::from_static(TAKES_LONG)).await.is_ok(), "there is room again");
}

/// Each tenant's questions wait behind its own only, on this side and on the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_asks_too_much_holds_up_no_other() {
    const QUESTIONS: usize = 1_000;
    let redis = Redis::start().await;
    let (here, there) = (Node::join(&redis.url()).await, Node::join(&redis.url()).await);
    let other = here.meets_another().await;

    let asked = (0..QUESTIONS).map(|_| here.engine.ask(other, "loud", Bytes::from_static(TAKES_TIME)));
    let mut flood = pin!(futures_util::future::join_all(asked));
    let quiet = async {
        within("the flood is answered", async {
            while there.member.asked.load(Ordering::Acquire) < 10 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            let begin = tokio::time::Instant::now();
            here.engine.ask(other, "quiet", Bytes::from_static(b"short")).await.expect("an answer");
            longest = longest.max(begin.elapsed());
        }
        longest
    };
    let longest = tokio::select! {
        biased;
        _ = &mut flood => panic!("it takes more time"),
        longest = quiet => longest,
    };

    assert!(longest < Duration::from_millis(400), "{longest:?}");
}

#[tokio::test]
async fn a_node_one_part_of_which_has_failed_ends_as_a_whole() {
    let redis = Redis::start().await;
    let node = Node::join(&redis.url()).await;
    node.member.is_broken.store(true, Ordering::Release);

    let ended = within("the end", node.running).await;

    assert!(ended.is_err_and(|error| error.is_panic()));
}

#[tokio::test]
async fn a_question_whose_answer_fails_harms_no_other_one() {
    let redis = Redis::start().await;
    let (here, _there) = (Node::join(&redis.url()).await, Node::join(&redis.url()).await);
    let other = here.meets_another().await;

    assert!(here.engine.ask(other, "t", Bytes::from_static(FAILS)).await.is_err());

    assert_eq!(here.engine.ask(other, "t", Bytes::from_static(b"next")).await.as_deref(), Ok(&b"you asked next"[..]));
}

/// Does the work of survivors when a node's lease has expired.
async fn declare_dead(redis: &Redis, node: NodeId) {
    let (leases, dead) = (format!("{PREFIX}:{{nodes}}:leases"), format!("{PREFIX}:{{nodes}}:dead"));
    assert_eq!(redis.command(&["ZADD", &dead, "9e15", &node.to_string()]).await, ":1\r\n");
    assert_eq!(redis.command(&["ZREM", &leases, &node.to_string()]).await, ":1\r\n");
}

/// A node that has joined, and runs as long as this lives.
struct Node {
    engine: Arc<RedisEngine>,
    member: Arc<Echo>,
    running: AbortOnDropHandle<()>,
}

impl Node {
    /// Waits until the engine is up.
    async fn join(url: &str) -> Self {
        Self::join_as(url, PREFIX).await
    }

    /// The same with this prefix.
    async fn join_as(url: &str, prefix: &str) -> Self {
        Self::start(url, "", prefix).joined().await
    }

    /// The same by Sentinels that want this password.
    async fn join_by(url: &str, sentinel_password: &str) -> Self {
        Self::start(url, sentinel_password, PREFIX).joined().await
    }

    async fn joined(self) -> Self {
        let node = self;
        within("the engine joins", async {
            while !node.engine.is_up() {
                tokio::task::yield_now().await;
            }
            node.engine.issues_good_urls().await;
        })
        .await;
        node
    }

    /// All of its ports.
    fn ports(&self) -> Engine {
        Engine::of(Arc::clone(&self.engine))
    }

    /// Waits until it reaches the only other one.
    async fn meets_another(&self) -> NodeId {
        within("they meet", async {
            loop {
                if let Ok([other]) = self.engine.all_others().await.as_deref()
                    && self.engine.ask(*other, "t", Bytes::new()).await.is_ok()
                {
                    return *other;
                }
            }
        })
        .await
    }

    fn start(url: &str, sentinel_password: &str, prefix: &str) -> Self {
        let (connect_ttl, clock) = (Duration::from_secs(60), Arc::new(SystemClock));
        let settings = RedisSettings { url, sentinel_password, prefix, ticket_key: b"key", connect_ttl, clock };
        let engine = RedisEngine::new(&settings, Metrics::default()).expect("a URL");
        let member = Arc::new(Echo::default());
        let running = tokio::spawn(Arc::clone(&engine).run(member.clone()));
        Self { engine, member, running: AbortOnDropHandle::new(running) }
    }
}

/// A gateway without tunnels that records what it receives.
#[derive(Default)]
struct Echo {
    asked: AtomicUsize,
    /// How many answers it has begun to work on and neither finished nor given up.
    working: Arc<AtomicUsize>,
    is_cut_off: AtomicBool,
    is_broken: AtomicBool,
    adopted: Mutex<Vec<(TunnelId, Option<CloseReason>)>>,
}

impl Echo {
    fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::Acquire)
    }

    fn adopted(&self) -> Vec<(TunnelId, Option<CloseReason>)> {
        self.adopted.lock().clone()
    }
}

/// Counts while it lives.
struct Work(Arc<AtomicUsize>);

impl Work {
    fn begin(working: &Arc<AtomicUsize>) -> Self {
        working.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(working))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl ClusterNode for Echo {
    fn answer(self: Arc<Self>, question: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        Box::pin(async move {
            match &question[..] {
                FAILS => panic!("an error of the test's own"),
                TAKES_ALL => std::thread::sleep(Duration::from_millis(100)),
                TAKES_TIME => std::thread::sleep(Duration::from_millis(20)),
                TAKES_LONG => {
                    let _work = Work::begin(&self.working);
                    tokio::time::sleep(Duration::from_millis(2_500)).await;
                }
                _ => {}
            }
            Some([b"you asked ", &question[..]].concat())
        })
    }

    fn flow_of(&self, question: &[u8]) -> Option<Arc<str>> {
        Some(if question == TAKES_TIME { "loud" } else { "t" }.into())
    }

    fn has_tunnels(&self, _tenant: &str, _audience: &Audience) -> bool {
        false
    }

    fn status(&self) -> String {
        assert!(!self.is_broken.load(Ordering::Acquire), "an error of the test's own");
        r#"{"t":1}"#.to_owned()
    }

    fn heard(&self, _usage: &ClusterUsage) {}

    fn heir(&self, _record: &Record) -> Heir {
        Heir::This
    }

    fn configuration(&self) -> u64 {
        0
    }

    fn adopt(&self, tunnel: TunnelId, record: Record) {
        self.adopted.lock().push((tunnel, record.closed.map(|closed| closed.reason)));
    }

    fn cut_off(&self) {
        self.is_cut_off.store(true, Ordering::Release);
    }
}

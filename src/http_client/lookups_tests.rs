//! Look-ups with a scripted resolver.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::*;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

/// Answers as many look-ups as allowed, by the first letter of the name; quick names at once.
#[derive(Clone)]
struct Scripted {
    allowed: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    started: Arc<AtomicUsize>,
}

impl Scripted {
    fn new() -> Self {
        Self { allowed: Arc::new(Semaphore::new(0)), running: Arc::default(), started: Arc::default() }
    }
}

#[async_trait]
impl Resolve for Scripted {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.started.fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::SeqCst);
        if !host.starts_with("quick") {
            self.allowed.acquire().await.expect("open").forget();
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        match host.as_bytes()[0] {
            b'e' => Ok(Vec::new()),
            b'x' => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
            b'p' => panic!("a resolver that panics"),
            _ => Ok(vec![ADDRESS]),
        }
    }
}

fn look_ups(scripted: &Scripted) -> Arc<LookUps> {
    LookUps::new(Arc::new(scripted.clone()), u64::MAX)
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name)
}

type Asked = tokio::task::JoinHandle<io::Result<Vec<IpAddr>>>;

fn ask_for(look_ups: &Arc<LookUps>, name: &str, host: &str) -> Asked {
    let look_ups = Arc::clone(look_ups);
    let (tenant, host) = (tenant(name), host.to_owned());
    tokio::spawn(async move { look_ups.find(&tenant, &host).await })
}

fn ask(look_ups: &Arc<LookUps>, host: &str) -> Asked {
    ask_for(look_ups, "t", host)
}

/// Lets every task run until all of them wait.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_name_server_is_given_up_at_the_deadline() {
    let scripted = Scripted::new();
    let started = tokio::time::Instant::now();

    let error = look_ups(&scripted).find(&tenant("t"), "a").await.expect_err("never answered");

    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "no answer within 5000 ms");
    assert_eq!(started.elapsed(), DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn look_ups_that_were_given_up_still_count_until_they_end() {
    let scripted = Scripted::new();
    let look_ups = look_ups(&scripted);
    let given_up: Vec<_> = (0..300).map(|number| ask(&look_ups, &format!("a{number}"))).collect();
    for asked in given_up {
        asked.await.expect("no panic").expect_err("never answered");
    }
    let running = scripted.running.load(Ordering::SeqCst);
    assert_eq!(running, usize::try_from(QUICK.each + SLOW.each).expect("few"), "its share of either");

    let later = ask(&look_ups, "a-later");
    settle().await;
    assert_eq!(scripted.running.load(Ordering::SeqCst), running);

    scripted.allowed.add_permits(1_000);
    assert_eq!(later.await.expect("no panic").expect("answered"), [ADDRESS]);
    assert_eq!(scripted.started.load(Ordering::SeqCst), running + 1, "the others were looked up for nobody");
    settle().await;
    let state = look_ups.0.state.lock();
    assert_eq!((state.running.len(), state.quick.held(), state.slow.held()), (0, 0, 0));
    assert_eq!((state.quick.takers_waiting(), state.slow.takers_waiting()), (0, 0));
}

/// 64 tenants with 200 dead names each, which retry for ever. A newcomer does not wait behind them.
#[tokio::test(start_paused = true)]
async fn dead_names_of_many_tenants_leave_places_for_others() {
    let scripted = Scripted::new();
    let look_ups = look_ups(&scripted);
    for loud in [vec!["loud".to_owned()], (0..64).map(|number| format!("dead{number}")).collect()] {
        let mut dead = tokio::task::JoinSet::new();
        for name in &loud {
            for number in 0..200 {
                let (look_ups, tenant, host) = (Arc::clone(&look_ups), tenant(name), format!("d{name}{number}"));
                dead.spawn(async move {
                    loop {
                        look_ups.find(&tenant, &host).await.expect_err("it is dead");
                    }
                });
            }
        }
        for round in 0..40 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let asked = tokio::time::Instant::now();

            let found = look_ups.find(&tenant("quiet"), &format!("quick{round}")).await;

            assert_eq!(found.expect("answered"), [ADDRESS]);
            assert_eq!(asked.elapsed(), Duration::ZERO, "round {round} beside {} tenants", loud.len());
        }
        let running = scripted.running.load(Ordering::SeqCst);
        assert!(running >= 64 && running as u64 <= QUICK.all + SLOW.all, "{running}");
        dead.shutdown().await;
        // Running look-ups end, and only their slowness is remembered.
        scripted.allowed.add_permits(scripted.running.load(Ordering::SeqCst));
        settle().await;
        assert_eq!(scripted.running.load(Ordering::SeqCst), 0);
    }
    tokio::time::advance(Duration::from_secs(600)).await;
    look_ups.sweep();
    let state = look_ups.0.state.lock();
    assert_eq!((state.running.len(), state.quick.held(), state.slow.held()), (0, 0, 0));
    assert_eq!(state.names.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_whose_name_servers_have_gone_silent_is_where_it_was() {
    let scripted = Scripted::new();
    let look_ups = look_ups(&scripted);
    scripted.allowed.add_permits(1);
    look_ups.find(&tenant("t"), "a").await.expect("answered");

    let asked = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(look_ups.find(&tenant("t"), "a").await.expect("as before"), [ADDRESS]);
    }
    assert_eq!(asked.elapsed(), 3 * PATIENCE);
    assert_eq!(scripted.started.load(Ordering::SeqCst), 2, "one look-up goes on");

    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(look_ups.find(&tenant("t"), "a").await.is_err(), "not for ever");
}

#[tokio::test]
async fn many_that_ask_for_one_name_share_one_look_up() {
    let scripted = Scripted::new();
    let look_ups = look_ups(&scripted);
    let asked = [(); 5].map(|()| ask(&look_ups, "a"));
    settle().await;

    scripted.allowed.add_permits(1);

    for asked in asked {
        assert_eq!(asked.await.expect("no panic").expect("answered"), [ADDRESS]);
    }
    assert_eq!(scripted.started.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_later_question_is_asked_again() {
    let scripted = Scripted::new();
    let look_ups = look_ups(&scripted);
    scripted.allowed.add_permits(2);

    look_ups.find(&tenant("t"), "a").await.expect("answered");
    settle().await;
    look_ups.find(&tenant("t"), "a").await.expect("answered");

    assert_eq!(scripted.started.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn failures_reach_everybody_who_asked() {
    let scripted = Scripted::new();
    let look_ups = look_ups(&scripted);
    scripted.allowed.add_permits(2);

    let unknown = look_ups.find(&tenant("t"), "x").await.expect_err("unknown");
    assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
    assert_eq!(unknown.to_string(), "no such name");
    let empty = look_ups.find(&tenant("t"), "e").await.expect_err("empty");
    assert_eq!(empty.to_string(), "the name has no address");
}

#[tokio::test]
async fn a_panic_leaves_nothing_behind() {
    let scripted = Scripted::new();
    let look_ups = look_ups(&scripted);
    scripted.allowed.add_permits(2);

    let error = look_ups.find(&tenant("t"), "p").await.expect_err("panicked");
    assert_eq!(error.to_string(), "the look-up was abandoned");
    settle().await;
    assert_eq!(look_ups.find(&tenant("t"), "a").await.expect("answered"), [ADDRESS]);
}

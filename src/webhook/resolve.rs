//! From a host's name to its addresses, bounded so that a dead name server costs nothing but its own look-ups.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::sync::watch;

/// Longest wait for one look-up.
const DEADLINE: Duration = Duration::from_secs(5);

/// Most look-ups at once, far below the threads that tokio keeps for blocking calls.
const MAX_IN_FLIGHT: usize = 64;

/// Finds the addresses of a host.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of `host`, a name without brackets or port; an error where there are none.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver: at most 5 s a look-up, at most 64 at once, one for each name.
pub type SystemResolver = Bounded<GetAddrInfo>;

impl SystemResolver {
    /// The operating system's resolver within its bounds.
    pub fn system() -> Self {
        Self::new(GetAddrInfo, MAX_IN_FLIGHT, DEADLINE)
    }
}

/// `getaddrinfo`, on a thread of its own, for as long as it takes.
#[derive(Clone, Copy, Debug)]
pub struct GetAddrInfo;

#[async_trait]
impl Resolve for GetAddrInfo {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Bounds another resolver: in time, in look-ups at once, and to one look-up for each name that many ask for.
#[derive(Debug)]
pub struct Bounded<R> {
    shared: Arc<Shared<R>>,
    deadline: Duration,
}

/// What a look-up found; `None` while it runs.
type Found = Option<Result<Vec<IpAddr>, Arc<io::Error>>>;

#[derive(Debug)]
struct Shared<R> {
    inner: R,
    permits: Semaphore,
    running: Mutex<HashMap<Arc<str>, watch::Sender<Found>>>,
}

impl<R: Resolve + 'static> Bounded<R> {
    /// Bounds `inner` to `max_in_flight` look-ups at once and every caller's wait to `deadline`.
    pub fn new(inner: R, max_in_flight: usize, deadline: Duration) -> Self {
        let shared = Arc::new(Shared { inner, permits: Semaphore::new(max_in_flight), running: Mutex::default() });
        Self { shared, deadline }
    }

    /// Joins the running look-up of `host`, or starts one.
    fn join(&self, host: &str) -> watch::Receiver<Found> {
        let mut running = self.shared.running.lock();
        if let Some(found) = running.get(host) {
            return found.subscribe();
        }
        let host: Arc<str> = host.into();
        let (found, receiver) = watch::channel(None);
        running.insert(Arc::clone(&host), found.clone());
        // A task, since a blocking look-up cannot be cancelled: its permit must outlive the callers that give up.
        tokio::spawn(look_up(Arc::clone(&self.shared), host, found));
        receiver
    }
}

#[async_trait]
impl<R: Resolve + 'static> Resolve for Bounded<R> {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut receiver = self.join(host);
        let found = match tokio::time::timeout(self.deadline, receiver.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.clone(),
            Ok(Err(_)) => None,
            Err(_) => {
                let words = format!("no answer within {} ms", self.deadline.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
        };
        match found {
            Some(Ok(addresses)) if addresses.is_empty() => {
                Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
            }
            Some(Ok(addresses)) => Ok(addresses),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error)),
            None => Err(io::Error::other("the look-up was abandoned")),
        }
    }
}

async fn look_up<R: Resolve>(shared: Arc<Shared<R>>, host: Arc<str>, found: watch::Sender<Found>) {
    let _leave = Leave { shared: &shared, host: &host };
    let Ok(_permit) = shared.permits.acquire().await else {
        return;
    };
    // Everybody may have given up while this waited for its permit.
    if found.receiver_count() > 0 {
        let result = shared.inner.resolve(&host).await;
        found.send_replace(Some(result.map_err(Arc::new)));
    }
}

/// Takes a look-up off the list, however it ends.
struct Leave<'a, R> {
    shared: &'a Shared<R>,
    host: &'a str,
}

impl<R> Drop for Leave<'_, R> {
    fn drop(&mut self) {
        self.shared.running.lock().remove(self.host);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    /// Answers as many look-ups as it has been allowed, by the name's first letter.
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
            self.allowed.acquire().await.expect("open").forget();
            self.running.fetch_sub(1, Ordering::SeqCst);
            match host.as_bytes()[0] {
                b'e' => Ok(Vec::new()),
                b'x' => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
                b'p' => panic!("a resolver that panics"),
                _ => Ok(vec![ADDRESS]),
            }
        }
    }

    fn bounded(scripted: &Scripted, max_in_flight: usize) -> Arc<Bounded<Scripted>> {
        Arc::new(Bounded::new(scripted.clone(), max_in_flight, DEADLINE))
    }

    fn ask(bounded: &Arc<Bounded<Scripted>>, host: &str) -> tokio::task::JoinHandle<io::Result<Vec<IpAddr>>> {
        let bounded = Arc::clone(bounded);
        let host = host.to_owned();
        tokio::spawn(async move { bounded.resolve(&host).await })
    }

    /// Lets every task run until all of them wait.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_system_resolver_knows_this_machine() {
        let found = SystemResolver::system().resolve("localhost").await.expect("localhost resolves");

        assert!(!found.is_empty());
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_name_server_is_given_up_at_the_deadline() {
        let scripted = Scripted::new();
        let started = tokio::time::Instant::now();

        let error = bounded(&scripted, 1).resolve("a").await.expect_err("never answered");

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "no answer within 5000 ms");
        assert_eq!(started.elapsed(), DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn look_ups_that_were_given_up_still_count_until_they_end() {
        let scripted = Scripted::new();
        let bounded = bounded(&scripted, 2);
        let given_up = ["a1", "a2", "a3"].map(|host| ask(&bounded, host));
        for asked in given_up {
            asked.await.expect("no panic").expect_err("never answered");
        }

        let later = ask(&bounded, "a4");
        settle().await;
        assert_eq!(scripted.running.load(Ordering::SeqCst), 2);

        scripted.allowed.add_permits(3);
        assert_eq!(later.await.expect("no panic").expect("answered"), [ADDRESS]);
        assert_eq!(scripted.started.load(Ordering::SeqCst), 3, "a3 was looked up for nobody");
        settle().await;
        assert!(bounded.shared.running.lock().is_empty());
    }

    #[tokio::test]
    async fn many_that_ask_for_one_name_share_one_look_up() {
        let scripted = Scripted::new();
        let bounded = bounded(&scripted, 8);
        let asked = [(); 5].map(|()| ask(&bounded, "a"));
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
        let bounded = bounded(&scripted, 8);
        scripted.allowed.add_permits(2);

        bounded.resolve("a").await.expect("answered");
        settle().await;
        bounded.resolve("a").await.expect("answered");

        assert_eq!(scripted.started.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn failures_reach_everybody_who_asked() {
        let scripted = Scripted::new();
        let bounded = bounded(&scripted, 8);
        scripted.allowed.add_permits(2);

        let unknown = bounded.resolve("x").await.expect_err("unknown");
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
        assert_eq!(unknown.to_string(), "no such name");
        let empty = bounded.resolve("e").await.expect_err("empty");
        assert_eq!(empty.to_string(), "the name has no address");
    }

    #[tokio::test]
    async fn a_panic_leaves_nothing_behind() {
        let scripted = Scripted::new();
        let bounded = bounded(&scripted, 1);
        scripted.allowed.add_permits(2);

        let error = bounded.resolve("p").await.expect_err("panicked");
        assert_eq!(error.to_string(), "the look-up was abandoned");
        settle().await;
        assert_eq!(bounded.resolve("a").await.expect("answered"), [ADDRESS]);
    }
}

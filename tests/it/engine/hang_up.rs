//! Clients that hang up during their handshake, at each place where it waits: nothing is left behind, and the URL stays valid.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use wafergate::clock::Clock;
use wafergate::clock::SystemClock;
use wafergate::config;
use wafergate::delivery::EventKind;
use wafergate::engine::ClaimStore as _;
use wafergate::engine::Cluster as _;
use wafergate::engine::Engine;
use wafergate::engine::RedisEngine;
use wafergate::engine::RedisSettings;
use wafergate::gateway::Gateway;
use wafergate::gateway::Parts;
use wafergate::gateway::Refusal;
use wafergate::http_client::Flights;
use wafergate::metrics::Metrics;
use wafergate::protocol::native::Name;
use wafergate::protocol::subprotocol::Offer;
use wafergate::protocol::ticket::About;
use wafergate::protocol::ticket::Sealer;
use wafergate::server::Descriptors;
use wafergate::timeline::Timeline;
use wafergate::webhook::EventQueue;
use wafergate::webhook::EventSink;

use crate::support::Redis;
use crate::support::within;

/// Takes events, and delivers none.
struct Nowhere;

impl EventSink for Nowhere {
    fn enqueue(&self, _inbox: &Arc<EventQueue>, _kind: EventKind, _now: Instant) {}
}

/// A gateway on Redis, which is not served.
pub(super) struct Door {
    pub(super) gateway: Arc<Gateway>,
    engine: Arc<RedisEngine>,
    redis: Arc<Redis>,
    _running: AbortOnDropHandle<()>,
}

impl Door {
    async fn new() -> Self {
        let door = Self::at(&Arc::new(Redis::start().await), Arc::new(SystemClock));
        door.is_up().await;
        door
    }

    /// On this Redis, which may not be there yet, and on a machine with this clock.
    pub(super) fn at(redis: &Arc<Redis>, clock: Arc<dyn Clock>) -> Self {
        let metrics = Metrics::default();
        let settings = RedisSettings {
            url: &redis.url(),
            sentinel_password: "",
            prefix: super::PREFIX,
            ticket_key: b"key",
            connect_ttl: Duration::from_secs(60),
            clock: Arc::clone(&clock),
        };
        let engine = RedisEngine::new(&settings, metrics.clone()).expect("a URL");
        let settings = [("TENANTS__0__SERVER_HOST", "shop.example"), ("TENANTS__0__KEYS", "a key of this test")];
        let variables = settings.map(|(name, value)| (format!("WAFERGATE__{name}"), value.to_owned()));
        let options = config::load(None, variables).expect("usable settings").options;
        let gateway = Arc::new(Gateway::new(Parts {
            options,
            sealer: Sealer::new(b"key"),
            engine: Engine::of(Arc::clone(&engine)),
            events: Arc::new(Nowhere),
            clock,
            ticket_clock: engine.clock(),
            random_id: rand::random,
            metrics,
            descriptors: Arc::new(Descriptors::of_this_process().expect("readable")),
            flights: Flights::unbounded(),
            sessions: None,
            timeline: Arc::new(Timeline::off()),
        }));
        let running = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&engine).run(gateway.clone())));
        Self { gateway, engine, redis: Arc::clone(redis), _running: running }
    }

    /// Waits until Redis has answered, and connect URLs are good.
    pub(super) async fn is_up(&self) {
        within("it is up", async {
            while !self.engine.is_up() {
                tokio::task::yield_now().await;
            }
            self.engine.issues_good_urls().await;
        })
        .await;
    }

    /// A connect URL of a tunnel with a group and a user.
    pub(super) async fn issue(&self) -> String {
        let tenant =
            self.gateway.tenants.tenant(&wafergate::protocol::text::md5_hex("shop.example")).expect("configured");
        let key = tenant.settings().keys[0].clone();
        let name = |name| Name::new(name).expect("a name");
        let about = About { user: Some(name("ann")), groups: vec![name("room")], ..About::default() };
        let issued = self
            .gateway
            .connect_urls
            .issue_as(&tenant, &key, "https://shop.example/", Some(about), None)
            .await
            .expect("issued");
        issued.path["/ws/".len()..].to_owned()
    }

    /// Waits until Redis has nothing about tunnels except the used connect URLs.
    async fn is_empty(&self) {
        for pattern in ["wafergate:{records:*", "wafergate:homes:*", "wafergate:{places:*", "wafergate:claim:*"] {
            within(pattern, async {
                while self.redis.command(&["KEYS", pattern]).await != "*0\r\n" {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
        }
    }
}

/// The outcome of `future`, unless it waits for the so-and-so-many-th time before.
async fn within_waits<T>(waits: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = waits;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        left = left.saturating_sub(1);
        if left == 0 { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

#[tokio::test]
async fn nothing_is_left_of_a_client_that_hangs_up_wherever_its_handshake_waits() {
    let door = Door::new().await;
    let mut waits = 0;
    loop {
        waits += 1;
        let ticket = door.issue().await;
        let admission = within_waits(waits, door.gateway.connect_urls.admit(&ticket, &Offer::default(), None)).await;
        let is_through = admission.is_some();
        drop(admission);
        door.is_empty().await;
        let again =
            within("it may come again", door.gateway.connect_urls.admit(&ticket, &Offer::default(), None)).await;
        assert!(again.is_ok(), "given up at wait {waits}: {:?}", again.err());
        drop(again);
        if is_through {
            break;
        }
    }
    // For its places, its claim and its record; more if a wait goes on.
    assert!(waits > 3, "it waited {waits} times: does this reach Redis?");
    door.is_empty().await;
}

/// A proxy tries the next node as soon as it has this refusal.
#[tokio::test]
async fn a_url_that_an_ending_node_refuses_is_good_at_the_next_one_wherever_the_handshake_waited() {
    let there = Door::new().await;
    let mut waits = 0;
    loop {
        waits += 1;
        let here = Door::at(&there.redis, Arc::new(SystemClock));
        here.is_up().await;
        let ticket = there.issue().await;
        let offer = Offer::default();
        let mut admission = pin!(here.gateway.connect_urls.admit(&ticket, &offer, None));
        if within_waits(waits, admission.as_mut()).await.is_some() {
            break;
        }
        let end = here.gateway.connections_ended(Duration::from_secs(5));
        let ((), refused) = within("the end", async { tokio::join!(end, admission) }).await;
        assert_eq!(refused.err(), Some(Refusal::Draining), "at wait {waits}");
        let elsewhere = there.gateway.connect_urls.admit(&ticket, &offer, None).await;
        assert!(elsewhere.is_ok(), "refused at wait {waits}: {:?}", elsewhere.err());
        here.gateway.leave_cluster().await;
    }
    assert!(waits > 3, "it waited {waits} times: does this reach Redis?");
}

#[tokio::test]
async fn many_clients_that_hang_up_leave_nothing() {
    let door = Door::new().await;
    for turn in 0..300_u64 {
        let ticket = door.issue().await;
        let patience = Duration::from_micros(turn * 5);
        let _ = tokio::time::timeout(patience, door.gateway.connect_urls.admit(&ticket, &Offer::default(), None)).await;
    }
    door.is_empty().await;
}

#[tokio::test]
async fn a_handshake_given_up_while_redis_hangs_does_not_burn_the_url() {
    let door = Door::new().await;
    let ticket = door.issue().await;
    door.redis.signal("STOP");
    assert!(
        within_waits(1, door.gateway.connect_urls.admit(&ticket, &Offer::default(), None)).await.is_none(),
        "it waits for Redis"
    );
    within("it is noticed", async {
        while door.engine.is_up() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    door.redis.signal("CONT");

    let opened = within("the same URL opens a tunnel", async {
        loop {
            match door.gateway.connect_urls.admit(&ticket, &Offer::default(), None).await {
                Err(Refusal::Used) => tokio::time::sleep(Duration::from_millis(20)).await,
                outcome => return outcome,
            }
        }
    });
    assert!(opened.await.is_ok());
}

//! The gateway under test: all shipped code but the sockets and the HTTP in front of `issue`, `admit` and `push`.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio::time::timeout;
use turmoil::net::TcpListener;
use turmoil::net::TcpStream;
use wafergate::clock::Clock;
use wafergate::config;
use wafergate::engine::Cluster as _;
use wafergate::engine::Engine;
use wafergate::engine::MemoryEngine;
use wafergate::engine::TunnelRegistry as _;
use wafergate::gateway::Connection;
use wafergate::gateway::Gateway;
use wafergate::gateway::Parts;
use wafergate::http_client::Flights;
use wafergate::http_client::client;
use wafergate::http_client::client::Client;
use wafergate::http_client::dial::Dial;
use wafergate::http_client::dial::Transport;
use wafergate::http_client::guard::Guard;
use wafergate::http_client::resolve::Resolve;
use wafergate::http_client::tls::Roots;
use wafergate::metrics::Metrics;
use wafergate::options::Options;
use wafergate::protocol::content::Profile;
use wafergate::protocol::subprotocol::Offer;
use wafergate::protocol::text::md5_hex;
use wafergate::protocol::ticket::Sealer;
use wafergate::protocol::wafer::PushAction;
use wafergate::protocol::wafer::PushPacket;
use wafergate::protocol::wafer::Target;
use wafergate::server::Descriptors;
use wafergate::tenant::Tenant;
use wafergate::timeline::Timeline;
use wafergate::webhook::Dispatcher;
use wafergate::webhook::DispatcherHooks;
use wafergate::ws;

use crate::drawn;
use crate::network;
use crate::socket::SimSocket;
use crate::world::Shared;

/// Where the gateway listens for clients: a line with a ticket, answered by a line, then WebSocket frames.
pub(crate) const DOOR: (&str, u16) = ("gateway", 80);

/// Where it listens for business servers: lines for `issue` and `push`.
pub(crate) const API: (&str, u16) = ("gateway", 81);

const WINDOW: Duration = Duration::from_secs(2);

/// One start of the gateway, as the judge sees it.
pub(crate) struct Node {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) dispatcher: Dispatcher,
    /// Every connection there ever was: none may be left.
    pub(crate) connections: Vec<Weak<Connection<SimSocket>>>,
}

/// The settings of all simulations: small queues and short times, so that their ends are met.
pub(crate) fn options(shops: &[IpAddr]) -> Options {
    let mut settings = vec![
        ("WEBHOOK__ALLOW_NETWORKS".to_owned(), "192.168.0.0/16".to_owned()),
        ("LIMITS__MESSAGES_PER_SEC_PER_CONNECTION".to_owned(), "0".to_owned()),
    ];
    for (number, shop) in shops.iter().enumerate() {
        settings.push((format!("TENANTS__{number}__SERVER_HOST"), shop.to_string()));
        settings.push((format!("TENANTS__{number}__KEYS"), format!("the key of shop number {number}")));
    }
    let settings = settings.into_iter().map(|(name, value)| (format!("WAFERGATE__{name}"), value));
    let mut options = config::load(None, settings).expect("usable settings").options;
    // Below the range allowed for operators.
    options.tunnel.heartbeat_secs = 2;
    options.webhook.timeout_ms = crate::oracle::TIMEOUT.as_millis() as u64;
    options.tunnel.inbox_bytes = 1_000;
    options.tunnel.outbox_bytes = 6_000;
    options.tunnel.outbox_age_secs = 4;
    options.tunnel.connect_ttl_secs = 5;
    options.webhook.message_ttl_secs = 300;
    options.webhook.max_in_flight_per_endpoint = 8;
    options
}

/// Runs the gateway; `shops` are the addresses of the business servers.
pub(crate) async fn run(shared: Rc<Shared>, shops: Rc<Vec<IpAddr>>) -> turmoil::Result {
    let options = options(&shops);
    let metrics = Metrics::default();
    let clock: Arc<dyn Clock> = Arc::new(SimClock);
    let engine = Arc::new(MemoryEngine::default());
    let client = Client::new(client::Settings {
        guard: Guard::of(&options.webhook),
        roots: Roots::Given(vec![]),
        resolver: Arc::new(NoNames),
        flights: Flights::unbounded(),
        dial: Arc::new(SimDial),
        wall_clock: Arc::new(|| UNIX_EPOCH + SimClock.unix_time()),
        lease_guard: Arc::clone(engine.lease_guard()),
    });
    let (settled, timeline) = (Arc::clone(&engine), Arc::new(Timeline::off()));
    let upkeep = DispatcherHooks {
        lease_guard: Arc::clone(engine.lease_guard()),
        settled: Box::new(move |tunnel| settled.unregister(tunnel)),
        timeline: Arc::clone(&timeline),
    };
    let dispatcher =
        Dispatcher::new(client, &options.webhook, Arc::clone(&clock), metrics.clone(), drawn::jitter, upkeep);
    let gateway = Arc::new(Gateway::new(Parts {
        options,
        sealer: Sealer::new(b"simulated"),
        engine: Engine::of(engine),
        events: Arc::new(dispatcher.clone()),
        ticket_clock: Arc::clone(&clock),
        clock,
        random_id: drawn::tunnel_id,
        metrics,
        descriptors: Arc::new(Descriptors::of_this_process()?),
        flights: Flights::unbounded(),
        sessions: None,
        timeline,
    }));
    let node = Node { gateway: Arc::clone(&gateway), dispatcher: dispatcher.clone(), connections: vec![] };
    shared.node.replace(Some(node));
    spawn_local({
        let gateway = Arc::clone(&gateway);
        async move { gateway.tunnels.idle_timeouts.run().await }
    });
    spawn_local({
        let gateway = Arc::clone(&gateway);
        let shared = Rc::clone(&shared);
        async move {
            shared.drain.notified().await;
            gateway.connect_urls.begin_drain();
            gateway.tunnels.release_sockets(WINDOW).await;
            gateway.connections_ended(Duration::from_secs(6)).await;
            dispatcher.flush(Instant::now() + Duration::from_secs(60)).await;
        }
    });

    let api = TcpListener::bind(("0.0.0.0", API.1)).await?;
    spawn_local({
        let (gateway, shops) = (Arc::clone(&gateway), Rc::clone(&shops));
        async move {
            while let Ok((stream, _)) = api.accept().await {
                spawn_local(serve_api(Arc::clone(&gateway), Rc::clone(&shops), stream));
            }
        }
    });
    let door = TcpListener::bind(("0.0.0.0", DOOR.1)).await?;
    loop {
        let (stream, _) = door.accept().await?;
        spawn_local(open(Rc::clone(&shared), Arc::clone(&gateway), stream));
    }
}

async fn open(shared: Rc<Shared>, gateway: Arc<Gateway>, mut stream: TcpStream) {
    let mut early = vec![];
    let Ok(Ok(ticket)) = timeout(Duration::from_secs(5), network::read_line(&mut stream, &mut early)).await else {
        return;
    };
    let Ok(admission) = gateway.connect_urls.admit(&ticket, &Offer::default(), None).await else {
        return;
    };
    if stream.write_all(b"ok\n").await.is_err() {
        return;
    }
    let connection = gateway.tunnels.attach(admission, Profile::Wafer, SimSocket::new(stream), Bytes::new());
    shared.journal.borrow_mut().attached(&connection.event_queue.tunnel.to_string());
    if let Some(node) = shared.node.borrow_mut().as_mut() {
        node.connections.push(Arc::downgrade(&connection));
    }
    let tasks = gateway.tunnels.tasks.clone();
    tasks.spawn(ws::serve(gateway, connection, early));
}

async fn serve_api(gateway: Arc<Gateway>, shops: Rc<Vec<IpAddr>>, mut stream: TcpStream) {
    let mut buffer = vec![];
    while let Ok(line) = network::read_line(&mut stream, &mut buffer).await {
        let answer = answer(&gateway, &shops, &line).await;
        if stream.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn answer(gateway: &Arc<Gateway>, shops: &[IpAddr], line: &str) -> String {
    let mut words = line.split(' ');
    let verb = words.next().unwrap_or_default();
    let shop: usize = words.next().and_then(|word| word.parse().ok()).expect("a shop's number");
    let tenant = tenant(gateway, shops[shop]);
    match verb {
        "issue" => {
            let key = tenant.settings().keys[0].clone();
            match gateway.connect_urls.issue(&tenant, &key, &format!("http://{}/shop/{shop}", shops[shop])).await {
                Ok(issued) => format!("{} {}", issued.tunnel, issued.path.trim_start_matches("/ws/")),
                Err(_) => "refused".to_owned(),
            }
        }
        "push" => {
            let targets = words.next().unwrap_or_default().split(',');
            let targets = targets.map(|id| Target::Tunnel(id.parse().expect("a tunnel id"))).collect();
            let action = match words.next() {
                Some(content) => PushAction::Message(content.to_owned()),
                None => PushAction::Close,
            };
            let invalid =
                gateway.pushes.push(tenant, vec![PushPacket { targets, action }]).await.expect("no limit is set");
            let invalid = invalid.iter().map(|target| match target {
                Target::Tunnel(id) => id.to_string(),
                Target::Foreign(text) => text.clone(),
            });
            format!("invalid {}", invalid.collect::<Vec<_>>().join(","))
        }
        other => panic!("no such verb: {other}"),
    }
}

/// The tenant with its business server at `shop`.
pub(crate) fn tenant(gateway: &Gateway, shop: IpAddr) -> Arc<Tenant> {
    gateway.tenants.tenant(&md5_hex(&shop.to_string())).expect("configured")
}

/// Simulated time.
#[derive(Debug)]
struct SimClock;

impl Clock for SimClock {
    fn unix_time(&self) -> Duration {
        turmoil::since_epoch().unwrap_or_default()
    }
}

/// The simulated network under the webhook client.
struct SimDial;

#[async_trait]
impl Dial for SimDial {
    async fn dial(&self, address: SocketAddr) -> io::Result<Transport> {
        let stream = TcpStream::connect(address).await?;
        Ok(Transport::Right(Box::new(stream)))
    }
}

/// Receive URLs are addresses here.
struct NoNames;

#[async_trait]
impl Resolve for NoNames {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        panic!("{host} is looked up")
    }
}

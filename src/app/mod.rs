//! Wiring: the one place that knows every part, builds them in order and ends them in order.

mod certificate_watch;
mod drain;
mod monotonic_clock;
mod process;
mod reload;
mod sessions;
mod sockets;
mod supervisor;

use std::net::SocketAddr;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::admin::Console;
use crate::admin::Hosts;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::engine::ClusterNode;
use crate::engine::Engine;
use crate::engine::MemoryEngine;
use crate::engine::RedisEngine;
use crate::engine::RedisSettings;
use crate::gateway::Gateway;
use crate::gateway::Parts;
use crate::http::Api;
use crate::http::Fallback;
use crate::http_client::Flights;
use crate::http_client::client;
use crate::http_client::client::Client;
use crate::http_client::dial::TcpDial;
use crate::http_client::guard::Guard;
use crate::http_client::resolve::Resolve;
use crate::http_client::resolve::SystemResolver;
use crate::http_client::tls::Roots;
use crate::lease_guard::LeaseGuard;
use crate::metrics::Metrics;
use crate::options;
use crate::options::EngineKind;
use crate::options::Options;
use crate::options::ProxyProtocol;
use crate::protocol::ticket::Sealer;
use crate::server::Certificate;
use crate::server::Descriptors;
use crate::server::Incident;
use crate::server::Listener;
use crate::server::Refusal;
use crate::server::Timeouts;
use crate::session_store::Store;
use crate::shutdown::Shutdown;
use crate::timeline::Timeline;
use crate::webhook::Dispatcher;
use crate::webhook::DispatcherHooks;
use crate::wechat::WeChat;
use monotonic_clock::MonotonicClock;
pub use process::node_name;
pub use reload::Prepared;
pub use reload::Reloaded;
pub use reload::Reloader;
pub use sessions::store;
pub use sessions::vault;
use sockets::Sockets;
use supervisor::Supervisor;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that this program was built from; empty if it is not known.
pub const COMMIT: &str = env!("WAFERGATE_COMMIT");

/// Time limit for the last requests once everything else has ended.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// One node, bound to its addresses.
pub struct App {
    gateway: Arc<Gateway>,
    dispatcher: Dispatcher,
    redis: Option<Arc<RedisEngine>>,
    certificate: Option<Arc<Certificate>>,
    public: Listener,
    admin: Listener,
    admin_hosts: Hosts,
    console: Arc<Console>,
    drain: options::Drain,
    /// The configuration, without its tenants.
    started_with: Options,
    shutdown: Shutdown,
}

/// External services that a node uses to reach business servers.
pub struct Outside {
    /// Certificate authorities trusted for https.
    pub roots: Roots,
    /// Resolver of host names.
    pub resolver: Arc<dyn Resolve>,
    /// WeChat; none: the servers at `session.wechat_url`.
    pub wechat: Option<Arc<dyn WeChat>>,
    /// The session store; none: the one at `session.store`.
    pub session_store: Option<Arc<dyn Store>>,
}

/// How a node ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// After a full drain.
    Drained,
    /// At once, on request.
    Stopped,
    /// After a drain, because a part of it failed.
    Failed,
}

impl App {
    /// Builds a node and binds its addresses; it serves requests only in [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If an address cannot be bound or a certificate cannot be used.
    pub async fn build(options: Options, shutdown: Shutdown) -> anyhow::Result<Self> {
        Self::build_with(options, shutdown, Outside::system()).await
    }

    /// Like [`build`](Self::build), on listening sockets that the service manager has bound; an address of the configuration that is
    /// not among them is bound.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), or if a socket has none of the addresses in the configuration.
    pub async fn build_on(sockets: Vec<TcpListener>, options: Options, shutdown: Shutdown) -> anyhow::Result<Self> {
        Self::assemble(sockets, options, shutdown, Outside::system()).await
    }

    /// Like [`build`](Self::build), with certificate authorities and a resolver of the caller.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub async fn build_with(options: Options, shutdown: Shutdown, outside: Outside) -> anyhow::Result<Self> {
        Self::assemble(vec![], options, shutdown, outside).await
    }

    async fn assemble(
        sockets: Vec<TcpListener>,
        mut options: Options,
        shutdown: Shutdown,
        outside: Outside,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics::default();
        let started_with = Options { tenants: vec![], ..options.clone() };
        options.server.node_name = process::node_name(&options.server);
        metrics.set_build(VERSION, COMMIT, &options.server.node_name);
        process::started(&metrics);
        let descriptors = Arc::new(Descriptors::of_this_process().context("cannot open a single file")?);
        tell_room(&descriptors, &options);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let redis = redis(&options, &clock, &metrics)?;
        let engine = match &redis {
            Some(redis) => Engine::of(Arc::clone(redis)),
            None => {
                metrics.engine_up.set(1);
                Engine::of(Arc::new(MemoryEngine::default()))
            }
        };
        let flights = flights(Arc::clone(&descriptors), metrics.clone());
        let lease_guard = Arc::clone(&engine.lease_guard);
        let sessions = sessions::build(&options, &outside, &clock, &flights, &metrics)?;
        let client = client(&options.webhook, outside, Arc::clone(&clock), lease_guard, flights.clone());
        let timeline = timeline(&options.timeline, clock.as_ref());
        let upkeep = upkeep(&engine, &timeline);
        let dispatcher =
            Dispatcher::new(client, &options.webhook, Arc::clone(&clock), metrics.clone(), rand::random, upkeep);
        let certificate = certificate_watch::load(&options.server, &clock)?;
        let server = &options.server;
        let mut sockets = Sockets::of(sockets, server)?;
        let public = listen(&mut sockets, server.listen, certificate.clone(), "server.listen", server, &metrics)?;
        let public = public.leaving_a_reserve(Arc::clone(&descriptors)).trusting(&server.trusted_proxies);
        let public = match server.proxy_protocol {
            ProxyProtocol::Off => public,
            ProxyProtocol::Required => public.with_proxy_protocol(&server.trusted_proxies),
        };
        let admin = listen(&mut sockets, server.admin_listen, None, "server.admin_listen", server, &metrics)?;
        let admin = admin.at_most(descriptors.for_operators());
        let admin_hosts = Hosts::new(&server.admin_hosts);
        let drain = options.drain.clone();
        metrics.configured(clock.unix_time().as_secs());
        // Without Redis, connect URLs are checked by this process only, with its own clock; with Redis other nodes check them
        // too, with the clock they share.
        let ticket_clock: Arc<dyn Clock> = redis
            .as_ref()
            .map_or_else(|| Arc::new(MonotonicClock::new(clock.as_ref())) as Arc<dyn Clock>, |redis| redis.clock());
        let gateway = Arc::new(Gateway::new(Parts {
            sealer: sealer(&options),
            options,
            engine,
            events: Arc::new(dispatcher.clone()),
            clock,
            ticket_clock,
            random_id: rand::random,
            metrics,
            descriptors,
            flights,
            sessions,
            timeline,
        }));
        let actor: Weak<Gateway> = Arc::downgrade(&gateway);
        if let Some(sessions) = gateway.sessions() {
            sessions.set_tunnels(actor.clone());
        }
        dispatcher.set_actor(actor);
        dispatcher.set_connectors(Arc::clone(&gateway.connectors));
        let rates = Arc::clone(dispatcher.rates());
        let console = Arc::new(Console::new(Arc::clone(&gateway), rates, &started_with, shutdown.clone()));
        Ok(Self {
            gateway,
            dispatcher,
            redis,
            certificate,
            public,
            admin,
            admin_hosts,
            console,
            drain,
            started_with,
            shutdown,
        })
    }

    /// The URL of the public listener.
    ///
    /// # Errors
    ///
    /// If the system does not return its address.
    pub fn url(&self) -> std::io::Result<String> {
        self.public.url()
    }

    /// The address of the public listener.
    ///
    /// # Errors
    ///
    /// If the system does not return it.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.public.address()
    }

    /// The URL of the admin listener.
    ///
    /// # Errors
    ///
    /// If the system does not return its address.
    pub fn admin_url(&self) -> std::io::Result<String> {
        self.admin.url()
    }

    /// The node's metrics, readable until the node ends, after its admin listener has closed.
    pub fn metrics(&self) -> Metrics {
        self.gateway.metrics.clone()
    }

    /// The state of this node in a few words.
    pub fn state(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let (gateway, dispatcher) = (Arc::clone(&self.gateway), self.dispatcher.clone());
        move || {
            let word = if gateway.connect_urls.is_draining() { "draining" } else { "serving" };
            format!("{word}: {} tunnels, {} events wait", gateway.tunnels.count(), dispatcher.pending())
        }
    }

    /// Returns the ServerHost of a tenant by its id, for the log.
    pub fn server_hosts(&self) -> impl Fn(&str) -> Option<String> + Send + Sync + use<> {
        let gateway = Arc::downgrade(&self.gateway);
        move |id| gateway.upgrade()?.tenants.server_host(id)
    }

    /// A handle that reloads this node's configuration while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            started_with: self.started_with.clone(),
            gateway: Arc::clone(&self.gateway),
            dispatcher: self.dispatcher.clone(),
            certificate: self.certificate.clone(),
            admin_hosts: self.admin_hosts.clone(),
            console: Arc::clone(&self.console),
        }
    }

    /// Serves until the end. Requests outside the gateway's API go to `fallback`; `dropped_log_lines` supplies a metric.
    pub async fn run(
        self,
        fallback: Option<Fallback>,
        dropped_log_lines: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Ended {
        let Self {
            gateway, dispatcher, redis, certificate, public, admin, admin_hosts, console, drain, shutdown, ..
        } = self;
        let stop = CancellationToken::new();
        let api = Arc::new(Api::new(Arc::clone(&gateway), fallback));
        let (shown, observed) = (certificate.clone(), Arc::clone(&gateway));
        let (page, ending) = (Arc::clone(&console), shutdown.clone());
        let admin_edge = Admin::new(Arc::clone(&gateway), ending, admin_hosts, page, move |metrics| {
            metrics.set_log_lines_dropped(dropped_log_lines());
            observed.observe();
            process::observe(metrics);
            if let Some(seconds) = shown.as_ref().and_then(|certificate| certificate.seconds_left()) {
                metrics.set_certificate_expiry(seconds);
            }
        });
        let others = redis.is_some();
        let member: Arc<dyn ClusterNode> = gateway.clone();
        let mut supervisor = Supervisor::default();
        if let Some(redis) = redis {
            supervisor.over("among the other nodes", redis.run(member));
        }
        if let Some(sessions) = gateway.sessions() {
            supervisor.over("session upkeep", Arc::clone(sessions).run());
        }
        supervisor.over("console", Arc::clone(&console).run());
        let (tunnels, timeline) = (Arc::clone(&gateway.tunnels), Arc::clone(&gateway.timeline));
        supervisor.over("silence watch", async move { tunnels.idle_timeouts.run().await });
        supervisor.over("timeline upkeep", Arc::clone(&gateway).keep_timelines());
        if let Some(certificate) = certificate {
            supervisor.over("certificate watch", certificate_watch::watch(certificate, certificate_watch::tell));
        }
        let mut listeners = Supervisor::default();
        listeners.over("public listener", public.run(api, stop.clone()));
        listeners.over("admin listener", admin.run(Arc::new(admin_edge), stop.clone()));

        let mut drained = pin!(drain::when_told(&gateway, &dispatcher, &drain, others, &shutdown));
        let ended = tokio::select! {
            () = &mut drained => Ended::Drained,
            () = shutdown.hard.cancelled() => Ended::Stopped,
            part = supervisor.ended() => in_order(part, &mut drained, &shutdown).await,
            part = listeners.ended() => in_order(part, &mut drained, &shutdown).await,
        };
        // Those who watch have seen the end by now.
        timeline.close();
        stop.cancel();
        console.close();
        if ended != Ended::Stopped {
            // Slower requests are cut off when the process ends.
            let _ = tokio::time::timeout(LAST_REQUESTS, listeners.all_ended()).await;
        }
        ended
    }
}

/// Drains this node because a part that must not end has ended.
async fn in_order(part: &str, drained: &mut (impl Future<Output = ()> + Unpin), shutdown: &Shutdown) -> Ended {
    tracing::error!(
        part,
        "a part of the gateway that must not end has ended: this process drains and ends, start another one"
    );
    shutdown.soft.cancel();
    tokio::select! {
        () = drained => Ended::Failed,
        () = shutdown.hard.cancelled() => Ended::Stopped,
    }
}

impl Outside {
    /// The operating system's certificate authorities and resolver.
    pub fn system() -> Self {
        Self { roots: Roots::System, resolver: Arc::new(SystemResolver), wechat: None, session_store: None }
    }
}

/// Bounds concurrent requests by the descriptors that open tunnels leave.
fn flights(descriptors: Arc<Descriptors>, metrics: Metrics) -> Flights {
    Flights::within(move || {
        let tunnels = u64::try_from(metrics.connections.get()).unwrap_or(0);
        descriptors.room_for_requests(tunnels)
    })
}

fn client(
    options: &options::Webhook,
    outside: Outside,
    clock: Arc<dyn Clock>,
    lease_guard: Arc<LeaseGuard>,
    flights: Flights,
) -> Client {
    let client = Client::new(client::Settings {
        guard: Guard::of(options),
        roots: outside.roots,
        resolver: outside.resolver,
        dial: Arc::new(TcpDial),
        wall_clock: Arc::new(move || std::time::UNIX_EPOCH + clock.unix_time()),
        lease_guard,
        flights,
    });
    if !client.has_roots() {
        tracing::warn!(
            "no root certificates found, https receive URLs will fail: install ca-certificates or set SSL_CERT_FILE"
        );
    }
    client
}

/// Logs how many tunnels fit into this process, and warns if the configuration allows more.
fn tell_room(descriptors: &Descriptors, options: &Options) {
    let (limit, tunnels) = (descriptors.limit(), descriptors.tunnels());
    tracing::info!(descriptors = limit, tunnels, "tunnel capacity from the open-file limit");
    let promised = std::iter::once(options.limits.connections)
        .chain(options.tenants.iter().filter_map(|tenant| tenant.limits.connections));
    if let Some(connections) = promised.max().filter(|connections| *connections > tunnels) {
        tracing::warn!(
            connections,
            descriptors = limit,
            tunnels,
            "limits.connections is more than this process may open: raise its limit of open files",
        );
    }
}

/// Listens on the socket that the service manager keeps at this address, or else binds it.
fn listen(
    sockets: &mut Sockets,
    address: SocketAddr,
    certificate: Option<Arc<Certificate>>,
    key: &str,
    server: &options::Server,
    metrics: &Metrics,
) -> anyhow::Result<Listener> {
    let timeouts = Timeouts {
        tls_handshake: server.tls_handshake_timeout(),
        header: server.header_timeout(),
        keep_alive: server.keep_alive(),
    };
    let metrics = metrics.clone();
    Refusal::ALL.iter().for_each(|refusal| metrics.refusable(refusal.code()));
    let on_incident = move |incident| match incident {
        Incident::AcceptFailed => metrics.accept_error(),
        Incident::Refused(refusal) => metrics.refused(refusal.code()),
    };
    if let Some(socket) = sockets.take(address) {
        tracing::info!(key, %address, "listening on a socket of the service manager: what connects during a restart waits");
        return Listener::inherit(socket, certificate, timeouts, on_incident)
            .with_context(|| format!("cannot use the socket of the service manager at {key} = \"{address}\""));
    }
    Listener::bind(address, certificate, timeouts, on_incident).with_context(|| {
        format!("cannot listen on {key} = \"{address}\" (is another program there? port 0 takes a free one)")
    })
}

/// The Redis engine, if it is configured.
fn redis(options: &Options, clock: &Arc<dyn Clock>, metrics: &Metrics) -> anyhow::Result<Option<Arc<RedisEngine>>> {
    if options.engine.kind == EngineKind::Memory {
        return Ok(None);
    }
    let settings = RedisSettings {
        url: options.engine.redis_url.expose(),
        sentinel_password: options.engine.sentinel_password.expose(),
        prefix: &options.engine.redis_prefix,
        ticket_key: options.server.ticket_key.expose().as_bytes(),
        connect_ttl: options.tunnel.connect_ttl(),
        clock: Arc::clone(clock),
    };
    Ok(Some(RedisEngine::new(&settings, metrics.clone()).context("engine.redis_url")?))
}

/// The records of this node, with a ring for each worker.
fn timeline(options: &options::Timeline, clock: &dyn Clock) -> Arc<Timeline> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Timeline::new(options.bytes, workers, clock.unix_time()))
}

fn upkeep(engine: &Engine, timeline: &Arc<Timeline>) -> DispatcherHooks {
    let registry = Arc::clone(&engine.registry);
    DispatcherHooks {
        lease_guard: Arc::clone(&engine.lease_guard),
        settled: Box::new(move |tunnel| registry.unregister(tunnel)),
        timeline: Arc::clone(timeline),
    }
}

/// The memory engine forgets at its end which connect URLs were used, so with it they are valid for one process only.
fn sealer(options: &Options) -> Sealer {
    let mut key = options.server.ticket_key.expose().as_bytes().to_vec();
    if options.engine.kind == EngineKind::Memory {
        key.extend(rand::random::<[u8; 32]>());
    }
    Sealer::new(&key)
}

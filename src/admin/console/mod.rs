//! The console: a page for operators that shows what this node does and why something fails, and the calls behind it.

mod actions;
mod assets;
mod endpoints;
mod entry;
mod live;
mod pulse;
mod query;
mod records;
mod reply;
mod sessions;
mod tenants;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use self::assets::FILES;
use self::endpoints::Order;
use self::endpoints::Update;
use self::entry::Entry;
use self::live::Live;
use self::live::fitted;
use self::pulse::Moment;
use self::pulse::Pulse;
use self::pulse::Series;
use self::query::Query;
use self::records::News;
use self::records::Words;
use self::reply::Refused;
use self::reply::json;
use crate::fair_semaphore::FairSemaphore;
use crate::gateway::Gateway;
use crate::gateway::Inspected;
use crate::gateway::Sought;
use crate::id::TunnelId;
use crate::options;
use crate::options::EngineKind;
use crate::options::Options;
use crate::page;
use crate::server::Peer;
use crate::server::PendingReply;
use crate::server::Reply;
use crate::server::ReplyBody;
use crate::server::RequestBody;
use crate::server::Source;
use crate::shutdown::Shutdown;
use crate::timeline::Filter;
use crate::timeline::Origin;
use crate::timeline::Watch;
use crate::webhook::Rates;

/// Pages with a stream at a time.
const MAX_STREAMS: usize = 16;
/// Tunnels on a page of a search.
const FOUND: usize = 50;
/// Tunnels in the list of slow ones.
const SLOW: usize = 20;
const MAX_SLOW: usize = 100;
/// How often, in seconds, figures are read that take long, while a page is open.
const OBSERVED_EVERY: u64 = 5;

/// The console of a node.
pub struct Console {
    gateway: Arc<Gateway>,
    rates: Arc<Rates>,
    settings: ArcSwap<options::Console>,
    engine: &'static str,
    max_pending: u64,
    shutdown: Shutdown,
    closing: CancellationToken,
    entry: Entry,
    pulse: Pulse,
    streams: Arc<Semaphore>,
    turns: FairSemaphore<Source>,
}

/// What the first page shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Overview {
    node: String,
    version: &'static str,
    commit: &'static str,
    engine: &'static str,
    started_unix_secs: i64,
    can_write: bool,
    pulse: Moment,
    seconds: Series,
    minutes: Series,
    unused_connect_urls: i64,
}

/// One frame of a stream.
#[derive(Serialize)]
struct Frame {
    pulse: Moment,
    /// Frames that were left out since the last one.
    skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<Update>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<Inspected>,
    #[serde(skip_serializing_if = "Option::is_none")]
    news: Option<News>,
}

/// What a page wants to see beside the figures of the node.
enum View {
    Now,
    Endpoints(Order),
    Tunnel(TunnelId),
    /// Records as they are written.
    Tail,
}

/// Whether a path is the console's.
pub(super) fn is_of(path: &str) -> bool {
    path == "/console" || path.starts_with("/console/")
}

impl Console {
    /// The console of `gateway`, which is off without a token. `rates` are measured while it is on.
    pub fn new(gateway: Arc<Gateway>, rates: Arc<Rates>, options: &Options, shutdown: Shutdown) -> Self {
        let console = Self {
            entry: Entry::new(gateway.metrics.clone()),
            gateway,
            rates,
            settings: ArcSwap::from_pointee(options.console.clone()),
            engine: match options.engine.kind {
                EngineKind::Memory => "memory",
                EngineKind::Redis => "redis",
            },
            max_pending: u64::try_from(options.webhook.max_pending_closes).unwrap_or(u64::MAX),
            shutdown,
            closing: CancellationToken::new(),
            pulse: Pulse::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            turns: FairSemaphore::of_processors(),
        };
        console.rates.set_on(console.is_on());
        console
    }

    /// Takes over other settings. Another token ends all sessions.
    pub fn reload(&self, options: &options::Console) {
        let before = self.settings.swap(Arc::new(options.clone()));
        if !before.token.matches(options.token.expose()) {
            self.entry.close_all();
        }
        self.rates.set_on(self.is_on());
    }

    /// Reads the counters once a second, forever.
    pub async fn run(self: Arc<Self>) {
        let start = Instant::now();
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            if !self.is_on() {
                self.pulse.rest();
                continue;
            }
            let second = start.elapsed().as_secs();
            self.rates.tick(second);
            self.pulse.tick(&self.gateway, second);
            if self.streams.available_permits() < MAX_STREAMS && second.is_multiple_of(OBSERVED_EVERY) {
                self.gateway.observe();
            }
        }
    }

    /// Ends all streams.
    pub fn close(&self) {
        self.closing.cancel();
    }

    fn is_on(&self) -> bool {
        !self.settings.load().token.is_empty()
    }

    /// Answers one request below `/console`.
    pub(super) fn handle(self: Arc<Self>, request: Request<RequestBody>, peer: Peer) -> PendingReply {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let mut reply =
                self.answer(&head, body, peer).await.unwrap_or_else(|refused| Response::from(refused).into());
            page::protect(reply.response.headers_mut());
            reply
        })
    }

    async fn answer(self: Arc<Self>, head: &Parts, body: RequestBody, peer: Peer) -> Result<Reply, Refused> {
        if !self.is_on() {
            let message = "the console is off: set console.token (or console.token_file) and send SIGHUP";
            return Err(Refused(StatusCode::NOT_FOUND, "console_off", message.to_owned()));
        }
        let Some(rest) = head.uri.path().strip_prefix("/console/") else {
            return Ok(redirect().into());
        };
        if let Some(call) = rest.strip_prefix("api/") {
            return self.call(call, head, body, peer).await;
        }
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return Err(wrong_method());
        }
        let not_there = || Refused(StatusCode::NOT_FOUND, "not_found", "the console has no such file".to_owned());
        FILES.serve(rest, &head.headers).map(Reply::from).ok_or_else(not_there)
    }

    /// Answers a call of the page.
    async fn call(self: Arc<Self>, call: &str, head: &Parts, body: RequestBody, peer: Peer) -> Result<Reply, Refused> {
        let is_change = head.method == Method::POST;
        if is_change {
            entry::is_own(&head.headers)?;
        } else if head.method != Method::GET {
            return Err(wrong_method());
        }
        if is_change && call == "login" {
            return Ok(self.entry.log_in(&self.settings, &head.headers, body, peer).await?.into());
        }
        if call == "words" {
            return Ok(json(&Words::all()).into());
        }
        let cookie = self.entry.session(&head.headers)?;
        let query = Query::new(head.uri.query());
        let source: Source = peer.address.ip().into();
        let parts: Vec<&str> = call.split('/').collect();
        let response = match (is_change, parts.as_slice()) {
            (false, ["overview"]) => json(&self.overview()),
            (false, ["endpoints"]) => json(&endpoints::page(&self.gateway, &self.rates, &query)?),
            (false, ["tenants"]) => {
                let (console, text) = (Arc::clone(&self), head.uri.query().map(str::to_owned));
                let page = move || {
                    let query = Query::new(text.as_deref());
                    tenants::page(&console.gateway, &console.rates, console.max_pending, &query)
                };
                json(&self.turns.run_long(source, page).await?)
            }
            (false, ["slow"]) => {
                query.only(&["limit"])?;
                let (gateway, limit) = (Arc::clone(&self.gateway), query.number("limit", SLOW, MAX_SLOW)?);
                json(&self.turns.run_long(source, move || gateway.slowest(limit)).await)
            }
            (false, ["tunnels"]) => self.search(&query, source).await?,
            (false, ["tunnels", tunnel]) => json(&self.gateway.inspect(id(tunnel)?).await.map_err(actions::refused)?),
            (false, ["tunnels", tunnel, "timeline"]) => {
                json(&records::story(&self.gateway, id(tunnel)?, &query).await?)
            }
            (false, ["live"]) => return self.live(&query, cookie),
            (true, ["logout"]) => self.entry.log_out(&head.headers),
            (true, ["tunnels", tunnel, action @ ("push" | "close")]) => {
                self.may_write()?;
                let (tunnel, body) = (id(tunnel)?, entry::read(body).await?);
                // Both may have changed while the body came.
                self.entry.session(&head.headers)?;
                self.may_write()?;
                match *action {
                    "push" => json(&actions::push(&self.gateway, tunnel, &body).await?),
                    _ => json(&actions::close(&self.gateway, tunnel).await?),
                }
            }
            _ => return Err(Refused(StatusCode::NOT_FOUND, "not_found", "there is no such call".to_owned())),
        };
        Ok(response.into())
    }

    fn overview(&self) -> Overview {
        self.gateway.observe();
        let metrics = &self.gateway.metrics;
        let (seconds, minutes) = self.pulse.series(&self.rates);
        Overview {
            node: self.gateway.tunnels.node().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("WAFERGATE_COMMIT"),
            engine: self.engine,
            started_unix_secs: metrics.start_time.get(),
            can_write: self.settings.load().write,
            pulse: self.moment(),
            seconds,
            minutes,
            unused_connect_urls: metrics.tickets_unused.get(),
        }
    }

    fn moment(&self) -> Moment {
        let is_draining = self.gateway.connect_urls.is_draining() || self.shutdown.soft.is_cancelled();
        self.pulse.moment(&self.gateway, &self.rates, is_draining)
    }

    /// A page of tunnels that an operator looks for.
    async fn search(&self, query: &Query<'_>, source: Source) -> Result<Response<Full<Bytes>>, Refused> {
        query.only(&["q", "cursor"])?;
        let sought = Sought::parse(&query.get("q").unwrap_or_default());
        let sought = sought.map_err(|error| Refused::parameter(error.to_string()))?;
        let after = query.get("cursor").map(|cursor| id(&cursor)).transpose()?;
        let gateway = Arc::clone(&self.gateway);
        Ok(json(&self.turns.run_long(source, move || gateway.search(&sought, after, FOUND)).await))
    }

    /// The stream of a page.
    fn live(self: Arc<Self>, query: &Query<'_>, cookie: Arc<str>) -> Result<Reply, Refused> {
        query.only(&["view", "sort", "id", "q", "failed"])?;
        let view = match query.get("view").as_deref() {
            None | Some("now") => View::Now,
            Some("endpoints") => View::Endpoints(Order::read(query)?),
            Some("tunnel") => View::Tunnel(id(&query.get("id").unwrap_or_default())?),
            Some("tail") => View::Tail,
            Some(_) => return Err(Refused::parameter("view is now, endpoints, tunnel or tail")),
        };
        let filter = match &view {
            View::Now | View::Endpoints(_) => None,
            View::Tunnel(id) => Some(Filter { tunnel: Some(*id), ..Filter::default() }),
            View::Tail => Some(records::filter(&self.gateway, query)),
        };
        let watchers = self.gateway.timeline.watchers();
        let watch = filter.map(|filter| watchers.watch(Origin::Here, filter)).transpose();
        let watch =
            watch.map_err(|error| Refused(StatusCode::SERVICE_UNAVAILABLE, "too_many_pages", error.to_string()))?;
        let full = "16 pages are open already: close one of them";
        let place = Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_| Refused(StatusCode::SERVICE_UNAVAILABLE, "too_many_pages", full.to_owned()))?;
        let closing = self.closing.clone().cancelled_owned();
        let make = move |skipped| self.entry.is_open(&cookie).then(|| self.frame(&view, watch.as_ref(), skipped));
        let mut response = Response::new(ReplyBody::stream(Live::new(make, closing, place)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(response.into())
    }

    fn frame(&self, view: &View, watch: Option<&Watch>, skipped: u64) -> String {
        let (mut endpoints, mut tunnel) = (None, None);
        match view {
            View::Now | View::Tail => {}
            View::Endpoints(order) => endpoints = Some(endpoints::updates(&self.gateway, &self.rates, *order)),
            View::Tunnel(id) => tunnel = self.gateway.inspect_here(*id),
        }
        let news = watch.map(|watch| records::news(&self.gateway, watch));
        let frame = Frame { pulse: self.moment(), skipped, endpoints, tunnel, news };
        fitted(frame, |frame| {
            let rows = frame.endpoints.as_mut().and_then(Vec::pop).is_some();
            rows || frame.news.as_mut().is_some_and(News::shorten) || frame.tunnel.take().is_some()
        })
    }

    fn may_write(&self) -> Result<(), Refused> {
        if self.settings.load().write {
            return Ok(());
        }
        let message = "this console only shows: set console.write = true and send SIGHUP";
        Err(Refused(StatusCode::FORBIDDEN, "console_read_only", message.to_owned()))
    }
}

/// A tunnel id in a path or query.
fn id(text: &str) -> Result<TunnelId, Refused> {
    text.parse().map_err(|error: crate::id::InvalidTunnelId| Refused::parameter(error.to_string()))
}

fn wrong_method() -> Refused {
    Refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "use GET, or POST for changes".to_owned())
}

/// To the page, whose files have names relative to it.
fn redirect() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/console/"));
    response
}

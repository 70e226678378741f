//! The admin API: health, metrics, drain and the console, on a listener of its own that is not for the public.

mod console;
mod tenants;
mod visitor;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;

pub use console::Console;

use self::visitor::Refusal;
use crate::fair_semaphore::FairSemaphore;
use crate::gateway::Gateway;
use crate::metrics::Metrics;
use crate::server::Handler;
use crate::server::Peer;
use crate::server::PendingReply;
use crate::server::RequestBody;
use crate::server::Source;
use crate::shutdown::Shutdown;

/// Host names that the admin listener accepts in addition to the private ones. Clones share one list.
#[derive(Clone)]
pub struct Hosts(Arc<ArcSwap<Vec<String>>>);

impl Hosts {
    /// The names in `server.admin_hosts`.
    pub fn new(names: &[String]) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(names.to_vec())))
    }

    /// Replaces the names.
    pub fn set(&self, names: &[String]) {
        self.0.store(Arc::new(names.to_vec()));
    }
}

/// The body of a 404: the available paths.
const NOT_THERE: &str = "there are GET /console/, GET /livez, GET /readyz, GET /metrics, GET /tenants, POST /drain and DELETE /tenants/{id}/tunnels\n";

/// The handler of the admin listener.
pub struct Admin {
    gateway: Arc<Gateway>,
    metrics: Metrics,
    shutdown: Shutdown,
    hosts: Hosts,
    console: Arc<Console>,
    own_name: String,
    before_metrics: Arc<dyn Fn(&Metrics) + Send + Sync>,
    /// Turns to have the metrics written.
    turns: FairSemaphore<Source>,
}

impl Admin {
    /// The admin API of `gateway`. `before_metrics` updates the gauges that are only computed on demand.
    pub fn new(
        gateway: Arc<Gateway>,
        shutdown: Shutdown,
        hosts: Hosts,
        console: Arc<Console>,
        before_metrics: impl Fn(&Metrics) + Send + Sync + 'static,
    ) -> Self {
        let metrics = gateway.metrics.clone();
        Refusal::ALL.iter().for_each(|refusal| metrics.refusable(refusal.code()));
        let own_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (before_metrics, turns) = (Arc::new(before_metrics), FairSemaphore::of_processors());
        Self { gateway, metrics, shutdown, hosts, console, own_name, before_metrics, turns }
    }

    /// Refuses what a web page may have sent. Liveness is no secret, and its probes may use any host name.
    fn refusal(&self, request: &Request<RequestBody>) -> Option<Response<Full<Bytes>>> {
        if request.uri().path() == "/livez" {
            return None;
        }
        let refusal = visitor::judge(request.uri(), request.headers(), &self.own_name, &self.hosts.0.load()).err()?;
        self.metrics.refused(refusal.code());
        let host = request.headers().get(header::HOST).map(|host| host.as_bytes().escape_ascii().to_string());
        tracing::info!(code = refusal.code(), host, reason = refusal.advice(), "admin request refused");
        let status = match refusal {
            Refusal::Host => StatusCode::MISDIRECTED_REQUEST,
            Refusal::Origin => StatusCode::FORBIDDEN,
        };
        Some(text(status, format!("{}\n", refusal.advice())))
    }

    fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Full<Bytes>> {
        match (path, method) {
            ("/livez", &Method::GET | &Method::HEAD) => text(StatusCode::OK, "ok\n"),
            ("/readyz", &Method::GET | &Method::HEAD) => self.ready(),
            ("/drain", &Method::POST) => {
                tracing::info!("drain requested");
                self.shutdown.soft.cancel();
                text(StatusCode::ACCEPTED, "draining\n")
            }
            ("/tenants", &Method::GET | &Method::HEAD) => tenants::page(&self.gateway, query),
            ("/livez" | "/readyz" | "/metrics" | "/tenants", _) => wrong_method("GET, HEAD"),
            ("/drain", _) => wrong_method("POST"),
            _ => match (tunnels_of(path), method) {
                (Some(tenant), &Method::DELETE) => self.end_tunnels_of(&tenant),
                (Some(_), _) => wrong_method("DELETE"),
                (None, _) => text(StatusCode::NOT_FOUND, NOT_THERE),
            },
        }
    }

    /// The metrics, written on a blocking thread in the turn of the address that asks for them.
    fn metrics(&self, source: Source) -> PendingReply {
        let (metrics, before, turns) = (self.metrics.clone(), Arc::clone(&self.before_metrics), self.turns.clone());
        let write = move || {
            before(&metrics);
            metrics.render()
        };
        Box::pin(async move {
            let mut response = text(StatusCode::OK, turns.run_long(source, write).await);
            let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, format);
            response.into()
        })
    }

    /// Closes the tunnels of a tenant that is no longer configured.
    fn end_tunnels_of(&self, tenant: &str) -> Response<Full<Bytes>> {
        let Some(closed) = self.gateway.end_tunnels_of(tenant) else {
            let words = "this tenant is configured: take it out of the configuration and reload first\n";
            return text(StatusCode::CONFLICT, words);
        };
        tracing::info!(tenant.id = tenant, tunnels = closed, "tunnels of a tenant that was taken out are closed");
        text(StatusCode::OK, format!("closed {closed} tunnels on this node\n"))
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        if self.gateway.connect_urls.is_draining() || self.shutdown.soft.is_cancelled() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        if !self.gateway.tunnels.has_room() {
            let reason = "no descriptors left for more tunnels: raise the limit of open files\n";
            return text(StatusCode::SERVICE_UNAVAILABLE, reason);
        }
        if let Some(reason) = self.gateway.obstacle() {
            return text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
        }
        text(StatusCode::OK, "ok\n")
    }
}

/// The tenant in `/tenants/{id}/tunnels`.
fn tunnels_of(path: &str) -> Option<String> {
    let tenant = path.strip_prefix("/tenants/")?.strip_suffix("/tunnels")?;
    let tenant = percent_decode_str(tenant).decode_utf8().ok()?;
    (!tenant.is_empty()).then(|| tenant.into_owned())
}

impl Handler for Admin {
    fn handle(&self, request: Request<RequestBody>, peer: Peer) -> PendingReply {
        let response = match (self.refusal(&request), request.uri().path(), request.method()) {
            (Some(refusal), ..) => refusal,
            (None, path, _) if console::is_of(path) => return Arc::clone(&self.console).handle(request, peer),
            (None, "/metrics", &Method::GET | &Method::HEAD) => return self.metrics(peer.address.ip().into()),
            (None, path, method) => self.answer(method, path, request.uri().query().unwrap_or_default()),
        };
        Box::pin(async move { response.into() })
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn wrong_method(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allow}\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

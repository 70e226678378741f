//! Receive URLs, those with trouble first.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use super::pulse::quantile_ms;
use super::query::Query;
use super::reply::Refused;
use crate::clock::rfc3339;
use crate::gateway::Gateway;
use crate::rates::LastFailure;
use crate::rates::SECONDS;
use crate::rates::Sample;
use crate::rates::Track;
use crate::webhook::EndpointName;
use crate::webhook::Rates;

/// Rows of a page, and most of them.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 256;

/// What comes first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// What is down or fails most.
    Failing,
    /// The longest p99.
    Slow,
    /// The most attempts.
    Busy,
}

/// A page of receive URLs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    /// Receive URLs that are measured.
    measured: usize,
    /// Attempts at others since the start.
    unmeasured_attempts: u64,
    endpoints: Vec<Row>,
}

/// One receive URL of a tenant on this node. What is not of an hour is of the last minute.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    key: String,
    tenant: String,
    url: String,
    #[serde(flatten)]
    figures: Figures,
    hour_delivered: u32,
    hour_failed: u32,
    in_flight: usize,
    in_flight_limit: usize,
    failure: Option<Failure>,
    delivered_by_second: Vec<u32>,
    failed_by_second: Vec<u32>,
}

/// What changes from second to second.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    delivered: u32,
    failed: u32,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    is_down: bool,
    is_failing: bool,
    waiting: usize,
}

/// The last failed attempt.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    code: &'static str,
    reason: String,
    tunnel_id: String,
    at: String,
    since: String,
}

impl From<LastFailure> for Failure {
    fn from(failure: LastFailure) -> Self {
        Self {
            code: failure.code,
            reason: failure.reason.into(),
            tunnel_id: failure.tunnel.to_string(),
            at: rfc3339(failure.at),
            since: rfc3339(failure.since),
        }
    }
}

/// One row of a live frame.
#[derive(Serialize)]
pub(super) struct Update {
    key: String,
    #[serde(flatten)]
    figures: Figures,
}

impl Order {
    pub(super) fn read(query: &Query<'_>) -> Result<Self, Refused> {
        match query.get("sort").as_deref() {
            None | Some("failing") => Ok(Self::Failing),
            Some("slow") => Ok(Self::Slow),
            Some("busy") => Ok(Self::Busy),
            Some(_) => Err(Refused::parameter("sort is failing, slow or busy")),
        }
    }
}

/// A measured receive URL with its last minute.
struct Measured {
    track: Arc<Track<EndpointName>>,
    minute: Sample,
    is_down: bool,
    waiting: usize,
    in_flight: (usize, usize),
}

/// The receive URLs in this order.
fn sorted(gateway: &Gateway, rates: &Rates, order: Order) -> Vec<Measured> {
    let measured = rates.endpoints().into_iter().map(|track| {
        let demand = gateway.demand(&track.subject.tenant, &track.subject.url);
        Measured {
            minute: track.read(|history| history.last(SECONDS)),
            is_down: demand.is_some_and(|demand| demand.is_down),
            waiting: demand.map_or(0, |demand| demand.waiting),
            in_flight: demand.map_or((0, 0), |demand| (demand.in_flight, demand.limit)),
            track,
        }
    });
    let mut measured: Vec<Measured> = measured.collect();
    measured.sort_by_cached_key(|measured| {
        let Measured { track, minute, .. } = measured;
        let attempts = minute.delivered.saturating_add(minute.failed);
        let p99 = minute.latencies.quantile(0.99).unwrap_or_default();
        let failed_at = track.failure().map_or(Duration::ZERO, |failure| failure.at);
        let trouble = (measured.is_down, track.is_failing(), minute.failed, failed_at);
        let key = match order {
            Order::Failing => (trouble, attempts.into(), p99),
            Order::Slow => ((false, false, 0, Duration::ZERO), millis_of(p99), p99),
            Order::Busy => ((false, false, 0, Duration::ZERO), attempts.into(), p99),
        };
        (Reverse(key), track.subject.url.clone())
    });
    measured
}

fn millis_of(duration: Duration) -> u64 {
    crate::clock::millis(duration)
}

impl Measured {
    fn key(&self) -> String {
        let EndpointName { tenant, url } = &self.track.subject;
        HEXLOWER.encode(&Sha256::digest(format!("{tenant}\n{url}"))[..6])
    }

    fn figures(&self) -> Figures {
        let Sample { delivered, failed, latencies } = &self.minute;
        Figures {
            delivered: *delivered,
            failed: *failed,
            p50_ms: quantile_ms(latencies, 0.5),
            p99_ms: quantile_ms(latencies, 0.99),
            is_down: self.is_down,
            is_failing: self.track.is_failing(),
            waiting: self.waiting,
        }
    }

    fn row(&self) -> Row {
        let EndpointName { tenant, url } = &self.track.subject;
        let (hour, seconds) = self.track.read(|history| (history.hour(), history.seconds().collect::<Vec<_>>()));
        Row {
            key: self.key(),
            tenant: tenant.to_string(),
            // The query may hold secrets.
            url: url.split('?').next().unwrap_or_default().to_owned(),
            figures: self.figures(),
            hour_delivered: hour.delivered,
            hour_failed: hour.failed,
            in_flight: self.in_flight.0,
            in_flight_limit: self.in_flight.1,
            failure: self.track.failure().map(Failure::from),
            delivered_by_second: seconds.iter().map(|second| second.delivered).collect(),
            failed_by_second: seconds.iter().map(|second| second.failed).collect(),
        }
    }
}

/// `GET /console/api/endpoints`.
pub(super) fn page(gateway: &Gateway, rates: &Rates, query: &Query<'_>) -> Result<Page, Refused> {
    query.only(&["sort", "limit"])?;
    let limit = query.number("limit", DEFAULT_LIMIT, MAX_LIMIT)?;
    let sorted = sorted(gateway, rates, Order::read(query)?);
    Ok(Page {
        measured: sorted.len(),
        unmeasured_attempts: rates.unmeasured(),
        endpoints: sorted.iter().take(limit).map(Measured::row).collect(),
    })
}

/// The figures of the first receive URLs, for a live frame.
pub(super) fn updates(gateway: &Gateway, rates: &Rates, order: Order) -> Vec<Update> {
    let sorted = sorted(gateway, rates, order);
    sorted.iter().take(DEFAULT_LIMIT).map(|row| Update { key: row.key(), figures: row.figures() }).collect()
}

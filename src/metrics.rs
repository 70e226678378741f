//! Every metric: its name, its unit and the method that counts it. No label contains a tunnel or tenant.

use std::time::Duration;

use prometheus::Encoder;
use prometheus::Histogram;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::IntGaugeVec;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::TextEncoder;
use prometheus::core::Collector;

use crate::protocol::close::CloseReason;
use crate::protocol::connector::Purpose;

/// Upper bounds of the time histograms, in seconds.
const TIME_BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How a push request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PushResult {
    /// Every target was resolved.
    Ok,
    /// The request was refused.
    Refused,
    /// The gateway could not resolve all targets.
    Error,
}

/// How an attempt to deliver an event ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WebhookResult {
    /// Accepted.
    Ok,
    /// To be retried.
    Retry,
    /// Refused for good.
    Final,
    /// Given up without an attempt, after its time limit.
    Expired,
}

/// The node's metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Open tunnels.
    pub connections: IntGauge,
    /// Tunnels requested and granted.
    pub tunnels_requested: IntCounter,
    /// Messages received from clients.
    pub messages_received: IntCounter,
    /// Events waiting for their business server, including those in flight.
    pub webhook_queue: IntGauge,
    /// Whether the engine answers.
    pub engine_up: IntGauge,
    /// Time a client message spends in the gateway before its first attempt is sent.
    pub message_to_webhook: Histogram,
    /// Deliveries by result.
    pub deliveries: Deliveries,
    /// Answers of connectors that nothing waited for.
    pub connector_answers_ignored: IntCounter,
    connectors: IntGaugeVec,
    /// What this node has done of calls with an `Idempotency-Key`, forgotten before its time.
    pub call_parts_forgotten: IntCounter,
    pushes: [IntCounter; 3],
    webhooks: [[IntCounter; 4]; 3],
    webhook_duration: [Histogram; 3],
    closes: IntCounterVec,
    actions: IntCounterVec,
    refused: IntCounterVec,
    accept_errors: IntCounter,
    log_lines_dropped: IntGauge,
    certificate_expiry: IntGaugeVec,
    node_messages_dropped: IntCounterVec,
    doubtful_answers: IntCounterVec,
    reads_paused: IntCounterVec,
    build_info: IntGaugeVec,
    /// Live nodes known to this one, itself included.
    pub nodes: IntGauge,
    /// Issued connect URLs that may still be used.
    pub tickets_unused: IntGauge,
    /// Receive URLs whose circuit breaker is open.
    pub breakers_open: IntGauge,
    /// Open descriptors of the process.
    pub open_descriptors: IntGauge,
    /// The most descriptors that the process may open.
    pub max_descriptors: IntGauge,
    /// Resident memory of the process, in bytes.
    pub resident_memory: IntGauge,
    /// When the process started, in seconds since 1970.
    pub start_time: IntGauge,
    reload_success: IntGauge,
    reload_timestamp: IntGauge,
    sessions: IntCounterVec,
    session_checks: IntCounterVec,
    session_store_up: IntGaugeVec,
    wechat_requests: IntCounterVec,
    wechat_duration: HistogramVec,
}

/// Outcomes of push targets.
#[derive(Clone, Debug)]
pub struct Deliveries {
    /// In the outbox, in order.
    pub accepted: IntCounter,
    /// Not an open tunnel of this tenant.
    pub invalid: IntCounter,
    /// The outbox was full; the client is closed as a slow consumer.
    pub slow: IntCounter,
    /// The node that holds it did not respond.
    pub unreachable: IntCounter,
}

const EVENTS: [&str; 3] = ["connect", "message", "close"];

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let time = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(TIME_BUCKETS.to_vec());
        let deliveries = counters("wafergate_deliveries_total", "Push targets, by outcome", &["result"]);
        let pushes = counters("wafergate_pushes_total", "Push requests, by result", &["result"]);
        let webhooks = counters("wafergate_webhooks_total", "Attempts to deliver events", &["event", "result"]);
        let durations = register(
            &registry,
            HistogramVec::new(time("wafergate_webhook_duration_seconds", "Duration of webhook attempts"), &["event"]),
        );
        let closes = counters("wafergate_closes_total", "Tunnels closed, by reason", &["reason"]);
        let doubtful_answers = counters(
            "wafergate_webhook_answers_doubtful_total",
            "Webhook responses that deliver an event but hardly know this API, by reason",
            &["reason"],
        );
        for reason in ["page", "misplaced", "array"] {
            doubtful_answers.with_label_values(&[reason]);
        }
        let connectors = register(
            &registry,
            IntGaugeVec::new(Opts::new("wafergate_connectors", "Connectors at this node, by purpose"), &["purpose"]),
        );
        for purpose in ["listen", "serve"] {
            connectors.with_label_values(&[purpose]);
        }
        let reads_paused = counters(
            "wafergate_reads_paused_total",
            "Pauses in reading a client, by the limit that was reached",
            &["reason"],
        );
        let actions = counters("wafergate_actions_total", "Actions requested in webhook responses", &["result"]);
        for result in ["ok", "failed", "invalid"] {
            actions.with_label_values(&[result]);
        }
        for reason in ["messages_per_sec", "inbox_bytes"] {
            reads_paused.with_label_values(&[reason]);
        }
        CloseReason::ALL.iter().for_each(|reason| {
            closes.with_label_values(&[reason.as_str()]);
        });
        Self {
            connections: gauge("wafergate_connections", "Open tunnels"),
            tunnels_requested: counter("wafergate_tunnels_requested_total", "Tunnels requested and granted"),
            messages_received: counter("wafergate_messages_received_total", "Messages received from clients"),
            webhook_queue: gauge("wafergate_webhook_queue", "Events that wait for their business server"),
            engine_up: gauge("wafergate_engine_up", "1 if the engine answers"),
            message_to_webhook: register(
                &registry,
                Histogram::with_opts(time(
                    "wafergate_message_to_webhook_seconds",
                    "Time a client message spends in the gateway before its first attempt is sent",
                )),
            ),
            deliveries: Deliveries {
                accepted: deliveries.with_label_values(&["accepted"]),
                invalid: deliveries.with_label_values(&["invalid"]),
                slow: deliveries.with_label_values(&["slow"]),
                unreachable: deliveries.with_label_values(&["unreachable"]),
            },
            pushes: ["ok", "refused", "error"].map(|result| pushes.with_label_values(&[result])),
            webhooks: EVENTS.map(|event| {
                ["ok", "retry", "final", "expired"].map(|result| webhooks.with_label_values(&[event, result]))
            }),
            webhook_duration: EVENTS.map(|event| durations.with_label_values(&[event])),
            closes,
            call_parts_forgotten: counter(
                "wafergate_call_parts_forgotten_total",
                "Parts of calls with an Idempotency-Key forgotten before their time: repeated after a 5xx, they are done again",
            ),
            actions,
            refused: counters("wafergate_refused_total", "Requests and handshakes refused, by reason", &["reason"]),
            accept_errors: counter("wafergate_accept_errors_total", "Connections that could not be accepted"),
            node_messages_dropped: counters(
                "wafergate_node_messages_dropped_total",
                "Messages from other nodes that were not taken, by reason",
                &["reason"],
            ),
            doubtful_answers,
            reads_paused,
            build_info: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("wafergate_build_info", "1, with the version and the name of this node"),
                    &["version", "commit", "node"],
                ),
            ),
            nodes: gauge("wafergate_nodes", "Live nodes that this one knows, itself included"),
            tickets_unused: gauge("wafergate_tickets_unused", "Connect URLs issued here that no client has used yet"),
            breakers_open: gauge("wafergate_breakers_open", "Receive URLs whose business server counts as down"),
            open_descriptors: gauge("wafergate_process_open_descriptors", "Open descriptors of this process"),
            max_descriptors: gauge("wafergate_process_max_descriptors", "Descriptors that this process may open"),
            resident_memory: gauge("wafergate_process_resident_memory_bytes", "Resident memory of this process"),
            start_time: gauge("wafergate_process_start_time_seconds", "Start of this process, since 1970"),
            reload_success: gauge(
                "wafergate_reload_success",
                "1 if the configuration in use is the one that was read last",
            ),
            reload_timestamp: gauge(
                "wafergate_reload_timestamp_seconds",
                "When the configuration in use was read, since 1970",
            ),
            certificate_expiry: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "wafergate_tls_certificate_expiry_seconds",
                        "Time until the certificate of server.tls_cert expires; negative when it has",
                    ),
                    &[],
                ),
            ),
            connector_answers_ignored: counter(
                "wafergate_connector_answers_ignored_total",
                "Answers of connectors that nothing waited for: late, repeated, or for an event that was not theirs",
            ),
            connectors,
            sessions: counters("wafergate_sessions_total", "Logins, by result", &["result"]),
            session_checks: counters("wafergate_session_checks_total", "Checks of sessions, by result", &["result"]),
            session_store_up: register(
                &registry,
                IntGaugeVec::new(Opts::new("wafergate_session_store_up", "1 if the session store answers"), &[]),
            ),
            wechat_requests: counters(
                "wafergate_wechat_requests_total",
                "Requests to WeChat, by call and result",
                &["api", "result"],
            ),
            wechat_duration: register(
                &registry,
                HistogramVec::new(
                    time("wafergate_wechat_duration_seconds", "Duration of requests to WeChat"),
                    &["api"],
                ),
            ),
            log_lines_dropped: gauge(
                "wafergate_log_lines_dropped",
                "Log lines dropped because stderr was blocked or closed",
            ),
            registry,
        }
    }
}

impl Metrics {
    /// Counts a push request.
    pub fn push(&self, result: PushResult) {
        self.pushes[result as usize].inc();
    }

    /// Counts an attempt to deliver an event; `event` is its name.
    pub fn webhook(&self, event: &str, result: WebhookResult) {
        self.webhooks[event_index(event)][result as usize].inc();
    }

    /// Records the duration of an attempt.
    pub fn webhook_duration(&self, event: &str, duration: Duration) {
        self.webhook_duration[event_index(event)].observe(duration.as_secs_f64());
    }

    /// Counts the end of a tunnel.
    pub fn close(&self, reason: CloseReason) {
        self.closes.with_label_values(&[reason.as_str()]).inc();
    }

    /// Tunnels that have ended, whatever the reason.
    pub fn closed(&self) -> u64 {
        CloseReason::ALL.iter().map(|reason| self.closes.with_label_values(&[reason.as_str()]).get()).sum()
    }

    /// Counts an action requested in a webhook response: `ok`, `failed`, or `invalid` for a response that cannot be parsed.
    pub fn action(&self, result: &'static str) {
        self.actions.with_label_values(&[result]).inc();
    }

    /// Counts a refused request or handshake.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Creates the counter of a reason at zero, so that its first refusal shows as an increase.
    pub fn refusable(&self, reason: &str) {
        self.refused.with_label_values(&[reason]);
    }

    /// Counts a connection that could not be accepted.
    pub fn accept_error(&self) {
        self.accept_errors.inc();
    }

    /// Counts a message from another node that was not taken.
    pub fn node_message_dropped(&self, reason: &str) {
        self.node_messages_dropped.with_label_values(&[reason]).inc();
    }

    /// Creates the counter of a reason at zero, so that its first message shows as an increase.
    pub fn node_message_droppable(&self, reason: &str) {
        self.node_messages_dropped.with_label_values(&[reason]);
    }

    /// Counts a webhook response that delivers an event, but hardly comes from a business server that knows this API.
    pub fn doubtful_answer(&self, reason: &'static str) {
        self.doubtful_answers.with_label_values(&[reason]).inc();
    }

    /// Counts a connector that has joined.
    pub fn connector_joined(&self, purpose: Purpose) {
        self.connectors.with_label_values(&[purpose_label(purpose)]).inc();
    }

    /// Counts a connector that has left.
    pub fn connector_left(&self, purpose: Purpose) {
        self.connectors.with_label_values(&[purpose_label(purpose)]).dec();
    }

    /// Counts a pause in reading a client.
    pub fn read_paused(&self, reason: &'static str) {
        self.reads_paused.with_label_values(&[reason]).inc();
    }

    /// Names this build and node.
    pub fn set_build(&self, version: &str, commit: &str, node: &str) {
        self.build_info.with_label_values(&[version, commit, node]).set(1);
    }

    /// Notes that the configuration was read at this time, in seconds since 1970, and is in use.
    pub fn configured(&self, unix_secs: u64) {
        self.reload_success.set(1);
        self.reload_timestamp.set(i64::try_from(unix_secs).unwrap_or(i64::MAX));
    }

    /// Notes that the configuration could not be reloaded.
    pub fn reload_failed(&self) {
        self.reload_success.set(0);
    }

    /// Notes how many log lines have been dropped so far.
    pub fn set_log_lines_dropped(&self, lines: usize) {
        self.log_lines_dropped.set(i64::try_from(lines).unwrap_or(i64::MAX));
    }

    /// Notes how long the certificate is still good. Before that, and so without TLS, there is no such metric.
    pub fn set_certificate_expiry(&self, seconds_left: i64) {
        self.certificate_expiry.with_label_values::<&str>(&[]).set(seconds_left);
    }

    /// Counts a login: `new` or `known` users, or why it was refused.
    pub fn session(&self, result: &str) {
        self.sessions.with_label_values(&[result]).inc();
    }

    /// Counts a check of a session: `ok`, `cached`, `no_session` or `store_away`.
    pub fn session_check(&self, result: &str) {
        self.session_checks.with_label_values(&[result]).inc();
    }

    /// Notes whether the session store answers, and returns what was noted before. Without a store there is no such metric.
    pub fn set_session_store_up(&self, is_up: bool) -> bool {
        let gauge = self.session_store_up.with_label_values::<&str>(&[]);
        let was_up = gauge.get() == 1;
        gauge.set(is_up.into());
        was_up
    }

    /// Counts a request to WeChat.
    pub fn wechat_request(&self, api: &str, result: &str) {
        self.wechat_requests.with_label_values(&[api, result]).inc();
    }

    /// Creates the counter of a result at zero, so that its first request shows as an increase.
    pub fn wechat_requestable(&self, api: &str, result: &str) {
        self.wechat_requests.with_label_values(&[api, result]);
    }

    /// Records the duration of a request to WeChat.
    pub fn wechat_duration(&self, api: &str, duration: Duration) {
        self.wechat_duration.with_label_values(&[api]).observe(duration.as_secs_f64());
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("a buffer takes everything");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

fn purpose_label(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Listen => "listen",
        Purpose::Serve => "serve",
    }
}

fn event_index(event: &str) -> usize {
    EVENTS.iter().position(|name| *name == event).expect("one of the three events")
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("metric names and labels are constants");
    registry.register(Box::new(collector.clone())).expect("every metric has a name of its own");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_a_metric_only_if_there_is_one() {
        let name = "wafergate_tls_certificate_expiry_seconds";
        let metrics = Metrics::default();
        assert!(!metrics.render().contains(name));

        metrics.set_certificate_expiry(-60);

        assert!(metrics.render().contains(&format!("\n{name} -60\n")));
    }

    #[test]
    fn the_fixed_names_are_all_there() {
        let metrics = Metrics::default();
        metrics.close(CloseReason::Drain);
        metrics.webhook("close", WebhookResult::Expired);
        let text = metrics.render();

        for name in [
            "wafergate_connections 0",
            "wafergate_tunnels_requested_total 0",
            "wafergate_messages_received_total 0",
            "wafergate_pushes_total{result=\"refused\"} 0",
            "wafergate_deliveries_total{result=\"unreachable\"} 0",
            "wafergate_webhooks_total{event=\"close\",result=\"expired\"} 1",
            "wafergate_webhook_duration_seconds_count{event=\"connect\"} 0",
            "wafergate_webhook_queue 0",
            "wafergate_closes_total{reason=\"drain\"} 1",
            "wafergate_closes_total{reason=\"node_lost\"} 0",
            "wafergate_engine_up 0",
            "wafergate_actions_total{result=\"failed\"} 0",
            "wafergate_message_to_webhook_seconds_count 0",
        ] {
            assert!(text.lines().any(|line| line == name), "{name} is missing in\n{text}");
        }
    }
}

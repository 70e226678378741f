//! Log lines of the gateway about failed events and events that it gives up.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::OnceLock;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use tracing::Event;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::SubscriberExt;

use super::logs::GivenUp;

/// The words of the line about an event that is given up.
const GIVEN_UP: &str = "event given up";

/// The words of the line about an event's first failure.
const FAILED: &str = "webhook failed, retrying";

/// The words of the line about an answer whose actions cannot be read.
const UNREADABLE: &str = "invalid actions in webhook response, ignored";

/// Lines with their words.
type Lines = Mutex<Vec<(&'static str, GivenUp)>>;

/// The lines of all gateways of this process so far.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// Reads the log of this process from now on.
pub(crate) fn watch() {
    LINES.get_or_init(|| {
        let lines = Arc::<Lines>::default();
        let layer = Keep(Arc::clone(&lines)).with_filter(LevelFilter::WARN);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).expect("nobody else does");
        lines
    });
}

/// The events given up on tunnels that `is_wanted` picks.
pub(crate) fn lines(is_wanted: impl Fn(&str) -> bool) -> Vec<GivenUp> {
    find(GIVEN_UP, is_wanted)
}

/// The reasons of the first failures of events on tunnels that `is_wanted` picks.
pub(crate) fn failures(is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    find(FAILED, is_wanted).into_iter().map(|line| line.reason).collect()
}

/// The reasons in all lines about one tunnel's events that failed, were given up, or had answers that could not be read.
pub(crate) fn reasons(tunnel: &str) -> Vec<String> {
    let kinds = [FAILED, GIVEN_UP, UNREADABLE];
    kinds.iter().flat_map(|words| find(words, |other| other == tunnel)).map(|line| line.reason).collect()
}

fn find(words: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<GivenUp> {
    let lines = LINES.get().expect("it is being watched").lock();
    let wanted = lines.iter().filter(|(message, line)| *message == words && is_wanted(&line.tunnel));
    wanted.map(|(_, line)| line.clone()).collect()
}

/// Reads a line of a gateway's JSON log.
pub(crate) fn parse(line: &str) -> Option<GivenUp> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = &line["fields"];
    let text = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
    (fields["message"] == GIVEN_UP).then(|| GivenUp {
        tunnel: text("tunnel.id"),
        kind: text("event"),
        sequence: fields["event.sequence"].as_u64().unwrap_or_default(),
        reason: text("reason"),
        at: Instant::now(),
    })
}

struct Keep(Arc<Lines>);

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(words) = [GIVEN_UP, FAILED, UNREADABLE].into_iter().find(|words| fields.message == *words) {
            let Fields { tunnel, kind, sequence, reason, .. } = fields;
            self.0.lock().push((words, GivenUp { tunnel, kind, sequence, reason, at: Instant::now() }));
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    tunnel: String,
    kind: String,
    sequence: u64,
    reason: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            "tunnel.id" => self.tunnel = text,
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "event" => self.kind = value.to_owned(),
            "reason" => self.reason = value.to_owned(),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "event.sequence" {
            self.sequence = value;
        }
    }
}

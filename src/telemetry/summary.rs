//! Shows the first few of repeated lines, or of lines caused by one tenant or address, then their number. This layer sees every
//! line, so all of them are limited.

use std::cell::Cell;
use std::fmt;
use std::hash::Hash;
use std::hash::Hasher;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use parking_lot::Condvar;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Event;
use tracing::Level;
use tracing::Metadata;
use tracing::Subscriber;
use tracing::Value as FieldValue;
use tracing::field::Field;
use tracing::field::Visit;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::escape::Value;
use super::fields::TENANT;
use super::repeats::LeftOut;
use super::repeats::Line;
use super::repeats::Repeats;

/// The fields that distinguish kinds of a line: its subject, but not the tunnel or client.
const KIND_FIELDS: [&str; 9] =
    ["code", "call", "reason", "tenant.id", "url", "node", "warning", "problem", "panic.location"];

/// The field with the client address that causes a line.
const CLIENT: &str = "client";

thread_local! {
    /// Whether this thread is writing a summary.
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Suppresses repeated lines of level info and above, unless every line is wanted. Cheap to clone.
#[derive(Clone)]
pub(super) struct Summary(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Signals the first suppressed line, or the end.
    changed: Condvar,
    shows_all: AtomicBool,
}

struct State {
    repeats: Repeats<Kind, Party>,
    is_over: bool,
}

/// Lines from one place in the code with the same subject.
#[derive(Clone)]
struct Kind {
    metadata: &'static Metadata<'static>,
    /// The message of the first one.
    message: String,
    fields: [Option<String>; KIND_FIELDS.len()],
    party: Option<Party>,
}

/// The external party that causes a line.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Party {
    /// A tenant, from the field [`TENANT`].
    Tenant(String),
    /// An address or the /64 network of a site, from the field [`CLIENT`]: no tenant is known.
    Client(String),
}

impl Summary {
    /// No lines suppressed yet.
    pub(super) fn new(shows_all: bool) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State { repeats: Repeats::new(), is_over: false }),
            changed: Condvar::new(),
            shows_all: AtomicBool::new(shows_all),
        }))
    }

    /// Shows every line from now on, or no longer.
    pub(super) fn show_all(&self, shows_all: bool) {
        self.0.shows_all.store(shows_all, Ordering::Relaxed);
    }

    /// Starts the thread that writes summaries even without further lines. It ends with [`end`](Self::end).
    pub(super) fn start(&self) -> std::io::Result<()> {
        let summary = self.clone();
        thread::Builder::new().name("log-summary".to_owned()).spawn(move || summary.run()).map(drop)
    }

    /// Writes all pending summaries.
    pub(super) fn end(&self) {
        let left_out = {
            let mut state = self.0.state.lock();
            state.is_over = true;
            state.repeats.end_all(now())
        };
        self.0.changed.notify_all();
        left_out.iter().for_each(tell);
    }

    fn run(&self) {
        let mut state = self.0.state.lock();
        while !state.is_over {
            match state.repeats.deadline() {
                Some(deadline) if deadline <= now() => {
                    let left_out = state.repeats.ended(now());
                    drop(state);
                    left_out.iter().for_each(tell);
                    state = self.0.state.lock();
                }
                Some(deadline) => {
                    self.0.changed.wait_until(&mut state, deadline);
                }
                None => self.0.changed.wait(&mut state),
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Summary {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::INFO || self.0.shows_all.load(Ordering::Relaxed) || IS_TELLING.get() {
            return true;
        }
        let kind = Kind::of(event);
        let mut state = self.0.state.lock();
        let had_none = state.repeats.deadline().is_none();
        let is_shown = state.repeats.shows(kind.into_line(), now());
        let is_first = had_none && state.repeats.deadline().is_some();
        drop(state);
        if is_first {
            self.0.changed.notify_all();
        }
        is_shown
    }
}

/// The clock of the windows.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Writes a summary of suppressed lines, with the count in place of the differing fields.
fn tell(left_out: &LeftOut<Kind>) {
    let Kind { metadata, message, fields, .. } = &left_out.kind;
    let names = metadata.fields();
    let Some(message_field) = names.field("message") else { return };
    let words = format!("and {} more in {} s: {message}", left_out.lines, left_out.within.as_secs_f64().ceil());
    let found = KIND_FIELDS.map(|name| names.field(name));
    let mut values: [(&Field, Option<&dyn FieldValue>); KIND_FIELDS.len() + 2] =
        [(&message_field, None); KIND_FIELDS.len() + 2];
    values[0].1 = Some(&words);
    let client = names.field(CLIENT);
    if let (Some(field), Some(Party::Client(client))) = (&client, &left_out.kind.party) {
        values[KIND_FIELDS.len() + 1] = (field, Some(client));
    }
    for ((place, field), value) in values[1..].iter_mut().zip(&found).zip(fields) {
        if let (Some(field), Some(value)) = (field, value) {
            *place = (field, Some(value));
        }
    }
    IS_TELLING.set(true);
    Event::dispatch(metadata, &names.value_set(&values));
    IS_TELLING.set(false);
}

impl Kind {
    fn of(event: &Event<'_>) -> Self {
        let mut kind =
            Self { metadata: event.metadata(), message: String::new(), fields: Default::default(), party: None };
        event.record(&mut kind);
        let tenant = KIND_FIELDS.iter().position(|name| *name == TENANT).and_then(|index| kind.fields[index].clone());
        // A known tenant is more specific than a client address.
        kind.party = tenant.map(Party::Tenant).or(kind.party);
        if kind.fields[0].is_some() {
            // The code identifies the kind; the reason may quote the request.
            kind.fields[2] = None;
        }
        kind
    }

    fn into_line(self) -> Line<Self, Party> {
        let of_place = Self { fields: Default::default(), party: None, ..self.clone() };
        let mut of_party = Self { party: self.party.clone(), ..of_place.clone() };
        if let Some(Party::Tenant(tenant)) = &self.party {
            let fields = KIND_FIELDS.iter().zip(&mut of_party.fields);
            fields.filter(|(name, _)| **name == TENANT).for_each(|(_, field)| *field = Some(tenant.clone()));
        }
        Line { party: self.party.clone(), kind: self, of_party, of_place }
    }

    fn put(&mut self, field: &Field, arguments: fmt::Arguments<'_>) {
        let name = field.name();
        if name == "message" {
            self.message = Value::of_field(name).add(arguments).into_text();
        } else if name == CLIENT {
            self.party = Some(Party::Client(network(&Value::of_field(name).add(arguments).into_text())));
        } else if let Some(index) = KIND_FIELDS.iter().position(|known| *known == name) {
            self.fields[index] = Some(Value::of_field(name).add(arguments).into_text());
        }
    }
}

/// The network of one site: in IPv6 the first 64 bits of an address.
fn network(address: &str) -> String {
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => format!("{}/64", Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => address.to_owned(),
    }
}

impl Visit for Kind {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.metadata.callsite() == other.metadata.callsite()
            && self.fields == other.fields
            && self.party == other.party
    }
}

impl Eq for Kind {}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.metadata.callsite().hash(state);
        self.fields.hash(state);
        self.party.hash(state);
    }
}

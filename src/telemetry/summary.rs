//! One repeated line is summarised: the first few are shown, then how many more there were.

use std::cell::Cell;
use std::fmt;
use std::hash::Hash;
use std::hash::Hasher;
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
use super::repeats::LeftOut;
use super::repeats::Repeats;

/// The fields that tell kinds of one line apart: what it is about, but not which tunnel or client it happened to meet.
const KIND_FIELDS: [&str; 9] =
    ["code", "call", "reason", "tenant.id", "url", "node", "warning", "problem", "panic.location"];

thread_local! {
    /// Whether this thread is telling what was left out.
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Leaves out repeated lines of level info and above, unless every line is wanted. Cheap to clone.
#[derive(Clone)]
pub(super) struct Summary(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is a first thing to tell, or the end.
    changed: Condvar,
    shows_all: AtomicBool,
}

struct State {
    repeats: Repeats<Kind>,
    is_over: bool,
}

/// Lines of one place in the code that say the same of the same thing.
#[derive(Clone)]
struct Kind {
    metadata: &'static Metadata<'static>,
    /// The words of the first one.
    message: String,
    fields: [Option<String>; KIND_FIELDS.len()],
}

impl Summary {
    /// Nothing left out so far.
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

    /// Starts the thread that tells what was left out, also if no further line follows. It ends with [`end`](Self::end).
    pub(super) fn start(&self) -> std::io::Result<()> {
        let summary = self.clone();
        thread::Builder::new().name("log-summary".to_owned()).spawn(move || summary.run()).map(drop)
    }

    /// Tells everything that was left out so far.
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
        let is_shown = state.repeats.shows(kind, Kind::wider, now());
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

/// Writes one more line of its kind, with the count in place of what differs.
fn tell(left_out: &LeftOut<Kind>) {
    let Kind { metadata, message, fields } = &left_out.kind;
    let names = metadata.fields();
    let Some(message_field) = names.field("message") else { return };
    let words = format!("and {} more in {} s: {message}", left_out.lines, left_out.within.as_secs_f64().ceil());
    let found = KIND_FIELDS.map(|name| names.field(name));
    let mut values: [(&Field, Option<&dyn FieldValue>); KIND_FIELDS.len() + 1] =
        [(&message_field, None); KIND_FIELDS.len() + 1];
    values[0].1 = Some(&words);
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
        let mut kind = Self { metadata: event.metadata(), message: String::new(), fields: Default::default() };
        event.record(&mut kind);
        if kind.fields[0].is_some() {
            // The code says it all; the reason may quote what came.
            kind.fields[2] = None;
        }
        kind
    }

    /// All lines of this place in the code.
    fn wider(&self) -> Self {
        Self { fields: Default::default(), ..self.clone() }
    }

    fn put(&mut self, field: &Field, arguments: fmt::Arguments<'_>) {
        let name = field.name();
        if name == "message" {
            self.message = Value::of_field(name).add(arguments).into_text();
        } else if let Some(index) = KIND_FIELDS.iter().position(|known| *known == name) {
            self.fields[index] = Some(Value::of_field(name).add(arguments).into_text());
        }
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
        self.metadata.callsite() == other.metadata.callsite() && self.fields == other.fields
    }
}

impl Eq for Kind {}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.metadata.callsite().hash(state);
        self.fields.hash(state);
    }
}

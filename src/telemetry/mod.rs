//! The log: text or JSON lines on stderr, written by a thread of its own. Lines that cannot be written are dropped and counted;
//! repeated ones are summarised.

mod escape;
mod fields;
mod json;
mod repeats;
mod summary;

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use strsim::damerau_levenshtein;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::ErrorCounter;
use tracing_appender::non_blocking::NonBlockingBuilder;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;

use crate::options;
use crate::options::LogFormat;

use self::fields::JsonFields;
use self::fields::Names;
use self::fields::TextFields;
use self::json::JsonLine;
use self::summary::Summary;

/// Lines that may be queued for a slow stderr: a few MiB at some hundred bytes each, enough for a burst.
const BUFFERED_LINES: usize = 8192;

/// The level names.
const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace", "off"];

/// Why the log cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is a single word but not a level.
    #[error("{word:?} is not a level; the nearest one is `{nearest}`")]
    UnknownLevel {
        /// The text given.
        word: String,
        /// The nearest level.
        nearest: &'static str,
    },
    /// The level is not in `RUST_LOG` syntax.
    #[error("not a level or RUST_LOG directives")]
    Directives(#[from] tracing_subscriber::filter::ParseError),
    /// Another part of this process has already set up the log.
    #[error("the log is set up already")]
    AlreadySet(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The filter no longer exists.
    #[error("cannot change the log level")]
    Reload(#[from] reload::Error),
    /// The system could not start a thread.
    #[error("cannot start the thread that summarises repeated lines")]
    Thread(#[source] io::Error),
}

/// The log of this process. Queued lines are written when it is dropped, unless stderr is blocked.
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    overflow: ErrorCounter,
    failed: Arc<AtomicUsize>,
    summary: Summary,
    names: Names,
    _writer: WorkerGuard,
}

/// Sends the events of the whole process to stderr, including panics.
pub fn init(log: &options::Log) -> Result<Telemetry, TelemetryError> {
    let (subscriber, telemetry) = build(log, io::stderr(), wants_color())?;
    tracing::subscriber::set_global_default(subscriber)?;
    telemetry.summary.start().map_err(TelemetryError::Thread)?;
    log_panics();
    Ok(telemetry)
}

/// Whether stderr shows colours. `NO_COLOR` turns them off if it has any value (no-color.org).
fn wants_color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Parses `level`: one level, or `RUST_LOG` directives.
///
/// ```
/// use wafergate::telemetry::parse_filter;
///
/// assert!(parse_filter("info").is_ok());
/// assert!(parse_filter("warn,wafergate::webhook=debug").is_ok());
/// assert!(parse_filter("verbose").is_err());
/// ```
pub fn parse_filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let word = level.trim();
    let is_level = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(word));
    // RUST_LOG takes any word as a target name, so a misspelt level would silence the log.
    let is_target = word.starts_with(env!("CARGO_CRATE_NAME")) || word.contains([',', '=', ':', '[']);
    if !is_level && !is_target {
        let nearest = nearest_level(&word.to_lowercase());
        return Err(TelemetryError::UnknownLevel { word: word.to_owned(), nearest });
    }
    Ok(EnvFilter::builder().with_regex(false).parse(word)?)
}

/// The level that other programs call `word`, or else the one that is spelt most alike.
fn nearest_level(word: &str) -> &'static str {
    match word {
        "verbose" | "fine" | "dbg" => "debug",
        "fatal" | "critical" | "crit" | "severe" | "panic" => "error",
        "notice" | "information" | "normal" | "default" => "info",
        "all" | "finest" => "trace",
        "none" | "silent" | "quiet" => "off",
        _ => LEVELS.iter().min_by_key(|known| damerau_levenshtein(known, word)).expect("there are levels"),
    }
}

fn build<W: Write + Send + 'static>(
    log: &options::Log,
    output: W,
    ansi: bool,
) -> Result<(impl Subscriber + Send + Sync + use<W>, Telemetry), TelemetryError> {
    let filter = parse_filter(&log.level)?;
    let summary = Summary::new(wants_all(&filter));
    let (filter, handle) = reload::Layer::new(filter);
    let failed = Arc::new(AtomicUsize::new(0));
    let output = Output { inner: output, failed: Arc::clone(&failed) };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(BUFFERED_LINES)
        .thread_name("log")
        .finish(output);
    let overflow = writer.error_counter();
    // A failing formatter would otherwise write to stderr and block on it.
    let layer = fmt::layer().with_writer(writer).log_internal_errors(false);
    let names = Names::default();
    let layer = match log.format {
        LogFormat::Text => layer.with_ansi(ansi).fmt_fields(TextFields(names.clone())).boxed(),
        LogFormat::Json => {
            layer.with_ansi(false).fmt_fields(JsonFields(names.clone())).event_format(JsonLine(names.clone())).boxed()
        }
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(summary.clone()).with(layer);
    Ok((subscriber, Telemetry { filter: handle, overflow, failed, summary, names, _writer: guard }))
}

/// Whether `filter` enables debug or trace anywhere; then repeated lines are shown as well.
fn wants_all(filter: &EnvFilter) -> bool {
    Layer::<Registry>::max_level_hint(filter).is_none_or(|level| level >= LevelFilter::DEBUG)
}

/// Turns panics into events: the default hook writes to stderr itself, and a blocked stderr would block the task that panicked.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(panic.message = message, panic.location = location, "a task panicked");
    }));
}

impl Telemetry {
    /// Changes the level. On an error the old one stays.
    pub fn reload(&self, level: &str) -> Result<(), TelemetryError> {
        let filter = parse_filter(level)?;
        let wants_all = wants_all(&filter);
        self.filter.reload(filter)?;
        self.summary.show_all(wants_all);
        Ok(())
    }

    /// Writes the name of this node into each JSON line; only the first call counts.
    pub fn name_node(&self, node: String) {
        self.names.set_node(node);
    }

    /// Writes the ServerHost of a tenant beside each of its ids. `server_host_of` gets an id, and must not log; only the first call
    /// counts.
    pub fn name_tenants(&self, server_host_of: impl Fn(&str) -> Option<String> + Send + Sync + 'static) {
        self.names.set(Box::new(server_host_of));
    }

    /// Number of lines lost since the start because stderr was blocked or closed, or its disk full.
    pub fn dropped_lines(&self) -> usize {
        self.overflow.dropped_lines().saturating_add(self.failed.load(Ordering::Relaxed))
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.summary.end();
    }
}

/// Counts the lines that could not be written, and continues.
struct Output<W> {
    inner: W,
    failed: Arc<AtomicUsize>,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    /// The appender passes one line per call.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        if self.inner.write_all(line).is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;

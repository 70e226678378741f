//! One line for each event, as `listen` and `tail` print it, and the same as JSON: `docs/event-lines.schema.json`.

use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;

use super::local_time;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::clock::rfc3339;

/// How lines look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// The local time minus UTC, in seconds.
    pub(super) offset_secs: i64,
    /// Whether there are colours.
    pub(super) has_colours: bool,
}

/// The columns of a line: time, tunnel, what happened, size, status, time taken, words.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns<'a> {
    /// Time since 1970.
    pub(super) at: Duration,
    /// The tunnel.
    pub(super) tunnel: &'a str,
    /// What happened, such as `message`.
    pub(super) what: &'a str,
    /// Bytes of the content.
    pub(super) bytes: Option<u64>,
    /// What was answered.
    pub(super) status: Status,
    /// How long it took.
    pub(super) took: Option<Duration>,
    /// What else there is to say.
    pub(super) words: &'a str,
    /// Whether it did not work, whatever the status.
    pub(super) has_failed: bool,
}

/// The column of the HTTP status.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Status {
    /// The status of an answer.
    Answered(u16),
    /// There was no answer.
    #[default]
    NoAnswer,
    /// Nothing was asked.
    NotAsked,
}

impl From<Option<u16>> for Status {
    fn from(status: Option<u16>) -> Self {
        status.map_or(Self::NoAnswer, Self::Answered)
    }
}

/// A line with its JSON form.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Line {
    /// Connected.
    Ready(Ready),
    /// Not connected.
    Offline(Offline),
    /// An event came; only as JSON.
    Event(Event),
    /// One attempt is over.
    Attempt(Attempt),
    /// The gateway says something.
    Notice(Notice),
    /// The program ends.
    End(End),
}

/// `ready`
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ready {
    pub(super) time: String,
    pub(super) name: String,
    pub(super) tunnel_server_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inspector: Option<String>,
    /// How long it was offline, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after_ms: Option<u64>,
    /// Events that had waited, if the gateway counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waiting: Option<u64>,
    /// Events that were given up meanwhile, if it counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<u64>,
}

/// `offline`
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Offline {
    pub(super) time: String,
    pub(super) reason: String,
    /// When it dials again, in milliseconds from now.
    pub(super) retry_ms: u64,
    /// How long events wait meanwhile, for people.
    #[serde(skip)]
    pub(super) waits: String,
}

/// The event of a line.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct About {
    pub(super) time: String,
    pub(super) id: String,
    pub(super) tunnel: String,
    pub(super) event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<u64>,
    pub(super) url: String,
    pub(super) bytes: u64,
    pub(super) attempt: u32,
}

/// `event`
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Event {
    #[serde(flatten)]
    pub(super) about: About,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<String>,
}

/// `attempt`
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Attempt {
    #[serde(flatten)]
    pub(super) about: About,
    pub(super) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    pub(super) ms: u64,
    pub(super) actions: usize,
    /// The words behind the columns, for people.
    #[serde(skip)]
    pub(super) words: String,
}

/// `notice`
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Notice {
    pub(super) time: String,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) fix: String,
}

/// `end`
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct End {
    pub(super) time: String,
    pub(super) reason: String,
    pub(super) exit_code: u8,
}

impl Line {
    /// As one line of JSON, without its end.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialise")
    }

    /// As a line for people, without its end; nothing for what only programs need. `at` is the time of its making, since 1970.
    pub(super) fn to_text(&self, at: Duration, look: Look) -> Option<String> {
        let at_second = || clock_time(at, look, false);
        match self {
            Self::Ready(Ready { after_ms: Some(after), waiting, lost, .. }) => {
                let waited = waiting.map_or_else(String::new, |count| format!("; {count} events had waited"));
                let lost = lost.map_or_else(String::new, |count| format!(", {count} lost"));
                let words = format!("ready again after {}{waited}{lost}", seconds(*after));
                Some(format!("{}     {}", at_second(), look.paint(GREEN, &words)))
            }
            Self::Ready(ready) => {
                let inspector =
                    ready.inspector.as_ref().map_or_else(String::new, |url| format!("     inspector {url}"));
                Some(format!(
                    "{}       TunnelServerUrl = {}   (native: \"connector\": \"{}\"){inspector}",
                    look.paint(GREEN, "ready"),
                    ready.tunnel_server_url,
                    ready.name,
                ))
            }
            Self::Offline(Offline { reason, retry_ms, waits, .. }) => {
                let again = if *retry_ms == 0 {
                    "dialling again".to_owned()
                } else {
                    format!("again in {}", seconds(*retry_ms))
                };
                let words = format!("offline: {}; {waits}; {again}", shown(reason));
                Some(format!("{}     {}", at_second(), look.paint(RED, &words)))
            }
            Self::Event(_) => None,
            Self::Attempt(Attempt { about, status, ms, words, .. }) => {
                let columns = Columns {
                    at,
                    tunnel: &about.tunnel,
                    what: &about.event,
                    bytes: (about.event == "message").then_some(about.bytes),
                    status: (*status).into(),
                    took: Some(Duration::from_millis(*ms)),
                    words,
                    has_failed: false,
                };
                Some(columns.to_text(look))
            }
            Self::Notice(Notice { code, message, fix, .. }) => {
                let fix = if fix.is_empty() { String::new() } else { format!(": {}", shown(fix)) };
                let words = format!("{}: {}{fix}", shown(code), shown(message));
                Some(format!("{}     {}", at_second(), look.paint(YELLOW, &words)))
            }
            Self::End(End { reason, .. }) => Some(format!("{}     {}", at_second(), shown(reason))),
        }
    }
}

impl Columns<'_> {
    /// The line, without its end.
    pub(super) fn to_text(&self, look: Look) -> String {
        let status = match self.status {
            Status::Answered(status) => format!("{status:>6}"),
            Status::NoAnswer => format!("{:>6}", "--"),
            Status::NotAsked => format!("{:>6}", ""),
        };
        let colour = match self.status {
            Status::Answered(200..=299) if !self.has_failed => GREEN,
            Status::Answered(_) => YELLOW,
            Status::NoAnswer | Status::NotAsked => RED,
        };
        let what = format!("{:<7}", shown(self.what));
        let line = format!(
            "{} {:<7} {}{:>7}{}{:>8}  {}",
            clock_time(self.at, look, true),
            short(self.tunnel),
            if self.has_failed { look.paint(RED, &what) } else { what },
            self.bytes.map_or_else(String::new, size),
            look.paint(colour, &status),
            self.took
                .map_or_else(String::new, |took| milliseconds(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))),
            shown(self.words),
        );
        line.trim_end().to_owned()
    }
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

impl Look {
    /// How lines look on this terminal, or in what stands for it.
    pub(super) fn of_stdout() -> Self {
        Self {
            offset_secs: local_time::offset_secs(SystemClock.unix_time()),
            has_colours: std::io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    fn paint(self, colour: u8, text: &str) -> String {
        if self.has_colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Text from outside without anything that a terminal obeys.
pub(super) fn shown(text: &str) -> String {
    let visible = |char: char| if char.is_control() { char.escape_default().collect() } else { char.to_string() };
    text.chars().map(visible).collect()
}

/// A time since 1970 as the clock on the wall shows it.
fn clock_time(at: Duration, look: Look, has_millis: bool) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(0) + look.offset_secs * 1_000;
    let of_day = Duration::from_millis(u64::try_from(millis.max(0)).unwrap_or(0));
    let text = rfc3339(of_day);
    let (_, time) = text.split_once('T').expect("RFC 3339 has a T");
    let end = if has_millis { 12 } else { 8 };
    time[..end].to_owned()
}

/// The beginning and the end of a tunnel id.
fn short(tunnel: &str) -> String {
    let chars: Vec<char> = tunnel.chars().collect();
    match chars.len() {
        0..=7 => shown(tunnel),
        length => shown(&chars[..4].iter().chain(&['…']).chain(&chars[length - 2..]).collect::<String>()),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        _ => format!("{} KiB", bytes / 1_024),
    }
}

fn milliseconds(ms: u64) -> String {
    match ms {
        0..=9_999 => format!("{ms} ms"),
        _ => format!("{}.{} s", ms / 1_000, ms / 100 % 10),
    }
}

/// Milliseconds as seconds with one digit behind the point.
pub(super) fn seconds(ms: u64) -> String {
    let tenths = ms.div_ceil(100);
    format!("{}.{} s", tenths / 10, tenths % 10)
}

#[cfg(test)]
#[path = "event_line_tests.rs"]
mod tests;

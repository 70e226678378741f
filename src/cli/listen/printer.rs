//! What `listen` prints: for people or for programs.

use std::io::Write;
use std::time::Duration;

use super::Listen;
use crate::cli::event_line::About;
use crate::cli::event_line::Attempt;
use crate::cli::event_line::End;
use crate::cli::event_line::Event;
use crate::cli::event_line::Line;
use crate::cli::event_line::Look;
use crate::cli::event_line::Notice;
use crate::cli::event_line::Offline;
use crate::cli::event_line::Ready;
use crate::cli::event_line::shown;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::clock::millis;
use crate::clock::rfc3339;
use crate::listen::Body;
use crate::listen::Report;
use crate::listen::Shown;
use crate::listen::content;
use crate::listen::content_bytes;
use crate::listener::Output;
use crate::protocol::connector;
use crate::protocol::connector::Ttl;

/// Prints lines.
pub(super) struct Printer {
    look: Look,
    is_json: bool,
    is_quiet: bool,
    payload: Option<usize>,
    shown: Shown,
    name: String,
    tunnel_server_url: String,
    inspector: Option<String>,
    ttl: Option<Ttl>,
}

impl Printer {
    pub(super) fn new(
        listen: &Listen,
        look: Look,
        name: String,
        tunnel_server_url: String,
        inspector: Option<String>,
    ) -> Self {
        Self {
            look,
            is_json: listen.json,
            is_quiet: listen.quiet,
            payload: listen.show_payload,
            shown: listen.shown(),
            name,
            tunnel_server_url,
            inspector,
            ttl: None,
        }
    }

    /// Before the first try.
    pub(super) fn connecting(&self, address: &str) {
        if !self.is_json {
            write(&format!("connecting  {address}"));
        }
    }

    pub(super) fn show(&mut self, output: Output<'_>) {
        let at = SystemClock.unix_time();
        match output {
            Output::Report(report) => self.report(report, at),
            Output::Event(event, body) if self.is_json => {
                if !self.is_quiet && self.shown.is_shown(event, &body.0, false) {
                    self.line(&self.event(event, body, at), at);
                }
            }
            Output::Event(..) => {}
            Output::Attempt(event, body, attempt, words) => {
                let has_failed = !attempt.reason.is_empty();
                if self.is_quiet || !self.shown.is_shown(event, &body.0, has_failed) {
                    return;
                }
                self.line(&line(event, body, attempt, words, at), at);
                if let (Some(limit), false) = (self.payload, self.is_json) {
                    write(&format!("             {}", cut(&shown(&content(event.is_native(), &body.0)), limit)));
                }
            }
            Output::RecordFailed(error) => {
                eprintln!("wafergate: --record cannot be written any more: {error}");
            }
        }
    }

    /// The last line.
    pub(super) fn end(&self, exit_code: u8, reason: &str) {
        let at = SystemClock.unix_time();
        if self.is_json || exit_code == 0 {
            self.line(&Line::End(End { time: rfc3339(at), reason: reason.to_owned(), exit_code }), at);
        }
        if exit_code != 0 {
            eprintln!("wafergate: {}", shown(reason));
        }
    }

    fn report(&mut self, report: Report, at: Duration) {
        let time = rfc3339(at);
        let line = match report {
            Report::Ready(welcome, after) => {
                self.ttl = welcome.as_ref().map_or(self.ttl, |welcome| welcome.ttl);
                Line::Ready(Ready {
                    time,
                    name: self.name.clone(),
                    tunnel_server_url: self.tunnel_server_url.clone(),
                    inspector: self.inspector.clone(),
                    after_ms: after.map(millis),
                    waiting: welcome.as_ref().and_then(|welcome| welcome.waiting),
                    lost: welcome.and_then(|welcome| welcome.lost),
                })
            }
            Report::Offline(reason, retry) => {
                Line::Offline(Offline { time, reason, retry_ms: millis(retry), waits: self.waits() })
            }
            Report::Notice(notice) => {
                let connector::Notice { code, message, fix } = notice;
                Line::Notice(Notice { time, code, message, fix })
            }
        };
        self.line(&line, at);
    }

    /// How long events wait at the gateway.
    fn waits(&self) -> String {
        match self.ttl {
            Some(Ttl { message_ms, close_ms }) => {
                format!("events wait there (messages {}, closes {})", span(message_ms), span(close_ms))
            }
            None => "events wait there".to_owned(),
        }
    }

    fn event(&self, event: &connector::Event, body: &Body, at: Duration) -> Line {
        let payload = self.payload.map(|limit| cut(&String::from_utf8_lossy(&body.0), limit));
        Line::Event(Event { about: about(event, body, at), payload })
    }

    fn line(&self, line: &Line, at: Duration) {
        if self.is_json {
            write(&line.to_json());
        } else if let Some(text) = line.to_text(at, self.look) {
            write(&text);
        }
    }
}

fn line(event: &connector::Event, body: &Body, attempt: &crate::listen::Attempt, words: &str, at: Duration) -> Line {
    Line::Attempt(Attempt {
        about: about(event, body, at),
        target: attempt.target.clone(),
        status: attempt.status,
        code: attempt.code.clone(),
        reason: attempt.reason.clone(),
        ms: attempt.ms,
        actions: attempt.actions,
        words: words.to_owned(),
    })
}

fn about(event: &connector::Event, body: &Body, at: Duration) -> About {
    About {
        time: rfc3339(at),
        id: event.id.clone(),
        tunnel: event.tunnel.clone(),
        event: event.event.clone(),
        sequence: event.sequence,
        url: event.url.clone(),
        bytes: content_bytes(event.is_native(), &body.0),
        attempt: event.attempt,
    }
}

/// The beginning of a text, at most so many bytes.
fn cut(text: &str, limit: usize) -> String {
    match text.len() <= limit {
        true => text.to_owned(),
        false => format!("{}...", &text[..text.floor_char_boundary(limit)]),
    }
}

/// A span in its largest whole unit.
fn span(ms: u64) -> String {
    match ms / 1_000 {
        secs if secs >= 3_600 && secs.is_multiple_of(3_600) => format!("{} h", secs / 3_600),
        secs if secs > 120 && secs.is_multiple_of(60) => format!("{} min", secs / 60),
        secs => format!("{secs} s"),
    }
}

/// Prints a line. Without a reader events are forwarded all the same.
fn write(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_largest_whole_unit() {
        assert_eq!([60_000, 86_400_000, 90_000, 600_000].map(span), ["60 s", "24 h", "90 s", "10 min"]);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!((cut("a中b", 3), cut("a中b", 4), cut("a中b", 5)), ("a...".into(), "a中...".into(), "a中b".into()));
    }
}

//! An event of the stream as a line for people, in the columns of `listen`.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::event_line::Columns;
use crate::cli::event_line::Line;
use crate::cli::event_line::Look;
use crate::cli::event_line::Notice;
use crate::cli::event_line::Status;
use crate::cli::event_line::shown;

/// The line of an event that came `now`, a time since 1970; none if there is nothing to say.
pub(super) fn line(name: &str, data: &Value, now: Duration, look: Look) -> Option<String> {
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    match name {
        "record" => Some(record(data, look)),
        "open" => Some(format!("ready       {}", shown(text("node")))),
        "skipped" => {
            notice(name, format!("{} records", data["count"]), "show less, for example with --failed", now, look)
        }
        "missing" => notice(name, format!("node {} is not shown", text("node")), text("reason"), now, look),
        _ => None,
    }
}

fn notice(code: &str, message: String, fix: &str, now: Duration, look: Look) -> Option<String> {
    let notice = Notice { code: code.to_owned(), message, fix: fix.to_owned(), ..Notice::default() };
    Line::Notice(notice).to_text(now, look)
}

fn record(data: &Value, look: Look) -> String {
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    let is_attempt = text("type") == "attempt";
    let at = text("time").parse::<Timestamp>().map_or(0, Timestamp::as_millisecond);
    let status = data["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    let columns = Columns {
        at: Duration::from_millis(u64::try_from(at).unwrap_or(0)),
        tunnel: text("tunnel"),
        // Wide enough for the longest kind.
        what: &format!("{:<15}", if is_attempt { text("event") } else { text("type") }),
        bytes: data["bytes"].as_u64(),
        status: if is_attempt { status.into() } else { status.map_or(Status::NotAsked, Status::Answered) },
        took: data["ms"].as_f64().and_then(|ms| Duration::try_from_secs_f64(ms / 1_000.0).ok()),
        words: &words(data),
        has_failed: data["failed"] == true,
    };
    columns.to_text(look)
}

/// The words behind the columns.
fn words(data: &Value) -> String {
    let text = |name: &str| data[name].as_str().filter(|text| !text.is_empty());
    let is_delivered = text("type") == Some("attempt") && data["failed"] == false;
    let counts = data["targets"].as_u64().map(|targets| format!("{} of {targets}", data["accepted"]));
    let said = text("detail").or(text("reason")).filter(|_| !is_delivered).map(str::to_owned);
    let words: Vec<String> = [counts, said].into_iter().flatten().collect();
    match text("fix") {
        // Some details end with the fix already.
        Some(fix) if !words.concat().contains(fix) => format!("{}: {fix}", words.join(", ")),
        _ => words.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TUNNEL: &str = "t3f9000000000000000000000000000c1";
    const PLAIN: Look = Look { offset_secs: 0, has_colours: false };

    fn line(name: &str, data: &Value) -> Option<String> {
        super::line(name, data, Duration::ZERO, PLAIN)
    }

    #[test]
    fn a_record_is_one_line() {
        let delivered = json!({
            "time": "2026-11-28T10:15:03.001Z", "type": "attempt", "event": "message", "tunnel": TUNNEL, "failed": false,
            "bytes": 57, "status": 200, "ms": 8.2, "code": "delivered", "reason": "the business server has accepted it",
        });
        assert_eq!(
            line("record", &delivered).as_deref(),
            Some("10:15:03.001 t3f9…c1 message           57 B   200    8 ms")
        );
        let refused = json!({
            "time": "2026-11-28T10:15:09.000Z", "type": "attempt", "event": "message", "tunnel": TUNNEL, "failed": true,
            "bytes": 61, "ms": 0.4, "reason": "connection refused", "detail": "connection refused", "fix": "start it",
        });
        assert_eq!(
            line("record", &refused).as_deref(),
            Some("10:15:09.000 t3f9…c1 message           61 B    --    0 ms  connection refused: start it")
        );
        let many = json!({
            "time": "2026-11-28T10:15:09.000Z", "type": "push", "failed": false, "bytes": 5, "targets": 100, "accepted": 99,
            "detail": "group g", "reason": "on its way to the client",
        });
        let many = line("record", &many).expect("a line");
        assert!(many.ends_with("push               5 B                99 of 100, group g"), "{many}");
    }

    #[test]
    fn what_failed_is_red_in_local_time() {
        let refused = json!({"time": "2026-11-28T10:15:09.000Z", "type": "refused", "failed": true, "reason": "used", "fix": "ask"});
        let look = Look { offset_secs: 8 * 3_600, has_colours: true };

        let line = super::line("record", &refused, Duration::ZERO, look).expect("a line");

        assert!(line.starts_with("18:15:09.000") && line.contains("\u{1b}[31mrefused"), "{line:?}");
    }

    #[test]
    fn text_from_outside_cannot_command_a_terminal() {
        let push =
            json!({"time": "", "type": "push", "failed": false, "detail": "group a\u{1b}[2J\nb", "tunnel": "\u{1b}c"});

        let line = line("record", &push).expect("a line");

        assert!(line.ends_with("group a\\u{1b}[2J\\nb") && !line.contains('\u{1b}'), "{line:?}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let skipped = line("skipped", &json!({"count": 7})).expect("a line");
        assert!(skipped.contains("skipped: 7 records"), "{skipped}");
        assert!(line("missing", &json!({"node": "ab", "reason": "no_answer"})).is_some());
        assert_eq!(line("end", &json!({})), None);
    }
}

//! Tests from the event to the written line.

use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;

use serde_json::Value;
use tracing::field::Empty;
use tracing::subscriber::with_default;

use super::*;

/// Control characters of every kind, and text that imitates another line or field.
const NASTY: &str = "x\r\nERROR forged: line\u{1b}[2J\u{9b}31m level=off";

fn log(level: &str, format: LogFormat) -> options::Log {
    options::Log { level: level.to_owned(), format }
}

/// Passes on each write, and signals when the writer is dropped.
struct Lines(SyncSender<String>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lines(format: LogFormat, events: impl FnOnce(&Telemetry)) -> Vec<String> {
    let (sender, receiver) = mpsc::sync_channel(100);
    let (subscriber, telemetry) = build(&log("info", format), Lines(sender), false).expect("valid settings");
    with_default(subscriber, || events(&telemetry));
    drop(telemetry);
    receiver.iter().collect()
}

#[derive(Debug, thiserror::Error)]
#[error("outer {0}")]
struct Outer(&'static str, #[source] io::Error);

fn nasty_event() {
    let span = tracing::info_span!("tunnel", tunnel.id = %NASTY, later = Empty);
    let _entered = span.enter();
    span.record("later", 7);
    let error = Outer(NASTY, io::Error::other(NASTY));
    tracing::info!(shown = %NASTY, text = NASTY, debugged = ?NASTY, error = &error as &dyn std::error::Error, ok = true, "bad {NASTY}");
}

#[test]
fn a_text_event_stays_in_one_line() {
    let lines = lines(LogFormat::Text, |_| nasty_event());

    assert_eq!(lines.len(), 1);
    let line = lines[0].strip_suffix('\n').expect("a line break at the end");
    assert!(!line.chars().any(char::is_control), "{line:?}");
    assert!(line.contains(r#"shown="x\r\nERROR forged"#), "{line}");
    assert!(line.contains("outer x") && line.contains("ok=true") && line.contains("later=7"), "{line}");
}

#[test]
fn a_json_event_is_one_object() {
    let lines = lines(LogFormat::Json, |_| nasty_event());

    assert_eq!(lines.len(), 1);
    let line = lines[0].strip_suffix('\n').expect("a line break at the end");
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let event: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(event["level"], "INFO");
    assert_eq!(event["fields"]["message"], format!("bad {NASTY}"));
    assert_eq!(event["fields"]["shown"], NASTY);
    assert_eq!(event["fields"]["error"], format!("outer {NASTY}: {NASTY}"));
    assert_eq!(event["fields"]["ok"], true);
    assert_eq!(event["spans"][0]["name"], "tunnel");
    assert_eq!(event["spans"][0]["tunnel.id"], NASTY);
    assert_eq!(event["spans"][0]["later"], 7);
}

const TEXT_LINE: &str = concat!(
    "WARN tunnel{tunnel.id=t1 tries=2}: wafergate::telemetry::tests: a message number=-1 ratio=0.5 is_open=false word=plain ",
    r#"text="two words" shown="a\"b" debugged=Some(1) error="outer refused: no route" hidden="bidi\u{202e}""#,
    "\n"
);
const JSON_LINE: &str = concat!(
    r#","level":"WARN","target":"wafergate::telemetry::tests","fields":{"message":"a message","number":-1,"ratio":0.5,"#,
    r#""is_open":false,"word":"plain","text":"two words","shown":"a\"b","debugged":"Some(1)","#,
    r#""error":"outer refused: no route","hidden":"bidi\u202e"},"spans":[{"name":"tunnel","tunnel.id":"t1","tries":2}]}"#,
    "\n"
);

/// One event of each kind of value, inside a span.
fn every_kind_of_value() {
    let span = tracing::info_span!("tunnel", tunnel.id = %"t1", tries = Empty);
    let _entered = span.enter();
    span.record("tries", 2);
    let error = Outer("refused", io::Error::other("no route"));
    tracing::warn!(
        number = -1,
        ratio = 0.5,
        is_open = false,
        word = "plain",
        text = "two words",
        shown = %"a\"b",
        debugged = ?Some(1),
        error = &error as &dyn std::error::Error,
        hidden = "bidi\u{202e}",
        "a message",
    );
}

/// Programs of operators read these lines: their shape changes only on purpose.
#[test]
fn the_shape_of_a_line_stays() {
    let [text] = &lines(LogFormat::Text, |_| every_kind_of_value())[..] else { panic!("one line") };
    let (timestamp, text) = text.split_once(' ').expect("a timestamp first");
    assert_eq!(timestamp.len(), "2026-01-01T00:00:00.000000Z".len());
    assert_eq!(text.trim_start(), TEXT_LINE);

    let [json] = &lines(LogFormat::Json, |_| every_kind_of_value())[..] else { panic!("one line") };
    let json =
        json.strip_prefix("{\"timestamp\":\"").and_then(|rest| rest.split_once('"')).expect("a timestamp first").1;
    assert_eq!(json, JSON_LINE);
}

#[test]
fn a_huge_field_is_cut() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let lines = lines(format, |_| tracing::info!(host = "x".repeat(1_000_000), "a request"));

        assert!(lines[0].len() < 1000, "{} bytes", lines[0].len());
    }
}

#[test]
fn the_level_changes_while_the_log_runs() {
    let lines = lines(LogFormat::Text, |telemetry| {
        tracing::debug!("too early");
        telemetry.reload("debug").expect("a level");
        tracing::debug!("now shown");
        assert!(telemetry.reload("dbug").is_err());
        tracing::debug!("still shown");
        telemetry.reload("off").expect("a level");
        tracing::error!("too late");
    });

    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn a_word_that_is_no_level_is_refused() {
    for level in
        ["error", "WARN", "info", "debug", "trace", "off", "wafergate", "hyper=debug", "info,hyper", "[span]=warn"]
    {
        assert!(parse_filter(level).is_ok(), "{level}");
    }
    for level in ["", "verbose", "warning", "wafergate=loud", "info,=", "1"] {
        assert!(parse_filter(level).is_err(), "{level}");
    }
}

/// Blocks on its first line until the test ends.
struct Blocked(Receiver<()>);

impl Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_blocked_output_drops_lines_and_blocks_nobody() {
    let (release, gate) = mpsc::sync_channel(0);
    let (subscriber, telemetry) = build(&log("debug", LogFormat::Json), Blocked(gate), false).expect("valid settings");

    with_default(subscriber, || {
        (0..BUFFERED_LINES + 100).for_each(|n| tracing::info!(n, "a line"));
    });

    // The writer may be holding one line.
    assert!((99..=100).contains(&telemetry.dropped_lines()), "{}", telemetry.dropped_lines());
    drop(release);
}

/// A full disk.
struct Full;

impl Write for Full {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let (subscriber, telemetry) = build(&log("info", LogFormat::Text), Full, false).expect("valid settings");
    let failed = Arc::clone(&telemetry.failed);

    with_default(subscriber, || (0..3).for_each(|n| tracing::info!(n, "a line")));
    drop(telemetry);

    assert_eq!(failed.load(Ordering::Relaxed), 3);
}

fn failed(tenant: &str, tunnel: u32) {
    tracing::warn!(tunnel.id = tunnel, tenant.id = %tenant, reason = "connection refused", "webhook failed, retrying");
}

#[test]
fn a_repeated_line_is_summarised() {
    let lines = lines(LogFormat::Text, |telemetry| {
        (0..317).for_each(|tunnel| failed("loud", tunnel));
        failed("quiet", 1);
        tracing::warn!("another line");
        telemetry.summary.end();
    });

    assert_eq!(lines.len(), 8, "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("tenant.id=loud")).count(), 6);
    assert!(lines[5].contains("tenant.id=quiet") && lines[6].contains("another line"), "{lines:#?}");
    let words = r#"WARN wafergate::telemetry::tests: and 312 more in 1 s: webhook failed, retrying reason="connection refused" tenant.id=loud"#;
    assert!(lines[7].trim_end().ends_with(words), "{}", lines[7]);
}

#[test]
fn a_code_makes_refusals_alike_whatever_they_quote() {
    let lines = lines(LogFormat::Json, |telemetry| {
        for n in 0..10 {
            tracing::info!(code = 40_101, client = "192.0.2.1", reason = %format_args!("no tenant {n}"), "wafer call refused");
            tracing::info!(code = 40_001, client = %format_args!("2001:db8::{n}"), "wafer call refused");
        }
        telemetry.summary.end();
    });

    let told: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut summaries: Vec<_> = told[10..].iter().map(|line| &line["fields"]).collect();
    summaries.sort_by_key(|fields| fields["code"].to_string());
    assert_eq!(told.len(), 12);
    assert_eq!((&summaries[1]["code"], &summaries[1]["client"]), (&"40101".into(), &"192.0.2.1".into()));
    assert_eq!(summaries[0]["client"], "2001:db8::/64", "one site");
    assert_eq!(summaries[1]["message"], "and 5 more in 1 s: wafer call refused");
}

/// Lines that each quote different input.
#[test]
fn one_that_causes_ever_other_lines_is_summarised_and_hides_no_other() {
    let flood = |client: &str| {
        for n in 0..1_000 {
            tracing::info!(client, reason = %format_args!("no path /{n}"), "request refused");
        }
    };
    let lines = lines(LogFormat::Text, |telemetry| {
        flood("192.0.2.1");
        (0..1_000).for_each(
            |n| tracing::warn!(tenant.id = "loud", url = %format_args!("http://h/{n}"), "webhook failed, retrying"),
        );
        tracing::info!(client = "192.0.2.2", reason = "no path /", "request refused");
        failed("quiet", 1);
        telemetry.summary.end();
    });

    assert_eq!(lines.len(), 20 + 20 + 2 + 2, "{lines:#?}");
    assert!(lines[40].contains("192.0.2.2") && lines[41].contains("quiet"), "{lines:#?}");
    let of = |party: &str, words: &str| {
        assert!(lines[42..].iter().any(|line| line.contains(party) && line.contains(words)), "{party}: {lines:#?}");
    };
    of("client=192.0.2.1", "and 980 more in 1 s: request refused");
    of("tenant.id=loud", "and 980 more in 1 s: webhook failed, retrying");
}

#[test]
fn every_line_is_shown_to_whom_details_are() {
    let lines = lines(LogFormat::Text, |telemetry| {
        telemetry.reload("warn,wafergate::telemetry=debug").expect("directives");
        (0..100).for_each(|tunnel| failed("loud", tunnel));
        telemetry.reload("info").expect("a level");
        (0..100).for_each(|tunnel| failed("loud", tunnel));
    });

    assert_eq!(lines.len(), 105);
}

#[test]
fn details_are_never_summarised() {
    let lines = lines(LogFormat::Text, |telemetry| {
        telemetry.reload("trace").expect("a level");
        telemetry.summary.show_all(false);
        (0..100).for_each(|n| tracing::debug!(n, "a detail"));
    });

    assert_eq!(lines.len(), 100);
}

#[test]
fn a_tenant_is_named_by_its_server_host_too_and_a_json_line_by_its_node() {
    let one = |format| {
        lines(format, |telemetry| {
            telemetry.name_node("one".to_owned());
            telemetry.name_tenants(|id| (id == "5f4d").then(|| "api.example.com".to_owned()));
            tracing::info!(tenant.id = %"5f4d", "known");
            tracing::info!(tenant.id = %"shop", "without a server_host");
        })
    };

    let text = one(LogFormat::Text);
    assert!(text[0].contains("tenant.id=5f4d tenant.server_host=api.example.com"), "{}", text[0]);
    assert!(!text[1].contains("server_host="), "{}", text[1]);
    let json: Value = serde_json::from_str(&one(LogFormat::Json)[0]).expect("JSON");
    assert_eq!((&json["node"], &json["fields"]["tenant.server_host"]), (&"one".into(), &"api.example.com".into()));
}

#[test]
fn a_level_of_another_program_leads_to_ours() {
    for (word, level) in [
        ("verbose", "debug"),
        ("WARNING", "warn"),
        ("critical", "error"),
        ("notice", "info"),
        ("none", "off"),
        ("inof", "info"),
    ] {
        let error = parse_filter(word).expect_err(word).to_string();
        assert!(error.ends_with(&format!("`{level}`")), "{error}");
    }
}

//! Lines as people and programs read them.

use serde_json::Value;

use super::*;

/// 2024-02-29T10:15:02.113Z.
const AT: Duration = Duration::from_millis(1_709_201_702_113);

const PLAIN: Look = Look { offset_secs: 0, has_colours: false };

fn attempt(event: &str, bytes: u64, status: Option<u16>, ms: u64, words: &str) -> Line {
    Line::Attempt(Attempt {
        about: About {
            time: rfc3339(AT),
            id: "msg_1".into(),
            tunnel: "t3f900000000000000000000000000000c1".into(),
            event: event.into(),
            sequence: Some(2),
            url: "https://h/a".into(),
            bytes,
            attempt: 1,
        },
        target: "http://localhost:5757/a".into(),
        status,
        code: status.is_none().then(|| "connect".into()),
        reason: String::new(),
        ms,
        actions: 0,
        words: words.into(),
    })
}

fn text(line: &Line) -> String {
    line.to_text(AT, PLAIN).expect("a line for people")
}

#[test]
fn attempts_stand_in_columns() {
    let lines = [
        attempt("connect", 180, Some(200), 12, ""),
        attempt("message", 57, Some(200), 8, "2 actions"),
        attempt("message", 61, Some(500), 31, "answered 500; again in 0.1 s"),
        attempt("message", 61, None, 0, "connection refused at localhost:5757: is your server running?"),
        attempt("message", 70_000, Some(200), 65_432, ""),
    ];

    assert_eq!(
        lines.iter().map(text).collect::<Vec<_>>(),
        [
            "10:15:02.113 t3f9…c1 connect          200   12 ms",
            "10:15:02.113 t3f9…c1 message   57 B   200    8 ms  2 actions",
            "10:15:02.113 t3f9…c1 message   61 B   500   31 ms  answered 500; again in 0.1 s",
            "10:15:02.113 t3f9…c1 message   61 B    --    0 ms  connection refused at localhost:5757: is your server running?",
            "10:15:02.113 t3f9…c1 message 68 KiB   200  65.4 s",
        ]
    );
}

#[test]
fn the_state_of_the_connection_is_a_sentence() {
    let ready = Ready {
        name: "ann".into(),
        tunnel_server_url: "https://ws.example.com/@ann".into(),
        inspector: Some("http://127.0.0.1:4041/#x".into()),
        ..Ready::default()
    };
    let again = Ready { after_ms: Some(4_100), waiting: Some(7), lost: Some(0), ..ready.clone() };
    let offline = Offline {
        reason: "no route to ws.example.com".into(),
        retry_ms: 400,
        waits: "events wait there (messages 60 s, closes 24 h)".into(),
        ..Offline::default()
    };
    let notice = Notice {
        code: "window_full".into(),
        message: "32 events wait".into(),
        fix: "answer".into(),
        ..Notice::default()
    };

    assert_eq!(
        [Line::Ready(ready), Line::Ready(again), Line::Offline(offline), Line::Notice(notice)].each_ref().map(text),
        [
            "ready       TunnelServerUrl = https://ws.example.com/@ann   (native: \"connector\": \"ann\")     inspector http://127.0.0.1:4041/#x",
            "10:15:02     ready again after 4.1 s; 7 events had waited, 0 lost",
            "10:15:02     offline: no route to ws.example.com; events wait there (messages 60 s, closes 24 h); again in 0.4 s",
            "10:15:02     window_full: 32 events wait: answer",
        ]
    );
}

#[test]
fn local_time_goes_through_midnight_and_colours_are_optional() {
    let look = Look { offset_secs: 14 * 3_600, has_colours: true };

    let line = attempt("message", 1, Some(500), 1, "").to_text(AT, look).expect("a line");

    assert!(line.starts_with("00:15:02.113 ") && line.contains("\u{1b}[33m   500\u{1b}[0m"), "{line:?}");
    assert!(!text(&attempt("message", 1, None, 1, "")).contains('\u{1b}'));
}

#[test]
fn text_from_outside_cannot_command_a_terminal() {
    let line = text(&attempt("message", 1, Some(500), 1, "a\u{1b}[2J\n中"));

    assert!(line.ends_with("a\\u{1b}[2J\\n中"), "{line}");
}

/// What a schema demands of a value: its type, its fields, its constants. Enough for the one beside the documents.
fn conforms(value: &Value, schema: &Value) -> Result<(), String> {
    if let Some(wanted) = schema["const"].as_str() {
        return if value == wanted { Ok(()) } else { Err(format!("{value} is not {wanted}")) };
    }
    let is = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        other => return Err(format!("the schema has the type {other:?}")),
    };
    if !is {
        return Err(format!("{value} is not of the type {}", schema["type"]));
    }
    let Some(fields) = value.as_object() else { return Ok(()) };
    for required in schema["required"].as_array().into_iter().flatten() {
        let name = required.as_str().unwrap_or_default();
        fields.get(name).ok_or_else(|| format!("{name} is missing in {value}"))?;
    }
    for (name, value) in fields {
        let schema = &schema["properties"][name];
        let described = schema["description"].is_string() || schema["const"].is_string();
        conforms(value, schema).map_err(|error| format!("{name}: {error}"))?;
        if !described {
            return Err(format!("{name} has no description"));
        }
    }
    Ok(())
}

#[test]
fn json_lines_are_as_the_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../../docs/event-lines.schema.json")).expect("JSON");
    let kinds = schema["oneOf"].as_array().expect("the kinds");
    let lines = [
        Line::Ready(Ready {
            inspector: Some("u".into()),
            after_ms: Some(1),
            waiting: Some(1),
            lost: Some(0),
            ..Ready::default()
        }),
        Line::Ready(Ready::default()),
        Line::Offline(Offline::default()),
        Line::Event(Event { about: About { sequence: Some(1), ..About::default() }, payload: Some("x".into()) }),
        Line::Event(Event::default()),
        attempt("message", 1, Some(200), 1, ""),
        attempt("message", 1, None, 1, ""),
        Line::Attempt(Attempt { reason: "r".into(), ..Attempt::default() }),
        Line::Notice(Notice::default()),
        Line::End(End::default()),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for line in lines {
        let value: Value = serde_json::from_str(&line.to_json()).expect("JSON");
        let kind = kinds.iter().find(|kind| kind["properties"]["type"]["const"] == value["type"]);
        let kind = kind.unwrap_or_else(|| panic!("no kind {}", value["type"]));
        conforms(&value, kind).unwrap_or_else(|error| panic!("{}: {error}", value["type"]));
        seen.insert(value["type"].to_string());
    }
    assert_eq!(seen.len(), kinds.len(), "every kind of the schema was tried");
}

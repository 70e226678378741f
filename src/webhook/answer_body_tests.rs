//! Response bodies of real servers.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use flate2::write::GzEncoder;
use flate2::write::ZlibEncoder;
use hyper::StatusCode;

use super::*;
use crate::http_client::error::AttemptError;

const OK: &str = r#"{"code":0}"#;

fn answer(coding: Coding, body: impl Into<Bytes>, end: End) -> Answer {
    Answer { status: StatusCode::OK, retry_after: None, coding, body: body.into(), end }
}

fn whole(body: impl Into<Bytes>) -> Answer {
    answer(Coding::None, body, End::Whole)
}

fn broken(body: impl Into<Bytes>) -> Answer {
    let timeout = AttemptError::Timeout { limit: Duration::from_secs(1), was_sent: true };
    answer(Coding::None, body, End::Broken(timeout))
}

fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn what_can_mean_one_thing_only_is_read() {
    let mut zlib = ZlibEncoder::new(vec![], Compression::default());
    zlib.write_all(OK.as_bytes()).expect("memory");
    let mut bare = DeflateEncoder::new(vec![], Compression::default());
    bare.write_all(OK.as_bytes()).expect("memory");
    let bodies: Vec<(Coding, Vec<u8>)> = vec![
        (Coding::None, OK.into()),
        (Coding::None, format!("\n {OK}\r\n").into()),
        (Coding::None, format!("\u{feff}{OK}").into()),
        (Coding::None, format!("\u{feff}\r\n\u{feff}{OK}").into()),
        (Coding::None, format!("Notice: Undefined index: x in /a.php on line 3\n{OK}").into()),
        (Coding::None, format!("<br />\n<b>Warning</b>:  x in <b>/a.php</b> on line <b>3</b><br />\n{OK}").into()),
        (Coding::None, format!("{OK}\n<br />\n<b>Deprecated</b>: x").into()),
        (Coding::None, format!("array(1) {{\n  [0]=>\n  int(1)\n}}\n{OK}").into()),
        (Coding::None, format!("<style>b{{x:y}}</style>{OK}").into()),
        (Coding::None, format!("{OK}\0").into()),
        (Coding::None, [b"{\"code\":0,\"message\":\"", &[0xb3, 0xc9, 0xb9, 0xa6][..], b"\"}"].concat()),
        (Coding::None, utf16(&format!("\u{feff}{OK}"), u16::to_le_bytes)),
        (Coding::None, utf16(&format!("\u{feff}{OK}"), u16::to_be_bytes)),
        (Coding::None, utf16(OK, u16::to_le_bytes)),
        (Coding::None, utf16(OK, u16::to_be_bytes)),
        (Coding::Gzip, gzip(OK.as_bytes())),
        (Coding::None, gzip(OK.as_bytes())),
        (Coding::Gzip, gzip(format!("\u{feff}{OK}").as_bytes())),
        (Coding::Gzip, OK.into()),
        (Coding::Gzip, format!("Notice: x\n{OK}").into()),
        (Coding::Unknown, OK.into()),
        (Coding::Deflate, zlib.finish().expect("memory")),
        (Coding::Deflate, bare.finish().expect("memory")),
        (Coding::None, br#"{"code":0.0}"#.to_vec()),
        (Coding::None, br#"{"code":-0}"#.to_vec()),
        (Coding::None, br#"{"code":0e0,"data":{"a":{"code":1}}}"#.to_vec()),
    ];

    for (coding, body) in bodies {
        let shown = body.escape_ascii().to_string();
        assert_eq!(is_accepted(&answer(coding, body, End::Whole)), Ok(true), "{shown}");
    }
}

#[test]
fn what_could_mean_something_else_is_no_acceptance() {
    let bodies = [
        "",
        "ok",
        "0",
        r#"[{"code":0}]"#,
        r#""{\"code\":0}""#,
        r#"{"code":1}{"code":0}"#,
        r#"Notice: {"code":1} {"code":0}"#,
        r#"{"code":1,"x": <br />Notice {"code":0}}"#,
        r#"{"code":"0"}"#,
        r#"{"code":0.5}"#,
        r#"{"code":0,"code":1}"#,
        "{'code':0}",
        "{code:0}",
    ];

    for body in bodies {
        assert_eq!(is_accepted(&whole(body)), Ok(false), "{body}");
    }
}

#[test]
fn what_is_coded_in_an_unknown_manner_is_unreadable() {
    let mut cut = gzip(OK.as_bytes());
    cut.truncate(cut.len() - 9);
    let bodies: Vec<(Coding, Vec<u8>, &str)> = vec![
        (Coding::Unknown, vec![0x8b, 4, 0x80], "Content-Encoding"),
        (Coding::Gzip, cut, "cannot be unpacked"),
        (Coding::Deflate, b"ok".to_vec(), "cannot be unpacked"),
        (Coding::None, gzip(&[b' '; MAX_BODY_BYTES + 1]), "too long when it is unpacked"),
        (Coding::None, OK.bytes().flat_map(|byte| [byte, 0, 0, 0]).collect(), "neither in UTF-8 nor in UTF-16"),
        (Coding::None, OK.bytes().flat_map(|byte| [0, 0, 0, byte]).collect(), "neither in UTF-8 nor in UTF-16"),
        (Coding::None, vec![0xff, 0xfe, 0, 0xd8], "neither in UTF-8 nor in UTF-16"),
        (Coding::None, vec![0xff, 0xfe, b'{'], "neither in UTF-8 nor in UTF-16"),
    ];

    for (coding, body, words) in bodies {
        let answer = answer(coding, body, End::Whole);
        let reason = is_accepted(&answer).expect_err(words);
        assert!(reason.contains(words), "{reason}");
        assert_eq!(actions(&answer), Err(reason));
    }
}

#[test]
fn a_body_that_breaks_off_counts_if_it_began_with_its_whole_object() {
    for body in [OK, "\u{feff}{\"code\":0}", "{\"code\":0}\n<br />"] {
        assert_eq!(is_accepted(&broken(body)), Ok(true), "{body}");
        assert_eq!(is_accepted(&answer(Coding::None, body, End::Cut)), Ok(true), "{body}");
    }
    for body in ["", "{\"code\":0", "ok", "Notice: {\"code\":0}", "<html>"] {
        assert_eq!(is_accepted(&broken(body)), Err("no answer within 1000 ms".to_owned()), "{body}");
        let reason = actions(&answer(Coding::None, body, End::Cut)).expect_err(body);
        assert_eq!(reason, "only its first 65536 bytes are read");
    }
}

#[test]
fn actions_are_read_from_the_same_wrappings() {
    let text = r#"{"actions":[{"join":"g"}]}"#;
    let bodies: Vec<Vec<u8>> = vec![
        text.into(),
        format!("\u{feff}{text}").into(),
        format!("<b>Notice</b>: x\n{text}").into(),
        utf16(text, u16::to_le_bytes),
        gzip(text.as_bytes()),
        gzip(&utf16(&format!("\u{feff}{text}"), u16::to_be_bytes)),
    ];

    for body in bodies {
        let shown = body.escape_ascii().to_string();
        assert_eq!(actions(&whole(body)).map(|actions| actions.len()), Ok(1), "{shown}");
    }
}

#[test]
fn what_asks_for_nothing_is_no_defect_and_what_may_ask_is_one() {
    for body in
        ["", "ok", "<html class=\"actions\">{\"a\":}</html>", "{\"a\":1}{\"b\":2}", "{broken", "[1]", "\u{6210}"]
    {
        assert_eq!(actions(&whole(body)), Ok(vec![]), "{body}");
    }
    let bodies = [
        r#"{"actions":[{"join":"g"}]"#,
        r#"{"actions":[]}{"actions":[]}"#,
        r#"Notice: {"a":1} {"actions":[]}"#,
        r#"[{"actions":[]}]"#,
        r#""{\"actions\":[]}""#,
        "{'actions': []}",
        "{actions : []}",
        r#"{"actions":[{"shout":1}]}"#,
    ];
    for body in bodies {
        assert!(actions(&whole(body)).is_err(), "{body}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may measure")]
fn a_hostile_body_is_read_once() {
    for piece in ["{", "{\"", "{\"a\":", "{}", "{\"a\":[1,", "actions "] {
        let body = piece.repeat(MAX_BODY_BYTES / piece.len());
        let started = std::time::Instant::now();
        assert_ne!(is_accepted(&whole(body.clone())), Ok(true));
        assert_ne!(actions(&whole(body)).map(|actions| actions.len()), Ok(1));
        assert!(started.elapsed() < Duration::from_secs(2), "{piece}");
    }
}

#[test]
fn a_response_that_hardly_knows_this_api_is_doubted() {
    let of = |body: &'static str| doubt(&whole(body));

    for body in ["<!DOCTYPE html><title>Log in</title>", "  <html>", "<?xml version=\"1.0\"?>"] {
        assert_eq!(of(body), Some(Doubt::Page), "{body}");
    }
    for body in [r#"{"action":{"push":{"content":1}}}"#, r#"{"push":{"content":1}}"#, r#"{"close":{}}"#] {
        assert_eq!(of(body), Some(Doubt::Misplaced), "{body}");
    }
    assert_eq!(of(r#"[{"push":{"content":1}}]"#), Some(Doubt::Array));
    for body in
        ["", "ok", "{}", r#"{"ok":true}"#, r#"{"code":0,"message":"ok"}"#, r#"{"actions":[]}"#, "[]", "[1]", "null"]
    {
        assert_eq!(of(body), None, "{body}");
    }
}

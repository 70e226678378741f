//! Response heads, valid and invalid.

use super::*;

fn whole(text: &[u8]) -> Head {
    parse(text).expect("readable").unwrap_or_else(|| panic!("not complete: {}", text.escape_ascii()))
}

/// Framing, and whether the connection can be reused.
fn read(lines: &str) -> (Framing, bool) {
    let head = whole(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes());
    assert_eq!(head.status, StatusCode::OK);
    assert!(!head.may_be_kept || head.defect.is_none(), "{lines:?}");
    (head.framing, head.may_be_kept)
}

#[test]
fn a_head_without_defects_may_be_followed_by_another() {
    let heads = [
        ("content-length: 2\r\n", Framing::Length(2)),
        ("CONTENT-LENGTH:2\r\n", Framing::Length(2)),
        ("content-length:\t 2 \r\n", Framing::Length(2)),
        ("transfer-encoding: Chunked\r\n", Framing::Chunked),
        ("transfer-encoding: chunked\r\nx-name: caf\u{e9}\r\nconnection: keep-alive\r\n", Framing::Chunked),
        ("content-length: 2\r\nempty:\r\ncolons: a:b:c\r\ncontent-encoding: gzip\r\n", Framing::Length(2)),
    ];

    for (lines, framing) in heads {
        assert_eq!(read(lines), (framing, true), "{lines:?}");
    }
    let (framing, _) = read("server: x\r\n");
    assert_eq!(framing, Framing::UntilClose);
}

#[test]
fn what_is_wrong_is_read_as_browsers_do_and_ends_the_connection() {
    let heads = [
        ("content-length : 2\r\n", Framing::Length(2)),
        ("content-length: 2, 2\r\n", Framing::Length(2)),
        ("content-length: 2\r\ncontent-length: 2\r\n", Framing::Length(2)),
        ("content-length:\r\n 2\r\n", Framing::Length(2)),
        ("content-length: 2\r\ntransfer-encoding: identity\r\n", Framing::Length(2)),
        ("content-length: 2\r\nn\u{e4}me: x\r\n", Framing::Length(2)),
        ("content-length: 2\r\n: x\r\n", Framing::Length(2)),
        ("content-length: 2\r\n:\r\n", Framing::Length(2)),
        ("content-length: 2\r\nno colon\r\n", Framing::Length(2)),
        ("content-length: 2\r\nHTTP/1.1 200 OK\r\n", Framing::Length(2)),
        ("content-length: 2\r\nx: a\0b\r\n", Framing::Length(2)),
        ("content-length: 2\r\nx: a\rb\r\n", Framing::Length(2)),
        ("content-length: 2\r\nx y: a\r\n", Framing::Length(2)),
        ("content-length: 2\r\nx: a\n", Framing::Length(2)),
        ("content-length: 2\r\nx: a\r\r\n", Framing::Length(2)),
        (" content-length: 5\r\ncontent-length: 2\r\n", Framing::Length(2)),
        ("transfer-encoding: chunked\r\ncontent-length: 2\r\n", Framing::Chunked),
        ("transfer-encoding: identity, chunked\r\n", Framing::Chunked),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", Framing::Chunked),
        ("transfer-encoding:\r\n\tchunked\r\n", Framing::Chunked),
        ("transfer-encoding: gzip, chunked\r\n", Framing::Chunked),
        ("transfer-encoding: gzip\r\ncontent-length: 2\r\n", Framing::UntilClose),
        ("transfer-encoding: identity\r\n", Framing::UntilClose),
        ("content-length: 2, 3\r\n", Framing::Unclear),
        ("content-length: 2\r\ncontent-length: 3\r\n", Framing::Unclear),
        ("content-length:\r\n", Framing::Unclear),
        ("content-length: +2\r\n", Framing::Unclear),
        ("content-length: 2 bytes\r\n", Framing::Unclear),
        ("content-length: 99999999999999999999999\r\n", Framing::Unclear),
        ("connection: x, close\r\ncontent-length: 2\r\n", Framing::Length(2)),
        ("connection: close\r\ncontent-length: 2, 3\r\n", Framing::UntilClose),
    ];

    for (lines, framing) in heads {
        assert_eq!(read(lines), (framing, false), "{lines:?}");
    }
}

#[test]
fn some_answers_have_no_body() {
    let framing = |text: &str| whole(text.as_bytes()).framing;

    for status in [101, 204, 304] {
        assert_eq!(framing(&format!("HTTP/1.1 {status} X\r\n\r\n")), Framing::Length(0), "{status}");
        assert_eq!(
            framing(&format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")),
            Framing::Length(0),
            "{status}"
        );
    }
    assert_eq!(framing("HTTP/1.1 304 X\r\ncontent-length: 5\r\n\r\n"), Framing::Length(0));
    for lines in ["content-length: 5", "content-length: x", "transfer-encoding: chunked"] {
        assert_eq!(framing(&format!("HTTP/1.1 204 X\r\n{lines}\r\n\r\n")), Framing::Forbidden, "{lines}");
    }
}

#[test]
fn a_status_line_may_be_odd() {
    let lines = [
        ("HTTP/1.1 200 OK", 200, true),
        ("HTTP/1.1 200", 200, true),
        ("HTTP/1.1 200 ", 200, true),
        ("HTTP/1.1 299 \u{4e2d}\u{6587}", 299, true),
        ("HTTP/1.0 404 Not Found", 404, false),
        ("http/1.1 200 OK", 200, false),
        ("HTTP/1.1  200 OK", 200, false),
        ("HTTP/1.1\t200 OK", 200, false),
        ("HTTP/1.1 200OK", 200, false),
        ("HTTP/1 200 OK", 200, false),
        ("HTTP/2 200", 200, false),
        ("HTTP/1.1 200 O\0K", 200, false),
        ("\r\n\r\nHTTP/1.1 200 OK", 200, false),
    ];

    for (line, status, may_be_kept) in lines {
        let text = format!("{line}\r\ncontent-length: 0\r\n\r\n");
        let head = whole(text.as_bytes());
        assert_eq!((head.status.as_u16(), head.may_be_kept), (status, may_be_kept), "{line:?}");
        assert_eq!(head.length, text.len(), "{line:?}");
        assert_eq!(super::status(format!("{line}\r\nx").as_bytes()).map(|status| status.as_u16()), Some(status));
    }
    for line in ["SSH-2.0-OpenSSH_9.2", "HTTP/1.1 abc", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1", "ICY 200 OK", "{}"]
    {
        assert_eq!(parse(format!("{line}\r\n\r\n").as_bytes()), Err(Malformed::NotHttp), "{line:?}");
    }
}

#[test]
fn a_head_that_is_not_complete_is_waited_for_and_its_status_is_known_behind_its_line() {
    let text = b"\r\nHTTP/1.1 204 X\r\na: b\r\n\r\n";
    for length in 0..text.len() {
        assert_eq!(parse(&text[..length]), Ok(None), "{length}");
        let status = super::status(&text[..length]);
        assert_eq!(status.is_some(), length >= 18, "{length}: {status:?}");
    }
    assert_eq!(parse(b"HTTQ"), Err(Malformed::NotHttp), "no need to wait");
    assert_eq!(super::status(b"HTTP/1.1 103 Early Hints\r\nlink: <"), None);
}

#[test]
fn a_head_has_at_most_256_lines_and_64_kib() {
    let lines = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(count));
    let bytes = |length: usize| format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(length - 24));

    assert!(parse(lines(256).as_bytes()).is_ok_and(|head| head.is_some()));
    assert_eq!(parse(lines(257).as_bytes()), Err(Malformed::HeadTooLarge));
    assert!(parse(bytes(MAX_HEAD_BYTES).as_bytes()).is_ok_and(|head| head.is_some()));
    assert_eq!(parse(bytes(MAX_HEAD_BYTES + 1).as_bytes()), Err(Malformed::HeadTooLarge));
    let endless = format!("HTTP/1.1 200 {}", "x".repeat(MAX_HEAD_BYTES));
    assert_eq!(parse(endless.as_bytes()), Err(Malformed::HeadTooLarge));
    assert_eq!(super::status(endless.as_bytes()), Some(StatusCode::OK));
}

#[test]
fn the_coding_of_the_body_is_known() {
    let codings = [
        ("", Coding::None),
        ("content-encoding: identity\r\n", Coding::None),
        ("Content-Encoding: x-GZIP\r\n", Coding::Gzip),
        ("content-encoding: identity, deflate\r\n", Coding::Deflate),
        ("transfer-encoding: gzip, chunked\r\n", Coding::Gzip),
        ("content-encoding: br\r\n", Coding::Unknown),
        ("content-encoding: gzip, gzip\r\n", Coding::Unknown),
    ];

    for (lines, coding) in codings {
        assert_eq!(whole(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes()).coding, coding, "{lines:?}");
    }
}

#[test]
fn a_date_is_kept_for_a_retry_after_only() {
    let head = |lines: &str| whole(format!("HTTP/1.1 503 X\r\n{lines}\r\n").as_bytes());

    assert_eq!(head("date: d\r\n").date, None);
    let both = head("date: d\r\nretry-after: r\r\n");
    assert_eq!((both.retry_after.as_deref(), both.date.as_deref()), (Some("r"), Some("d")));
}

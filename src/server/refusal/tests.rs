use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// The refusal for a head that the parser leaves unread.
fn of(head: &[u8]) -> Refusal {
    Refusal::of_head(head, "")
}

fn head(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n").into_bytes()
}

#[test]
fn what_is_wrong_with_a_head_is_said_of_that() {
    for (bytes, refusal) in [
        (head(&"X-Many: x\r\n".repeat(MAX_HEADERS)), Refusal::HeadersTooMany),
        (head(&format!("X-Long: {}\r\n", "x".repeat(MAX_HEAD_BYTES))), Refusal::HeadTooLong),
        (head(&format!("X-Long: {}", "x".repeat(MAX_HEAD_BYTES))), Refusal::HeadTooLong),
        (format!("GET /{}", "x".repeat(MAX_HEAD_BYTES)).into_bytes(), Refusal::TargetTooLong),
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Refusal::BadTarget),
        (b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Refusal::BadTarget),
        (b"GET /\r\n".to_vec(), Refusal::BadTarget),
        (b"GET\r\n\r\n".to_vec(), Refusal::BadTarget),
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n".to_vec(), Refusal::HttpVersion),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_vec(), Refusal::HttpVersion),
        (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n".to_vec(), Refusal::HttpVersion),
        (head("no colon\r\n"), Refusal::BadHeader),
        (head("X-A : b\r\n"), Refusal::BadHeader),
        (head("X-A: b\r\n folded\r\n"), Refusal::BadHeader),
        (head("X-A: b\0\r\n"), Refusal::BadHeader),
        (b"GET / HTTP/1.1\r\nHost: x\r\n".to_vec(), Refusal::HeadIncomplete),
        (b"G".to_vec(), Refusal::HeadIncomplete),
        (b"\r\nPOST /v1/tu".to_vec(), Refusal::HeadIncomplete),
        (b"A-METHOD-LONGER-THAN-ANY / HTTP/1.1".to_vec(), Refusal::NotHttp),
    ] {
        assert_eq!(of(&bytes), refusal, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
    }
}

#[test]
fn what_the_parser_has_taken_already_is_known_by_its_words() {
    assert_eq!(Refusal::of_head(b"", "invalid URI"), Refusal::BadTarget);
    assert_eq!(Refusal::of_head(b"", "invalid content-length parsed"), Refusal::BadLength);
    assert_eq!(Refusal::of_head(b"", "unexpected transfer-encoding parsed"), Refusal::BadLength);
}

#[test]
fn other_protocols_are_known_by_their_first_bytes() {
    for (bytes, refusal, name) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], Refusal::TlsOnPlainPort, None),
        (b"\x80\x2e\x01\x03\x01\x00\x15", Refusal::TlsOnPlainPort, None),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Refusal::ProxyHeaderUnexpected, None),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", Refusal::ProxyHeaderUnexpected, None),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::Http2Preface, None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Refusal::NotHttp, Some("SSH")),
        (b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03", Refusal::NotHttp, Some("remote desktop (RDP)")),
        (b"\x05\x01\0", Refusal::NotHttp, Some("a SOCKS proxy client")),
        (b"*1\r\n$4\r\nPING\r\n", Refusal::NotHttp, Some("Redis")),
        (b"EHLO example.com\r\n", Refusal::NotHttp, Some("mail (SMTP)")),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Refusal::NotHttp, Some("a database or file-sharing client")),
        (b"\xff\xfe\xfd", Refusal::NotHttp, None),
        (b"hello there, who is it", Refusal::NotHttp, None),
        (b"{\"json\": true}", Refusal::NotHttp, None),
    ] {
        assert_eq!((of(bytes), guess(bytes)), (refusal, name), "{bytes:?}");
    }
}

#[test]
fn a_failed_tls_handshake_is_known_by_its_error() {
    use rustls::Error::AlertReceived;
    use rustls::Error::PeerIncompatible as Incompatible;
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for (error, refusal) in [
        (None, Refusal::TlsIncomplete),
        (Some(rustls::Error::NoApplicationProtocol), Refusal::TlsProtocol),
        (Some(Incompatible(PeerIncompatible::Tls12NotOfferedOrEnabled)), Refusal::TlsVersion),
        (Some(AlertReceived(AlertDescription::ProtocolVersion)), Refusal::TlsVersion),
        (Some(Incompatible(PeerIncompatible::NoCipherSuitesInCommon)), Refusal::TlsCipher),
        (Some(Incompatible(PeerIncompatible::NoKxGroupsInCommon)), Refusal::TlsCipher),
        (Some(Incompatible(PeerIncompatible::NoSignatureSchemesInCommon)), Refusal::TlsCipher),
        (Some(AlertReceived(AlertDescription::UnknownCA)), Refusal::TlsCertificate),
        (Some(AlertReceived(AlertDescription::CertificateExpired)), Refusal::TlsCertificate),
        (Some(AlertReceived(AlertDescription::UserCanceled)), Refusal::TlsFailed),
        (Some(rustls::Error::DecryptError), Refusal::TlsFailed),
    ] {
        assert_eq!(Refusal::of_tls(hello, error.as_ref()), refusal, "{error:?}");
    }
    let old = b"\x16\x03\x01\0\x2d\x01\0\0\x29\x03\x01\x07\x07\x07";
    let error = Incompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired);
    assert_eq!(Refusal::of_tls(old, Some(&error)), Refusal::TlsVersion);
}

#[test]
fn what_is_no_tls_on_a_tls_port_is_known_whatever_the_error() {
    for (bytes, refusal) in [
        (&b"GET / HTTP/1.1\r\n"[..], Refusal::PlainOnTlsPort),
        (b"POST /get/wsurl HTTP/1.1\r\n", Refusal::PlainOnTlsPort),
        (b"PROXY TCP4 192.0.2.1 ", Refusal::ProxyHeaderUnexpected),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Refusal::NotHttp),
    ] {
        let error = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(Refusal::of_tls(bytes, Some(&error)), refusal, "{bytes:?}");
        assert_eq!(Refusal::of_tls(bytes, None), refusal, "{bytes:?}");
    }
}

#[test]
fn what_came_is_shown_short_and_without_secrets() {
    assert_eq!(shown(b"\x16\x03\x01\r\n\"'\\"), r#"\x16\x03\x01\r\n\"\'\\"#);
    assert_eq!(shown(b"GET /a/long/path/indeed HTTP/1.1\r\n"), "GET /a/long/path");
    assert_eq!(shown(b"GET /ws/c2VjcmV0 HTTP/9"), "GET /ws/...");
    assert_eq!(shown(b"GET /mina_auth/secret"), "GET /mina_auth/...");
    assert_eq!(shown(b"PUT /wafer/login/app"), "PUT /wafer/...");
    assert_eq!(shown(b"GET /ws/"), "GET /ws/");
    assert_eq!(shown(b"GET /a?key=abc HTTP/9.9"), "GET /a...");
    assert_eq!(shown(b"GET /%77s/c2VjcmV0"), "GET /...");
    assert_eq!(shown(b""), "");
}

proptest! {
    #[test]
    fn whatever_comes_has_a_class_and_is_shown_short(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        Refusal::of_head(&bytes, "");
        Refusal::of_tls(&bytes, None);
        Refusal::of_no_tls(&bytes);
        let text = shown(&bytes);
        prop_assert!(text.len() <= 4 * SHOWN_BYTES && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
    }
}

#[test]
fn every_refusal_says_what_to_change() {
    let mut codes = HashSet::new();
    for refusal in Refusal::ALL {
        let code = refusal.code();
        assert!(codes.insert(code) || code == "too_slow", "{code} twice");
        assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{code}");
        assert!(refusal.status().is_none_or(|status| (400..600).contains(&status)), "{code}");
        assert!(refusal.advice().contains([':', ',']) && !refusal.advice().ends_with('.'), "{code}");
    }
    assert!(Refusal::HeadersTooMany.advice().contains(&format!("{MAX_HEADERS} header lines")));
    assert!(Refusal::HeadTooLong.advice().contains(&format!("{} KiB", MAX_HEAD_BYTES / 1024)));
}

/// The parser has consumed the head, and the unread rest is a body or empty.
#[test]
fn a_length_that_is_none_is_named_whatever_follows_it() {
    for parser in
        ["invalid content-length parsed", "invalid transfer-encoding parsed", "unexpected transfer-encoding parsed"]
    {
        for unread in
            [&b""[..], b"hello", b"{\"a\":1}", b"5\r\nhello\r\n", b"*3\r\n", b"\x16\x03\x01", b"POST / HTTP/1.1\r\n"]
        {
            assert_eq!(Refusal::of_head(unread, parser), Refusal::BadLength, "{parser} {unread:?}");
        }
    }
}

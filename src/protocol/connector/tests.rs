//! What is written is read back, and what is wrong is named.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,12}", any::<String>()]
}

fn headers() -> impl Strategy<Value = Headers> {
    vec(("[a-z-]{1,8}", text()), 0..5).prop_map(|fields| fields.into_iter().collect())
}

fn window() -> impl Strategy<Value = Window> {
    any::<(u32, u64)>().prop_map(|(events, bytes)| Window { events, bytes })
}

fn hello() -> impl Strategy<Value = Hello> {
    let take = prop_oneof![Just(Take::Named), vec(text(), 1..4).prop_map(Take::Urls)];
    let who = (text(), text(), text(), select(vec![Purpose::Listen, Purpose::Serve]));
    let rest = (take, window(), option::of(any::<u64>()), option::of(text()), vec(text(), 0..4));
    (any::<u32>(), who, rest).prop_map(|(v, (name, instance, agent, purpose), rest)| {
        let (take, window, attempt_ms, session, pending) = rest;
        Hello { v, name, instance, purpose, take, window, attempt_ms, session, pending, agent }
    })
}

/// A message of a connector: its parts, and its head.
fn from_connector() -> impl Strategy<Value = (FromConnector, Vec<u8>)> {
    let answer = (text(), any::<u32>(), any::<u16>(), headers(), 0..1_u64 << 53, any::<bool>()).prop_map(
        |(id, attempt, status, headers, ms, truncated)| Answer { id, attempt, status, headers, ms, truncated },
    );
    let failure = (text(), any::<u32>(), select(FailureCode::ALL.to_vec()), any::<bool>(), text())
        .prop_map(|(id, attempt, code, sent, reason)| Failure { id, attempt, code, sent, reason });
    let call =
        (text(), text(), text(), headers()).prop_map(|(id, method, path, headers)| Call { id, method, path, headers });
    prop_oneof![
        hello().prop_map(|hello| (FromConnector::Hello(Box::new(hello.clone())), hello.head())),
        answer.prop_map(|answer| (FromConnector::Answer(answer.clone()), answer.head())),
        failure.prop_map(|failure| (FromConnector::Failure(failure.clone()), failure.head())),
        any::<u64>().prop_map(|within_ms| {
            let drain = Drain { within_ms };
            (FromConnector::Drain(drain), drain.head())
        }),
        call.prop_map(|call| (FromConnector::Call(call.clone()), call.head())),
    ]
}

/// A message of the gateway: its parts, and its head.
fn from_gateway() -> impl Strategy<Value = (FromGateway, Vec<u8>)> {
    let ttl = option::of(any::<(u64, u64)>().prop_map(|(message_ms, close_ms)| Ttl { message_ms, close_ms }));
    let counts = (any::<u32>(), any::<u32>(), option::of(any::<u64>()), option::of(any::<u64>()), ttl);
    let welcome = (any::<u32>(), text(), text(), window(), any::<u64>(), any::<u64>(), counts).prop_map(
        |(v, session, node, window, heartbeat_ms, now, (nodes, connectors, waiting, lost, ttl))| Welcome {
            v,
            session,
            node,
            nodes,
            connectors,
            window,
            heartbeat_ms,
            now,
            waiting,
            lost,
            ttl,
        },
    );
    let names = (text(), text(), text(), text(), text());
    let event = (names, any::<u32>(), option::of(any::<u64>()), headers(), any::<u64>(), any::<u64>()).prop_map(
        |((id, tunnel, event, url, path), attempt, sequence, headers, timeout_ms, expires)| Event {
            id,
            attempt,
            tunnel,
            event,
            sequence,
            url,
            path,
            headers,
            timeout_ms,
            expires,
        },
    );
    let cancel = (text(), any::<u32>(), text()).prop_map(|(id, attempt, reason)| Cancel { id, attempt, reason });
    let notice = (text(), text(), text()).prop_map(|(code, message, fix)| Notice { code, message, fix });
    let result = (text(), any::<u16>()).prop_map(|(id, status)| CallResult { id, status });
    prop_oneof![
        welcome.prop_map(|welcome| (FromGateway::Welcome(Box::new(welcome.clone())), welcome.head())),
        event.prop_map(|event| (FromGateway::Event(Box::new(event.clone())), event.head())),
        cancel.prop_map(|cancel| (FromGateway::Cancel(cancel.clone()), cancel.head())),
        notice.prop_map(|notice| (FromGateway::Notice(notice.clone()), notice.head())),
        result.prop_map(|result| (FromGateway::Result(result.clone()), result.head())),
    ]
}

/// The head with a field that this version does not know.
fn with_unknown_field(head: &[u8]) -> Vec<u8> {
    let rest = head.strip_prefix(b"{").expect("an object");
    [b"{\"later\":{\"a\":[1,\"\\n\"]},", rest].concat()
}

proptest! {
    #[test]
    fn what_a_connector_writes_is_read_back((message, head) in from_connector(), body in vec(any::<u8>(), 0..40)) {
        for head in [with_unknown_field(&head), head] {
            prop_assert_eq!(head.iter().position(|byte| *byte == b'\n'), Some(head.len() - 1));
            let read = FromConnector::decode(with_body(head, &body).into()).expect("well-formed");
            prop_assert_eq!(&read, &(message.clone(), Bytes::from(body.clone())));
        }
    }

    #[test]
    fn what_the_gateway_writes_is_read_back((message, head) in from_gateway(), body in vec(any::<u8>(), 0..40)) {
        for head in [with_unknown_field(&head), head] {
            let read = FromGateway::decode(with_body(head, &body).into()).expect("well-formed");
            prop_assert_eq!(&read, &(message.clone(), Bytes::from(body.clone())));
        }
    }
}

fn from(text: &str) -> Result<(FromConnector, Bytes), Malformed> {
    FromConnector::decode(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn a_body_shares_the_memory_of_its_message() {
    let message = Bytes::from(with_body(Answer::new("i", 1, 200).head(), b"body\nof two lines"));

    let (_, body) = FromConnector::decode(message.clone()).expect("well-formed");

    assert_eq!(body.as_ptr(), message[message.len() - body.len()..].as_ptr());
    assert_eq!(body, "body\nof two lines");
}

#[test]
fn a_later_type_is_ignored_and_a_body_is_optional() {
    assert_eq!(from("{\"type\":\"greet\",\"id\":7}\nbody"), Ok((FromConnector::Unknown, "body".into())));
    let (answer, body) = from(r#"{"type":"answer","id":"i","attempt":2,"status":204,"ms":12.7}"#).expect("valid");
    assert_eq!(answer, FromConnector::Answer(Answer { ms: 12, ..Answer::new("i", 2, 204) }));
    assert_eq!(body, "");
    let (failure, _) = from(r#"{"type":"error","id":"i","attempt":1,"code":"solar_flare"}"#).expect("valid");
    let other = Failure { id: "i".into(), attempt: 1, code: FailureCode::Other, sent: true, reason: String::new() };
    assert_eq!(failure, FromConnector::Failure(other), "without a word the event may have been seen");
}

#[test]
fn a_malformed_head_says_what_to_change_without_a_value() {
    let many = serde_json::json!({"type": "hello", "v": 1, "name": "a", "instance": "i", "purpose": "listen",
        "take": {"named": true}, "window": {"events": 1, "bytes": 1}, "pending": vec!["x"; MAX_PENDING + 1]});
    let takes_all = many.to_string().replace(r#"{"named":true}"#, "{}");
    for (text, words) in [
        ("", "JSON object"),
        ("\n{}", "JSON object"),
        ("hello", "JSON object"),
        (r#"["answer"]"#, "JSON object"),
        (r#"{"type":7}"#, "\"type\""),
        (r#"{"id":"secret"}"#, "\"type\""),
        (r#"{"type":"answer","id":"secret","attempt":-1,"status":200}"#, "answer: invalid value: integer"),
        (r#"{"type":"answer","id":"secret","attempt":1,"status":70000}"#, "answer: invalid value: integer"),
        (r#"{"type":"answer","attempt":1,"status":200}"#, "missing field `id`"),
        (&takes_all, "take must be"),
        (&many.to_string(), "hello: pending has more than 1024 entries"),
        (&format!("{{\"type\":\"answer\",\"id\":\"{}\"}}", "x".repeat(MAX_HEAD_BYTES)), "longer than 131072 bytes"),
    ] {
        let words_of = from(text).expect_err(text).to_string();
        assert!(words_of.contains(words) && !words_of.contains("secret"), "{words_of}");
    }
}

#[test]
fn header_names_are_in_lower_case_and_come_once() {
    let headers: Headers = [("Retry-After", "1"), ("vary", "a"), ("Vary", "b")].into_iter().collect();

    assert_eq!(serde_json::to_string(&headers).expect("JSON"), r#"{"retry-after":"1","vary":"a, b"}"#);
    assert_eq!(headers.get("retry-after"), Some("1"));
    assert!(serde_json::from_str::<Headers>(r#"{"a":1}"#).is_err());
}

#[test]
fn the_largest_message_holds_the_largest_client_message() {
    assert_eq!(max_message_bytes(131_072), 7 * 131_072 + 256 * 1024 + 16 * 1024);
    assert_eq!(max_message_bytes(usize::MAX), usize::MAX);
}

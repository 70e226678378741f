//! Answers that begin with 2xx, in every way that servers have got wrong: how often their event is handled, whether what they ask for is
//! done, and what is said about it.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::checker::dead_letters;
use crate::support::KEY;
use crate::support::TestClient;
use crate::support::TestGateway;
use crate::support::Wafer;
use crate::support::business::read_request;
use crate::support::native::Native;

const NATIVE_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The body of a readable response.
const BODY: &str = r#"{"code":0,"actions":[{"push":{"content":"acted"}}]}"#;

/// The answer to the event behind the one in question.
const LAST: &str = r#"{"code":0,"actions":[{"push":{"content":"last"}}]}"#;

/// What a server does after its response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    /// It waits for the next request.
    Keep,
    /// It closes the connection.
    Close,
    /// It resets the connection.
    Reset,
    /// It says nothing more, not even to another request.
    Hang,
}

/// Expected outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    /// Its actions run.
    Acts,
    /// It says nothing that is for the gateway: fine for a native business server, no for a Wafer one.
    Nothing,
    /// The same, but it is no answer of a handler of events: the last error says so in these words.
    Doubted(&'static str),
    /// It cannot be read, and that is said in these words.
    Unread(&'static str),
}

/// An answer, what becomes of it, and whether its connection is used again.
struct Variant {
    name: &'static str,
    answer: Vec<u8>,
    then: Then,
    told: Told,
    is_kept: bool,
}

/// `BODY` behind these header lines, each with its line end, and a length.
fn with(lines: &str) -> Vec<u8> {
    whole(lines, BODY)
}

fn whole(lines: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A head of these lines, and `BODY`.
fn raw(head: &str) -> Vec<u8> {
    format!("{head}\r\n\r\n{BODY}").into_bytes()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// `BODY` in one chunk that begins with this line; then this end.
fn chunked(lines: &str, size: &str, end: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n\r\n{size}{BODY}{end}").into_bytes()
}

#[rustfmt::skip]
fn variants() -> Vec<Variant> {
    use Then::*;
    use Told::*;
    let length = BODY.len();
    let size = format!("{length:x}\r\n");
    let half = &BODY[..length / 2];
    let begun = |head: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{head}").into_bytes();
    let kept = |name, answer| Variant { name, answer, then: Keep, told: Acts, is_kept: true };
    let once = |name, answer| Variant { name, answer, then: Keep, told: Acts, is_kept: false };
    let closed = |name, answer| Variant { name, answer, then: Close, told: Acts, is_kept: false };
    let silent = |name, answer, is_kept| Variant { name, answer, then: Keep, told: Nothing, is_kept };
    let unread = |name, answer, then, words| Variant { name, answer, then, told: Unread(words), is_kept: then == Keep };
    let broken = |name, answer, then, words| Variant { name, answer, then, told: Unread(words), is_kept: false };
    const EOF: &str = "connection closed before the answer was complete";
    const RESET: &str = "connection reset";
    const LATE: &str = "no answer within 300 ms";
    const LARGE: &str = "the head of the answer is too large";
    vec![
        // As it should be, if unusual.
        kept("plain", with("")),
        kept("120 header lines", with(&"x: y\r\n".repeat(120))),
        kept("256 header lines", with(&"x: y\r\n".repeat(255))),
        kept("a long line", with(&format!("x: {}\r\n", "y".repeat(60_000)))),
        kept("interim answers", [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", &with("")[..]].concat()),
        kept("a reason in Chinese", raw(&format!("HTTP/1.1 200 \u{597d}\r\nContent-Length: {length}"))),
        kept("no reason", raw(&format!("HTTP/1.1 200\r\nContent-Length: {length}"))),
        kept("bytes beyond ASCII in a value", [b"HTTP/1.1 200 OK\r\nX: caf\xe9\r\n", &with("")["HTTP/1.1 200 OK\r\n".len()..]].concat()),
        kept("an empty value", with("X:\r\n")),
        kept("chunks with extensions and trailers", chunked("", &format!("{length:X};a=\"b\"\r\n"), "\r\n0;last\r\nX: y\r\n\r\n")),
        kept("gzip", whole("Content-Encoding: gzip\r\n", gzip(BODY))),
        kept("gzip that says nothing", whole("", gzip(BODY))),
        kept("a plain body that says gzip", with("Content-Encoding: gzip\r\n")),
        kept("a byte order mark", whole("", format!("\u{feff}{BODY}"))),
        kept("three byte order marks", whole("", format!("\u{feff}\r\n\u{feff}\u{feff}{BODY}"))),
        kept("UTF-16", whole("", utf16(&format!("\u{feff}{BODY}")))),
        kept("UTF-16 without a mark", whole("", utf16(BODY))),
        kept("a notice of PHP", whole("", format!("PHP Notice:  Undefined index: x in /a.php on line 3\n{BODY}"))),
        kept("a notice in HTML", whole("", format!("<br />\n<b>Notice</b>:  x in <b>/a.php</b> on line <b>3</b><br />\n{BODY}"))),
        kept("a notice behind", whole("", format!("{BODY}<br />\n<b>Deprecated</b>: x"))),
        kept("a zero with a fraction", whole("", BODY.replace("0", "0.0"))),
        // Wrong, and read as browsers read it.
        once("a space before the colon", with("X : y\r\n")),
        once("a space before the colon of the length", raw(&format!("HTTP/1.1 200 OK\r\nContent-Length : {length}"))),
        once("a name in UTF-8", with("N\u{e4}me: y\r\n")),
        once("no name", with(": y\r\n")),
        once("no colon", with("nonsense\r\n")),
        once("a folded line", with("X: a\r\n b\r\n")),
        once("a folded line first", with(" X: a\r\n")),
        once("a NUL in a value", with("X: a\0b\r\n")),
        once("a CR in a value", with("X: a\rb\r\n")),
        once("two status lines", with("HTTP/1.1 200 OK\r\n")),
        once("line feeds alone", format!("HTTP/1.1 200 OK\nContent-Length: {length}\n\n{BODY}").into_bytes()),
        once("an empty line first", [b"\r\n", &with("")[..]].concat()),
        once("a version in small letters", raw(&format!("http/1.1 200 OK\r\nContent-Length: {length}"))),
        once("two spaces", raw(&format!("HTTP/1.1  200 OK\r\nContent-Length: {length}"))),
        once("identity", with("Transfer-Encoding: identity\r\n")),
        once("a list of the same length", raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}, {length}"))),
        once("the same length twice", with(&format!("Content-Length: {length}\r\n"))),
        once("a length and chunks", chunked("Content-Length: 3\r\n", &size, "\r\n0\r\n\r\n")),
        once("chunked twice", chunked("Transfer-Encoding: chunked\r\n", &size, "\r\n0\r\n\r\n")),
        once("line feeds alone in chunks", chunked("", &format!("{length:x}\n"), "\n0\n\n")),
        once("a padded size of a chunk", chunked("", &format!("{length:x}   \r\n"), "\r\n0\r\n\r\n")),
        once("a second answer behind the first", [with(""), whole("", "{\"code\":1}")].concat()),
        once("HTTP/1.0 with a length", raw(&format!("HTTP/1.0 200 OK\r\nContent-Length: {length}"))),
        once("close", with("Connection: close\r\n")),
        closed("HTTP/1.0 without a length", raw("HTTP/1.0 200 OK")),
        closed("no length", raw("HTTP/1.1 200 OK")),
        closed("no length that can be read, and close", raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1, 2")),
        closed("no line behind the last chunk", chunked("", &size, "\r\n0\r\n")),
        closed("no last chunk", chunked("", &size, "\r\n")),
        closed("a chunk that is too long", chunked("", &format!("ff{size}"), "")),
        closed("a length that is too long", raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}", length + 9))),
        Variant { then: Reset, ..closed("no length, and a reset", raw("HTTP/1.1 200 OK")) },
        Variant { then: Hang, ..closed("a length that is too long, and silence", raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}", length + 9))) },
        Variant { then: Hang, ..closed("no length, and silence", raw("HTTP/1.1 200 OK")) },
        // Of which a part is missing, or means two things.
        broken("a status line alone, and close", b"HTTP/1.1 200 OK\r\n".to_vec(), Close, EOF),
        broken("a status line alone, and silence", b"HTTP/1.1 200 OK\r\n".to_vec(), Hang, LATE),
        broken("a status line alone, and a reset", b"HTTP/1.1 200 OK\r\n".to_vec(), Reset, RESET),
        broken("half of a head, and close", begun("X: "), Close, EOF),
        broken("half of a head, and silence", begun("X: "), Hang, LATE),
        broken("a head alone, and close", begun("\r\n"), Close, EOF),
        broken("a head alone, and silence", begun("\r\n"), Hang, LATE),
        broken("half of a body, and close", begun(&format!("\r\n{half}")), Close, EOF),
        broken("half of a body, and silence", begun(&format!("\r\n{half}")), Hang, LATE),
        broken("half of a body, and a reset", begun(&format!("\r\n{half}")), Reset, RESET),
        broken("half of a chunk, and close", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}{half}").into_bytes(), Close, EOF),
        broken("300 header lines", with(&"x: y\r\n".repeat(300)), Hang, LARGE),
        broken("a head of 70 kB", with(&format!("x: {}\r\n", "y".repeat(70_000))), Hang, LARGE),
        broken("a reason of 70 kB", format!("HTTP/1.1 200 {}", "y".repeat(70_000)).into_bytes(), Hang, LARGE),
        broken("lengths that differ", raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}, 2")), Hang, "the answer has no valid Content-Length"),
        broken("a length that is none", raw("HTTP/1.1 200 OK\r\nContent-Length: 51 bytes"), Hang, "the answer has no valid Content-Length"),
        broken("a size that is none", chunked("", "zz\r\n", "\r\n0\r\n\r\n"), Hang, "the answer is not chunked as it says"),
        broken("a chunk that is longer than it says", chunked("", "9\r\n", "\r\n0\r\n\r\n"), Hang, "the answer is not chunked as it says"),
        broken("a length that is too short", raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}", length - 5)), Keep, "the answer has more than its head says"),
        broken("204 with a body", raw(&format!("HTTP/1.1 204 No Content\r\nContent-Length: {length}")), Keep, "the answer has more than its head says"),
        unread("brotli", whole("Content-Encoding: br\r\n", b"\x8b\x04\x80\x7b\x03"), Keep, "a Content-Encoding that was not asked for"),
        unread("gzip that is cut", whole("", &gzip(BODY)[..20]), Keep, "it cannot be unpacked"),
        unread("two objects", whole("", BODY.repeat(2)), Keep, "there are several JSON objects in it"),
        unread("Python's own notation", whole("", BODY.replace('"', "'")), Keep, "it is not JSON"),
        unread("JSON in JSON", whole("", json!(BODY).to_string()), Keep, "it is JSON, but no object"),
        unread("a list", whole("", format!("[{BODY}]")), Keep, "it is JSON, but no object"),
        unread("UTF-32", whole("", BODY.bytes().flat_map(|byte| [byte, 0, 0, 0]).collect::<Vec<_>>()), Keep, "it is neither in UTF-8 nor in UTF-16"),
        broken("more than 64 KiB", whole("", format!("{}{BODY}", " ".repeat(70_000))), Keep, "only its first 65536 bytes are read"),
        // Nothing that is for the gateway.
        silent("204", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), true),
        silent("an empty body", whole("", ""), true),
        silent("ok", whole("", "ok"), true),
        Variant {
            told: Doubted("answered by a web page"),
            ..silent("HTML", whole("", "<!doctype html><title>Actions</title><style>p{a:b}</style>"), true)
        },
    ]
}

/// A server with its answers.
struct RawServer {
    address: SocketAddr,
    /// Number of the variant, of the connection, and the body, of each request.
    requests: Arc<Mutex<Vec<(usize, usize, String)>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl RawServer {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let seen = Arc::clone(&requests);
        let accepting = tokio::spawn(async move {
            let variants: Arc<Vec<Variant>> = Arc::new(variants());
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                tokio::spawn(serve(stream, connection, Arc::clone(&variants), Arc::clone(&seen)));
            }
        });
        Self { address, requests, _accepting: AbortOnDropHandle::new(accepting) }
    }

    fn requests(&self, variant: usize) -> Vec<(usize, String)> {
        let requests = self.requests.lock();
        let mine = requests.iter().filter(|(number, ..)| *number == variant);
        mine.map(|(_, connection, body)| (*connection, body.clone())).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    variants: Arc<Vec<Variant>>,
    seen: Arc<Mutex<Vec<(usize, usize, String)>>>,
) -> std::io::Result<()> {
    let mut buffer = vec![];
    while let Some((head, body)) = read_request(&mut stream, &mut buffer).await? {
        let path = head.split(' ').nth(1).expect("a path");
        let number: usize = path.trim_start_matches('/').parse().expect("a number");
        seen.lock().push((number, connection, body.clone()));
        let Variant { answer, then, .. } = &variants[number];
        if body.contains("in question") {
            stream.write_all(answer).await?;
            match then {
                Then::Keep => {}
                Then::Close => return Ok(()),
                Then::Reset => return SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
                Then::Hang => {
                    stream.read_u8().await?;
                }
            }
        } else {
            let answer = if body.contains("the last") { LAST } else { "{\"code\":0}" };
            stream.write_all(&whole("", answer)).await?;
        }
    }
    Ok(())
}

/// Outcome of one variant on one tunnel.
#[derive(Debug)]
struct Happened {
    handled: usize,
    is_kept: bool,
    acted: usize,
    is_delivered: bool,
    invalid: f64,
    logged: Vec<String>,
}

/// Lets a client say two things, of which the first one is answered in question.
async fn happened(
    gateway: &TestGateway,
    server: &RawServer,
    number: usize,
    client: &mut TestClient,
    prefix: &str,
) -> Happened {
    let metric = async |name: &str| gateway.metrics().await.sum(name, "");
    let delivered = "webhooks_total{event=\"message\",result=\"ok\"}";
    let invalid = "actions_total{result=\"invalid\"}";
    let before = (metric(delivered).await, metric(invalid).await);
    let first = server.requests(number).len();
    for word in ["in question", "the last"] {
        client.send(&format!("{prefix}{word}")).await;
    }
    let mut acted = 0;
    while client.recv_packet().await.trim_start_matches("message:") != "last" {
        acted += 1;
    }
    let requests = server.requests(number);
    let of = |word: &str| requests[first..].iter().filter(|(_, body)| body.contains(word)).collect::<Vec<_>>();
    let (tries, last) = (of("in question"), of("the last"));
    Happened {
        handled: tries.len(),
        is_kept: tries.last().map(|(connection, _)| connection) == last.first().map(|(connection, _)| connection),
        acted,
        is_delivered: metric(delivered).await - before.0 == 2.0,
        invalid: metric(invalid).await - before.1,
        logged: dead_letters::reasons(&client.tunnel),
    }
}

/// The deviation from the expected outcome, in words.
fn fault(variant: &Variant, is_native: bool, happened: &Happened) -> Option<String> {
    let Happened { handled, is_kept, acted, is_delivered, invalid, logged } = happened;
    let acts = variant.told == Told::Acts;
    let (is_told, lines, unreadable) = match variant.told {
        Told::Acts => (true, 0, 0.0),
        Told::Nothing | Told::Doubted(_) => (true, usize::from(!is_native), 0.0),
        Told::Unread(words) => {
            let is_told = |line: &String| line.contains(words) || !is_native && line.contains("without JSON code 0");
            (logged.first().is_some_and(is_told), 1, 1.0)
        }
    };
    let is_right = *handled == 1
        && *is_kept == variant.is_kept
        && *acted == usize::from(acts)
        && *is_delivered == (is_native || acts)
        && *invalid == unreadable
        && (logged.len(), true) == (lines, is_told);
    (!is_right).then(|| format!("{} ({}): {happened:?}", variant.name, if is_native { "native" } else { "Wafer" }))
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_2xx_status_line_nothing_is_asked_for_again() {
    dead_letters::watch();
    let server = RawServer::new().await;
    let gateway = TestGateway::with(&[
        ("webhook.timeout_ms", "300"),
        ("webhook.message_ttl_secs", "2"),
        ("tenants.1.id", "shop"),
        ("tenants.1.keys", NATIVE_KEY),
        ("tenants.1.receive_hosts", "127.0.0.1"),
    ])
    .await;
    let native = Native { gateway: gateway.address, tenant: "shop".into(), key: NATIVE_KEY.into() };
    let wafer = Wafer::new(gateway.address, "127.0.0.1", KEY);

    // A tunnel that ends would tell of it on a connection that is kept.
    let (mut clients, mut faults) = (vec![], vec![]);
    for (number, variant) in variants().iter().enumerate() {
        let url = format!("http://{}/{number}", server.address);

        let mut client = native.open(&json!({"webhookUrl": url})).await;
        let happened_to = happened(&gateway, &server, number, &mut client, "").await;
        faults.extend(fault(variant, true, &happened_to));
        let shown = native.ok(&format!("GET /v1/tunnels/{}", client.tunnel), &Value::Null).await["lastError"].clone();
        let is_shown = match variant.told {
            Told::Unread(words) | Told::Doubted(words) => shown.as_str().is_some_and(|shown| shown.contains(words)),
            Told::Acts | Told::Nothing => shown.is_null(),
        };
        faults.extend((!is_shown).then(|| format!("{}: lastError is {shown}", variant.name)));
        clients.push(client);

        let mut client = TestClient::dial(&wafer.issue(&url).await).await.expect("opens");
        assert!(client.recv_packet().await.starts_with("timeout:"));
        let happened_to = happened(&gateway, &server, number, &mut client, "message:").await;
        faults.extend(fault(variant, false, &happened_to));
        clients.push(client);
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), 2 * variants().len(), faults.join("\n"));
}

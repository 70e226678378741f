//! Timelines: every reason why something did not work is found where one looks for it, with its fix.

mod live;
mod nodes;
mod reasons;
mod refusals;
mod secure;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::time::Instant;
use wafergate::protocol::text::md5_hex;

use crate::support::KEY;
use crate::support::http::read_head;
use crate::support::native::Native;
use crate::support::request;
use crate::support::within;

/// The Wafer tenant of the tests, as a caller of the native API.
fn tenant(gateway: SocketAddr) -> Native {
    Native { gateway, tenant: md5_hex("127.0.0.1"), key: KEY.to_owned() }
}

/// The timeline of a tunnel.
async fn timeline(caller: &Native, tunnel: &str, query: &str) -> Value {
    let answer = caller.signed(&format!("GET /v1/tunnels/{tunnel}/timeline{query}"), "").send(caller.gateway).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()
}

/// A signed call with these header lines beside it, which must succeed.
async fn call(caller: &Native, line: &str, more: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = caller.signed(line, &body).headers() + more;
    let answer = request(caller.gateway, line, &headers, body.as_bytes()).await;
    assert!((200..300).contains(&answer.status), "{line}: {answer:?}");
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

/// The records of a timeline.
fn records(timeline: &Value) -> &[Value] {
    timeline["records"].as_array().expect("a list")
}

/// The first record of a tunnel with this type and code, as soon as it is there.
async fn find(caller: &Native, tunnel: &str, kind: &str, code: &str) -> Value {
    find_where(caller, tunnel, kind, code, |_| true).await
}

/// The same about an event of this kind.
async fn find_event(caller: &Native, tunnel: &str, kind: &str, code: &str, event: &str) -> Value {
    find_where(caller, tunnel, kind, code, |record| record["event"] == event).await
}

async fn find_where(caller: &Native, tunnel: &str, kind: &str, code: &str, also: impl Fn(&Value) -> bool) -> Value {
    let wanted = |record: &&Value| record["type"] == kind && record["code"] == code && also(record);
    within(&format!("{kind} {code}"), async {
        loop {
            let timeline = timeline(caller, tunnel, "?limit=1000").await;
            if let Some(record) = records(&timeline).iter().find(wanted) {
                assert_explained(record);
                return record.clone();
            }
        }
    })
    .await
}

/// A record has words, and a fix if something did not work.
fn assert_explained(record: &Value) {
    let is_text = |name: &str| record[name].as_str().is_some_and(|text| !text.is_empty());
    assert!(record["code"].is_null() || is_text("reason"), "{record}");
    assert_eq!(record["failed"] == true, is_text("fix"), "{record}");
    assert!(is_text("time") && is_text("node") && is_text("type"), "{record}");
}

/// A reader of `GET /v1/tail`.
struct Tail {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Tail {
    /// Begins to read.
    async fn open(caller: &Native, query: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Little is on its way to a reader that does not read.
        socket.set_recv_buffer_size(4_096).expect("a size");
        let mut stream = socket.connect(caller.gateway).await.expect("connects");
        let target = format!("/v1/tail{query}");
        let headers = caller.signed(&format!("GET {target}"), "").headers();
        let head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", caller.gateway);
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut tail = Self { stream, buffer: vec![] };
        let head = within("a stream", read_head(&mut tail.stream, &mut tail.buffer)).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{head}");
        assert_eq!(tail.next().await.0, "open");
        tail
    }

    /// The next event; comments are left out.
    async fn next(&mut self) -> (String, Value) {
        within("an event of a stream", async {
            loop {
                while let Some(end) = self.buffer.windows(2).position(|window| window == b"\n\n") {
                    let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
                    let event = String::from_utf8_lossy(&event).into_owned();
                    // What stands before it is the framing of HTTP.
                    let Some((_, event)) = event.split_once("event: ") else { continue };
                    let (name, data) = event.split_once("\ndata: ").expect("a name and data");
                    return (name.to_owned(), serde_json::from_str(data.trim_end()).expect("JSON"));
                }
                let read = self.stream.read_buf(&mut self.buffer).await.expect("read");
                assert_ne!(read, 0, "the stream has ended");
            }
        })
        .await
    }

    /// The next record of this type and code.
    async fn until(&mut self, kind: &str, code: &str) -> Value {
        let began = Instant::now();
        loop {
            let (name, record) = self.next().await;
            if name == "record" && record["type"] == kind && record["code"] == code {
                assert_explained(&record);
                return record;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "no {kind} {code}");
        }
    }

    /// Reads to the end of the stream.
    async fn rest(mut self) -> String {
        let mut rest = vec![];
        within("the end of the stream", self.stream.read_to_end(&mut rest)).await.expect("an end");
        String::from_utf8_lossy(&[&self.buffer[..], &rest].concat()).into_owned()
    }
}

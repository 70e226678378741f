//! The stream of an open page.

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Operator;
use super::TOKEN;
use crate::support::Answer;
use crate::support::World;
use crate::support::http::read_head;
use crate::support::within;

/// A page's stream.
struct Page {
    stream: TcpStream,
    head: String,
    text: Vec<u8>,
}

impl Page {
    async fn open(operator: &Operator, view: &str) -> Self {
        let mut stream = TcpStream::connect(operator.admin).await.expect("connects");
        let (admin, session) = (operator.admin, operator.session());
        let request = format!("GET /console/api/live?view={view} HTTP/1.1\r\nHost: {admin}\r\n{session}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut text = vec![];
        let head = within("the head", read_head(&mut stream, &mut text)).await;
        Self { stream, head, text }
    }

    /// The next frame; `None` at the end.
    async fn frame(&mut self) -> Option<Value> {
        loop {
            let text = String::from_utf8_lossy(&self.text).into_owned();
            if let Some(at) = text.find("data: ")
                && let Some(end) = text[at..].find("\n\n")
            {
                let frame = &text[at + "data: ".len()..at + end];
                assert!(frame.len() <= 4_096, "{} bytes", frame.len());
                self.text.drain(..at + end);
                return Some(serde_json::from_str(frame).expect("JSON"));
            }
            // The end of a chunked body: the connection may go on.
            if text.ends_with("0\r\n\r\n") {
                return None;
            }
            if within("more of the stream", self.stream.read_buf(&mut self.text)).await.expect("no error") == 0 {
                return None;
            }
        }
    }
}

#[tokio::test]
async fn a_page_gets_frames_until_its_session_ends() {
    let world = World::with(&[("console.token", TOKEN)]).await;
    let operator = Operator::of(&world.gateway).await;
    let client = world.connect_and_settle().await;
    let mut now = Page::open(&operator, "now").await;
    assert!(now.head.contains("text/event-stream") && now.head.contains("no-store"), "{}", now.head);

    assert_eq!(now.frame().await.expect("a frame")["pulse"]["tunnels"], 1);
    let mut endpoints = Page::open(&operator, "endpoints&sort=busy").await;
    let frame = endpoints.frame().await.expect("a frame");
    assert_eq!(frame["endpoints"].as_array().map(Vec::len), Some(1), "{frame}");
    let mut tunnel = Page::open(&operator, &format!("tunnel&id={}", client.tunnel)).await;
    assert_eq!(tunnel.frame().await.expect("a frame")["tunnel"]["tunnelId"], client.tunnel);

    assert_eq!(operator.post("logout", &json!({})).await.status, 200);
    while now.frame().await.is_some() {}
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn a_page_follows_what_is_recorded() {
    let world = World::with(&[("console.token", TOKEN)]).await;
    let operator = Operator::of(&world.gateway).await;
    let mut all = Page::open(&operator, "tail").await;
    let mut failures = Page::open(&operator, "tail&failed").await;
    world
        .business
        .script(|event| if event.word() == "message:bad" { Answer::Status(500, "", "broken") } else { Answer::Accept });
    let mut client = world.connect_and_settle().await;
    client.send("message:bad").await;

    let until = async |page: &mut Page, kind: &str, code: &str| loop {
        let frame = page.frame().await.expect("it goes on");
        let lines = frame["news"]["lines"].as_array().expect("a list").clone();
        assert!(lines.iter().all(|line| line["tenant"].is_string() && line["reason"].is_null()), "{frame}");
        if lines.iter().any(|line| line["type"] == kind && line["code"] == code) {
            return lines;
        }
    };
    until(&mut all, "attempt", "delivered").await;
    let failed = until(&mut failures, "attempt", "server_error").await;

    assert!(failed.iter().all(|line| line["failed"] == true && line["tunnel"] == client.tunnel), "{failed:?}");
    drop(client);
    world.gateway.kill().await;
}

#[tokio::test]
async fn pages_are_bounded_and_do_not_hold_up_the_end() {
    let world = World::with(&[("console.token", TOKEN)]).await;
    let operator = Operator::of(&world.gateway).await;
    let mut pages = vec![];
    for _ in 0..16 {
        let page = Page::open(&operator, "now").await;
        assert!(page.head.starts_with("HTTP/1.1 200 "), "{}", page.head);
        pages.push(page);
    }
    assert!(Page::open(&operator, "now").await.head.starts_with("HTTP/1.1 503 "));
    pages.pop();
    within("its place is free", async {
        while !Page::open(&operator, "now").await.head.starts_with("HTTP/1.1 200 ") {}
    })
    .await;

    world.finish().await;
    for mut page in pages {
        while page.frame().await.is_some() {}
    }
}

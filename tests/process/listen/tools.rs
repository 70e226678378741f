//! `trigger`, `replay`, `--record`, `--print-config` and the inspector.

use std::process::Output;

use serde_json::Value;
use wafergate::protocol::signature;
use wafergate::protocol::signature::HmacKey;

use super::KEY;
use super::gateway::FakeGateway;
use super::listener::Listener;
use super::local::LocalServer;
use super::local::Request;
use super::soon;
use crate::gateway::binary;

/// Runs a command of the tenant `shop` to its end.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = tokio::process::Command::from(binary());
    command.args(arguments).env("WAFERGATE_KEY", KEY).envs(variables.iter().copied()).kill_on_drop(true);
    soon("the end of the command", command.output()).await.expect("started")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Whether the request is signed with the key of this test; its time, in seconds since 1970.
fn signed_at(request: &Request) -> Option<u64> {
    let at = request.field("webhook-timestamp").parse().ok()?;
    let signature = HmacKey::new(KEY).sign_webhook(request.field("webhook-id"), at, &request.body);
    (request.field("webhook-signature") == signature).then_some(at)
}

fn now_secs() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

#[tokio::test]
async fn a_made_up_event_is_signed_and_judged_as_the_gateway_would() {
    let mut server = LocalServer::start().await;
    let url = format!("{}/events", server.url());

    let native =
        async { run(&["trigger", "message", "--to", &url, "--content", "你好", "--user", "ann"], &[]).await };
    let (output, request) = tokio::join!(native, async {
        let request = server.request().await;
        let (at, body) = (signed_at(&request), serde_json::from_slice::<Value>(&request.body).expect("JSON"));
        request.answer(200, "{}").await;
        (at, body)
    });
    assert!(request.0.is_some_and(|at| at.abs_diff(now_secs()) < 100), "{request:?}");
    assert_eq!((&request.1["data"], &request.1["userid"]), (&"你好".into(), &"ann".into()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("accepted: the gateway goes on"), "{}", text(&output));

    let wafer = async { run(&["trigger", "connect", "--wafer", "--to", &url], &[]).await };
    let (output, body) = tokio::join!(wafer, async {
        let request = server.request().await;
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        request.answer(200, r#"{"code":9001}"#).await;
        body
    });
    let data = body["data"].as_str().expect("a string");
    assert!(signature::wafer_matches(data, KEY, body["signature"].as_str().expect("a string")), "{body}");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("not accepted: answered 200 without JSON code 0"), "{}", text(&output));
}

#[tokio::test]
async fn a_server_that_verifies_nothing_is_found() {
    for verifies in [true, false] {
        let mut server = LocalServer::start().await;
        let url = server.url();
        let check = async { run(&["trigger", "close", "--check", "--to", &url], &[]).await };
        let (output, ()) = tokio::join!(check, async {
            for _ in 0..3 {
                let request = server.request().await;
                let is_good = signed_at(&request).is_some_and(|at| at.abs_diff(now_secs()) < 300);
                request.answer(if is_good || !verifies { 200 } else { 401 }, "{}").await;
            }
        });
        let said = text(&output);
        assert_eq!(output.status.code(), Some(i32::from(!verifies)), "{said}");
        assert_eq!(said.matches("ACCEPTED").count(), if verifies { 0 } else { 2 }, "{said}");
        assert_eq!(said.matches("as it must be").count(), if verifies { 2 } else { 0 }, "{said}");
    }
}

#[tokio::test]
async fn another_machine_needs_a_yes() {
    let output = run(&["trigger", "message", "--to", "http://203.0.113.1/"], &[]).await;

    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output).contains("203.0.113.1 is not this machine") && text(&output).contains("--yes"));
}

#[tokio::test]
async fn an_event_is_replayed_from_a_record_and_edited() {
    let (gateway, mut server) = (FakeGateway::start().await, LocalServer::start().await);
    let directory = tempfile::tempdir().expect("a directory");
    let record = directory.path().join("events.jsonl");
    let record = record.to_str().expect("text");
    let arguments = ["--forward-to", &server.url(), "--record", record, "--exit-after", "1"];
    let listener = Listener::start(&gateway.url(), &arguments);
    let mut connector = gateway.connector().await;
    connector.welcome("s1").await;
    let body = connector.message(2, 1, "once upon").await;
    server.request().await.answer(200, r#"{"code":0}"#).await;
    connector.next().await;
    assert_eq!(connector.closed().await, Some(1001));
    assert_eq!(listener.ended().await.0, Some(0));

    let replay = async { run(&["replay", record], &[]).await };
    let (output, ()) = tokio::join!(replay, async {
        let request = server.request().await;
        assert_eq!(request.body, body.as_bytes());
        assert!(signed_at(&request).is_some_and(|at| at.abs_diff(now_secs()) < 100), "signed now");
        assert_eq!(request.field("wafergate-replay"), "1");
        assert!(request.field("webhook-id").ends_with("_2"), "the same id");
        request.answer(200, r#"{"code":0,"actions":[{"join":"g"}]}"#).await;
    });
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("its actions are not carried out: add --apply"), "{}", text(&output));

    let editor = "sed -i s/once/twice/";
    let edit = async { run(&["replay", record, "--edit"], &[("EDITOR", editor), ("VISUAL", "")]).await };
    let (output, ()) = tokio::join!(edit, async {
        let request = server.request().await;
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        let data = body["data"].as_str().expect("a string");
        assert!(
            data.contains("twice upon")
                && signature::wafer_matches(data, KEY, body["signature"].as_str().expect("one"))
        );
        assert!(signed_at(&request).is_some());
        request.answer(200, r#"{"code":0}"#).await;
    });
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let missing = run(&["replay", record, "--id", "msg_x"], &[]).await;
    assert_eq!((missing.status.code(), text(&missing).contains("holds no such event")), (Some(64), true));
}

/// A GET or POST on the inspector; status and body.
async fn ask(url: &str, request: &str) -> (u16, String) {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).expect("a host");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let request = request.replace("HERE", address);
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut response = String::new();
    soon("a response", stream.read_to_string(&mut response)).await.expect("text");
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, response.split_once("\r\n\r\n").expect("a head").1.to_owned())
}

#[tokio::test]
async fn the_inspector_shows_and_replays_for_this_machine_only() {
    let (gateway, mut server) = (FakeGateway::start().await, LocalServer::start().await);
    let runtime = tempfile::tempdir().expect("a directory");
    let variables = [("XDG_RUNTIME_DIR", runtime.path().to_str().expect("text"))];
    let arguments = ["--forward-to", &server.url(), "--inspect", "127.0.0.1:0"];
    let mut listener = Listener::start_with(&gateway.url(), &arguments, &variables);
    let mut connector = gateway.connector().await;
    connector.welcome("s1").await;
    let ready = listener.line_with("ready").await;
    let url = ready.rsplit_once("inspector ").expect("its address").1.to_owned();
    let (origin, token) = url.split_once("/#").expect("a token");
    connector.message(2, 1, "<script>").await;
    server.request().await.answer(200, r#"{"code":0}"#).await;
    connector.next().await;
    let line = listener.line_with("message").await;
    assert!(line.contains(" 200 "), "{line}");

    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: HERE\r\nconnection: close\r\n{more}\r\n");
    let own = format!("authorization: Bearer {token}\r\n");
    let (status, page) = ask(origin, &get("/", "")).await;
    assert!(status == 200 && page.contains("app.js") && !page.contains(token));
    assert_eq!(ask(origin, &get("/api/events?since=0", "")).await.0, 401);
    assert_eq!(ask(origin, &get("/", "").replace("HERE", "evil.example")).await.0, 403);
    assert_eq!(ask(origin, &get("/", "origin: http://evil.example\r\n")).await.0, 403);
    let (status, events) = ask(origin, &get("/api/events?since=0", &own)).await;
    let events: Value = serde_json::from_str(&events).expect("JSON");
    let event = &events["events"][0];
    assert_eq!((status, &event["preview"], &event["status"]), (200, &"<script>".into(), &200.into()), "{events}");
    let id = event["id"].as_str().expect("an id");

    let body = format!(r#"{{"id":"{id}"}}"#);
    let post = format!(
        "POST /api/replay HTTP/1.1\r\nhost: HERE\r\nconnection: close\r\n{own}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let ((status, answer), request) = tokio::join!(ask(origin, &post), async {
        let request = server.request().await;
        let found = (request.field("wafergate-replay") == "1", signed_at(&request).is_some());
        request.answer(200, r#"{"code":0}"#).await;
        found
    });
    assert_eq!((status, request), (200, (true, true)), "{answer}");

    // `replay ID` finds the listener by itself.
    let replay = async { run(&["replay", id], &variables).await };
    let (output, ()) = tokio::join!(replay, async { server.request().await.answer(200, r#"{"code":0}"#).await });
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    listener.signal("INT");
    connector.closed().await;
    listener.ended().await;
    let gone = run(&["replay", id], &variables).await;
    assert!(text(&gone).contains("no listener of yours is running"), "{}", text(&gone));
}

#[tokio::test]
async fn the_settings_of_each_sdk_are_printed() {
    for (sdk, line) in [
        ("node1", "TunnelServerUrl: 'https://ws.example.com/@ann'"),
        ("node2", "tunnelServerUrl: 'https://ws.example.com/@ann'"),
        ("php", "'TunnelServerUrl' => 'https://ws.example.com/@ann'"),
        ("java", "\"tunnelServerUrl\": \"https://ws.example.com/@ann\""),
        ("csharp", "\"tunnelServerUrl\": \"https://ws.example.com/@ann\""),
        ("native", "\"connector\": \"ann\""),
    ] {
        let gateway = "https://ws.example.com/";
        let output = run(&["listen", "--gateway", gateway, "--name", "ann", "--print-config", sdk], &[]).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(text(&output).contains(line), "{}", text(&output));
    }
}

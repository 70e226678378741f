//! The demo server with a fake gateway: the calls it makes and the responses it gives.

use std::convert::Infallible;

use hyper::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::protocol::signature;

const KEY: &str = "kéy-密钥";

/// A call that the fake received: its path, its Host, and the JSON in `data`.
type Call = (String, String, Value);

/// A demo server whose gateway answers with `answer(path)`, and what that gateway received.
async fn demo(answer: fn(&str) -> Value) -> (Demo, mpsc::Receiver<Call>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}/", listener.local_addr().unwrap());
    let (calls, received) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let calls = calls.clone();
            let service = service_fn(move |request| stand_in(request, answer, calls.clone()));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    let clock = || Duration::from_millis(5_000);
    (
        Demo::new(Settings {
            gateway,
            server_host: "127.0.0.1:8080".to_owned(),
            tenant: "chat".to_owned(),
            key: KEY.to_owned(),
            clock,
        }),
        received,
    )
}

async fn stand_in(
    request: Request<hyper::body::Incoming>,
    answer: fn(&str) -> Value,
    calls: mpsc::Sender<Call>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let host = request.headers()[HOST].to_str().unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let envelope: Value = serde_json::from_slice(&body).unwrap();
    let data = envelope["data"].as_str().unwrap();
    assert_eq!(envelope["signature"], signature::wafer(data, KEY));
    assert_eq!((&envelope["tcKey"], &envelope["tcId"]), (&json!(KEY), &json!("chat")));
    let answer = answer(&path);
    calls.send((path, host, serde_json::from_str(data).unwrap())).await.unwrap();
    Ok(Response::new(Full::from(answer.to_string())))
}

/// A gateway that issues the tunnel `t-1` and reaches every tunnel.
fn willing(path: &str) -> Value {
    if path == "/ws/push" {
        return json!({ "code": 0, "message": "OK", "data": { "invalidTunnelIds": [] } });
    }
    let data = r#"{"tunnelId":"t-1","connectUrl":"ws://lan:1/ws/t-1"}"#;
    json!({ "code": 0, "message": "OK", "data": data, "signature": signature::wafer(data, KEY) })
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header(HOST, "192.168.1.5:8080").body(Full::default()).unwrap()
}

fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("/chat/tunnel?name=a").body(Full::new(body.into())).unwrap()
}

fn event(data: &Value) -> Request<Full<Bytes>> {
    let data = data.to_string();
    post(json!({ "data": data, "signature": signature::wafer(&data, KEY) }).to_string())
}

async fn ask(demo: &Demo, request: Request<Full<Bytes>>) -> (u16, Value) {
    let response = demo.handle(request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_page_gets_a_tunnel_at_the_address_it_used() {
    let (demo, mut calls) = demo(willing).await;

    let (status, body) = ask(&demo, get("/chat/tunnel?name=%E9%9D%92%E6%9D%BE&scheme=ws")).await;

    let data = json!({ "connectUrl": "ws://lan:1/ws/t-1", "tunnelId": "t-1" });
    assert_eq!((status, body), (200, json!({ "code": 0, "data": data })));
    let (path, host, data) = calls.recv().await.unwrap();
    assert_eq!((path.as_str(), host.as_str()), ("/get/wsurl", "192.168.1.5:8080"));
    assert_eq!(
        data,
        json!({ "receiveUrl": "http://127.0.0.1:8080/chat/tunnel?name=%E9%9D%92%E6%9D%BE", "protocolType": "ws" })
    );
}

#[tokio::test]
async fn events_are_answered_after_their_pushes_in_order() {
    let (demo, mut calls) = demo(willing).await;
    let content = r#"{"type":"speak","content":{"word":"hi"}}"#;

    for data in [
        json!({ "tunnelId": "t-1", "type": "connect" }),
        json!({ "tunnelId": "t-1", "type": "message", "content": content }),
        json!({ "tunnelId": "t-2", "type": "message", "content": content }),
    ] {
        assert_eq!(ask(&demo, event(&data)).await, (200, json!({ "code": 0, "message": "ok" })));
    }

    let mut pushed = Vec::new();
    while let Ok((_, _, data)) = calls.try_recv() {
        let content = data[0]["content"].as_str().unwrap_or("null");
        let packet: Value = serde_json::from_str(content).unwrap();
        pushed.push((data[0]["type"].clone(), data[0]["tunnelIds"].clone(), packet["type"].clone()));
    }
    let packet = |kind, tunnel, packet: Value| (json!(kind), json!([tunnel]), packet);
    assert_eq!(
        pushed,
        [
            packet("message", "t-1", json!("welcome")),
            packet("message", "t-1", json!("people")),
            packet("message", "t-1", json!("speak")),
            packet("close", "t-2", Value::Null),
        ]
    );
}

#[tokio::test]
async fn who_cannot_be_reached_has_left() {
    let gone = |path: &str| match path {
        "/ws/push" => json!({ "code": 0, "message": "OK", "data": { "invalidTunnelIds": ["t-1"] } }),
        _ => willing(path),
    };
    let (demo, _calls) = demo(gone).await;

    ask(&demo, event(&json!({ "tunnelId": "t-1", "type": "connect" }))).await;

    assert_eq!(demo.room.lock().await.close("t-1"), [Packet::Close("t-1".into())]);
}

#[tokio::test]
async fn a_gateway_that_refuses_or_forges_is_a_bad_gateway() {
    let refusing = |_: &str| json!({ "code": 1003, "message": "no more tunnels" });
    let forging = |_: &str| json!({ "code": 0, "message": "OK", "data": "{}", "signature": "" });

    for answer in [refusing, forging] {
        let (demo, _calls) = demo(answer).await;
        let (status, body) = ask(&demo, get("/chat/tunnel?name=a")).await;
        assert_eq!((status, &body["code"]), (502, &json!(-1)));
    }
}

#[tokio::test]
async fn mistakes_are_told_apart() {
    let (demo, _calls) = demo(willing).await;
    let delete = Request::delete("/chat/tunnel").body(Full::default()).unwrap();

    for (request, expected, text) in [
        (get("/nothing"), 404, "paths"),
        (delete, 405, "GET, HEAD, POST"),
        (Request::post("/").body(Full::default()).unwrap(), 405, "GET, HEAD"),
        (get("/chat/tunnel"), 400, "name=NAME"),
        (get("/chat/tunnel?name=a&scheme=http"), 400, "ws or wss"),
        (post("{}"), 400, "9002"),
        (post(vec![b' '; MAX_BODY_BYTES + 1]), 413, "256 KiB"),
    ] {
        let (status, body) = ask(&demo, request).await;
        assert_eq!(status, expected, "{body}");
        assert!(body.to_string().contains(text), "{body}");
    }
}

#[tokio::test]
async fn the_page_stands_alone() {
    let (demo, _calls) = demo(willing).await;

    let response = demo.handle(get("/")).await;

    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let page = std::str::from_utf8(&body).unwrap();
    for outside in ["src=", "<link rel=\"stylesheet", "@import", "url(", "innerHTML"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

/// The game's page runs what the documents show.
#[test]
fn the_client_code_of_the_game_is_that_of_the_documents() {
    let (client, chapter) = (include_str!("client.js"), include_str!("../../docs/clients.md"));
    for block in client.split("\n\nconst browser") {
        assert!(chapter.contains(block.trim().trim_start_matches("= ")), "{block}");
    }
}

#[tokio::test]
async fn the_game_has_a_page_and_takes_signed_events_only() {
    let (demo, _calls) = demo(|_| json!({})).await;
    let ask = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).body(Full::<Bytes>::default()).unwrap();
        demo.handle(request).await
    };

    let page = ask("GET", "/game").await;
    let body = page.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("function talk("), "the client code is in it");
    assert_eq!(ask("POST", "/game").await.status(), 405);
    assert_eq!(ask("GET", "/game/tunnel?player=a%20b&name=x").await.status(), 400);
    assert_eq!(ask("GET", "/game/tunnel?player=ab&name=").await.status(), 400);
    assert_eq!(ask("POST", "/game/events").await.status(), 400);
    assert_eq!(ask("GET", "/game/events").await.status(), 405);
}

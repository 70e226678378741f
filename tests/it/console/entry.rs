//! Who gets in, and which requests are refused.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::Begun;
use super::OWN;
use super::Operator;
use super::TOKEN;
use super::log_in;
use super::refusal;
use crate::support::TestGateway;
use crate::support::request;

const ON: [(&str, &str); 1] = [("console.token", TOKEN)];

#[tokio::test]
async fn without_a_token_there_is_no_console() {
    let gateway = TestGateway::with(&[]).await;

    for line in ["GET /console/", "GET /console/app.js", "GET /console/api/overview", "POST /console/api/login"] {
        let answer = request(gateway.admin, line, OWN, b"{\"token\":\"\"}").await;
        assert_eq!(refusal(&answer), (404, "console_off".into()), "{line}");
        assert!(answer.body.contains("set console.token"), "{answer:?}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn the_page_is_for_anybody_and_its_calls_are_not() {
    let gateway = TestGateway::with(&ON).await;
    let moved = gateway.ask_admin("GET /console").await;
    assert_eq!((moved.status, moved.header("location")), (308, Some("/console/")));

    let page = gateway.ask_admin("GET /console/").await;
    assert_eq!(page.status, 200);
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
             form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-cache"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    let known = format!("If-None-Match: {}\r\n", page.header("etag").expect("a tag"));
    assert_eq!(request(gateway.admin, "GET /console/", &known, b"").await.status, 304);
    assert_eq!(gateway.ask_admin("GET /console/other.js").await.status, 404);
    assert_eq!(gateway.ask_admin("DELETE /console/").await.status, 405);

    for path in [
        "overview",
        "endpoints",
        "tenants",
        "slow",
        "tunnels?q=abcd",
        "live",
        "tunnels/t00000000000000000000000000000000",
    ] {
        let answer = gateway.ask_admin(&format!("GET /console/api/{path}")).await;
        assert_eq!(refusal(&answer), (401, "login_required".into()), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let words = gateway.ask_admin("GET /console/api/words").await.json();
    assert_eq!(words["reasons"]["console_token"][0], "this is not the token", "a login needs words too");
    assert_eq!(words["kinds"]["attempt"][0], "attempt");
    let public = request(gateway.address, "GET /console/", "", b"").await;
    assert_eq!(public.status, 404, "it is on the admin listener only");
    gateway.finish().await;
}

#[tokio::test]
async fn a_session_begins_with_the_token_and_ends_on_request() {
    let gateway = TestGateway::with(&ON).await;
    assert_eq!(refusal(&log_in(gateway.admin, "another token").await), (403, "console_token".into()));
    assert_eq!(gateway.metric("refused_total{reason=\"console_token\"}").await, 1.0);
    let answer = log_in(gateway.admin, TOKEN).await;
    let cookie = answer.header("set-cookie").expect("a cookie");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/console; Max-Age=43200"), "{cookie}");
    let behind_tls = format!("Origin: https://{}\r\nX-Wafergate: 1\r\n", gateway.admin);
    let body = json!({"token": TOKEN}).to_string();
    let secure = request(gateway.admin, "POST /console/api/login", &behind_tls, body.as_bytes()).await;
    assert!(secure.header("set-cookie").is_some_and(|cookie| cookie.ends_with("; Secure")), "{secure:?}");

    let operator = Operator::of(&gateway).await;
    let overview = operator.read("overview").await;
    assert_eq!((&overview["engine"], &overview["canWrite"]), (&json!("memory"), &json!(false)));
    assert!(!overview.to_string().contains(TOKEN));

    assert_eq!(operator.post("logout", &json!({})).await.status, 200);
    assert_eq!(operator.get("overview").await.status, 401);
    gateway.finish().await;
}

#[tokio::test]
async fn a_page_of_another_origin_can_change_nothing() {
    let gateway = TestGateway::with(&[ON[0], ("console.write", "true")]).await;
    let operator = Operator::of(&gateway).await;
    let path = "POST /console/api/tunnels/t00000000000000000000000000000000/close";
    let own = format!("Origin: http://{}\r\n", gateway.admin);

    for (headers, status) in [
        ("X-Wafergate: 1\r\nOrigin: https://attacker.example\r\n", 403),
        ("X-Wafergate: 1\r\nOrigin: null\r\n", 403),
        ("X-Wafergate: 1\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ("X-Wafergate: 1\r\nSec-Fetch-Site: same-site\r\n", 403),
        ("X-Wafergate: 1\r\nSec-Fetch-Site: none\r\n", 403),
        ("X-Wafergate: 1\r\n", 403),
        ("Sec-Fetch-Site: same-origin\r\n", 403),
        (&own, 403),
        (&format!("X-Wafergate: 1\r\n{own}"), 404),
        ("X-Wafergate: 1\r\nSec-Fetch-Site: same-origin\r\n", 404),
    ] {
        let answer = request(gateway.admin, path, &(operator.session() + headers), b"{}").await;
        assert_eq!(answer.status, status, "{headers} {answer:?}");
    }
    for line in ["GET http://attacker.example/console/", "GET http://attacker.example:9090/console/api/overview"] {
        let answer = request(gateway.admin, line, &operator.session(), b"").await;
        assert_eq!(answer.status, 421, "{line}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn guesses_become_slow() {
    let gateway = TestGateway::with(&ON).await;
    let start = Instant::now();
    for guess in 0..5 {
        assert_eq!(log_in(gateway.admin, &format!("guess {guess}")).await.status, 403);
    }
    let fast = start.elapsed();

    let start = Instant::now();
    let guesses = futures_util::future::join_all((0..6).map(|_| log_in(gateway.admin, "a guess")));
    let body = json!({"token": TOKEN}).to_string();
    let elsewhere = async {
        let answer = Begun::from("127.0.0.2", gateway.admin, "login", "", body.len()).await.finish(&body).await;
        (answer.status, start.elapsed())
    };
    let (guesses, (status, waited)) = tokio::join!(guesses, elsewhere);

    assert!(guesses.iter().all(|answer| answer.status == 403), "{guesses:?}");
    assert!(fast < Duration::from_secs(1) && start.elapsed() >= Duration::from_secs(1), "they wait, after {fast:?}");
    assert_eq!(status, 200);
    assert!(waited < Duration::from_secs(1), "guesses do not keep another network out: {waited:?}");
    assert_eq!(log_in(gateway.admin, TOKEN).await.status, 200, "the right one is let in at once");
    gateway.finish().await;
}

#[tokio::test]
async fn slow_bodies_keep_no_operator_out() {
    let gateway = TestGateway::with(&ON).await;
    let mut slow = vec![];
    for _ in 0..8 {
        slow.push(Begun::from("127.0.0.1", gateway.admin, "login", "", 50).await);
    }

    assert_eq!(log_in(gateway.admin, TOKEN).await.status, 200);

    drop(slow);
    gateway.finish().await;
}

#[tokio::test]
async fn what_ends_while_a_body_comes_has_ended() {
    let gateway = TestGateway::with(&[ON[0], ("console.write", "true")]).await;
    let operator = Operator::of(&gateway).await;
    let path = "tunnels/t00000000000000000000000000000000/push";
    let message = json!({"text": "x"}).to_string();
    let push = async || Begun::from("127.0.0.1", gateway.admin, path, &operator.session(), message.len()).await;
    let token = json!({"token": TOKEN}).to_string();

    let begun = push().await;
    gateway.reload(&ON);
    assert_eq!(refusal(&begun.finish(&message).await).1, "console_read_only");
    gateway.reload(&[ON[0], ("console.write", "true")]);
    let begun = push().await;
    assert_eq!(operator.post("logout", &json!({})).await.status, 200);
    assert_eq!(refusal(&begun.finish(&message).await).1, "login_required");

    let begun = Begun::from("127.0.0.1", gateway.admin, "login", "", token.len()).await;
    gateway.reload(&[("console.token", "another token of the tests")]);
    assert_eq!(refusal(&begun.finish(&token).await).1, "console_token");
    gateway.finish().await;
}

#[tokio::test]
async fn a_reload_takes_over_all_of_it() {
    let gateway = TestGateway::with(&ON).await;
    let operator = Operator::of(&gateway).await;
    let close = async || {
        let answer = operator.post("tunnels/t00000000000000000000000000000000/close", &json!({})).await;
        refusal(&answer).1
    };
    assert_eq!(close().await, "console_read_only");

    gateway.reload(&[ON[0], ("console.write", "true")]);
    assert_eq!(close().await, "not_open", "the session goes on, and may change things now");
    assert_eq!(operator.read("overview").await["canWrite"], true);

    gateway.reload(&[("console.token", "another token of the tests")]);
    assert_eq!(close().await, "login_required", "another token ends the sessions");
    assert_eq!(refusal(&log_in(gateway.admin, TOKEN).await).1, "console_token");

    gateway.reload(&[]);
    assert_eq!(close().await, "console_off");
    gateway.finish().await;
}

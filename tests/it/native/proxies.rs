//! Requests through proxies: which are believed to have come through TLS, and which can have been read on their way.

use super::KEY;
use super::Scene;
use crate::support::HttpAnswer;
use crate::support::native::problem;

const TRUSTED: &[(&str, &str)] = &[("server.trusted_proxies", "127.0.0.0/8")];

/// Whether a tunnel was granted to a bearer key, and by which scheme; else the code of the refusal.
fn granted(answer: &HttpAnswer) -> String {
    if answer.status != 201 {
        return problem(answer).1;
    }
    let url = answer.json()["connectUrl"].as_str().expect("a string").to_owned();
    url.split("://").next().expect("a scheme").to_owned()
}

#[tokio::test]
async fn a_trusted_proxy_vouches_for_tls_in_every_spelling_and_a_clients_own_line_does_not() {
    let scene = Scene::with(TRUSTED).await;
    let address = "X-Forwarded-For: 1.2.3.4\r\n";
    for (lines, expected) in [
        (format!("{address}X-Forwarded-Proto: https\r\n"), "wss"),
        (format!("{address}X-Forwarded-Proto: HTTPS\r\n"), "wss"),
        (format!("{address}X-Forwarded-Proto: wss\r\n"), "wss"),
        (format!("{address}X-Forwarded-Proto: http,https\r\n"), "wss"),
        (format!("{address}X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n"), "wss"),
        ("X-Forwarded-For: 1.2.3.4, 127.0.0.8\r\nX-Forwarded-Proto: https, http\r\n".to_owned(), "wss"),
        ("Forwarded: for=\"[2001:db8::1]:4711\";proto=https\r\n".to_owned(), "wss"),
        ("Forwarded: for=_hidden;proto=https\r\n".to_owned(), "wss"),
        (address.to_owned(), "bearer_insecure"),
        (format!("{address}X-Forwarded-Proto: https,http\r\n"), "bearer_insecure"),
        (format!("{address}X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n"), "bearer_insecure"),
        (format!("{address}Forwarded: for=1.2.3.4;proto=https\r\n"), "bearer_insecure"),
        ("Forwarded: for=1.1.1.1;proto=https, for=1.2.3.4;proto=http\r\n".to_owned(), "bearer_insecure"),
        ("Forwarded: for=1.2.3.4;proto=https;proto=https\r\n".to_owned(), "bearer_insecure"),
    ] {
        let answer = scene.native.call_with("POST /v1/tunnels", &lines, "").await;
        assert_eq!(granted(&answer), expected, "{lines}");
    }
}

#[tokio::test]
async fn a_stranger_does_not_vouch_for_tls() {
    for trusted in ["", "10.0.0.0/8"] {
        let scene = Scene::with(&[("server.trusted_proxies", trusted)]).await;
        for lines in [
            "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n",
            "X-Forwarded-Proto: https\r\n",
            "Forwarded: for=1.2.3.4;proto=https\r\n",
        ] {
            let refused = scene.native.call_with("POST /v1/tunnels", lines, "").await;
            assert_eq!(granted(&refused), "bearer_insecure", "{trusted}: {lines}");

            let signed = scene.native.signed("POST /v1/tunnels", "").headers() + lines;
            let signed = crate::support::request(scene.gateway.address, "POST /v1/tunnels", &signed, b"").await;
            assert_eq!(granted(&signed), "ws", "{trusted}: {lines}");
        }
    }
}

#[tokio::test]
async fn whatever_shows_a_proxy_shows_that_a_client_is_not_on_this_machine() {
    let scene = Scene::new().await;

    assert_eq!(granted(&scene.native.call("POST /v1/tunnels", &serde_json::Value::Null).await), "ws");
    for line in [
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Host: gateway.example",
        "Forwarded: for=1.2.3.4",
        "Via: 1.1 proxy",
        "X-Real-IP: 1.2.3.4",
        "CF-Connecting-IP: 1.2.3.4",
        "True-Client-IP: 1.2.3.4",
    ] {
        let answer = scene.native.call_with("POST /v1/tunnels", &format!("{line}\r\n"), "").await;
        assert_eq!(granted(&answer), "bearer_insecure", "{line}");
        let name = line.split(':').next().expect("a name").to_ascii_lowercase();
        let detail = answer.json()["detail"].as_str().expect("a string").to_owned();
        assert!(detail.contains(&format!("this request has {name})")) && !detail.contains(&KEY[6..]), "{detail}");
    }
}

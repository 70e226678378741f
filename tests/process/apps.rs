//! `wafergate app`: mini-programs in the session store, while a gateway runs.

use std::time::Duration;
use std::time::Instant;

use super::client::connect;
use super::client::exchange;
use super::gateway::Gateway;
use super::gateway::binary;
use super::gateway::config;

const SECRETS: [&str; 3] = ["app-secret-hush-one", "app-secret-hush-two", "wafer-key-hush-0123456789"];

#[test]
fn apps_are_added_while_the_gateway_runs_and_their_secrets_are_shown_nowhere() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let files = ["one", "two", "key"].map(path);
    for (file, secret) in files.iter().zip(SECRETS) {
        std::fs::write(file, format!("{secret}\n")).expect("written");
    }
    let session = format!("[session]\nenabled = true\nstore = \"sqlite://{}\"\n", path("sessions.db"));
    let server = "[server]\nticket_key = \"ticket-key-hush-of-32-characters\"\n";
    let text = format!("{server}{session}{}", config("127.0.0.1", ""));
    std::fs::write(path("wafergate.toml"), &text).expect("written");
    let gateway = Gateway::start(&text);
    let run = |arguments: &[&str]| {
        let output =
            binary().arg("app").args(arguments).args(["--config", &path("wafergate.toml")]).output().expect("started");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(SECRETS.iter().all(|secret| !said.contains(secret)), "{said}");
        (output.status.code(), said)
    };
    assert_eq!(code(&gateway.url), "1012");

    assert_eq!(run(&["add", "wx1", "--secret-file", &files[0], "--tenant", "shop"]).0, Some(0));
    let second = run(&["add", "wx2", "--secret-file", &files[0]]);
    assert!(second.0 == Some(1) && second.1.contains("--wafer-key-file"), "{second:?}");
    assert_eq!(run(&["add", "wx2", "--secret-file", &files[0], "--wafer-key-file", &files[2]]).0, Some(0));
    assert_eq!(run(&["rotate-secret", "wx1", "--secret-file", &files[1]]).0, Some(0));
    let listed = run(&["list"]).1;
    assert!(listed.contains("wx1  tenant shop  secrets 2  address /mina_auth/\n"), "{listed}");
    assert!(listed.contains("wx2  tenant none  secrets 1  address /mina_auth/APP_ID/KEY\n"), "{listed}");
    // 60012: there is no such session, but an app.
    until(|| code(&gateway.url) == "60012");

    assert_eq!(run(&["remove", "wx1"]).0, Some(0));
    assert_eq!(run(&["remove", "wx1"]).0, Some(1));
    until(|| code(&gateway.url) == "1012");
    let stored = std::fs::read(path("sessions.db")).expect("a file");
    let stored = String::from_utf8_lossy(&stored).into_owned();
    assert!(SECRETS.iter().all(|secret| !stored.contains(secret)), "secrets are sealed");
    gateway.signal("TERM");
    let (status, log) = gateway.end();
    assert!(status.success() && SECRETS.iter().all(|secret| !log.contains(secret)), "{log}");
}

/// What a check of nobody's session answers.
fn code(url: &str) -> String {
    let body = r#"{"interface":{"interfaceName":"qcloud.cam.auth","para":{"id":"a","skey":"b"}}}"#;
    let request = format!("POST /mina_auth/ HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (_, answer) = exchange(&mut connect(url), &request);
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    answer["returnCode"].to_string()
}

#[expect(clippy::disallowed_methods, reason = "a test may read the time")]
fn until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s");
    }
}

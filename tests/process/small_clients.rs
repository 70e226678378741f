//! `wafergate tunnel`, `push`, `close`, `who` and `webhook verify`, against a running node.

use std::io::Write;
use std::process::Output;
use std::process::Stdio;

use serde_json::Value;
use wafergate::protocol::signature::HmacKey;

use super::business::Business;
use super::client::Client;
use super::client::connect;
use super::gateway::Gateway;
use super::gateway::binary;
use super::gateway::config;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Runs a command as the tenant `shop`.
fn run(gateway: &str, arguments: &[&str]) -> Output {
    let variables = [("WAFERGATE_GATEWAY", gateway), ("WAFERGATE_TENANT", "shop"), ("WAFERGATE_KEY", KEY)];
    binary().args(arguments).envs(variables).output().expect("started")
}

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn a_tunnel_is_asked_for_pushed_to_listed_and_closed() {
    let business = Business::start(true);
    let receive_host = business.authority.split(':').next().expect("a host");
    let shop = format!("[[tenants]]\nid = \"shop\"\nkeys = [{KEY:?}]\nreceive_hosts = [{receive_host:?}]\n");
    let gateway = Gateway::start(&config("elsewhere.example", &shop));
    let webhook_url = format!("http://{}/events", business.authority);

    let url =
        stdout(&run(&gateway.url, &["tunnel", "--user", "ann", "--group", "room/1", "--webhook-url", &webhook_url]));
    let path = url.trim().rsplit_once("/ws/").map(|(_, ticket)| format!("/ws/{ticket}")).expect("a connect URL");
    let mut client = Client::try_open(connect(&gateway.url), &path).expect("it opens");

    let listed = stdout(&run(&gateway.url, &["who"]));
    let (tunnel, user) = listed.trim().split_once("  ").expect("a tunnel and its user");
    assert_eq!((user, listed.lines().count()), ("ann", 1));
    assert_eq!(stdout(&run(&gateway.url, &["who", "--group", "room/1"])), listed);
    assert_eq!(stdout(&run(&gateway.url, &["who", "--groups"])), "1  room/1\n");
    let told: Value =
        serde_json::from_str(&stdout(&run(&gateway.url, &["who", "--tunnel", tunnel, "--json"]))).expect("JSON");
    assert_eq!((&told["user"], &told["groups"]), (&"ann".into(), &serde_json::json!(["room/1"])));

    assert_eq!(stdout(&run(&gateway.url, &["push", "--user", "ann", "你好"])), "1 of 1 accepted\n");
    assert_eq!(client.receive(), (1, "你好".as_bytes().to_vec()));
    let pushed = run(&gateway.url, &["push", "--tunnel", tunnel, "--tunnel", "gone", "--json-content", "{\"n\": 1}"]);
    assert_eq!(stdout(&pushed), "1 of 2 accepted\ngone: gone\n");
    assert_eq!(client.receive(), (1, b"{\"n\":1}".to_vec()));
    assert_eq!(stdout(&run(&gateway.url, &["close", "--group", "room/1", "--reason", "bye"])), "1 of 1 closed\n");
    assert_eq!(client.receive().0, 8);

    let asked = ["tunnel", "--webhook-url", &webhook_url, "--json"];
    let asked: Value = serde_json::from_str(&stdout(&run(&gateway.url, &asked))).expect("JSON");
    let tunnel = asked["tunnelId"].as_str().expect("an id");
    let withdrawn = run(&gateway.url, &["close", "--withdraw", "--tunnel", tunnel]);
    assert_eq!(stdout(&withdrawn), format!("{tunnel}  not-open\n"));
    let url = asked["connectUrl"].as_str().expect("a URL");
    let path = url.rsplit_once("/ws/").map(|(_, ticket)| format!("/ws/{ticket}")).expect("a connect URL");
    let refused = Client::try_open(connect(&gateway.url), &path).err().expect("it never opens");
    assert!(refused.starts_with("HTTP/1.1 409 "), "{refused}");
}

#[test]
fn a_failure_has_its_exit_code_and_no_key_in_its_words() {
    let shop = format!("[[tenants]]\nid = \"shop\"\nkeys = [{KEY:?}]\nreceive_hosts = [\"*\"]\n");
    let gateway = Gateway::start(&config("elsewhere.example", &shop));
    let other = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(other.path(), "another key of this test\n").expect("written");
    let other = other.path().to_str().expect("text");

    for (arguments, code, words) in [
        (&["who", "--key-file", other][..], 77, "signature_wrong"),
        (&["tunnel", "--webhook-url", "nonsense"], 64, "webhook_url_refused"),
        (&["push", "--group", "nobody", "--strict", "x"], 1, "group_unknown"),
        (&["push", "x"], 64, "--group"),
        (&["who", "--key-file", "/nowhere/key"], 64, "/nowhere/key"),
        (&["who", "--gateway", "ftp://h"], 64, "--gateway"),
        (&["who", "--gateway", "http://127.0.0.1:1"], 69, "no answer from http://127.0.0.1:1"),
    ] {
        let output = run(&gateway.url, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words) && !said.contains("another key") && !said.contains(KEY), "{arguments:?}: {said}");
    }
}

#[test]
fn a_webhook_is_verified_offline() {
    let body = "{\"type\": \"wafergate.tunnel.message\"}";
    let signature = HmacKey::new(KEY).sign_webhook("msg_1", 1_700_000_000, body.as_bytes());
    let verify = |body: &str| {
        let mut command = binary();
        command.args(["webhook", "verify", "--id", "msg_1", "--timestamp", "1700000000", "--signature", &signature]);
        let mut child = command
            .env("WAFERGATE_KEY", KEY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        child.stdin.take().expect("piped").write_all(body.as_bytes()).expect("written");
        child.wait_with_output().expect("ended")
    };

    let valid = stdout(&verify(body));
    assert!(valid.starts_with("valid: signed with key 1; it is ") && valid.contains("more than 300 s"), "{valid}");
    let other = verify("{\"type\":\"wafergate.tunnel.message\"}");
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stderr).contains("parsed and written again"), "{other:?}");
}

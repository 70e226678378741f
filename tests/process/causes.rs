//! The causes in `docs/troubleshooting.md`, each provoked at log level info: its line is in the log, its metric grows, and the line
//! names the tenant, or the address of who is none.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::thread;

use serde_json::Value;
use serde_json::json;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::connect;
use super::client::exchange;
use super::cluster::until;
use super::gateway::Gateway;
use super::gateway::config;

const KEY: &str = "a bearer key of this test";
const PAGES: [(&str, &str); 2] = [
    (include_str!("../../docs/troubleshooting.md"), "| cause | line in the log | metric |"),
    (include_str!("../../docs/zh-CN/troubleshooting.md"), "| 原因 | 日志 | 指标 |"),
];

/// What a page says of a cause.
#[derive(Debug, Eq, PartialEq)]
struct Row {
    /// Parts of one line.
    line: Vec<String>,
    metric: String,
}

/// The rows of the tables with this header.
fn rows(page: &str, header: &str) -> Vec<Vec<Row>> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let code = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        Row { line: code(cells[1]), metric: code(cells[2]).concat() }
    };
    let tables = page.split(header).skip(1);
    tables
        .map(|table| table.trim_start().lines().skip(1).take_while(|line| line.starts_with('|')).map(row).collect())
        .collect()
}

/// What the page says of this cause of this table.
fn told(table: usize, cause: usize) -> Row {
    rows(PAGES[0].0, PAGES[0].1).swap_remove(table).swap_remove(cause - 1)
}

/// A server that answers each request in the same way; without an answer it only reads.
fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let authority = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                // A request of these tests comes in one piece, or its rest does not matter.
                while stream.read(&mut [0; 65_536]).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(answer.as_bytes());
                }
            });
        }
    });
    authority
}

/// A port that nothing listens on.
fn nowhere() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("bound").to_string()
}

/// A gateway with the native tenant `shop`.
struct Shop {
    gateway: Gateway,
}

impl Shop {
    fn new(webhook_url: &str, webhook: &str, tenant: &str, more: &str) -> Self {
        Self::reaching("\"127.0.0.0/8\"", webhook_url, webhook, tenant, more)
    }

    fn reaching(networks: &str, webhook_url: &str, webhook: &str, tenant: &str, more: &str) -> Self {
        let gateway = Gateway::start(&format!(
            "[webhook]\nallow_networks = [{networks}]\n{webhook}\n{more}\n[[tenants]]\nid = \"shop\"\nkeys = [{KEY:?}]\n\
             webhook_url = {webhook_url:?}\n{tenant}\n"
        ));
        Self { gateway }
    }

    fn call(&self, path: &str, key: &str, body: &Value) -> (String, Value) {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer shop:{key}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (head, answer) = exchange(&mut connect(&self.gateway.url), &request);
        (head, serde_json::from_str(&answer).expect("JSON"))
    }

    fn open(&self) -> (String, Client<TcpStream>) {
        let (head, answer) = self.call("/v1/tunnels", KEY, &json!({}));
        assert!(head.starts_with("HTTP/1.1 201 "), "{head} {answer}");
        let path = answer["connectUrl"].as_str().expect("text").split("gateway").nth(1).expect("a path").to_owned();
        let client = Client::try_open(connect(&self.gateway.url), &path).expect("it opens");
        (answer["tunnelId"].as_str().expect("text").to_owned(), client)
    }

    /// Waits for the line and the metric.
    fn shows(&mut self, row: &Row) {
        shows(&mut self.gateway, row);
    }
}

fn shows(gateway: &mut Gateway, Row { line, metric }: &Row) {
    assert!(!line.is_empty() && metric.starts_with("wafergate_"), "the page names both");
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    let mut found = String::new();
    until(&format!("{words:?} is logged"), || {
        found = gateway.line_with(&words).unwrap_or_default();
        !found.is_empty()
    });
    assert!(found.contains("tenant.id=") || found.contains("client=127.0.0.1"), "it names who: {found}");
    until(&format!("{metric} grows"), || gateway.sum(metric) > 0);
}

#[test]
fn both_languages_list_the_same_lines_and_metrics() {
    let [english, chinese] = PAGES.map(|(page, header)| rows(page, header));

    assert_eq!(english.iter().map(Vec::len).collect::<Vec<_>>(), [14, 8]);
    assert_eq!(english, chinese);
}

/// Provokes a cause of missing events by what is at the webhook URL.
fn event_fails(cause: usize, url: &str, webhook: &str, tenant: &str) {
    let mut shop = Shop::new(url, webhook, tenant, "");
    let _client = shop.open();
    shop.shows(&told(0, cause));
}

#[test]
fn events_01_nothing_listens() {
    event_fails(1, &format!("http://{}/", nowhere()), "", "");
}

#[test]
fn events_02_the_handler_is_slow() {
    event_fails(2, &format!("http://{}/", server("")), "timeout_ms = 200", "");
}

#[test]
fn events_03_the_address_is_not_allowed() {
    let url = format!("http://localhost:{}/", nowhere().rsplit(':').next().expect("a port"));
    let mut shop = Shop::reaching("", &url, "", "", "");
    let _client = shop.open();
    shop.shows(&told(0, 3));
}

#[test]
fn events_04_the_name_does_not_resolve() {
    event_fails(4, "http://nothing.invalid/", "", "");
}

#[test]
fn events_05_the_handler_throws() {
    event_fails(5, &format!("http://{}/", server("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")), "", "");
}

#[test]
fn events_06_the_signature_is_refused() {
    event_fails(6, &format!("http://{}/", server("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")), "", "");
}

#[test]
fn events_07_the_server_redirects() {
    let answer = "HTTP/1.1 301 There\r\nLocation: https://there.example/\r\nContent-Length: 0\r\n\r\n";
    event_fails(7, &format!("http://{}/", server(answer)), "", "");
}

#[test]
fn events_08_a_wafer_answer_is_none() {
    let business = Business::start(true);
    business.say("ok");
    let mut gateway = Gateway::start(&config(&business.authority, ""));
    let (_, path) = ask(&mut connect(&gateway.url), &business.authority);
    let _client = Client::open(connect(&gateway.url), &path);
    shows(&mut gateway, &told(0, 8));
}

#[test]
fn events_09_a_login_page_answers() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n<html>Log in</html>  ";
    event_fails(9, &format!("http://{}/", server(answer)), "", "");
}

#[test]
fn events_10_one_event_holds_up_the_others() {
    event_fails(10, &format!("http://{}/", server("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")), "", "");
}

#[test]
fn events_11_the_attempts_are_over() {
    let url = format!("http://{}/", server("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"));
    event_fails(11, &url, "", "max_attempts = 2");
}

#[test]
fn events_12_their_time_is_over() {
    event_fails(12, &format!("http://{}/", nowhere()), "message_ttl_secs = 1", "");
}

#[test]
fn events_13_the_server_counts_as_down() {
    let mut shop = Shop::new(&format!("http://{}/", nowhere()), "", "", "");
    let _clients: Vec<_> = (0..10).map(|_| shop.open()).collect();
    shop.shows(&told(0, 13));
}

#[test]
fn events_14_tls_fails() {
    let url = format!("https://{}/", server("HTTP/1.1 400 No\r\nConnection: close\r\n\r\n"));
    event_fails(14, &url, "", "");
}

const ACCEPTED: &str = "HTTP/1.1 204 No\r\n\r\n";

#[test]
fn others_01_a_tenant_sends_too_much() {
    let mut shop = Shop::new(&format!("http://{}/", server(ACCEPTED)), "", "limits = { messages_per_sec = 1 }", "");
    let (_, mut client) = shop.open();
    (0..20).for_each(|_| client.send("hello"));
    shop.shows(&told(1, 1));
}

#[test]
fn others_02_a_business_server_is_slow() {
    let mut shop = Shop::new(&format!("http://{}/", server("")), "", "", "");
    let (_, mut client) = shop.open();
    (0..4).for_each(|_| client.send(&"x".repeat(100_000)));
    shop.shows(&told(1, 2));
}

#[test]
fn others_03_a_client_sends_too_much() {
    let limits = "limits = { messages_per_sec_per_connection = 1 }";
    let mut shop = Shop::new(&format!("http://{}/", server(ACCEPTED)), "", limits, "");
    let (_, mut client) = shop.open();
    (0..20).for_each(|_| client.send("hello"));
    shop.shows(&told(1, 3));
}

#[test]
fn others_04_a_client_does_not_read() {
    let mut shop = Shop::new(&format!("http://{}/", server(ACCEPTED)), "", "", "");
    let (tunnel, _client) = shop.open();
    let push = json!({"to": {"tunnels": [tunnel]}, "content": "x".repeat(400_000)});
    let is_gone = |_: &usize| shop.call("/v1/push", KEY, &push).1["accepted"] == 0;
    assert!((0..100).find(is_gone).is_some(), "what is kept for it has an end");
    shop.shows(&told(1, 4));
}

#[test]
fn others_05_a_tenant_asks_for_too_many_tunnels() {
    let mut shop = Shop::new(&format!("http://{}/", server(ACCEPTED)), "", "limits = { connections = 1 }", "");
    let _client = shop.open();
    assert!(shop.call("/v1/tunnels", KEY, &json!({})).0.starts_with("HTTP/1.1 429 "));
    shop.shows(&told(1, 5));
}

#[test]
fn others_06_a_tenant_pushes_too_often() {
    let mut shop = Shop::new(&format!("http://{}/", server(ACCEPTED)), "", "limits = { pushes_per_sec = 1 }", "");
    let push = json!({"to": {"group": "g"}, "content": "x"});
    assert!((0..10).any(|_| shop.call("/v1/push", KEY, &push).0.starts_with("HTTP/1.1 429 ")));
    shop.shows(&told(1, 6));
}

#[test]
fn others_07_a_business_server_has_too_much_to_do() {
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    let mut shop = Shop::new(&format!("http://{}/", server(busy)), "", "", "");
    let _clients: Vec<_> = (0..6).map(|_| shop.open()).collect();
    shop.shows(&told(1, 7));
}

#[test]
fn others_08_a_stranger_guesses_keys() {
    let mut shop = Shop::new(&format!("http://{}/", server(ACCEPTED)), "", "", "");
    assert!(shop.call("/v1/tunnels", "another key", &json!({})).0.starts_with("HTTP/1.1 401 "));
    shop.shows(&told(1, 8));
}

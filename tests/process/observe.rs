//! Alerts and the board, as Prometheus takes them: their tests, their queries, and a real Prometheus that asks a real node.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;

use serde_json::Value;

use super::business::Business;
use super::client::connect;
use super::client::get;
use super::cluster::until;
use super::gateway::Gateway;
use super::gateway::config;
use super::redis::Redis;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn promtool(arguments: &[&str], file: &Path) {
    let output = Command::new("promtool").args(arguments).arg(file).output().expect("promtool is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("FAILED"), "{said}");
}

#[test]
fn prometheus_accepts_its_configuration_and_the_alerts() {
    promtool(&["check", "config"], &here("deploy/prometheus.yml"));
    promtool(&["check", "rules"], &here("deploy/alerts.yml"));
}

#[test]
fn alerts_fire_when_they_should() {
    promtool(&["test", "rules"], &here("tests/fixtures/alerts.test.yml"));
}

/// The queries of the board, with the variables that Grafana fills in.
fn queries() -> Vec<String> {
    let board = fs::read_to_string(here("deploy/dashboard.json")).expect("a file");
    let board: Value = serde_json::from_str(&board).expect("JSON");
    let panels = board["panels"].as_array().expect("a list");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().expect("a query"));
    queries.map(|query| query.replace("$__rate_interval", "1m").replace("$instance", ".+")).collect()
}

/// A Prometheus that asks a node once a second. It is killed when dropped.
struct Prometheus {
    url: String,
    child: Child,
}

impl Prometheus {
    fn start(node: &Gateway, folder: &Path) -> Self {
        let admin = node.admin.trim_start_matches("http://");
        let file = folder.join("prometheus.yml");
        let alerts = here("deploy/alerts.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\n\
             scrape_configs: [{{ job_name: wafergate, static_configs: [{{ targets: [\"{admin}\"] }}] }}]\n",
            alerts.display()
        );
        fs::write(&file, text).expect("written");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg("--web.listen-address=127.0.0.1:0").stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("prometheus is installed");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("\"Listening on\" address=")?.1.to_owned()));
        assert!(lines.any(|line| line.contains("Server is ready to receive web requests")));
        // What it says afterwards must be read too.
        thread::spawn(move || lines.for_each(drop));
        Self { url: format!("http://{}", address.expect("it listens").trim()), child }
    }

    /// The `data` of an answer of its API.
    fn ask(&self, path: &str) -> Value {
        let (mut stream, mut answer) = (connect(&self.url), String::new());
        // With HTTP/1.0, it comes in one piece.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("written");
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    fn query(&self, query: &str) -> Vec<Value> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        self.ask(&format!("/api/v1/query?query={escaped}"))["result"].as_array().expect("a list").clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a node without TLS and `[session]` has no series of, and what is shown only when it is not zero.
fn may_be_empty(query: &str) -> bool {
    ["_tls_certificate_", "_session", "_wechat_", "_node_messages_dropped_", "> 0"]
        .iter()
        .any(|part| query.contains(part))
}

#[test]
fn a_real_prometheus_finds_what_the_board_shows_and_no_alert_rings() {
    let (business, folder) = (Business::start(true), tempfile::tempdir().expect("a directory"));
    let redis = Redis::start();
    let node = Gateway::start(&config(&business.authority, &redis.config()));
    until("the node is ready", || get(&node.admin, "/readyz").0.starts_with("HTTP/1.1 200 "));
    let prometheus = Prometheus::start(&node, folder.path());

    until("it has samples for rates", || {
        !prometheus.query("count_over_time(wafergate_connections[1m]) > 2").is_empty()
    });

    for query in queries() {
        let found = prometheus.query(&query);
        assert!(!found.is_empty() || may_be_empty(&query), "nothing: {query}");
    }
    // Those that count nothing yet are there: otherwise `increase` would miss the first one.
    let reasons = prometheus.query("wafergate_node_messages_dropped_total");
    assert_eq!(reasons.len(), 6, "{reasons:?}");
    let rules = prometheus.ask("/api/v1/rules");
    let rules = rules["groups"][0]["rules"].as_array().expect("a list").clone();
    assert!(rules.len() > 20, "{rules:?}");
    for rule in rules {
        assert!(rule["health"] != "err" && rule["state"] == "inactive", "{rule}");
    }
}

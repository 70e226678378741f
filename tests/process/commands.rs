//! Commands that end by themselves, and their exit codes.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::net::TcpListener;
use std::process::Output;
use std::process::Stdio;

use wafergate::protocol::signature;
use wafergate::protocol::text::md5_hex;

use super::client::connect;
use super::client::exchange;
use super::client::get;
use super::gateway::Gateway;
use super::gateway::KEY;
use super::gateway::binary;
use super::gateway::config;

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn wrong_usage_ends_with_64_and_help_with_0() {
    for arguments in [&[][..], &["serv"], &["serve", "--nonsense"], &["demo", "--listen", "here"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["serve", "demo", "check-config", "keygen"] {
        assert!(text(&help.stdout).contains(command), "{command}");
    }
}

#[test]
fn a_bad_configuration_ends_with_64_and_says_what_to_change() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[tunnel]\nheartbeat_sec = 5\n").expect("written");
    let path = file.path().to_str().expect("text");
    for command in ["serve", "check-config"] {
        let output = run(&[command, "--config", path]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("tunnel.heartbeat_sec") && said.contains("heartbeat_secs"), "{said}");
    }
    assert_eq!(run(&["serve", "--config", "/nowhere/wafergate.toml"]).status.code(), Some(64));
}

#[test]
fn check_config_prints_what_is_in_effect_and_masks_secrets() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), config("api.example.com", "")).expect("written");

    let output = binary()
        .args(["check-config", "--config", file.path().to_str().expect("text")])
        .env("WAFERGATE__TUNNEL__HEARTBEAT_SECS", "17")
        .output()
        .expect("started");

    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(said.contains("heartbeat_secs = 17") && said.contains("api.example.com"), "{said}");
    assert!(said.contains(&format!("[[tenants]]\n# id (tcId) {}\n", md5_hex("api.example.com"))), "{said}");
    assert!(!said.contains(KEY) && !text(&output.stderr).contains(KEY), "{said}");
}

#[test]
fn check_config_can_be_strict_and_quiet() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), config("api.example.com", "")).expect("written");
    let path = file.path().to_str().expect("text");

    let quiet = run(&["check-config", "--quiet", "--config", path]);
    assert_eq!((quiet.status.code(), text(&quiet.stdout)), (Some(0), String::new()));
    assert!(text(&quiet.stderr).contains("warning: server.public_url"), "{quiet:?}");
    let strict = run(&["check-config", "--strict", "--config", path]);
    assert_eq!(strict.status.code(), Some(64), "{strict:?}");

    std::fs::write(
        file.path(),
        format!("[server]\npublic_url = \"ws://127.0.0.1:8080\"\n{}", config("api.example.com", "")),
    )
    .expect("written");
    let strict = run(&["check-config", "--strict", "--quiet", "--config", path]);
    assert_eq!((strict.status.code(), text(&strict.stderr)), (Some(0), String::new()));
}

#[test]
fn a_variable_with_one_underscore_is_warned_of() {
    let output = binary().arg("check-config").env("WAFERGATE_SERVER_LISTEN", "127.0.0.1:1").output().expect("started");

    let said = text(&output.stderr);
    assert!(said.contains("WAFERGATE_SERVER_LISTEN") && said.contains("WAFERGATE__SERVER__LISTEN"), "{said}");
    let other = binary().arg("check-config").env("WAFERGATE_KEY", "k").output().expect("started");
    assert!(!text(&other.stderr).contains("WAFERGATE_KEY"), "{other:?}");
}

/// Log collectors get one object a line from the first line on, also when the node cannot start.
#[test]
fn every_line_is_json_if_the_log_is() {
    let lines = |variables: &[(&str, &str)]| {
        let mut command = binary();
        command.args(["serve", "--listen", "127.0.0.1:0"]).env("WAFERGATE__LOG__FORMAT", "json");
        let output = command.envs(variables.iter().copied()).output().expect("started");
        let lines = text(&output.stderr);
        let objects =
            lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        (output.status.code(), objects.collect::<Vec<serde_json::Value>>())
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("bound").to_string();

    let (code, objects) =
        lines(&[("WAFERGATE__SERVER__ADMIN_LISTEN", &address), ("WAFERGATE__SERVER__NODE_NAME", "one")]);
    assert_eq!((code, objects.last().map(|line| line["level"].clone())), (Some(1), Some("ERROR".into())));
    let has = |words: &str| objects.iter().any(|line| line["fields"].to_string().contains(words));
    assert!(has("there are no tenants") && has("server.admin_listen"), "{objects:?}");
    assert!(objects.iter().all(|line| line["node"] == "one"), "{objects:?}");
    let (code, objects) = lines(&[("WAFERGATE__TUNNEL__HEARTBEAT_SECS", "0")]);
    assert_eq!((code, objects.len()), (Some(64), 1), "{objects:?}");
    assert!(objects[0]["fields"]["problem"].as_str().is_some_and(|problem| problem.contains("heartbeat_secs")));
}

#[test]
fn completions_pages_and_the_version_are_printed() {
    let version = run(&["--version"]);
    assert!(text(&version.stdout).starts_with(concat!("wafergate ", env!("CARGO_PKG_VERSION"))), "{version:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert!(script.status.success() && text(&script.stdout).contains("check-config"), "{shell}");
    }
    let pages = tempfile::tempdir().expect("a directory");
    let directory = pages.path().join("man");
    assert!(run(&["man", directory.to_str().expect("text")]).status.success());
    for page in ["wafergate.1", "wafergate-push.1", "wafergate-webhook-verify.1"] {
        assert!(directory.join(page).exists(), "{page}");
    }
}

#[test]
fn keygen_prints_a_key() {
    let output = run(&["keygen"]);

    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("whsec_"));
}

#[test]
fn a_node_serves_also_when_nobody_reads_where() {
    let closed = std::io::pipe().expect("a pipe").1;
    let mut node = binary()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .stdout(closed)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(node.stderr.take().expect("piped")).lines();

    let said = lines.map_while(Result::ok).find(|line| line.contains("stdout is closed"));

    assert!(said.is_some(), "it says so");
    assert!(node.try_wait().expect("a child").is_none(), "it is still there");
    node.kill().expect("killed");
    node.wait().expect("ended");
}

/// Starts a node with these flags and variables, drains it, and returns its output.
fn printed(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let mut node = binary()
        .arg("serve")
        .args(arguments)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut stdout = BufReader::new(node.stdout.take().expect("piped"));
    let mut text = String::new();
    for _ in 0..2 {
        stdout.read_line(&mut text).expect("text");
    }
    let admin = text.lines().last().and_then(|line| line.strip_prefix("admin ")).expect("the second line");
    let (head, _) = exchange(&mut connect(admin), "POST /drain HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
    stdout.read_to_string(&mut text).expect("text");
    assert_eq!(node.wait().expect("ended").code(), Some(0));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_flag_wins_over_the_environment_which_wins_over_the_file_and_two_lines_are_all_it_prints() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let settings = "[server]\nlisten = \"127.0.0.71:0\"\nadmin_listen = \"127.0.0.72:0\"\n";
    std::fs::write(file.path(), settings).expect("written");
    let by_file = ["--config", file.path().to_str().expect("text")];
    let by_environment =
        [("WAFERGATE__SERVER__LISTEN", "127.0.0.73:0"), ("WAFERGATE__SERVER__ADMIN_LISTEN", "127.0.0.74:0")];
    let by_flag = ["--listen", "127.0.0.75:0", "--admin-listen", "127.0.0.76:0"];

    for (arguments, variables, listen, admin) in [
        (by_file.to_vec(), &[][..], "127.0.0.71", "127.0.0.72"),
        (by_file.to_vec(), &by_environment, "127.0.0.73", "127.0.0.74"),
        ([&by_file[..], &by_flag].concat(), &by_environment, "127.0.0.75", "127.0.0.76"),
    ] {
        let lines = printed(&arguments, variables);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with(&format!("listen http://{listen}:")), "{lines:?}");
        assert!(lines[1].starts_with(&format!("admin http://{admin}:")), "{lines:?}");
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("bound").to_string();

    for command in ["serve", "demo"] {
        let output = run(&[command, "--listen", &address]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&address), "{said}");
    }
}

#[test]
fn the_demo_posts_for_nobody_but_its_chat_room() {
    let mut demo = binary();
    let mut demo = demo
        .args(["demo", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut line = String::new();
    BufReader::new(demo.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("its address").to_owned();

    let answers = [address.as_str(), "127.0.0.1:3000", "chat"].map(|server_host| {
        let data = format!(r#"{{"receiveUrl":"http://{server_host}/tunnel","protocolType":"ws"}}"#);
        let envelope = serde_json::json!({
            "data": data,
            "tcId": if server_host == "chat" { "chat".to_owned() } else { md5_hex(server_host) },
            "tcKey": "any-key",
            "signature": signature::wafer(&data, "any-key"),
        })
        .to_string();
        let length = envelope.len();
        let request =
            format!("POST /get/wsurl HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{envelope}");
        exchange(&mut connect(&format!("http://{address}")), &request).1
    });
    demo.kill().expect("it runs");
    demo.wait().expect("it ends");

    for body in answers {
        assert!(!body.contains("\"code\":0,") && body.contains("\"code\":"), "{body}");
    }
}

#[test]
fn the_admin_listener_tells_health() {
    let gateway = Gateway::start("");

    for (path, status) in [("/livez", "200"), ("/readyz", "200"), ("/metrics", "200"), ("/drain", "405"), ("/", "404")]
    {
        let (head, _) = get(&gateway.admin, path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
    }
    let (head, body) = get(&gateway.url, "/nothing");
    assert!(head.starts_with("HTTP/1.1 404 ") && body.contains("/get/wsurl"), "{body}");
}

#[test]
fn a_refusal_names_the_client_that_a_trusted_proxy_speaks_for() {
    let mut gateway = Gateway::start("server.trusted_proxies = [\"127.0.0.0/8\"]\n");
    let head = "POST /ws/push HTTP/1.1\r\nHost: gateway\r\nContent-Length: 2\r\n";

    let forwarded = "X-Forwarded-For: 192.0.2.1, 203.0.113.9, 127.0.0.8\r\n";
    exchange(&mut connect(&gateway.url), &format!("{head}{forwarded}\r\n{{}}"));
    let line = gateway.logged("wafer call refused");
    assert!(line.contains("client=203.0.113.9"), "{line}");

    exchange(&mut connect(&gateway.url), &format!("GET /ws/x HTTP/1.1\r\nHost: gateway\r\n{forwarded}\r\n"));
    let line = gateway.logged("handshake refused");
    assert!(line.contains("client=203.0.113.9"), "{line}");

    let mut gateway = Gateway::start("");
    exchange(&mut connect(&gateway.url), &format!("{head}{forwarded}\r\n{{}}"));
    let line = gateway.logged("wafer call refused");
    assert!(line.contains("client=127.0.0.1"), "nobody is trusted: {line}");
}

//! The blocks of the documents that are to be pasted, as they stand there: in a network namespace of their own, where the ports that
//! they name are free.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rcgen::generate_simple_self_signed;
use tempfile::TempDir;

use super::gateway::binary;

/// Waits until the node of a script is ready.
const READY: &str = "until curl -sf http://127.0.0.1:9090/readyz > ready; do sleep 1; done\n";

/// The blocks in `language` of a page, from the line `begin` on.
fn blocks(page: &str, begin: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    let (_, rest) = text.split_once(&format!("\n{begin}\n")).unwrap_or_else(|| panic!("{page} has no {begin}"));
    let mut found = vec![];
    let mut lines = rest.lines().map(str::trim_start);
    while let Some(line) = lines.next() {
        let Some(mark) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        if mark == language {
            found.push(block.join("\n") + "\n");
        }
    }
    found
}

/// A directory that looks like the repository after `cargo build --release`; `cargo` and `npm` find everything done.
fn repository() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["config", "deploy"] {
        symlink(root.join(name), dir.path().join(name)).expect("linked");
    }
    fs::create_dir_all(dir.path().join("target/release")).expect("created");
    symlink(binary().get_program(), dir.path().join("target/release/wafergate")).expect("linked");
    fs::create_dir(dir.path().join("bin")).expect("created");
    for name in ["cargo", "npm"] {
        let path = dir.path().join("bin").join(name);
        fs::write(&path, "#!/bin/sh\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    }
    dir
}

/// Whether a network namespace can be made here.
fn can_unshare() -> bool {
    let tried = Command::new("unshare").args(["-rn", "sh", "-c", "ip link set lo up"]).status();
    tried.is_ok_and(|status| status.success())
}

/// Runs a script; returns its output once it and all that it has started have ended.
fn run(dir: &TempDir, script: &str) -> String {
    let path = std::env::var("PATH").expect("a PATH");
    let places = format!("{0}/bin:{0}/target/release:{path}", dir.path().display());
    let mut command = match can_unshare() {
        true => {
            let mut command = Command::new("unshare");
            command.args(["-rn", "timeout", "60", "sh", "-c"]).arg(format!("ip link set lo up\n{script}"));
            command
        }
        // One at a time, since all name the same ports.
        false => {
            let mut command = Command::new("flock");
            command.arg(std::env::temp_dir().join("wafergate-pasted.lock")).args(["timeout", "60", "sh", "-c", script]);
            command
        }
    };
    let output = command
        .current_dir(dir.path())
        .env("PATH", places)
        .env("WAFERGATE__DRAIN__FLUSH_SECS", "1")
        .env_remove("RUST_LOG")
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{:?} {said} {}", output.status, String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn the_first_session_of_the_native_api_works_as_it_stands() {
    let dir = repository();
    let session = blocks("docs/native-api.md", "## Try it", "sh");
    let push = blocks("README.md", "### I write a new program", "sh");

    // What is killed in the end has its status printed by `wait`, which does not count.
    let script = format!("{}{}{}wait\n", session[0], push[0], session[1]);
    let said = run(&dir, &script);

    let count = |words: &str| said.matches(words).count();
    assert_eq!(count(r#"{"targets":1,"accepted":1,"gone":[],"slow":[],"unreachable":[]}"#), 2, "{said}");
    assert_eq!(count(r#"{"type":"say","content":{"text": "hello"}}"#), 2, "{said}");
    assert_eq!(count(r#"{"type":"joined","content":{"user":"carl"}}"#), 3, "ann, bob and carl: {said}");
    let log = fs::read_to_string(dir.path().join("target/gateway.log")).expect("a log");
    assert!(log.contains("webhook failed, retrying"), "{log}");
}

#[test]
fn the_development_file_carries_an_example_and_wafer_calls_by_hand() {
    let dir = repository();
    let own = blocks("docs/operate.md", "## On your own machine", "sh");
    let expected = blocks("docs/operate.md", "## On your own machine", "json");

    let serve = own[0].trim();
    // What is killed in the end has to be the process itself.
    let example = own[1].trim().replace(" node chat", " exec node chat");
    let tunnel = "until curl -sf 'http://127.0.0.1:3000/tunnel?user=ann' > tunnel; do sleep 1; done\n";
    let said = run(
        &dir,
        &format!(
            "{serve} > addresses 2> log & node=$!\n{READY}({example}) > chat 2>&1 & chat=$!\n{tunnel}{}kill $chat $node; wait\n",
            own[2]
        ),
    );

    let tunnel = fs::read_to_string(dir.path().join("tunnel")).expect("a response");
    assert!(tunnel.contains(r#""connectUrl":"ws://127.0.0.1:8080/ws/"#), "{tunnel}");
    let answers: Vec<&str> = said.lines().collect();
    assert!(
        answers[0].contains(r#""code":0"#) && answers[0].contains(r"ws:\/\/127.0.0.1:8080\/ws\/")
            || answers[0].contains("ws://127.0.0.1:8080/ws/"),
        "{said}"
    );
    assert_eq!(answers[1], expected[0].trim(), "{said}");
}

#[test]
fn a_node_starts_as_the_page_says_and_a_wafer_tenant_finds_its_credentials() {
    let dir = repository();
    let file = &blocks("docs/operate.md", "## Start a node", "toml")[0];
    // Where no namespace can be made, nothing must listen for others.
    fs::write(dir.path().join("wafergate.toml"), file.replace("0.0.0.0", "127.0.0.1")).expect("written");
    let start = &blocks("docs/operate.md", "## Start a node", "sh")[0];
    let expected = &blocks("docs/operate.md", "## Start a node", "text")[0];
    let credentials = &blocks("docs/wafer.md", "## Move on to the native API", "sh")[0];
    let credentials = credentials
        .replace("whsec_...", "$(cat tenant.keys)")
        .replace("https://ws.example.com", "http://127.0.0.1:8080");

    let serve = start.lines().last().expect("a line");
    let begin = start.replace(serve, &format!("{serve} > addresses 2> log & node=$!"));
    let said = run(&dir, &format!("{begin}{READY}{credentials}cat addresses; kill $node; wait\n"));

    assert!(said.contains("api.example.com") && said.contains("heartbeat_secs"), "the configuration in effect: {said}");
    assert!(said.contains("tunnel_not_open"), "{said}");
    assert!(said.ends_with(&expected.replace("0.0.0.0", "127.0.0.1")), "{said}");
}

#[test]
fn nginx_accepts_the_block_of_the_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path().display();
    let made = generate_simple_self_signed(["ws.example.com".to_owned()]).expect("a certificate");
    fs::write(dir.path().join("cert.pem"), made.cert.pem()).expect("written");
    fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let certificate = format!("ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;");
    let site = blocks("docs/operate.md", "## TLS", "nginx")[0]
        .replace("# ssl_certificate, ssl_certificate_key", &certificate)
        .replace("listen 443 ssl", "listen 127.0.0.1:8443 ssl");
    let whole = format!("pid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{site}}}\n");
    fs::write(dir.path().join("nginx.conf"), whole).expect("written");

    let output = Command::new("/usr/sbin/nginx").args(["-t", "-c"]).arg(dir.path().join("nginx.conf")).output();
    let output = output.expect("nginx is installed");

    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("[warn]"), "{said}");
}

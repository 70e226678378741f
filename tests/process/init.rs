//! `wafergate init`: what it writes, a node can use; and nothing is overwritten.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::process::Stdio;

use rcgen::generate_simple_self_signed;

use super::gateway::binary;

const HOST: [&str; 2] = ["--host", "ws.example.com"];
const WAFER: [&str; 2] = ["--server-host", "api.example.com"];
const NATIVE: [&str; 2] = ["--tenant", "shop=https://shop.example.com/events"];

/// Runs it with these arguments and answers.
fn init(file: &Path, arguments: &[&[&str]], answers: &str) -> Output {
    let mut command = binary();
    command.arg("init").arg("--config").arg(file).args(arguments.concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("piped").write_all(answers.as_bytes()).unwrap_or_default();
    child.wait_with_output().expect("an end")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// What is in effect with this file; it must be without a warning.
fn checked(file: &Path) -> String {
    let output = binary().args(["check-config", "--strict", "--config"]).arg(file).output().expect("run");
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

#[test]
fn what_init_writes_a_node_can_use() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wafergate.toml");

    let output = init(&file, &[&HOST, &WAFER, &NATIVE], "");

    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let steps = said(&output);
    for words in
        ["https://api.example.com, https://shop.example.com", "wss://ws.example.com", file.to_str().expect("text")]
    {
        assert!(steps.contains(words), "{steps}");
    }
    assert!(!steps.contains("whsec_"), "{steps}");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o640);
    let effect = checked(&file);
    for words in [
        "public_url = \"wss://ws.example.com\"",
        "listen = \"127.0.0.1:8080\"",
        "server_host = \"api.example.com\"",
        "webhook_url = \"https://shop.example.com/events\"",
    ] {
        assert!(effect.contains(words), "{words}: {effect}");
    }
    let names: Vec<_> = fs::read_dir(dir.path()).expect("a folder").collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn init_overwrites_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wafergate.toml");
    fs::write(&file, "# mine\n").expect("written");

    let output = init(&file, &[&HOST, &WAFER], "");

    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("exists and is not overwritten"), "{}", said(&output));
    assert_eq!(fs::read_to_string(&file).expect("a file"), "# mine\n");
}

#[test]
fn a_node_may_end_tls_and_be_one_of_several() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = generate_simple_self_signed(["ws.example.com".to_owned()]).expect("a certificate");
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name).to_str().expect("text").to_owned());
    fs::write(&cert, made.cert.pem()).expect("written");
    fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let file = dir.path().join("wafergate.toml");
    let tls = ["--tls-cert", &cert, "--tls-key", &key];

    let output = init(&file, &[&HOST, &WAFER, &tls, &["--redis-url", "redis://10.0.0.5:6379"]], "");

    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let effect = checked(&file);
    assert!(effect.contains("listen = \"0.0.0.0:443\"") && effect.contains("kind = \"redis\""), "{effect}");
}

#[test]
fn init_asks_for_what_is_not_given() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wafergate.toml");

    let output = init(&file, &[], "ws.example.com\napi.example.com\n\nshop\nhttps://shop.example.com/events\n\n\n");

    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let effect = checked(&file);
    assert!(effect.contains("server_host = \"api.example.com\"") && effect.contains("id = \"shop\""), "{effect}");
}

#[test]
fn what_makes_no_configuration_is_not_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wafergate.toml");
    for (arguments, words) in [
        (vec![&[][..]], "--host ws.example.com"),
        (vec![&HOST[..]], "--server-host HOST"),
        (vec![&["--host", "wss://ws.example.com"], &WAFER[..]], "the name only"),
        (vec![&HOST[..], &["--tenant", "shop"]], "ID=URL"),
        (vec![&HOST[..], &["--tenant", "shop=nowhere"]], "webhook_url"),
        (vec![&HOST[..], &WAFER, &["--tls-cert", "/nowhere/cert.pem"]], "--tls-key"),
        (vec![&HOST[..], &WAFER, &["--tls-cert", "/nowhere/cert.pem", "--tls-key", "/nowhere/key.pem"]], "/nowhere/"),
        (vec![&HOST[..], &WAFER, &["--redis-url", "10.0.0.5"]], "redis_url"),
    ] {
        let output = init(&file, &arguments, "");
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0, "{arguments:?}");
    }
}

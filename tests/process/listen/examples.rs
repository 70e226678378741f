//! The examples of business servers that dial out, as they stand in `deploy/examples/connector`.

use std::process::Stdio;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Command;
use wafergate::protocol::connector::FromConnector;
use wafergate::protocol::connector::Purpose;
use wafergate::protocol::connector::Take;

use super::KEY;
use super::gateway::FakeGateway;
use super::soon;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples/connector");

/// Program, file, and how many lines of code it may have beside imports and comments.
const EXAMPLES: [(&str, &str, usize); 3] =
    [("node", "connector.mjs", 30), ("python3", "connector.py", 45), ("php", "connector.php", 50)];

#[tokio::test]
async fn each_example_answers_events_and_comes_back() {
    for (program, file, _) in EXAMPLES {
        let gateway = FakeGateway::start().await;
        let mut child = Command::new(program)
            .arg(format!("{FOLDER}/{file}"))
            .envs([("GATEWAY", &*gateway.url()), ("TENANT", "shop"), ("KEY", KEY), ("NAME", "shop")])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut connector = gateway.connector().await;
        let hello = &connector.hello;
        assert_eq!((&*hello.name, hello.purpose, &hello.take), ("shop", Purpose::Serve, &Take::Named), "{file}");
        assert_eq!(hello.session, None, "{file}");
        connector.welcome("s1").await;
        let ready = soon("ready", lines.next_line()).await.expect("text").expect("a line");
        assert_eq!(ready, "ready s1", "{file}");

        for (sequence, length) in [(2, 1), (3, 200), (4, 30_000)] {
            let said = "说".repeat(length);
            let event = json!({"type": "wafergate.tunnel.message", "data": said, "userid": "ann"});
            connector.native(sequence, &event).await;
            match connector.next().await {
                (FromConnector::Answer(answer), body) => {
                    assert_eq!(answer.status, 200, "{file}");
                    let answer: Value = serde_json::from_slice(&body).expect("JSON");
                    let content = &answer["actions"][0]["push"]["content"];
                    assert_eq!(content, &json!(format!("you said: {said}")), "{file}");
                }
                other => panic!("{file}: {other:?}"),
            }
        }
        // A ping is answered, since the gateway drops a silent connection.
        connector.ping().await;

        drop(connector);
        let connector = gateway.connector().await;
        assert_eq!(connector.hello.session.as_deref(), Some("s1"), "{file}");
        connector.cut().await;
        gateway.connector().await.reset();
        gateway.connector().await;
    }
}

#[test]
fn the_examples_fit_on_a_page() {
    let all = EXAMPLES.into_iter().chain([("go", "go/connector.go", 60)]);
    for (_, file, limit) in all {
        let text = std::fs::read_to_string(format!("{FOLDER}/{file}")).expect("readable");
        // What stands between the imports' brackets, and the description at the beginning, is no code of the example.
        let is_import = |line: &str| {
            ["import ", "from ", "package ", "<?php", "\"\"\"", "    GATEWAY=", ")"]
                .iter()
                .any(|start| line.starts_with(start))
                || line.trim().starts_with('"') && line.trim().ends_with('"')
        };
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//") && !is_import(line);
        let lines = text.lines().filter(is_code).count();
        assert!(lines <= limit, "{file} has {lines} lines, {limit} are allowed");
    }
}

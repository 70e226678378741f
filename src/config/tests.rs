//! Layers, ranges and messages. Tests with whole files are in `tests/config.rs`.

use std::fs;

use crate::options::Kind;

use super::*;

fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("test.toml");
    fs::write(&path, text).expect("a file");
    load(Some(&path), owned(variables))
}

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn error(text: &str, variables: &[(&str, &str)]) -> ConfigError {
    load_text(text, variables).expect_err("the configuration is wrong")
}

fn error_of(variables: &[(&str, &str)]) -> String {
    error("", variables).to_string()
}

#[test]
fn the_environment_is_stronger_than_the_file_than_the_default() {
    let file = "tunnel.heartbeat_secs = 20\ntunnel.outbox_age_secs = 5\n";
    let variables = [("WAFERGATE__TUNNEL__HEARTBEAT_SECS", "10"), ("WAFERGATE_KEY", "not ours"), ("PATH", "/bin")];
    let tunnel = load_text(file, &variables).expect("a usable configuration").options.tunnel;

    assert_eq!((tunnel.heartbeat_secs, tunnel.outbox_age_secs, tunnel.connect_ttl_secs), (10, 5, 60));
}

#[test]
fn the_environment_changes_and_adds_tenants() {
    let file = "[[tenants]]\nserver_host = \"a.example\"\nkeys = [\"0123456789abcdef\"]\nlimits.connections = 5\n";
    let variables = [
        ("WAFERGATE__TENANTS__1__KEYS_FILE", "tests/fixtures/config/keys.txt"),
        ("WAFERGATE__TENANTS__1__SERVER_HOST", "b.example"),
        ("WAFERGATE__TENANTS__1__RECEIVE_HOSTS", "b.example:80, c.example"),
        ("WAFERGATE__TENANTS__0__LIMITS__PUSHES_PER_SEC", "7"),
        ("WAFERGATE__TENANTS__0__WEBHOOK_BATCH", "true"),
        ("WAFERGATE__SERVER__PUBLIC_URL", "ws://127.0.0.1:8080"),
    ];
    let loaded = load_text(file, &variables).expect("a usable configuration");
    let [first, second] = loaded.options.tenants.as_slice() else { panic!("{:?}", loaded.options.tenants) };

    assert_eq!((first.limits.connections, first.limits.pushes_per_sec, first.webhook_batch), (Some(5), Some(7), true));
    assert_eq!(first.keys[0].expose(), "0123456789abcdef");
    assert_eq!(second.receive_hosts, ["b.example:80", "c.example"]);
    assert_eq!(
        second.keys.iter().map(|key| key.expose()).collect::<Vec<_>>(),
        ["first key with spaces", "kéy-密钥 +/= second"]
    );
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn tenants_are_counted_without_gaps() {
    let text = error_of(&[("WAFERGATE__TENANTS__1__ID", "b")]);

    assert!(
        text.contains("tenants[1] (environment variable WAFERGATE__TENANTS__1__ID): is set but tenants[0]"),
        "{text}"
    );
}

#[test]
fn all_problems_are_told_with_key_value_place_and_unit() {
    let file = "[tunnel]\nheartbeat_secs = 0\noutbox_bytes = \"1 MiB\"\n\n[tunel]\nx = 1\n[webhook]\ntimeout = 5\n";
    let error = error(file, &[("WAFERGATE__SERVER__LISTEN", "localhost:80"), ("WAFERGATE__LOG__LEVLE", "info")]);
    let text = error.to_string();

    for part in [
        "the configuration has 6 problems:",
        "tunnel.heartbeat_secs = 0 (",
        "test.toml:2): must be a whole number from 1 to 3600, in seconds",
        "tunnel.outbox_bytes = \"1 MiB\" (",
        "test.toml:3): must be a whole number from 2048 to 1073741824, in bytes",
        "test.toml:5): unknown section; the nearest one is `tunnel`",
        "webhook.timeout (",
        "test.toml:8): unknown key; the nearest one is `webhook.timeout_ms`",
        "server.listen = \"localhost:80\" (environment variable WAFERGATE__SERVER__LISTEN): must be an IP address",
        "log.levle (environment variable WAFERGATE__LOG__LEVLE): unknown key; the nearest one is `log.level`",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(text.lines().count(), 1 + error.problems().len());
}

#[test]
fn every_number_has_a_range() {
    let mut seen = 0;
    for key in keys::NODE.iter() {
        let Kind::Number { min, max, unit } = key.kind else {
            continue;
        };
        seen += 1;
        for (number, is_good) in [(min - 1, false), (min, true), (max, true), (max + 1, false)] {
            let loaded = load_text(&format!("{} = {number}", key.name), &[]);
            match loaded {
                Ok(_) => assert!(is_good, "{} = {number}", key.name),
                Err(error) => {
                    assert!(!is_good, "{error}");
                    assert_eq!(error.problems()[0].key(), key.name);
                    assert!(error.to_string().contains(unit), "{error}");
                }
            }
        }
    }
    assert_eq!(seen, 27);
}

#[test]
fn a_secret_is_never_told() {
    let file = "server.ticket_key = 5\n[[tenants]]\nid = \"a\"\nkeys = [\"hunter2\", 5]\nwebhook_url = \"ftp://u:hunter2@h\"\n";
    let variables = [
        ("WAFERGATE__ENGINE__REDIS_URL", "redis:/user:hunter2@host"),
        ("WAFERGATE__TENANTS__1__KEYS", "[hunter2"),
        ("WAFERGATE__SERVER__REDIS_URL", "hunter2"),
        ("WAFERGATE__SERVER__PUBLIC_URL", "wss://u:hunter2@h?hunter2"),
    ];
    let error = error(file, &variables);
    let text = format!("{error} {error:?}");

    assert_eq!(error.problems().len(), 8, "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    let broken = load_text("[[tenants]]\nkeys = [\"hunter2]\n", &[]).expect_err("no TOML").to_string();
    assert!(broken.contains("test.toml:2): ") && !broken.contains("hunter2"), "{broken}");
}

#[test]
fn a_secret_and_its_file_exclude_each_other() {
    let key = ("WAFERGATE__SERVER__TICKET_KEY", "0123456789abcdef0123456789abcdef");
    let text = error_of(&[key, ("WAFERGATE__SERVER__TICKET_KEY_FILE", "tests/fixtures/config/keys.txt")]);
    assert!(text.contains("server.ticket_key_file = ") && text.contains("keep only one of the two"), "{text}");
    assert!(!text.contains(key.1), "{text}");

    let text = error_of(&[("WAFERGATE__TENANTS__0__ID", "a"), ("WAFERGATE__TENANTS__0__KEYS_FILE", "/nowhere/keys")]);
    assert!(text.contains("has a problem:") && text.contains("tenants[0].keys_file = \"/nowhere/keys\""), "{text}");

    let empty = [
        ("WAFERGATE__SERVER__TICKET_KEY", ""),
        ("WAFERGATE__SERVER__TICKET_KEY_FILE", "tests/fixtures/config/keys.txt"),
    ];
    let options = load(None, owned(&empty)).expect("an empty secret is none").options;
    assert!(options.server.ticket_key.expose().starts_with("first key with spaces\r\n"));
    assert!(!options.server.ticket_key.expose().ends_with('\n'));
}

#[test]
fn addresses_get_their_normal_form() {
    let loaded = load(None, owned(&[("WAFERGATE__SERVER__PUBLIC_URL", "https://WS.Example.com:443/")]));

    assert_eq!(loaded.expect("a usable configuration").options.server.public_url, "wss://ws.example.com");
}

#[test]
fn a_printed_configuration_has_no_secrets() {
    let variables = [
        ("WAFERGATE__SERVER__TICKET_KEY", "hunter2-hunter2-hunter2-hunter2-hunter2"),
        ("WAFERGATE__ENGINE__REDIS_URL", "redis://:hunter2@127.0.0.1:6379"),
        ("WAFERGATE__TENANTS__0__SERVER_HOST", "a.example"),
        ("WAFERGATE__TENANTS__0__KEYS", "hunter2-hunter2-hunter2"),
        ("WAFERGATE__TENANTS__0__LIMITS__CONNECTIONS", "3"),
    ];
    let text = render(&load(None, owned(&variables)).expect("a usable configuration").options);

    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("ticket_key = \"******\"") && text.contains("keys = [\"******\"]"), "{text}");
    let options: Options = toml::from_str(&text).expect("TOML of the same form");
    assert_eq!(options.tenants[0].limits.connections, Some(3));
}

#[test]
fn a_missing_file_is_named() {
    let text = load(Some(Path::new("/nowhere/wafergate.toml")), []).expect_err("no file").to_string();

    assert!(text.contains("/nowhere/wafergate.toml") && text.contains("--config"), "{text}");
}

//! SIGHUP: changes that are applied, refused and logged; and files that cannot be read in time.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use super::business::Business;
use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::get;
use super::gateway::Gateway;
use super::gateway::KEY;
use super::gateway::SOON;
use super::gateway::binary;
use super::gateway::config;
use super::tls::certify;
use super::tls::trusting;
use super::tls::with_tls;

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo is there").success());
}

#[test]
fn a_file_that_does_not_come_stops_neither_traffic_nor_the_next_reload_nor_the_end() {
    let business = Business::start(true);
    let mut gateway = Gateway::start_on_one_processor(&config(&business.authority, ""));
    let pipe = gateway.config_path().with_file_name("keys");
    fifo(&pipe);
    let good = config(&business.authority, "[limits]\npushes_per_sec = 7\n");
    let stuck = good.replace(&format!("keys = [{KEY:?}]"), &format!("keys_file = {pipe:?}"));
    assert!(stuck.contains("keys_file"));
    fs::write(gateway.config_path(), &stuck).expect("written");

    gateway.signal("HUP");

    // Opening it for writing waits for the reader: from here on it is being read.
    let mut writer = File::options().write(true).open(&pipe).expect("it is being read");
    let (mut api, begin) = (connect(&gateway.url), Instant::now());
    while !gateway.has_logged("the old one stays") {
        assert!(begin.elapsed() < 2 * SOON, "it is read for ever");
        let (_, path) = ask(&mut api, &business.authority);
        let mut client = Client::open(connect(&gateway.url), &path);
        client.send("close");
        assert_eq!([business.event().0, business.event().0], ["connect", "close"]);
        assert!(get(&gateway.admin, "/livez").0.starts_with("HTTP/1.1 200 "));
    }
    assert!(gateway.has_logged("could not be read in time") && gateway.has_logged("limit_secs=30"));
    fs::write(gateway.config_path(), &good).expect("written");
    gateway.signal("HUP");
    assert!(gateway.logged("configuration reloaded").contains("limits_changed=1"));
    // A late configuration is not applied.
    writeln!(writer, "a key that nobody waits for").expect("written");
    drop(writer);
    ask(&mut api, &business.authority);

    fs::write(gateway.config_path(), &stuck).expect("written");
    gateway.signal("HUP");
    let _writer = File::options().write(true).open(&pipe).expect("it is being read");
    let begin = Instant::now();
    gateway.signal("TERM");
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(begin.elapsed() < Duration::from_secs(8), "the file held it up");
}

#[test]
fn a_sighup_before_the_configuration_is_read_does_no_harm() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("wafergate.toml");
    fifo(&path);
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"];
    let mut child =
        binary().args(arguments).arg(&path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let mut writer = File::options().write(true).open(&path).expect("it is being read");

    let hang_up = ["-s", "HUP", &child.id().to_string()];
    assert!(Command::new("kill").args(hang_up).status().expect("kill is there").success());

    writer.write_all(config("api.example.com", "").as_bytes()).expect("it lives, and reads");
    drop(writer);
    let mut first = [0; 7];
    child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("it serves");
    assert_eq!(&first, b"listen ");
    child.kill().expect("killed");
    child.wait().expect("gone");
}

#[test]
fn a_certificate_that_has_moved_is_followed() {
    let [old, new] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (first, second) = (certify(old.path()), certify(new.path()));
    let business = Business::start(true);
    let mut gateway = Gateway::start(&with_tls(&business.authority, old.path()));
    ask(&mut trusting(&gateway.url, &first), &business.authority);

    fs::write(gateway.config_path(), with_tls(&business.authority, new.path())).expect("written");
    drop(old);
    gateway.signal("HUP");

    assert!(gateway.logged("configuration reloaded").contains("certificate_changed=true"));
    ask(&mut trusting(&gateway.url, &second), &business.authority);
    gateway.signal("HUP");
    assert!(gateway.logged("configuration reloaded").contains("certificate_changed=false"));
    fs::remove_file(new.path().join("key.pem")).expect("removed");
    gateway.signal("HUP");
    let line = gateway.logged("the old one stays");
    assert!(line.contains(&*new.path().to_string_lossy()), "{line}");
}

#[test]
fn a_file_that_was_emptied_or_cut_is_not_taken_over() {
    let business = Business::start(true);
    let whole = config(&business.authority, "[[tenants]]\nid = \"other\"\nkeys = [\"another key of this test\"]\n");
    let mut gateway = Gateway::start(&whole);
    let mut api = connect(&gateway.url);
    let (_, path) = ask(&mut api, &business.authority);
    let mut client = Client::open(connect(&gateway.url), &path);
    assert_eq!(business.event().0, "connect");
    let without_first = "[webhook]\nallow_networks = [\"127.0.0.0/8\"]\n[[tenants]]\nid = \"other\"\nkeys = [\"another key of this test\"]\n";

    for (text, words) in
        [("", "all tenants (2) are missing in it"), (without_first, "tenants that have tunnels are missing in it")]
    {
        fs::write(gateway.config_path(), text).expect("written");
        gateway.signal("HUP");
        let line = gateway.logged("the old one stays");
        assert!(
            line.contains(words) && line.contains("with 1 tunnels") && line.contains("reload.allow_removal"),
            "{line}"
        );
        ask(&mut api, &business.authority);
    }
    let meant = format!("{without_first}[reload]\nallow_removal = true\n");
    fs::write(gateway.config_path(), meant).expect("written");
    gateway.signal("HUP");
    assert!(gateway.logged("configuration reloaded").contains("tenants_out=1"));
    assert!(gateway.logged("tenant taken out").contains("tunnels=1"));

    client.send("message:still there");
    assert_eq!(business.event(), ("message".into(), Some("still there".into())));
    client.send("close");
    assert_eq!(business.event().0, "close");
}

#[test]
fn a_reload_says_what_has_changed_and_what_needs_a_restart() {
    let business = Business::start(true);
    let mut gateway = Gateway::start(&config(&business.authority, ""));
    let more = "[tunnel]\nheartbeat_secs = 20\n[server]\nticket_key = \"a secret of thirty-two characters\"\n";
    let changed = config(&business.authority, &format!("[[tenants]]\nid = \"new\"\nkeys = [{KEY:?}]\n{more}"));
    let changed =
        changed.replacen(&format!("keys = [{KEY:?}]"), &format!("keys = [{KEY:?}, \"a second key of this test\"]"), 1);
    fs::write(gateway.config_path(), changed).expect("written");

    gateway.signal("HUP");

    let line = gateway.logged("configuration reloaded");
    assert!(
        line.contains("tenants_in=1") && line.contains("keys_changed=1") && line.contains("limits_changed=0"),
        "{line}"
    );
    assert!(gateway.logged("tenant taken in").contains("tenant.id=new"));
    let line = gateway.logged("keys changed");
    assert!(line.contains("added=") && !line.contains("a second key"), "{line}");
    let line = gateway.logged("restart to take them over");
    assert!(line.contains("keys=\"server.ticket_key, tunnel.heartbeat_secs\""), "{line}");
    let (_, log) = {
        gateway.signal("TERM");
        gateway.end()
    };
    assert!(!log.contains("thirty-two"), "{log}");
}

/// As many tenants as a large installation has; a development build takes its time, off the thread that serves.
#[test]
fn very_many_tenants_do_not_stop_traffic() {
    let business = Business::start(true);
    let mut gateway = Gateway::start_on_one_processor(&config(&business.authority, ""));
    let many: String = (0..20_000)
        .map(|number| format!("[[tenants]]\nid = \"t{number}\"\nkeys = [\"{number} key of this test\"]\n"))
        .collect();
    fs::write(gateway.config_path(), config(&business.authority, &many)).expect("written");

    gateway.signal("HUP");

    let (begin, mut longest) = (Instant::now(), Duration::ZERO);
    let mut api = connect(&gateway.url);
    // Takes no room, however long it goes on.
    let to_no_tunnel = json!([{ "tunnelIds": ["unknown"], "type": "message", "content": "x" }]).to_string();
    while !gateway.has_logged("reloaded") {
        let asked = Instant::now();
        let answer = call(&mut api, &business.authority, "/ws/push", &to_no_tunnel);
        assert_eq!(answer["code"], 0, "{answer}");
        longest = longest.max(asked.elapsed());
        assert!(begin.elapsed() < SOON, "not reloaded");
    }
    println!("reloaded after {} ms, longest answer meanwhile {} ms", begin.elapsed().as_millis(), longest.as_millis());
    assert!(longest < Duration::from_millis(500), "{longest:?}");
}

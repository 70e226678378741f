//! The files in `deploy/`, checked by the programs that read them, and the node's part of the systemd unit.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use rcgen::generate_simple_self_signed;

use super::business::Business;
use super::client::get;
use super::gateway::Gateway;
use super::gateway::SOON;
use super::gateway::binary;
use super::gateway::config;

fn deploy(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a checker and expects it to be content, without a word of warning.
fn accepts(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let complains = ["warn", "unknown", "ignoring"].iter().any(|word| said.to_lowercase().contains(word));
    assert!(output.status.success() && !complains, "{command:?}: {said}");
}

fn certificate(dir: &Path) -> String {
    let made = generate_simple_self_signed(["ws.example.com".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(dir.join("cert.pem"), &certificate).expect("written");
    fs::write(dir.join("key.pem"), &key).expect("written");
    fs::write(dir.join("both.pem"), certificate + &key).expect("written");
    dir.to_str().expect("text").to_owned()
}

#[test]
fn systemd_accepts_the_units() {
    let dir = tempfile::tempdir().expect("a directory");
    let (service, socket) = (dir.path().join("wafergate.service"), dir.path().join("wafergate.socket"));
    let text =
        deploy("systemd/wafergate.service").replace("=wafergate ", concat!("=", env!("CARGO_BIN_EXE_wafergate"), " "));
    fs::write(&service, text).expect("written");
    fs::write(&socket, deploy("systemd/wafergate.socket")).expect("written");

    accepts(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&service).arg(&socket));

    // What is left open is the network, which it is for.
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--threshold=12", "--no-pager"]).arg(&service);
    let output = command.output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Otherwise the node would refuse the socket.
#[test]
fn the_socket_has_the_default_address() {
    let defaults = deploy("../config/default.toml");
    let listen = defaults.lines().find_map(|line| line.strip_prefix("listen = ")).expect("a default").trim_matches('"');
    assert!(deploy("systemd/wafergate.socket").contains(&format!("\nListenStream={listen}\n")), "{listen}");
}

/// What `cargo deb` needs is there.
#[test]
fn the_debian_package_is_complete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table = deploy("../Cargo.toml").parse().expect("TOML");
    let package = &manifest["package"]["metadata"]["deb"];
    let assets = package["assets"].as_array().expect("a list");
    let part = |asset: &toml::Value, at: usize| asset[at].as_str().expect("text").to_owned();
    for asset in assets.iter().map(|asset| part(asset, 0)).filter(|asset| !asset.starts_with("target/")) {
        assert!(root.join(&asset).is_file(), "{asset}");
    }
    let files = package["conf-files"].as_array().expect("a list");
    for file in files.iter().map(|file| file.as_str().expect("text").trim_start_matches('/')) {
        assert!(assets.iter().any(|asset| part(asset, 1) == file), "{file} is in the package");
    }
    let units = package["systemd-units"]["unit-scripts"].as_str().expect("a folder");
    assert!(root.join(units).join("wafergate.service").is_file());
    for script in ["postinst", "prerm", "postrm"] {
        let path = root.join(package["maintainer-scripts"].as_str().expect("a folder")).join(script);
        assert!(
            fs::read_to_string(&path).expect("a script").contains("\n#DEBHELPER#\n"),
            "{script} has its place for the units"
        );
        accepts(Command::new("sh").arg("-n").arg(path));
    }
}

/// `systemctl reload` fails, rather than to leave a broken file unnoticed.
#[test]
fn a_reload_checks_the_file_first() {
    let unit = deploy("systemd/wafergate.service");
    let reloads: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("ExecReload=")).collect();
    assert!(
        reloads[0].contains("wafergate check-config --quiet --config") && reloads[1].contains("kill -HUP"),
        "{reloads:?}"
    );
}

#[test]
fn haproxy_accepts_its_configuration() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificates = certificate(dir.path());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/haproxy.cfg");
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-c").arg("-f").arg(path).env("BIND", format!("127.0.0.1:8443 ssl crt {certificates}/both.pem"));
    for (node, port) in [("1", "8080"), ("2", "8081")] {
        command.env(format!("NODE{node}"), format!("127.0.0.1:{port}"));
        command.env(format!("ADMIN{node}_PORT"), "9090");
    }

    accepts(&mut command);
}

#[test]
fn nginx_accepts_its_configuration() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = certificate(dir.path());
    let site = deploy("nginx.conf")
        .replace("/etc/nginx/ws.example.com.crt", &format!("{folder}/cert.pem"))
        .replace("/etc/nginx/ws.example.com.key", &format!("{folder}/key.pem"))
        .replace("/var/log/nginx/", &format!("{folder}/"))
        .replace("listen 443 ssl", "listen 127.0.0.1:8443 ssl");
    let whole = format!("pid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{site}}}\n");
    fs::write(dir.path().join("nginx.conf"), whole).expect("written");

    let output = Command::new("/usr/sbin/nginx").args(["-t", "-c"]).arg(dir.path().join("nginx.conf")).output();
    let output = output.expect("nginx is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("[warn]"), "{said}");
}

#[test]
fn the_example_configuration_wants_nothing_but_a_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("wafergate.toml");
    let example = deploy("wafergate.toml");
    fs::write(&path, &example).expect("written");
    let output = binary().args(["check-config", "--config"]).arg(&path).output().expect("run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && said.contains("keys"), "{said}");

    fs::write(&path, example.replace("keys = []", "keys = [\"0123456789abcdef\"]")).expect("written");

    accepts(binary().args(["check-config", "--config"]).arg(&path));
}

#[test]
fn systemd_is_told_when_the_node_is_ready_lives_and_drains() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("bound");
    systemd.set_read_timeout(Some(SOON)).expect("set");
    let told = || {
        let mut bytes = [0; 256];
        let length = systemd.recv(&mut bytes).expect("told");
        String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
    };
    let reloaded = |words: &str| while told() != format!("STATUS={words}") {};
    let business = Business::start(true);
    let variables = [("NOTIFY_SOCKET", path.to_str().expect("text")), ("WATCHDOG_USEC", "20000")];
    let gateway = Gateway::start_with(&config(&business.authority, ""), &variables);

    assert_eq!(told(), "READY=1\nSTATUS=serving: 0 tunnels, 0 events wait");
    assert_eq!([told(), told(), told()], ["WATCHDOG=1"; 3]);

    gateway.signal("HUP");
    reloaded("configuration reloaded");
    fs::write(gateway.config_path(), "[server]\nlistne = \"x\"\n").expect("written");
    gateway.signal("HUP");
    reloaded("reload failed, the old configuration stays");
    let (_, metrics) = get(&gateway.admin, "/metrics");
    assert!(metrics.contains("\nwafergate_reload_success 0\n"), "{metrics}");

    gateway.signal("TERM");
    while told() != "STOPPING=1" {}
    assert_eq!(gateway.end().0.code(), Some(0));
}

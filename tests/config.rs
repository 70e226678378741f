//! Configuration files: shipped ones load, errors name the problem, and documents, types and keys agree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use toml::Table;
use toml::Value;
use wafergate::clock::Clock;
use wafergate::clock::SystemClock;
use wafergate::config;
use wafergate::options::LimitOverrides;
use wafergate::options::Limits;
use wafergate::options::Options;
use wafergate::options::Tenant;

/// Part of every secret in the fixtures.
const SECRET: &str = "hush";

/// The `.toml` files of `directory`, with their text.
fn files(directory: &str) -> Vec<(PathBuf, String)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| (path.clone(), fs::read_to_string(path).expect("text")))
        .collect();
    files.sort();
    files
}

fn first_line(text: &str) -> &str {
    text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a comment in the first line")
}

#[test]
fn every_file_that_ships_loads() {
    let files = files("config");
    assert!(files.len() >= 2, "{files:?}");

    for (path, _) in files {
        config::load(Some(&path), []).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn the_development_file_is_ready_to_use() {
    let loaded = config::load(Some(Path::new("config/development.toml")), []).expect("a usable configuration");

    assert_eq!(loaded.warnings, Vec::<String>::new());
    let [with_port, without, native] = &loaded.options.tenants[..] else { panic!("three tenants") };
    assert_eq!((with_port.server_host.as_str(), without.server_host.as_str()), ("127.0.0.1:3000", "127.0.0.1"));
    // What the programs of deploy/examples and the recipes of the native API want.
    assert_eq!((native.id.as_str(), native.webhook_url.as_str()), ("shop", "http://127.0.0.1:3000/events"));
    assert!(native.keys[0].expose().starts_with("whsec_"));
}

#[test]
fn valid_files_load_and_warn_as_they_say() {
    let files = files("tests/fixtures/config/valid");
    assert!(files.len() >= 20, "only {} files", files.len());

    for (path, text) in files {
        let loaded = config::load(Some(&path), []).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        match first_line(&text).strip_prefix("warns: ") {
            Some(phrase) => {
                assert_eq!(loaded.warnings.len(), 1, "{}: {:?}", path.display(), loaded.warnings);
                assert!(loaded.warnings[0].contains(phrase), "{}: {}", path.display(), loaded.warnings[0]);
            }
            None => assert_eq!((first_line(&text), loaded.warnings.len()), ("no warnings", 0), "{:?}", loaded.warnings),
        }
        let shown = format!("{} {:?} {loaded:?}", config::render(&loaded.options), loaded.warnings);
        assert!(!shown.contains(SECRET), "{}: {shown}", path.display());
    }
}

#[test]
fn invalid_files_fail_and_name_the_key() {
    let files = files("tests/fixtures/config/invalid");
    assert!(files.len() >= 50, "only {} files", files.len());

    for (path, text) in files {
        let error = config::load(Some(&path), []).expect_err(&path.display().to_string());
        let shown = error.to_string();
        for phrase in first_line(&text).split(" | ") {
            assert!(shown.contains(phrase), "{}: {phrase} is not in {shown}", path.display());
        }
        assert!(shown.contains(&*path.to_string_lossy()) || shown.contains("(default)"), "no place: {shown}");
        assert!(!format!("{shown} {error:?}").contains(SECRET), "{}: {shown}", path.display());
    }
}

/// Certificates made during the test, because their problems depend on the date.
#[test]
fn a_certificate_with_faults_is_warned_of_with_the_key_the_file_and_the_fix() {
    use rcgen::CertificateParams;
    use rcgen::KeyPair;

    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let named = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateParams::new(names).expect("names")
    };
    let valid = |from, until| {
        let mut params = named(&["ws.example.com"]);
        (params.not_before, params.not_after) = (from, until);
        params
    };
    let new_year = |year| rcgen::date_time_ymd(year, 1, 1);
    let in_days = |days: u64| {
        let now = Duration::from_secs(SystemClock.unix_time().as_secs());
        new_year(1970) + now + Duration::from_secs(days * 86_400)
    };
    let tenant = "[[tenants]]\nserver_host = \"a.example\"\nkeys = [\"0123456789abcdef\"]\n";
    let authority = KeyPair::generate().expect("a key");
    let mut name = named(&[]);
    name.distinguished_name.push(rcgen::DnType::CommonName, "Authority");
    let by_authority = rcgen::Issuer::new(name, &authority);

    for (params, is_signed_by_itself, words) in [
        (named(&["ws.example.com"]), true, None),
        (named(&["*.example.com"]), true, None),
        (valid(new_year(2000), in_days(15)), true, None),
        (valid(new_year(2000), in_days(13)), true, Some("expires in 12 days, at 20")),
        (
            valid(new_year(2000), new_year(2001)),
            true,
            Some("expired at 2001-01-01T00:00:00.000Z: clients refuse it; renew"),
        ),
        (
            valid(new_year(2999), new_year(3000)),
            true,
            Some("is not valid before 2999-01-01T00:00:00.000Z: clients refuse it"),
        ),
        (named(&[]), true, Some("has no subjectAltName: clients refuse it")),
        (named(&["a.example", "b.example"]), true, Some("is for a.example, b.example, not for ws.example.com")),
        (named(&["ws.example.com"]), false, Some("lacks the certificate of its issuer \"Authority\"")),
    ] {
        let key = KeyPair::generate().expect("a key");
        let certificate =
            if is_signed_by_itself { params.self_signed(&key) } else { params.signed_by(&key, &by_authority) };
        fs::write(path("cert.pem"), certificate.expect("a certificate").pem()).expect("written");
        fs::write(path("key.pem"), key.serialize_pem()).expect("written");
        let (cert, key) = (path("cert.pem"), path("key.pem"));
        let text = format!(
            "[server]\npublic_url = \"wss://WS.example.com:8443\"\ntls_cert = {cert:?}\ntls_key = {key:?}\n{tenant}"
        );
        fs::write(path("wafergate.toml"), text).expect("written");

        let loaded = config::load(Some(Path::new(&path("wafergate.toml"))), []).expect("a usable configuration");

        match words {
            None => assert_eq!(loaded.warnings, Vec::<String>::new()),
            Some(words) => {
                let [warning] = loaded.warnings.as_slice() else { panic!("{words}: {:?}", loaded.warnings) };
                let start = format!("server.tls_cert = {cert:?} ({}:3): {words}", path("wafergate.toml"));
                assert!(warning.starts_with(&start), "{warning}\n{start}");
            }
        }
    }
}

/// The names of all settings in `table`, with dots. A tenant has names of its own.
fn names(table: &Table, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) => found.extend(names(inner, &format!("{prefix}{name}."))),
            _ => {
                found.insert(format!("{prefix}{name}"));
            }
        }
    }
    found
}

#[test]
fn the_defaults_document_every_setting_and_no_other() {
    let documented: Table = toml::from_str(config::defaults()).expect("TOML");
    let options: Options = config::load(None, []).expect("usable defaults").options;
    let mut known = Table::try_from(&options).expect("a table");
    known.remove("tenants");
    let session = known["session"].as_table_mut().expect("a section");
    session.remove("apps");
    // It is a secret that has a default, and options show no secret.
    assert_eq!(session.insert("store".into(), documented["session"]["store"].clone()), Some("******".into()));

    assert_eq!(names(&documented, ""), names(&known, ""));
    assert!(names(&known, "").len() >= 30);
    assert_eq!(documented, known, "a setting is not what its default says");
}

/// Generated from the settings: `config/default.toml` and `docs/configuration.md`. WAFERGATE_GENERATE=1 writes them.
#[test]
fn what_is_generated_from_the_settings_is_up_to_date() {
    let is_to_be_written = std::env::var_os("WAFERGATE_GENERATE").is_some();
    for (path, text) in [("config/default.toml", config::defaults()), ("docs/configuration.md", &config::page())] {
        if is_to_be_written {
            fs::write(path, text).expect("writable");
        }
        let there = fs::read_to_string(path).unwrap_or_default();
        assert!(
            there == text,
            "{path} is not what the settings say: run WAFERGATE_GENERATE=1 cargo test --test config generated"
        );
    }
}

/// The tenant that `config/default.toml` shows in a comment.
fn example_tenant() -> Table {
    let block = config::defaults().split("\n#[[tenants]]\n").nth(1).expect("an example of a tenant");
    let lines = block.lines().map_while(|line| line.strip_prefix('#'));
    toml::from_str(&lines.collect::<Vec<_>>().join("\n")).expect("TOML")
}

#[test]
fn the_example_of_a_tenant_has_every_key_and_works() {
    let example = example_tenant();
    let known = Table::try_from(Tenant::default()).expect("a table");
    assert_eq!(example.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("example.toml");
    let plain = "[server]\npublic_url = \"ws://127.0.0.1:8080\"";
    fs::write(&path, format!("{plain}\n[[tenants]]\n{example}")).expect("a file");
    let loaded = config::load(Some(&path), []).expect("a usable configuration");
    assert_eq!((loaded.options.tenants.len(), loaded.warnings.len()), (1, 0), "{:?}", loaded.warnings);
}

#[test]
fn a_tenant_can_override_every_limit() {
    let base = config::load(None, []).expect("usable defaults").options.limits;
    let limits: Table = Table::try_from(base).expect("a table");
    let overrides: LimitOverrides = limits.clone().try_into().expect("the same keys");

    assert_eq!(Table::try_from(overrides).expect("a table"), limits);
    let nothing = Limits {
        connections: 0,
        messages_per_sec: 0,
        messages_per_sec_per_connection: 0,
        pushes_per_sec: 0,
        max_push_targets: 0,
        connectors: 0,
    };
    assert_eq!(overrides.over(nothing), base);
}

/// Every key can be set by its variable: the key table has the same names as the options.
#[test]
fn every_setting_has_its_variable() {
    let options = config::load(None, []).expect("usable defaults").options;
    let mut node = Table::try_from(&options).expect("a table");
    node.remove("tenants");
    node["session"].as_table_mut().expect("a section").remove("apps");
    let mut tenant = Table::try_from(Tenant::default()).expect("a table");
    tenant.insert("limits".to_owned(), node["limits"].clone());
    let names = names(&node, "").into_iter().chain(names(&tenant, "tenants.0."));
    let variable = |name: String| format!("WAFERGATE__{}", name.replace('.', "__").to_uppercase());

    let mut seen = 0;
    for name in names.map(variable) {
        seen += 1;
        let said = match config::load(None, [(name.clone(), "-1".to_owned())]) {
            Ok(loaded) => loaded.warnings.join("\n"),
            Err(error) => error.to_string(),
        };
        assert!(!said.contains("unknown key"), "{name}: {said}");
    }
    assert!(seen >= 40, "only {seen} variables");
}

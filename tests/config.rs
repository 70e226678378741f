//! Configuration files: what ships loads, what is wrong is named, and documents, types and keys agree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use toml::Table;
use toml::Value;
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
    assert_eq!(loaded.options.tenants[0].server_host, "127.0.0.1:3000");
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
    let documented: Table = toml::from_str(config::DEFAULTS).expect("TOML");
    let options: Options = config::load(None, []).expect("usable defaults").options;
    let mut known = Table::try_from(&options).expect("a table");
    known.remove("tenants");

    assert_eq!(names(&documented, ""), names(&known, ""));
    assert!(names(&known, "").len() >= 30);
    assert_eq!(documented, known, "a setting is not what its default says");
}

/// The tenant that `config/default.toml` shows in a comment.
fn example_tenant() -> Table {
    let block = config::DEFAULTS.split("\n#[[tenants]]\n").nth(1).expect("an example of a tenant");
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
    fs::write(&path, format!("[[tenants]]\n{example}")).expect("a file");
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
    };
    assert_eq!(overrides.over(nothing), base);
}

/// Every key can be set by its variable: the table of keys has the same names as the options.
#[test]
fn every_setting_has_its_variable() {
    let options = config::load(None, []).expect("usable defaults").options;
    let mut node = Table::try_from(&options).expect("a table");
    node.remove("tenants");
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

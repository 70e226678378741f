//! The architecture as a test: imports point down, and the core stays pure.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Lowest level first. A module imports lower levels and itself, nothing else.
const LEVELS: &[&[&str]] = &[
    &["clock", "fair_queue", "id", "limit", "secret", "share"],
    &["options"],
    &["protocol", "tls"],
    &["delivery", "tenant", "tunnel"],
    &["demo", "fair_semaphore", "lease_guard", "marks", "metrics", "server", "shutdown", "telemetry"],
    &["http_client"],
    &["engine", "webhook"],
    &["gateway"],
    &["ws"],
    &["admin", "http"],
    &["config"],
    &["app"],
    &["cli"],
];

/// How many of the lowest levels are pure: no I/O, no clock, no task, no log.
const PURE_LEVELS: usize = 4;

/// Text that pure modules must not contain.
const IMPURE: &[&str] =
    &["async fn", ".await", "tokio::", "hyper::", "std::fs", "std::net::Tcp", "tracing::", "Instant::now(", "rand::"];

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|modules| modules.contains(&module))
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("readable") {
            sources(&entry.expect("readable").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_owned());
    }
}

/// Every module of the library with all of its source files.
fn modules() -> Vec<(String, Vec<PathBuf>)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules: Vec<(String, Vec<PathBuf>)> = vec![];
    for entry in fs::read_dir(src).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.file_stem().expect("named").to_string_lossy().into_owned();
        if !["lib", "main"].contains(&name.as_str()) {
            let mut files = vec![];
            sources(&path, &mut files);
            modules.push((name, files));
        }
    }
    modules
}

/// The forbidden text in a line of a pure module.
fn impurity(line: &str) -> Option<&'static str> {
    IMPURE.iter().find(|word| line.contains(**word)).copied()
}

/// The lines of a file without the items compiled for tests only.
fn without_tests(source: &str) -> impl Iterator<Item = &str> {
    let mut lines = source.lines();
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?;
            if line.trim() != "#[cfg(test)]" {
                return Some(line);
            }
            let margin = &line[..line.len() - line.trim_start().len()];
            let end = format!("{margin}}}");
            // Further attributes, then the item: a body ends at its margin.
            let first = lines.by_ref().find(|line| !line.trim_start().starts_with("#["))?;
            if first.contains('{') {
                lines.by_ref().find(|line| *line == end);
            } else if !first.ends_with(';') {
                lines.by_ref().find(|line| line.ends_with(';'));
            }
        }
    })
}

#[test]
fn a_file_is_read_to_its_end() {
    let source = "use a;\n#[cfg(test)]\n#[path = \"b.rs\"]\nmod b;\nfn c() {\n    #[cfg(test)]\n    d();\n}\n\
                  #[cfg(test)]\n#[expect(x)]\nmod tests {\n    use g;\n    async fn e() {\n    }\n}\nasync fn f() {}\n";
    let read: Vec<_> = without_tests(source).collect();

    assert_eq!(read, ["use a;", "fn c() {", "}", "async fn f() {}"]);
    assert_eq!(read.into_iter().find_map(impurity), Some("async fn"));
}

#[test]
fn imports_point_down() {
    let mut imports = 0;
    for (module, files) in modules() {
        let own = level(&module).unwrap_or_else(|| panic!("src/{module} has no level: add it to LEVELS"));
        for file in files {
            let source = fs::read_to_string(&file).expect("readable");
            for rest in source.split("crate::").skip(1) {
                let target: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(target_level) = level(&target) else { continue };
                assert!(target == module || target_level < own, "{} must not import {target}", file.display());
                imports += 1;
            }
        }
    }
    assert!(imports > 100, "found {imports} imports: is the test reading src/?");
}

#[test]
fn the_core_is_pure() {
    let mut lines = 0;
    for (module, files) in modules() {
        if level(&module).is_none_or(|level| level >= PURE_LEVELS) {
            continue;
        }
        for file in files.iter().filter(|file| !file.to_string_lossy().ends_with("_tests.rs")) {
            let source = fs::read_to_string(file).expect("readable");
            for line in without_tests(&source).filter(|line| !line.trim_start().starts_with("//")) {
                lines += 1;
                if let Some(word) = impurity(line) {
                    panic!("{} must not know {word}: {line}", file.display());
                }
            }
        }
    }
    assert!(lines > 4_000, "read {lines} lines: is the test reading src/?");
}

//! The architecture as a test: imports point down and make no circles, and the core stays pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Lowest level first. A module imports lower levels and itself, nothing else.
const LEVELS: &[&[&str]] = &[
    &["clock", "fair_queue", "id", "limit", "secret", "share"],
    &["options", "rates", "reason", "recall"],
    &["protocol", "tls"],
    &["delivery", "listen", "session", "tenant", "timeline", "tunnel"],
    &["fair_semaphore"],
    &["demo", "lease_guard", "marks", "metrics", "page", "server", "shutdown", "telemetry"],
    &["http_client"],
    &["connector"],
    &["engine", "session_store", "webhook", "wechat"],
    &["login"],
    &["gateway", "listener"],
    &["inspector", "ws"],
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
    without("#[cfg(test)]", source)
}

/// The lines of a file without the items below this attribute.
fn without<'a>(attribute: &'static str, source: &'a str) -> impl Iterator<Item = &'a str> {
    let mut lines = source.lines();
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?;
            if line.trim() != attribute {
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

/// What runs on developers' machines, which may have another system: `listen`, `trigger`, `replay` and what is below them alone.
const FOR_DEVELOPERS: &[&str] = &[
    "cli/duration.rs",
    "cli/event_line.rs",
    "cli/listen",
    "cli/local.rs",
    "cli/local_time.rs",
    "cli/private_file.rs",
    "cli/replay.rs",
    "cli/trigger.rs",
    "inspector",
    "listen",
    "listener",
    "page",
    "protocol/connector",
];

#[test]
fn what_developers_run_has_its_unix_parts_apart() {
    let mut apart = 0;
    for part in FOR_DEVELOPERS {
        let mut files = vec![];
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(part), &mut files);
        assert!(!files.is_empty(), "{part} is not there");
        for file in files {
            let source = fs::read_to_string(&file).expect("readable");
            let is_unix = |line: &&str| ["::unix", "rustix::", "libc::"].iter().any(|word| line.contains(word));
            let found = without("#[cfg(unix)]", &source).find(is_unix);
            assert_eq!(found, None, "{}: put it below #[cfg(unix)], beside one for other systems", file.display());
            apart += source.matches("#[cfg(unix)]").count();
        }
    }
    assert!(apart > 5, "found {apart} parts: is the test reading src/?");
}

/// A module path without `crate`, such as `["gateway", "push"]`.
type ModulePath = Vec<String>;

/// The files of the library by module path, and what each imports and re-exports.
#[derive(Default)]
struct Imports {
    files: BTreeSet<ModulePath>,
    /// For each file the paths that it imports for itself.
    private: BTreeMap<ModulePath, Vec<ModulePath>>,
    /// For each file the names that it re-exports, with where they come from.
    exported: BTreeMap<ModulePath, BTreeMap<String, ModulePath>>,
}

impl Imports {
    fn of_library() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = vec![];
        sources(&src, &mut found);
        found.retain(|file| !file.strip_prefix(&src).expect("below it").to_string_lossy().contains("tests"));
        let mut imports = Self::default();
        let named: Vec<_> = found.into_iter().map(|file| (module_path(&src, &file), file)).collect();
        imports.files = named.iter().map(|(module, _)| module.clone()).collect();
        for (module, file) in named {
            let source = fs::read_to_string(file).expect("readable");
            without_tests(&source).for_each(|line| imports.read(&module, line));
        }
        imports
    }

    /// Reads a line `use a::b::C;` of a file.
    fn read(&mut self, module: &ModulePath, line: &str) {
        let Some((before, path)) = line.strip_suffix(';').and_then(|line| line.split_once("use ")) else { return };
        let (path, name) = path.split_once(" as ").unwrap_or((path, path.rsplit("::").next().unwrap_or_default()));
        let parts: Vec<String> = path.split("::").map(str::to_owned).collect();
        let ups = parts.iter().take_while(|part| *part == "super").count();
        let target = match parts[0].as_str() {
            "crate" => parts[1..].to_vec(),
            "super" => [&module[..module.len() - ups], &parts[ups..]].concat(),
            "self" => [&module[..], &parts[1..]].concat(),
            child if self.files.contains(&[&module[..], &[child.to_owned()]].concat()) => {
                [&module[..], &parts[..]].concat()
            }
            _ => return,
        };
        if before.trim_start().starts_with("pub") {
            self.exported.entry(module.clone()).or_default().insert(name.to_owned(), target);
        } else {
            self.private.entry(module.clone()).or_default().push(target);
        }
    }

    /// The file that defines what this path names, behind any re-exports.
    fn file_of(&self, path: &[String]) -> Option<ModulePath> {
        let length = (1..=path.len()).rev().find(|length| self.files.contains(&path[..*length]))?;
        let (file, rest) = path.split_at(length);
        let exported = rest.first().and_then(|name| self.exported.get(file)?.get(name));
        match exported {
            Some(from) => self.file_of(&[&from[..], &rest[1..]].concat()),
            None => Some(file.to_vec()),
        }
    }

    /// The other files of its module that a file imports.
    fn neighbours(&self, module: &ModulePath) -> BTreeSet<ModulePath> {
        let paths = self.private.get(module).into_iter().flatten();
        let files = paths.filter_map(|path| self.file_of(path));
        files.filter(|file| file != module && file.first() == module.first()).collect()
    }
}

fn module_path(src: &Path, file: &Path) -> ModulePath {
    let file = file.strip_prefix(src).expect("a file of the library").with_extension("");
    let mut parts: ModulePath = file.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Removes files that import none of the others, until none is left or each of the rest is in a circle or above one.
fn circles(mut imports: BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
    loop {
        let free: Vec<_> = imports.iter().filter(|(_, to)| to.is_empty()).map(|(file, _)| file.clone()).collect();
        if free.is_empty() {
            return imports;
        }
        for file in &free {
            imports.remove(file);
        }
        imports.values_mut().for_each(|to| to.retain(|file| !free.contains(file)));
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = Imports::of_library();
    let graph: BTreeMap<_, _> = imports.files.iter().map(|file| (file.clone(), imports.neighbours(file))).collect();
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > 400, "found {edges} imports: is the test reading src/?");

    let circles = circles(graph);

    assert!(circles.is_empty(), "these files import each other, directly or through others: {circles:?}");
}

#[test]
fn a_circle_is_found_behind_a_re_export() {
    let path = |text: &str| text.split('/').map(str::to_owned).collect::<ModulePath>();
    let mut imports = Imports { files: ["m", "m/a", "m/b"].map(path).into(), ..Imports::default() };
    for (module, line) in [("m", "pub use a::A;"), ("m/b", "use super::A;"), ("m/a", "use super::b::B;")] {
        imports.read(&path(module), line);
    }
    let graph: BTreeMap<_, _> = imports.files.iter().map(|file| (file.clone(), imports.neighbours(file))).collect();

    assert_eq!(circles(graph).into_keys().collect::<Vec<_>>(), ["m/a", "m/b"].map(path));
}

//! Each line of level info or above names the party that causes it, so that the log can limit the lines of one tenant or address:
//! `tenant.id`, or `client` while the tenant is unknown. All other lines are listed here with their causes.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Files, their number of lines without a party, and why no outsider can cause those at will.
const OWN: &[(&str, usize, &str)] = &[
    ("src/admin/mod.rs", 2, "whoever reaches the admin listener; a few kinds"),
    ("src/app/certificate_watch.rs", 1, "the operator"),
    ("src/app/drain.rs", 4, "once a process"),
    ("src/app/mod.rs", 5, "once a process"),
    ("src/app/supervisor.rs", 1, "once a process"),
    ("src/cli/mod.rs", 1, "once a process"),
    ("src/cli/reload.rs", 10, "the operator"),
    ("src/cli/serve.rs", 4, "the operator"),
    ("src/cli/systemd.rs", 1, "the operator"),
    ("src/demo/game/mod.rs", 1, "the demo has one tenant"),
    ("src/demo/mod.rs", 2, "the demo has one tenant"),
    ("src/engine/redis/adoption.rs", 6, "a node that died"),
    ("src/engine/redis/bus/answering.rs", 2, "a node with another key; an error in the gateway"),
    ("src/engine/redis/bus/mod.rs", 2, "Redis"),
    ("src/engine/redis/cluster.rs", 3, "Redis"),
    ("src/engine/redis/connection.rs", 2, "Redis"),
    ("src/engine/redis/explain.rs", 1, "Redis"),
    ("src/engine/redis/lease.rs", 6, "Redis"),
    ("src/engine/redis/own_keys.rs", 3, "Redis"),
    ("src/engine/redis/time.rs", 2, "clocks"),
    ("src/gateway/calls.rs", 1, "Redis; one kind"),
    ("src/gateway/cluster/node.rs", 1, "a node that died"),
    ("src/gateway/cluster/shared_limits.rs", 3, "a node with another key"),
    ("src/login/patience.rs", 2, "the session store"),
    ("src/login/upkeep.rs", 1, "the operator"),
    ("src/server/accept.rs", 1, "has a pace of its own"),
    ("src/session_store/mysql/schema.rs", 1, "once a process"),
    ("src/session_store/sqlite/mod.rs", 1, "once a process"),
    ("src/telemetry/mod.rs", 1, "an error in the gateway"),
    ("src/wechat/calls.rs", 2, "the operator; WeChat, one kind"),
];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The calls of `tracing` macros that write a line by default.
fn lines(source: &str) -> Vec<&str> {
    let mut lines = vec![];
    for macro_name in ["tracing::info!(", "tracing::warn!(", "tracing::error!("] {
        for (at, _) in source.match_indices(macro_name) {
            let call = &source[at..];
            let mut depth = 0_i32;
            let end = call.char_indices().find(|(_, c)| {
                depth += i32::from(*c == '(') - i32::from(*c == ')');
                *c == ')' && depth == 0
            });
            lines.push(&call[..end.expect("it is closed").0]);
        }
    }
    lines
}

fn names_its_cause(line: &str) -> bool {
    let mut words = line.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.')));
    words.any(|word| matches!(word, "tenant.id" | "client"))
}

#[test]
fn each_line_names_whoever_causes_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![];
    sources(&root.join("src"), &mut files);
    let mut found = vec![];
    for file in files {
        let name = file.strip_prefix(root).expect("below it").to_string_lossy().into_owned();
        let source = fs::read_to_string(&file).expect("text");
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = name.contains("tests");
        let own = lines(code).into_iter().filter(|line| !is_test && !names_its_cause(line)).count();
        if own > 0 {
            found.push((name, own));
        }
    }
    found.sort();

    let known: Vec<_> = OWN.iter().map(|(name, lines, _)| ((*name).to_owned(), *lines)).collect();
    assert_eq!(found, known, "name the cause of the line by tenant.id or client, or put it into the table");
}

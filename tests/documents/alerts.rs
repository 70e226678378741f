//! Alerts, the board and the runbook: each names what exists, and each alert has its page in both languages.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use wafergate::protocol::native::Code;

use super::markdown::Document;
use super::tables::first_cells;
use super::tables::metrics;
use super::tables::sources;
use super::text;

const RUNBOOKS: [&str; 2] = ["docs/runbook.md", "docs/zh-CN/runbook.md"];

/// The queries of a board, in all depths.
fn queries(board: &Value) -> Vec<String> {
    match board {
        Value::Array(items) => items.iter().flat_map(queries).collect(),
        Value::Object(fields) => {
            let own = ["expr", "definition"].into_iter().filter_map(|name| fields.get(name)?.as_str());
            own.map(str::to_owned).chain(fields.values().flat_map(queries)).collect()
        }
        _ => vec![],
    }
}

fn board() -> Vec<String> {
    queries(&serde_json::from_str(&text("deploy/dashboard.json")).expect("JSON"))
}

/// The metrics that a text names, a histogram by its own name.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    let names = words.filter(|word| word.starts_with("wafergate_"));
    names.map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned()).collect()
}

/// The names of all alerts, in order.
fn alerts() -> Vec<String> {
    let text = text("deploy/alerts.yml");
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn alerts_board_and_runbooks_are_about_metrics_that_exist() {
    let metrics = metrics();
    for (place, named) in [
        ("deploy/alerts.yml", named(&text("deploy/alerts.yml"))),
        ("deploy/dashboard.json", named(&board().join("\n"))),
        (RUNBOOKS[0], named(&text(RUNBOOKS[0]))),
        (RUNBOOKS[1], named(&text(RUNBOOKS[1]))),
    ] {
        assert!(named.len() > 5, "{place}: {named:?}");
        let unknown: Vec<_> = named.difference(&metrics).collect();
        assert!(unknown.is_empty(), "{place} names {unknown:?}");
    }
}

#[test]
fn the_board_shows_every_metric() {
    let shown = named(&board().join("\n"));
    let missing: Vec<_> = metrics().difference(&shown).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A value that no node writes would leave an alert silent forever.
#[test]
fn values_of_labels_are_those_that_the_metrics_have() {
    let operate = text("docs/operate.md");
    for query in board().into_iter().chain([text("deploy/alerts.yml")]) {
        for (at, _) in query.match_indices("wafergate_") {
            let end =
                query[at..].find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).map_or(query.len(), |end| at + end);
            let (metric, rest) = query[at..].split_at(end - at);
            let Some(selector) = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()) else { continue };
            let metric = metric.strip_suffix("_bucket").unwrap_or(metric);
            let row = operate.lines().find(|line| first_cells(line).any(|name| name.split('{').next() == Some(metric)));
            let row = row.unwrap_or_else(|| panic!("{metric} has no row"));
            let known = |value: &str| {
                row.contains(&format!("`{value}`"))
                    || Code::ALL.iter().any(|code| metric.contains("_refused_") && code.as_str() == value)
                    || operate.contains(&format!("| `{value}` |")) && metric.contains("_closes_")
                    || operate.contains(&format!(", `{value}` |")) && metric.contains("_closes_")
            };
            let is_instance = |pair: &&str| pair.trim().starts_with("instance=");
            for pair in selector.split(',').filter(|pair| !is_instance(pair)) {
                let values = pair.split('"').nth(1).unwrap_or_else(|| panic!("{pair}"));
                for value in values.split('|') {
                    assert!(known(value), "{metric} has no {value:?}: {query}");
                }
            }
        }
    }
}

#[test]
fn every_alert_has_its_page_in_both_languages() {
    let (alerts, rules) = (alerts(), text("deploy/alerts.yml"));
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in &alerts {
        let link = format!("runbook: docs/runbook.md#{}\n", alert.to_lowercase());
        assert_eq!(rules.matches(&link).count(), 1, "{alert}");
    }
    for runbook in RUNBOOKS {
        let text = text(runbook);
        let titles: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(titles, alerts, "{runbook}");
        for (title, section) in titles.iter().zip(text.split("\n## ").skip(1)) {
            assert_eq!(
                section.matches("\n- **").count(),
                3,
                "{runbook}: {title} says what it means, where to look and what to do"
            );
        }
        let anchors: Vec<_> =
            Document::read(Path::new(runbook)).headings.into_iter().map(|heading| heading.anchor).collect();
        assert!(alerts.iter().all(|alert| anchors.contains(&alert.to_lowercase())), "{runbook}");
    }
}

#[test]
fn every_alert_is_shown_to_fire() {
    let shown = text("tests/fixtures/alerts.test.yml");
    for alert in alerts() {
        let fires = format!("- alertname: {alert}\n");
        assert!(shown.contains(&fires), "{alert}: no test in which it fires");
    }
}

/// The first words of commands and paths; what else has several words in the code of a runbook is a line of the log.
const COMMANDS: [&str; 10] =
    ["GET", "RateLimitBurst", "curl", "journalctl", "redis-cli", "severity:", "ss", "sysctl", "systemctl", "wafergate"];

#[test]
fn log_lines_of_the_runbook_are_in_the_code() {
    let sources = sources(Path::new("src"));
    for runbook in RUNBOOKS {
        let text = text(runbook);
        let code = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|code| code.contains(' '));
        let lines: Vec<_> =
            code.filter(|code| !COMMANDS.contains(&code.split(' ').next().unwrap_or_default())).collect();
        assert!(lines.len() > 10, "{lines:?}");
        for line in lines.into_iter().filter(|line| !line.contains(" = ")) {
            assert!(sources.contains(line), "{runbook} names the log line {line:?}");
        }
    }
}

/// What a compose file mounts from here is here.
#[test]
fn compose_files_mount_what_exists() {
    for file in ["deploy/compose.yaml", "deploy/compose.cluster.yaml"] {
        let text = text(file);
        let mounts: Vec<_> = text.split("./").skip(1).filter_map(|rest| rest.split(':').next()).collect();
        assert!(!mounts.is_empty(), "{file}");
        // The operator makes this one.
        for mount in mounts.into_iter().filter(|mount| *mount != "certs") {
            assert!(fs::metadata(Path::new("deploy").join(mount)).is_ok(), "{file} mounts {mount:?}");
        }
    }
}

//! Checks of the documents: links resolve, and tables list exactly the existing keys and metrics.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use wafergate::metrics::Metrics;

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document, by its path.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/zh-CN", "deploy"] {
        let entries = fs::read_dir(Path::new(".").join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
        found.extend(names.filter(|name| name.ends_with(".md")).map(|name| Path::new(folder).join(name)));
    }
    found.sort();
    found
}

/// The text in backticks in the first cell of each row of a table.
fn first_cells(text: &str) -> impl Iterator<Item = &str> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2))
}

/// The fragment of a heading.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

#[test]
fn links_lead_to_what_is_there() {
    let mut links = 0;
    for document in documents() {
        let text = text(&document);
        let name = document.display();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { document.clone() } else { document.with_file_name(file) };
            assert!(file.exists(), "{name} links to {target}");
            if !place.is_empty() {
                let headings = fs::read_to_string(&file).expect("text");
                assert!(
                    headings.lines().any(|line| anchor(line) == Some(place.to_owned())),
                    "{name} links to {target}"
                );
            }
            links += 1;
        }
    }
    assert!(links > 80, "only {links} links");
}

/// The English reference is made from the settings themselves.
#[test]
fn the_chinese_reference_names_every_key_of_the_default_configuration_and_no_other() {
    let mut expected = BTreeSet::new();
    let mut table = String::new();
    for line in text("config/default.toml").lines() {
        // The only tenant is in a comment.
        let line = line.trim_start_matches('#');
        if line.starts_with('[') {
            table = line.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            expected.insert(format!("{table}.{key}"));
        }
    }
    assert!(expected.len() > 35, "{expected:?}");

    let text = text("docs/zh-CN/configuration.md");
    let mut table = String::new();
    let mut found = BTreeSet::new();
    for name in first_cells(&text) {
        match name.strip_prefix('[') {
            Some(name) => table = name.trim_matches(['[', ']']).to_owned(),
            None => {
                found.insert(format!("{table}.{name}"));
            }
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn both_languages_name_every_metric_and_no_other() {
    let metrics = Metrics::default();
    metrics.refused("something");
    metrics.action("ok");
    metrics.set_certificate_expiry(1);
    metrics.node_message_dropped("something");
    let rendered = metrics.render();
    let expected: BTreeSet<_> =
        rendered.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(expected.len() > 10, "{expected:?}");

    for document in ["docs/operate.md", "docs/zh-CN/operate.md"] {
        let text = text(document);
        let names = first_cells(&text).filter(|name| name.starts_with("wafergate_"));
        let found: BTreeSet<_> = names.map(|name| name.split('{').next().expect("a name")).collect();
        assert_eq!(found, expected, "{document}");
    }
}

//! Tables list exactly what exists: settings, metrics, error codes. What the pages quote is in the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use wafergate::metrics::Metrics;
use wafergate::protocol::native::Code;

use super::text;

/// The text in backticks in the first cell of each row of a table.
pub(crate) fn first_cells(text: &str) -> impl Iterator<Item = &str> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2))
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
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## `") {
            table = name.trim_matches(['[', ']', '`']).to_owned();
        }
        found.extend(first_cells(line).map(|name| format!("{table}.{name}")));
    }
    assert_eq!(found, expected);
}

/// The names of all metrics.
pub(crate) fn metrics() -> BTreeSet<String> {
    let metrics = Metrics::default();
    metrics.refused("something");
    metrics.action("ok");
    metrics.set_certificate_expiry(1);
    metrics.set_build("1", "", "one");
    metrics.node_message_dropped("something");
    metrics.session("new");
    metrics.session_check("ok");
    metrics.set_session_store_up(true);
    metrics.wechat_request("code2session", "ok");
    metrics.wechat_duration("code2session", std::time::Duration::ZERO);
    let rendered = metrics.render();
    let names = rendered.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    names.map(str::to_owned).collect()
}

#[test]
fn both_languages_name_every_metric_and_no_other() {
    let expected = metrics();
    assert!(expected.len() > 10, "{expected:?}");

    for document in ["docs/operate.md", "docs/zh-CN/operate.md"] {
        let text = text(document);
        let names = first_cells(&text).filter(|name| name.starts_with("wafergate_"));
        let found: BTreeSet<_> = names.map(|name| name.split('{').next().expect("a name").to_owned()).collect();
        assert_eq!(found, expected, "{document}");
    }
}

#[test]
fn both_languages_name_every_error_of_the_native_api_and_no_other() {
    let expected: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    for (document, title) in [("docs/native-api.md", "\n## Errors\n"), ("docs/zh-CN/native-api.md", "\n## 错误\n")] {
        let text = text(document);
        let (_, section) = text.split_once(title).expect("a section");
        let codes = section.lines().filter_map(|line| line.split(" | ").nth(1));
        let found: BTreeSet<_> = codes.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
        assert_eq!(found, expected, "{document}");
    }
}

/// All sources, one behind the other.
pub(crate) fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => all.push_str(&sources(&path)),
            false => all.push_str(&fs::read_to_string(&path).unwrap_or_default()),
        }
    }
    all
}

/// Quotations of the client's side: no text of ours.
const OF_OTHERS: [&str; 1] = ["wrong version number"];

#[test]
fn what_the_troubleshooting_pages_quote_is_in_the_code() {
    let sources = sources(Path::new("src"));
    for document in ["docs/troubleshooting.md", "docs/zh-CN/troubleshooting.md"] {
        let text = text(document);
        let symptoms = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let quoted: Vec<&str> = symptoms.flat_map(|cell| cell.split('"').skip(1).step_by(2)).collect();
        assert!(quoted.len() > 15, "{document}: {quoted:?}");
        for phrase in quoted.into_iter().filter(|phrase| !OF_OTHERS.contains(phrase)) {
            // Numbers and what dots stand for differ from case to case.
            let parts = phrase.split(|letter: char| letter.is_ascii_digit()).flat_map(|part| part.split("..."));
            for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
                assert!(sources.contains(part), "{document} quotes {part:?} of {phrase:?}");
            }
        }
        let lines = text.lines().skip_while(|line| !line.starts_with("| --- |")).skip(1);
        for cell in lines.take_while(|line| line.starts_with('|')).filter_map(|line| line.split(" | ").next()) {
            for words in cell.split('`').skip(1).step_by(2) {
                assert!(sources.contains(words), "{document} names the log line {words:?}");
            }
        }
    }
}

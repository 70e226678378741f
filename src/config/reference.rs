//! Generates the settings reference, `config/default.toml` and `docs/configuration.md`, from the descriptions in `options`.

use std::fmt::Write;
use std::sync::LazyLock;

use crate::options::App;
use crate::options::Key;
use crate::options::Kind;
use crate::options::Options;
use crate::options::Section;
use crate::options::Tenant;

/// The lists of blocks: name, description, and the section that follows.
const LISTS: [(&str, Section, &str); 2] =
    [("session.apps", App::SECTION, "drain"), ("tenants", Tenant::SECTION, "log")];

/// The list before the section called `name`.
fn list_before(name: &str) -> Option<(&'static str, Section)> {
    LISTS.into_iter().find(|(_, _, next)| *next == name).map(|(list, section, _)| (list, section))
}

/// Every setting with its default and documentation, as a valid configuration file; `config/default.toml` is a copy.
pub fn defaults() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = include_str!("head.toml").to_owned();
        for section in Options::SECTIONS {
            if let Some((list, blocks)) = list_before(section.name) {
                text.push_str(&example(list, blocks));
            }
            text.push('\n');
            if section.keys.len() > 1 || section.name == "limits" {
                comment(&mut text, section.about);
            }
            keys(&mut text, &format!("[{}]", section.name), section.keys);
        }
        text
    });
    &TEXT
}

/// A commented-out block of a list.
fn example(list: &str, Section { about, keys: block_keys, .. }: Section) -> String {
    let mut block = String::new();
    keys(&mut block, &format!("[[{list}]]"), block_keys);
    let mut text = "\n".to_owned();
    comment(&mut text, about);
    text.push_str("#\n");
    block.lines().for_each(|line| text.extend(["#", line, "\n"]));
    text
}

fn keys(text: &mut String, head: &str, keys: &'static [Key]) {
    text.extend([head, "\n"]);
    for (number, key) in keys.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        comment(text, key.about);
        text.extend([name(key), " = ", &toml(key.example), "\n"]);
    }
}

fn comment(text: &mut String, about: &'static str) {
    lines(about).for_each(|line| text.extend(["# ", line, "\n"]));
}

/// `value` as TOML: numbers without Rust's underscores.
fn toml(value: &str) -> String {
    let is_number = value.starts_with(|first: char| first.is_ascii_digit());
    if is_number { value.replace('_', "") } else { value.to_owned() }
}

/// The text of `docs/configuration.md`.
pub fn page() -> String {
    let mut page = include_str!("page.md").to_owned();
    for section in Options::SECTIONS {
        if let Some((list, blocks)) = list_before(section.name) {
            table(&mut page, &format!("[[{list}]]"), &blocks);
        }
        table(&mut page, &format!("[{}]", section.name), &section);
    }
    page
}

fn table(page: &mut String, head: &str, section: &Section) {
    let about = prose(section.about);
    let rows = section.keys.iter().map(|key| {
        format!("| `{}` | `{}` | {} | {} |\n", name(key), toml(key.default), takes(&key.kind), prose(key.about))
    });
    let rows: String = rows.collect();
    let head = format!("\n## `{head}`\n\n{about}\n\n| key | default | takes | meaning |\n| --- | --- | --- | --- |\n");
    page.extend([head, rows]);
}

/// The accepted values of a key, in words.
fn takes(kind: &Kind) -> String {
    match kind {
        Kind::Number { min, max, unit } => format!("{} to {} {unit}", grouped(*min), grouped(*max)),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Address => "IP address and port".to_owned(),
        Kind::Networks => "list of CIDRs".to_owned(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
        Kind::Ports => "list of ports".to_owned(),
        Kind::Texts => "list of texts".to_owned(),
        Kind::Secret | Kind::SecretFile => "text, secret".to_owned(),
        Kind::Secrets => "list of texts, secret".to_owned(),
        Kind::Limits => "table".to_owned(),
    }
}

/// `number` with a comma before each three digits.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        let _ = write!(text, "{digit}");
    }
    text
}

/// The last part of a key's name.
fn name(key: &Key) -> &'static str {
    key.name.rsplit('.').next().unwrap_or(key.name)
}

/// The lines of a doc comment, without their leading space.
fn lines(about: &'static str) -> impl Iterator<Item = &'static str> {
    about.lines().map(|line| line.strip_prefix(' ').unwrap_or(line))
}

/// A doc comment as a table cell on one line. Indented lines stay separate lines.
fn prose(about: &'static str) -> String {
    let mut text = String::new();
    for line in lines(about) {
        let separator = match () {
            () if text.is_empty() => "",
            () if line.starts_with("  ") => "<br>",
            () => " ",
        };
        text.extend([separator, line.trim_start()]);
    }
    text.replace('|', "\\|")
}

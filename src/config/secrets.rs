//! Secrets in files of their own: `x_file` in place of `x`.

use toml::Value;

use crate::options::Kind;

use super::error::Place;
use super::error::Report;
use super::file;
use super::keys;
use super::settings::Settings;

/// Reads every secret file and sets the secret that it belongs to.
pub(super) fn resolve(settings: &mut Settings, report: &mut Report) {
    for place in settings.places() {
        let Kind::SecretFile = place.key.kind else { continue };
        let Some(entry) = settings.entry(place).cloned() else {
            continue;
        };
        let Some(path) = entry.value.as_str().filter(|path| !path.is_empty()) else {
            continue;
        };
        let Some(secret) = secret_of(place) else { continue };
        if let Some(given) = settings.entry(secret).filter(|given| !is_empty(&given.value)) {
            let advice = format!("`{secret}` is set too ({}); keep only one of the two", given.source);
            report.problem(place, Some(&entry.value), entry.source, advice);
            continue;
        }
        match read(path, &secret.key.kind) {
            Ok(Held { value, comments }) => {
                if !comments.is_empty() {
                    report.note(place, Some(&entry.value), entry.source.clone(), passed_over(&comments));
                }
                settings.replace(secret, value, entry.source);
            }
            Err(advice) => report.problem(place, Some(&entry.value), entry.source, advice),
        }
    }
}

fn secret_of(place: Place) -> Option<Place> {
    let name = place.key.name.strip_suffix("_file")?;
    keys::find(place.block.map(|block| block.list), name).map(|key| Place { key, ..place })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The content of a secret file.
struct Held {
    value: Value,
    /// Line numbers of the comments.
    comments: Vec<usize>,
}

/// Most line numbers listed in a sentence.
const LISTED_LINES: usize = 5;

fn passed_over(comments: &[usize]) -> String {
    let listed: Vec<String> = comments.iter().take(LISTED_LINES).map(usize::to_string).collect();
    let more = if comments.len() > LISTED_LINES { " and more" } else { "" };
    let (lines, are) = if comments.len() == 1 { ("line", "is a comment") } else { ("lines", "are comments") };
    let listed = listed.join(", ");
    format!("{lines} {listed}{more} of that file {are}, since # begins it; write \\# before a key that begins so")
}

fn read(path: &str, kind: &Kind) -> Result<Held, String> {
    let bytes =
        file::read(path).map_err(|error| format!("cannot be read: {error}; check the path and its permissions"))?;
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8; save it so".to_owned())?;
    if text.starts_with('\u{feff}') {
        return Err("the file begins with a byte order mark; save it without one".to_owned());
    }
    let held = parse(&text, kind);
    if matches!(kind, Kind::Secrets) && text.lines().any(|line| line.contains(char::is_control)) {
        return Err("the file has a control character in a line; save it as plain text, one key a line".to_owned());
    }
    if is_empty(&held.value) {
        return Err("the file is empty; put the secret into it".to_owned());
    }
    Ok(held)
}

/// Parses one secret up to the final line break, or a list with one per line. Spaces belong to the secret.
fn parse(text: &str, kind: &Kind) -> Held {
    match kind {
        Kind::Secrets => lines(text),
        _ => {
            let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
            Held { value: Value::from(line.unwrap_or(text)), comments: vec![] }
        }
    }
}

/// Parses one secret per line. A line whose first non-blank character is # is a comment; a secret that begins with # needs a
/// leading backslash.
fn lines(text: &str) -> Held {
    let mut comments = vec![];
    let mut secrets = vec![];
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with('#') {
            comments.push(number);
        } else if !line.trim().is_empty() {
            let is_escaped = line.starts_with('\\') && line.trim_start_matches('\\').starts_with('#');
            secrets.push(if is_escaped { &line[1..] } else { line });
        }
    }
    Held { value: Value::from(secrets), comments }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_break_is_not_part_of_a_secret() {
        for (text, secret) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a b \n", " a b "), ("a\r", "a\r")]
        {
            assert_eq!(parse(text, &Kind::Secret).value, Value::from(secret), "{text:?}");
        }
    }

    #[test]
    fn a_list_of_secrets_has_one_a_line() {
        let keys = parse("first key \r\n\n  \n kéy-密钥 +/=\nlast", &Kind::Secrets);

        assert_eq!(keys.value, Value::from(vec!["first key ", " kéy-密钥 +/=", "last"]));
    }

    #[test]
    fn a_line_that_begins_with_a_hash_is_a_comment_and_its_number_is_told() {
        let held = parse("# rotated 2026-11\nkey\n\\#key\n\\\\#key\n #key\nk#ey\n\\key\n#\n", &Kind::Secrets);

        assert_eq!(held.value, Value::from(vec!["key", "#key", "\\#key", "k#ey", "\\key"]));
        assert_eq!(held.comments, [1, 5, 8], "white space before it changes nothing");
        let words = passed_over(&held.comments);
        assert!(words.starts_with("lines 1, 5, 8 of that file are comments") && !words.contains("rotated"), "{words}");
        assert!(parse("#a", &Kind::Secret).comments.is_empty(), "a single secret is all of its file");
    }

    #[test]
    fn a_file_of_comments_has_no_secret() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        std::fs::write(&path, "# only\n# words\n").expect("written");

        let error = read(path.to_str().expect("text"), &Kind::Secrets).err();

        assert_eq!(error.as_deref(), Some("the file is empty; put the secret into it"));
    }
}

//! Secrets that are kept in files of their own: `x_file` in the place of `x`.

use std::fs;

use toml::Value;

use super::error::Place;
use super::error::Report;
use super::keys;
use super::keys::Kind;
use super::settings::Settings;

/// Reads every secret file that is named, and puts what it holds where the secret belongs.
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
            Ok(value) => settings.replace(secret, value, entry.source),
            Err(advice) => report.problem(place, Some(&entry.value), entry.source, advice),
        }
    }
}

fn secret_of(place: Place) -> Option<Place> {
    let name = place.key.name.strip_suffix("_file")?;
    keys::find(place.tenant.is_some(), name).map(|key| Place { key, ..place })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn read(path: &str, kind: &Kind) -> Result<Value, String> {
    let bytes =
        fs::read(path).map_err(|error| format!("cannot be read: {error}; check the path and who may read it"))?;
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8; save it so".to_owned())?;
    if text.starts_with('\u{feff}') {
        return Err("the file begins with a byte order mark; save it without one".to_owned());
    }
    let value = parse(&text, kind);
    if is_empty(&value) {
        return Err("the file is empty; put the secret into it".to_owned());
    }
    Ok(value)
}

/// What a file holds: one secret up to the line break at its end, or one a line. Spaces belong to the secret.
fn parse(text: &str, kind: &Kind) -> Value {
    match kind {
        Kind::Secrets => Value::from(text.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>()),
        _ => {
            let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
            Value::from(line.unwrap_or(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_break_is_not_part_of_a_secret() {
        for (text, secret) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a b \n", " a b "), ("a\r", "a\r")]
        {
            assert_eq!(parse(text, &Kind::Secret), Value::from(secret), "{text:?}");
        }
    }

    #[test]
    fn a_list_of_secrets_has_one_a_line() {
        let keys = parse("first key \r\n\n  \n kéy-密钥 +/=\nlast", &Kind::Secrets);

        assert_eq!(keys, Value::from(vec!["first key ", " kéy-密钥 +/=", "last"]));
    }
}

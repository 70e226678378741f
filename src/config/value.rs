//! Single values: parsing, checking against their kind, and display in messages.

use std::net::SocketAddr;

use ipnet::IpNet;
use toml::Value;

use crate::options::Kind;

/// Longest value in a message, in characters.
const SHOWN_CHARS: usize = 120;

/// Parses the text of an environment variable as `kind`; the error is advice.
pub(super) fn read(kind: &Kind, text: &str) -> Result<Value, String> {
    let value = match kind {
        Kind::Number { .. } => text.trim().parse().map_or_else(|_| Value::from(text), Value::Integer),
        Kind::Flag => text.trim().parse().map_or_else(|_| Value::from(text), Value::Boolean),
        kind if kind.is_list() => list(kind, text)?,
        _ => Value::from(text),
    };
    Ok(value)
}

/// Parses a list: a TOML array, or values separated by commas. White space around a comma is kept for secrets only.
fn list(kind: &Kind, text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('[') {
        let table: Result<toml::Table, _> = toml::from_str(&format!("list = {text}"));
        let list = table.ok().filter(|table| table.len() == 1).and_then(|mut table| table.remove("list"));
        return list.ok_or_else(|| "begins with [ but is no TOML array; write [\"a\", \"b\"] or a,b".to_owned());
    }
    if text.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    let trimmed = |item: &str| match (kind, item.trim().parse()) {
        (Kind::Ports, Ok(number)) => Value::Integer(number),
        _ => Value::from(if kind.is_secret() { item } else { item.trim() }),
    };
    Ok(Value::Array(text.split(',').map(trimmed).collect()))
}

/// Checks that `value` is valid for `kind`; the error is advice.
pub(super) fn check(kind: &Kind, value: &Value) -> Result<(), String> {
    match (kind, value) {
        (Kind::Number { min, max, .. }, Value::Integer(number)) if (min..=max).contains(&number) => Ok(()),
        (Kind::Number { min, max, unit }, value) => {
            let form = if value.is_integer() { "" } else { "; write it without quotes or a fraction" };
            Err(format!("must be a whole number from {min} to {max}, in {unit}{form}"))
        }
        (Kind::Flag, Value::Boolean(_)) | (Kind::Secret, Value::String(_)) => Ok(()),
        (Kind::Flag, _) => Err("must be true or false, without quotes".to_owned()),
        (Kind::Text | Kind::SecretFile, Value::String(text)) => one_line(text),
        (Kind::Address, Value::String(text)) if text.parse::<SocketAddr>().is_ok() => Ok(()),
        (Kind::Address, _) => {
            Err("must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"".into())
        }
        (Kind::Choice(words), Value::String(text)) if words.contains(&text.as_str()) => Ok(()),
        (Kind::Choice(words), _) => Err(format!("must be one of \"{}\"", words.join("\", \""))),
        (Kind::Ports, Value::Array(items)) => items.iter().enumerate().try_for_each(|(index, item)| port(index, item)),
        (Kind::Ports, _) => Err("must be a list: write [2375]".to_owned()),
        (Kind::Networks | Kind::Texts | Kind::Secrets, Value::Array(items)) => {
            items.iter().enumerate().try_for_each(|(index, item)| element(kind, index, item))
        }
        (Kind::Networks | Kind::Texts | Kind::Secrets, _) => Err("must be a list: write [\"...\"]".to_owned()),
        (Kind::Limits, _) => Err("must be a table, such as { connections = 100 }".to_owned()),
        (Kind::Text | Kind::Secret | Kind::SecretFile, _) => Err("must be text: put it in quotes".to_owned()),
    }
}

fn port(index: usize, item: &Value) -> Result<(), String> {
    match item.as_integer() {
        Some(1..=65_535) => Ok(()),
        _ => Err(format!("entry {index} must be a port from 1 to 65535, without quotes")),
    }
}

fn element(kind: &Kind, index: usize, item: &Value) -> Result<(), String> {
    let Value::String(text) = item else {
        return Err(format!("entry {index} must be text: put it in quotes"));
    };
    match kind {
        Kind::Networks if text.parse::<IpNet>().is_err() => Err(network_advice(text)),
        Kind::Texts => one_line(text),
        _ => Ok(()),
    }
}

fn network_advice(text: &str) -> String {
    let shown = shown(&Value::from(text));
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => format!("{shown} is an address, not a network (CIDR); write \"{}\"", IpNet::from(address)),
        Err(_) => format!("{shown} is not a network (CIDR), such as \"10.0.0.0/8\" or \"fd00::/8\""),
    }
}

fn one_line(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("contains a line break or another control character; take it out".to_owned());
    }
    Ok(())
}

/// `value` for a message: on one line, shortened, without the password or query of a URL.
pub(super) fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("\"{}\"", discreet(text).escape_debug()),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn discreet(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let separator = if scheme.is_empty() && !text.starts_with("://") { "" } else { "://" };
    let rest = rest.rsplit_once('@').map_or_else(|| rest.to_owned(), |(_, host)| format!("******@{host}"));
    let rest = match rest.split_once('?') {
        Some((path, _)) if !separator.is_empty() => format!("{path}?******"),
        _ => rest,
    };
    format!("{scheme}{separator}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: Kind = Kind::Number { min: 1, max: 9, unit: "seconds" };

    #[test]
    fn a_variable_is_read_as_its_key_wants_it() {
        assert_eq!(read(&NUMBER, " 7 "), Ok(Value::Integer(7)));
        assert_eq!(read(&Kind::Flag, "true"), Ok(Value::Boolean(true)));
        assert_eq!(read(&Kind::Text, "7"), Ok(Value::from("7")));
        assert_eq!(read(&Kind::Texts, "a, b"), Ok(Value::from(vec!["a", "b"])));
        assert_eq!(read(&Kind::Ports, "25, 2375"), Ok(Value::from(vec![25, 2375])));
        assert_eq!(read(&Kind::Ports, "[25]"), Ok(Value::from(vec![25])));
        assert_eq!(read(&Kind::Texts, r#"["a,b"]"#), Ok(Value::from(vec!["a,b"])));
        assert_eq!(read(&Kind::Texts, ""), Ok(Value::Array(Vec::new())));
        assert_eq!(read(&Kind::Secrets, "a, b"), Ok(Value::from(vec!["a", " b"])));
        assert!(read(&Kind::Texts, "[a").is_err());
        assert!(read(&Kind::Texts, "[]\nother = 1").is_err());
    }

    #[test]
    fn a_value_must_fit_its_key() {
        for (kind, good, bad) in [
            (NUMBER, Value::Integer(1), Value::Integer(0)),
            (NUMBER, Value::Integer(9), Value::Integer(10)),
            (NUMBER, Value::Integer(5), Value::from("5")),
            (Kind::Flag, Value::Boolean(false), Value::from("no")),
            (Kind::Text, Value::from("密"), Value::from("a\nb")),
            (Kind::Text, Value::from(""), Value::Integer(1)),
            (Kind::Secret, Value::from("a\nb"), Value::Integer(1)),
            (Kind::Address, Value::from("[::]:0"), Value::from("localhost:80")),
            (Kind::Choice(&["a"]), Value::from("a"), Value::from("A")),
            (Kind::Networks, Value::from(vec!["::1/128"]), Value::from(vec!["10.0.0.0/33"])),
            (Kind::Networks, Value::from(vec!["10.0.0.1/32"]), Value::from(vec!["10.0.0.1"])),
            (Kind::Ports, Value::from(vec![1, 65_535]), Value::from(vec![0])),
            (Kind::Ports, Value::Array(vec![]), Value::from(vec!["80"])),
            (Kind::Ports, Value::from(vec![80]), Value::from(80)),
            (Kind::Texts, Value::from(vec!["a"]), Value::from("a")),
            (Kind::Secrets, Value::from(vec!["a"]), Value::from(vec![1])),
        ] {
            assert_eq!(check(&kind, &good), Ok(()), "{kind:?} {good}");
            assert!(check(&kind, &bad).is_err(), "{kind:?} {bad}");
        }
    }

    #[test]
    fn a_shown_value_keeps_secrets_and_stays_in_one_line() {
        assert_eq!(shown(&Value::from("http://u:p@h/a?token=t")), r#""http://******@h/a?******""#);
        assert_eq!(shown(&Value::from(vec!["u:p@h"])), r#"["******@h"]"#);
        assert_eq!(shown(&Value::from("a\n\u{1b}[0m")), r#""a\n\u{1b}[0m""#);
        assert_eq!(shown(&Value::from("x".repeat(1000))).chars().count(), SHOWN_CHARS + 1);
        assert_eq!(shown(&Value::Integer(5)), "5");
    }
}

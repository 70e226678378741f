//! Reads environment variables `WAFERGATE__SECTION__KEY` into settings.

use std::collections::BTreeMap;

use crate::options::Key;

use super::error::Block;
use super::error::List;
use super::error::Place;
use super::error::Report;
use super::error::Source;
use super::keys;
use super::settings::Settings;
use super::value;

/// Prefix of the variables.
const PREFIX: &str = "WAFERGATE__";
/// Prefix of variables that may be meant for the configuration; others, such as `WAFERGATE_KEY`, are not.
const SHORT_PREFIX: &str = "WAFERGATE_";

/// The process's variables that [`super::load`] reads.
///
/// Bytes that are not UTF-8 are replaced, and such a value is reported by `load`.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(SHORT_PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

/// A variable with a valid name.
struct Variable {
    name: String,
    key: &'static Key,
    text: String,
}

/// Adds all settings in `variables` to `settings`, replacing earlier ones.
pub(super) fn read(
    variables: impl IntoIterator<Item = (String, String)>,
    settings: &mut Settings,
    report: &mut Report,
) {
    let mut places: BTreeMap<Option<Block>, Vec<Variable>> = BTreeMap::new();
    for (name, text) in variables {
        let Some(path) = name.strip_prefix(PREFIX) else {
            if let Some(key) = name.strip_prefix(SHORT_PREFIX).and_then(meant) {
                let variable = format!("{PREFIX}{}", key.name.replace('.', "__").to_uppercase());
                let advice = format!("is not read: write two underscores, {variable}");
                report.stray_warning(key.name, Source::Variable(shown(&name)), advice);
            }
            continue;
        };
        match understand(&path.to_lowercase()) {
            Ok((block, key)) => places.entry(block).or_default().push(Variable { name, key, text }),
            Err((path, advice)) => {
                report.stray(path.escape_debug().to_string(), Source::Variable(shown(&name)), advice);
            }
        }
    }
    for (block, variables) in places {
        if let Some(block) = block {
            let next = Block { number: settings.count(block.list), ..block };
            let source = Source::Variable(variables[0].name.clone());
            if block > next {
                report.stray(block.to_string(), source, format!("is set but {next} is not; count from 0"));
                continue;
            }
            if block == next {
                settings.add(block.list, source);
            }
        }
        for variable in variables {
            put(Place { block, key: variable.key }, variable, settings, report);
        }
    }
}

/// The key of the node that `path` spells with too few underscores.
fn meant(path: &str) -> Option<&'static Key> {
    let path = path.to_lowercase().replace("__", "_");
    keys::NODE.iter().find(|key| key.name.replace('.', "_") == path)
}

fn put(place: Place, variable: Variable, settings: &mut Settings, report: &mut Report) {
    let source = Source::Variable(variable.name);
    if variable.text.contains(char::REPLACEMENT_CHARACTER) {
        return report.problem(place, None, source, "is not UTF-8; encode it so");
    }
    match value::read(&place.key.kind, &variable.text) {
        Ok(value) => settings.set(place, value, source, report),
        Err(advice) => report.problem(place, Some(&variable.text.into()), source, advice),
    }
}

/// The place named by `path`, the lower-case part behind the prefix; or its dotted form and advice.
fn understand(path: &str) -> Result<(Option<Block>, &'static Key), (String, String)> {
    let dotted = path.replace("__", ".");
    let behind = |list: List| {
        Some((list, dotted.strip_prefix(list.name())?)).filter(|(_, rest)| rest.is_empty() || rest.starts_with('.'))
    };
    let Some((list, rest)) = List::ALL.into_iter().find_map(behind) else {
        let key = keys::find(None, &dotted);
        return key.map(|key| (None, key)).ok_or_else(|| {
            let advice = unknown("", keys::nearest(None, &dotted));
            (dotted, advice)
        });
    };
    let (number, name) = rest.trim_start_matches('.').split_once('.').unwrap_or((rest.trim_start_matches('.'), ""));
    let Ok(number) = number.parse() else {
        let (item, example) = match list {
            List::Tenants => ("a tenant", "TENANTS__0__KEYS"),
            List::Apps => ("an app", "SESSION__APPS__0__APP_ID"),
        };
        let advice = format!("{item} needs its number and a key, such as {PREFIX}{example}");
        return Err((dotted, advice));
    };
    let block = Block { list, number };
    let prefix = format!("{block}.");
    let key = keys::find(Some(list), name);
    key.map(|key| (Some(block), key)).ok_or_else(|| {
        let advice = unknown(&prefix, keys::nearest(Some(list), name));
        (format!("{prefix}{name}"), advice)
    })
}

fn unknown(prefix: &str, nearest: &str) -> String {
    let key = format!("{prefix}{nearest}");
    let variable = key.replace('[', "__").replace(']', "").replace('.', "__").to_uppercase();
    format!("unknown key; the nearest one is `{key}` ({PREFIX}{variable})")
}

fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(path: &str) -> (String, String) {
        understand(path).expect_err("not a key")
    }

    #[test]
    fn one_underscore_is_a_key_that_was_meant() {
        for (name, key) in [("SERVER_LISTEN", "server.listen"), ("TUNNEL__HEARTBEAT_SECS", "tunnel.heartbeat_secs")] {
            assert_eq!(meant(name).map(|key| key.name), Some(key));
        }
        for name in ["KEY", "GATEWAY", "TENANT", "BIN", "SERVER", "GENERATE"] {
            assert!(meant(name).is_none(), "{name}");
        }
    }

    #[test]
    fn two_underscores_lead_to_a_key() {
        let place = |path| understand(path).map(|(block, key)| (block.map(|block| block.to_string()), key.name));

        assert_eq!(place("tunnel__heartbeat_secs"), Ok((None, "tunnel.heartbeat_secs")));
        assert_eq!(place("tenants__12__limits__connections"), Ok((Some("tenants[12]".into()), "limits.connections")));
        assert_eq!(place("session__apps__0__app_id"), Ok((Some("session.apps[0]".into()), "app_id")));
    }

    #[test]
    fn an_unknown_name_is_told_the_nearest_one() {
        let (path, text) = advice("tunnel__heartbeat");
        assert_eq!(path, "tunnel.heartbeat");
        assert!(text.contains("`tunnel.heartbeat_secs` (WAFERGATE__TUNNEL__HEARTBEAT_SECS)"), "{text}");

        let (path, text) = advice("tenants__0__limits__connection");
        assert_eq!(path, "tenants[0].limits.connection");
        assert!(text.contains("(WAFERGATE__TENANTS__0__LIMITS__CONNECTIONS)"), "{text}");

        for path in [
            "tenants",
            "tenants__keys",
            "tenants__-1__keys",
            "tenants__0",
            "",
            "server",
            "session__apps",
            "session__apps__x",
        ] {
            advice(path);
        }
    }
}

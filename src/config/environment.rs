//! Reads environment variables `WAFERGATE__SECTION__KEY` into settings.

use std::collections::BTreeMap;

use crate::options::Key;

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
    let mut places: BTreeMap<Option<usize>, Vec<Variable>> = BTreeMap::new();
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
            Ok((tenant, key)) => places.entry(tenant).or_default().push(Variable { name, key, text }),
            Err((path, advice)) => {
                report.stray(path.escape_debug().to_string(), Source::Variable(shown(&name)), advice);
            }
        }
    }
    for (tenant, variables) in places {
        let next = settings.tenant_count();
        if let Some(index) = tenant
            && index > next
        {
            let source = Source::Variable(variables[0].name.clone());
            report.stray(
                format!("tenants[{index}]"),
                source,
                format!("is set but tenants[{next}] is not; count from 0"),
            );
            continue;
        }
        if tenant == Some(next) {
            settings.add_tenant(Source::Variable(variables[0].name.clone()));
        }
        for variable in variables {
            put(Place { tenant, key: variable.key }, variable, settings, report);
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
fn understand(path: &str) -> Result<(Option<usize>, &'static Key), (String, String)> {
    let mut parts = path.split("__");
    if parts.next() != Some("tenants") {
        let name = path.replace("__", ".");
        let key = keys::find(false, &name);
        return key.map(|key| (None, key)).ok_or_else(|| {
            let advice = unknown("", keys::nearest(false, &name));
            (name, advice)
        });
    }
    let dotted = path.replace("__", ".");
    let Some(index) = parts.next().and_then(|index| index.parse().ok()) else {
        let advice = format!("a tenant needs its number and a key, such as {PREFIX}TENANTS__0__KEYS");
        return Err((dotted, advice));
    };
    let name = parts.collect::<Vec<_>>().join(".");
    let prefix = format!("tenants[{index}].");
    let key = keys::find(true, &name);
    key.map(|key| (Some(index), key)).ok_or_else(|| {
        let advice = unknown(&prefix, keys::nearest(true, &name));
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
        let (tenant, key) = understand("tunnel__heartbeat_secs").expect("a key");
        assert_eq!((tenant, key.name), (None, "tunnel.heartbeat_secs"));

        let (tenant, key) = understand("tenants__12__limits__connections").expect("a key");
        assert_eq!((tenant, key.name), (Some(12), "limits.connections"));
    }

    #[test]
    fn an_unknown_name_is_told_the_nearest_one() {
        let (path, text) = advice("tunnel__heartbeat");
        assert_eq!(path, "tunnel.heartbeat");
        assert!(text.contains("`tunnel.heartbeat_secs` (WAFERGATE__TUNNEL__HEARTBEAT_SECS)"), "{text}");

        let (path, text) = advice("tenants__0__limits__connection");
        assert_eq!(path, "tenants[0].limits.connection");
        assert!(text.contains("(WAFERGATE__TENANTS__0__LIMITS__CONNECTIONS)"), "{text}");

        for path in ["tenants", "tenants__keys", "tenants__-1__keys", "tenants__0", "", "server"] {
            advice(path);
        }
    }
}

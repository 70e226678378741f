//! Lists changed keys that are read at start only and cannot be reloaded.

use toml::Table;
use toml::Value;

use crate::options::Kind;
use crate::options::Options;
use crate::secret::Secret;

use super::keys;

/// The keys, and section prefixes with a dot, that a reload applies. All tenant keys are applied too.
const RELOADED: [&str; 11] = [
    "server.admin_hosts",
    "server.tls_cert",
    "server.tls_key",
    "webhook.allow_networks",
    "webhook.deny_networks",
    "webhook.allow_ports",
    "limits.",
    "enrolment.",
    "reload.",
    "console.",
    "log.level",
];

/// The keys whose values differ between the running and the wanted options and that need a restart.
pub fn need_restart(running: &Options, wanted: &Options) -> Vec<&'static str> {
    let tables = [running, wanted].map(|options| Table::try_from(options).expect("options are a table"));
    let is_reloaded = |name: &str| {
        RELOADED.iter().any(|reloaded| name == *reloaded || reloaded.ends_with('.') && name.starts_with(reloaded))
    };
    let has_changed = |name: &str| match secrets(running, wanted, name) {
        Some(is_another) => is_another,
        None => value(&tables[0], name) != value(&tables[1], name),
    };
    let names = keys::NODE.iter().filter(|key| !matches!(key.kind, Kind::SecretFile)).map(|key| key.name);
    let mut names: Vec<_> = names.filter(|name| !is_reloaded(name) && has_changed(name)).collect();
    // TLS can only be enabled or disabled at start.
    if running.server.tls_cert.is_empty() != wanted.server.tls_cert.is_empty() {
        names.push("server.tls_cert");
    }
    names
}

/// Whether a secret has changed; `None` if `name` is not a secret.
fn secrets(running: &Options, wanted: &Options, name: &str) -> Option<bool> {
    let (running, wanted) = (secret(running, name)?, secret(wanted, name)?);
    Some(!running.matches(wanted.expose()))
}

fn secret<'a>(options: &'a Options, name: &str) -> Option<&'a Secret> {
    match name {
        "server.ticket_key" => Some(&options.server.ticket_key),
        "engine.redis_url" => Some(&options.engine.redis_url),
        "engine.sentinel_password" => Some(&options.engine.sentinel_password),
        "session.store" => Some(&options.session.store),
        "console.token" => Some(&options.console.token),
        _ => None,
    }
}

fn value<'a>(table: &'a Table, name: &str) -> Option<&'a Value> {
    let (section, key) = name.split_once('.')?;
    table.get(section)?.get(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Key;

    fn loaded(variables: &[(&str, &str)]) -> Options {
        let variables = variables.iter().map(|(name, value)| (format!("WAFERGATE__{name}"), value.to_string()));
        super::super::load(None, variables).expect("a usable configuration").options
    }

    #[test]
    fn what_needs_a_restart_is_named_and_what_does_not_is_not() {
        let running = loaded(&[]);
        for (name, value, restart) in [
            ("TUNNEL__HEARTBEAT_SECS", "20", &["tunnel.heartbeat_secs"][..]),
            ("SERVER__TICKET_KEY", "a secret of thirty-two characters", &["server.ticket_key"]),
            ("SERVER__LISTEN", "127.0.0.1:1", &["server.listen"]),
            ("ENGINE__SENTINEL_PASSWORD", "a secret", &["engine.sentinel_password"]),
            ("LOG__FORMAT", "json", &["log.format"]),
            ("LOG__LEVEL", "debug", &[]),
            ("LIMITS__CONNECTIONS", "5", &[]),
            ("SERVER__ADMIN_HOSTS", "ops.example.com", &[]),
            ("WEBHOOK__ALLOW_NETWORKS", "10.0.0.0/8", &[]),
            ("WEBHOOK__DENY_NETWORKS", "10.0.0.0/8", &[]),
            ("WEBHOOK__ALLOW_PORTS", "25", &[]),
            ("ENROLMENT__OPEN", "true", &[]),
            ("RELOAD__ALLOW_REMOVAL", "true", &[]),
            ("CONSOLE__TOKEN", "a long token of the tests", &[]),
            ("CONSOLE__WRITE", "true", &[]),
        ] {
            assert_eq!(need_restart(&running, &loaded(&[(name, value)])), restart, "{name}");
        }
        let tls = [
            ("SERVER__TLS_CERT", "tests/fixtures/config/certificate.pem"),
            ("SERVER__TLS_KEY", "tests/fixtures/config/key.pem"),
        ];
        assert_eq!(need_restart(&running, &loaded(&tls)), ["server.tls_cert"]);
    }

    /// A valid value other than the default, by the kind of the key.
    fn another(key: &Key, default: &Table) -> String {
        match key.kind {
            Kind::Number { min, max, .. } => {
                let is_default = |number: &i64| value(default, key.name).and_then(Value::as_integer) == Some(*number);
                [max, min].into_iter().find(|number| !is_default(number)).expect("a range").to_string()
            }
            Kind::Flag => (value(default, key.name) != Some(&Value::Boolean(true))).to_string(),
            Kind::Address => "127.0.0.1:1".into(),
            Kind::Networks => "10.0.0.0/8".into(),
            Kind::Choice(words) => {
                let used = value(default, key.name).and_then(Value::as_str);
                (*words.iter().find(|word| Some(**word) != used).expect("a choice")).into()
            }
            Kind::Ports => "25".into(),
            Kind::Texts => "ops.example.com".into(),
            Kind::Secret if key.name == "engine.redis_url" => {
                "redis://:a-secret-of-thirty-two-characters@127.0.0.1:1".into()
            }
            Kind::Secret if key.name == "session.store" => "memory".into(),
            Kind::Text if key.name == "session.wechat_url" => "http://127.0.0.1:1".into(),
            Kind::Secret => "a secret of thirty-two characters".into(),
            Kind::Text => "wss://ws.example.com".into(),
            Kind::Secrets | Kind::SecretFile | Kind::Limits => unreachable!("it has the name of a secret"),
        }
    }

    /// Settings that must be changed together with a key.
    fn with(name: &str) -> Vec<(&'static str, &'static str)> {
        match name {
            "engine.kind" => vec![
                ("ENGINE__REDIS_URL", "redis://127.0.0.1:1"),
                ("SERVER__TICKET_KEY", "a secret of thirty-two characters"),
            ],
            "engine.redis_url" => {
                vec![("ENGINE__KIND", "redis"), ("SERVER__TICKET_KEY", "a secret of thirty-two characters")]
            }
            "log.level" => vec![("LOG__LEVEL", "debug")],
            "engine.redis_prefix" => vec![("ENGINE__REDIS_PREFIX", "other")],
            "session.enabled" => vec![("SESSION__STORE", "memory")],
            "server.proxy_protocol" => vec![("SERVER__TRUSTED_PROXIES", "127.0.0.1/32")],
            _ => vec![],
        }
    }

    #[test]
    fn every_key_is_taken_over_or_named_and_no_secret_is() {
        let running = loaded(&[]);
        let default = Table::try_from(&running).expect("a table");
        let mut seen = 0;
        for key in keys::NODE.iter().filter(|key| !matches!(key.kind, Kind::SecretFile)) {
            // These two must be set together; the test above covers them.
            if key.name.starts_with("server.tls_") && !key.name.ends_with("secs") {
                continue;
            }
            let variable = key.name.replacen('.', "__", 1).to_uppercase();
            let other = another(key, &default);
            let mut variables = vec![(variable.as_str(), other.as_str())];
            for (more, value) in with(key.name) {
                variables.retain(|(name, _)| *name != more);
                variables.push((more, value));
            }

            let named = need_restart(&running, &loaded(&variables));

            let is_reloaded = RELOADED.iter().any(|name| key.name.starts_with(name));
            assert_eq!(named.contains(&key.name), !is_reloaded, "{}: {named:?}", key.name);
            assert!(!named.concat().contains("thirty-two"), "{named:?}");
            seen += 1;
        }
        assert_eq!(seen, keys::NODE.iter().filter(|key| !matches!(key.kind, Kind::SecretFile)).count() - 2);
    }

    #[test]
    fn every_secret_of_the_node_is_compared() {
        let options = loaded(&[]);
        for key in keys::NODE.iter().filter(|key| key.kind.is_secret()) {
            assert_eq!(secrets(&options, &options, key.name), Some(false), "{}", key.name);
        }
    }

    #[test]
    fn what_a_reload_takes_over_are_keys() {
        for name in RELOADED {
            assert!(keys::NODE.iter().any(|key| key.name.starts_with(name)), "{name}");
        }
    }
}

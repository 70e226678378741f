//! Every key there is, as data: what it takes, its range and its unit. Defaults and reasons are in `config/default.toml`.

use strsim::damerau_levenshtein;

/// One key of the configuration.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name with dots; inside a tenant without `tenants[n].`.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
}

/// What a key takes.
#[derive(Debug)]
pub(super) enum Kind {
    /// A whole number.
    Number {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// What is counted.
        unit: &'static str,
    },
    /// `true` or `false`.
    Flag,
    /// Any text in one line.
    Text,
    /// IP address and port.
    Address,
    /// A list of CIDRs.
    Networks,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of ports.
    Ports,
    /// A list of texts.
    Texts,
    /// Text that is never shown.
    Secret,
    /// A list of texts that are never shown.
    Secrets,
    /// Path of the file in which the secret of the same name without `_file` is kept.
    SecretFile,
}

impl Kind {
    /// Whether values must not be printed.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Self::Secret | Self::Secrets)
    }

    /// Whether values are lists.
    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::Networks | Self::Ports | Self::Texts | Self::Secrets)
    }
}

const DAY_SECS: i64 = 86_400;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
const BILLION: i64 = 1_000_000_000;

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

const fn number(name: &'static str, min: i64, max: i64, unit: &'static str) -> Key {
    key(name, Kind::Number { min, max, unit })
}

/// The keys of the node: every section but the tenants.
pub(super) static NODE: &[Key] = &[
    key("server.listen", Kind::Address),
    key("server.admin_listen", Kind::Address),
    key("server.admin_hosts", Kind::Texts),
    key("server.public_url", Kind::Text),
    key("server.tls_cert", Kind::Text),
    key("server.tls_key", Kind::Text),
    key("server.ticket_key", Kind::Secret),
    key("server.ticket_key_file", Kind::SecretFile),
    key("server.trusted_proxies", Kind::Networks),
    key("server.proxy_protocol", Kind::Choice(&["off", "required"])),
    number("server.header_timeout_secs", 1, 3600, "seconds"),
    number("server.tls_handshake_timeout_secs", 1, 3600, "seconds"),
    number("server.keep_alive_secs", 1, 3600, "seconds"),
    key("engine.kind", Kind::Choice(&["memory", "redis"])),
    key("engine.redis_url", Kind::Secret),
    key("engine.redis_url_file", Kind::SecretFile),
    key("engine.sentinel_password", Kind::Secret),
    key("engine.sentinel_password_file", Kind::SecretFile),
    key("engine.redis_prefix", Kind::Text),
    number("tunnel.connect_ttl_secs", 1, 3600, "seconds"),
    number("tunnel.heartbeat_secs", 1, 3600, "seconds"),
    number("tunnel.max_message_bytes", 1, 16 * MIB, "bytes"),
    number("tunnel.outbox_bytes", 2048, GIB, "bytes"),
    number("tunnel.outbox_age_secs", 1, 3600, "seconds"),
    number("tunnel.inbox_bytes", 1, GIB, "bytes"),
    number("webhook.timeout_ms", 1, 600_000, "milliseconds"),
    number("webhook.message_ttl_secs", 1, 7 * DAY_SECS, "seconds"),
    number("webhook.close_ttl_secs", 1, 30 * DAY_SECS, "seconds"),
    number("webhook.max_in_flight_per_endpoint", 1, 100_000, "requests"),
    number("webhook.max_pending_closes", 1, BILLION, "close events"),
    key("webhook.allow_networks", Kind::Networks),
    key("webhook.deny_networks", Kind::Networks),
    key("webhook.allow_ports", Kind::Ports),
    number("drain.window_secs", 0, DAY_SECS, "seconds"),
    number("drain.flush_secs", 0, DAY_SECS, "seconds"),
    number("limits.connections", 0, BILLION, "tunnels (0 = unlimited)"),
    number("limits.messages_per_sec", 0, BILLION, "messages per second (0 = unlimited)"),
    number("limits.messages_per_sec_per_connection", 0, BILLION, "messages per second (0 = unlimited)"),
    number("limits.pushes_per_sec", 0, BILLION, "requests per second (0 = unlimited)"),
    number("limits.max_push_targets", 0, BILLION, "tunnel ids (0 = unlimited)"),
    key("enrolment.open", Kind::Flag),
    key("reload.allow_removal", Kind::Flag),
    key("log.level", Kind::Text),
    key("log.format", Kind::Choice(&["text", "json"])),
];

/// The keys of one tenant, except its limits: those are the keys of `[limits]`.
static TENANT: &[Key] = &[
    key("server_host", Kind::Text),
    key("id", Kind::Text),
    key("keys", Kind::Secrets),
    key("keys_file", Kind::SecretFile),
    key("receive_hosts", Kind::Texts),
    key("webhook_url", Kind::Text),
    key("webhook_batch", Kind::Flag),
    number("max_attempts", 0, BILLION, "attempts (0 = any number)"),
    key("subprotocols", Kind::Texts),
];

/// The keys of one tenant.
pub(super) fn tenant() -> impl Iterator<Item = &'static Key> {
    TENANT.iter().chain(NODE.iter().filter(|key| key.name.starts_with("limits.")))
}

/// The key called `name`, of the node or of a tenant.
pub(super) fn find(of_tenant: bool, name: &str) -> Option<&'static Key> {
    if of_tenant { tenant().find(|key| key.name == name) } else { NODE.iter().find(|key| key.name == name) }
}

/// Whether `name` is a section of the node.
pub(super) fn is_section(name: &str) -> bool {
    NODE.iter().any(|key| section(key.name) == name)
}

/// The section whose name looks most like `name`.
pub(super) fn nearest_section(name: &str) -> &'static str {
    NODE.iter()
        .map(|key| section(key.name))
        .chain(["tenants"])
        .min_by_key(|known| damerau_levenshtein(known, name))
        .expect("there are sections")
}

/// The key that was most likely meant by `name`: a slip of the pen, or a key that belongs to another section.
pub(super) fn nearest(of_tenant: bool, name: &str) -> &'static str {
    let distance = |key: &&'static Key| {
        let moved = 1 + damerau_levenshtein(last(key.name), last(name));
        moved.min(damerau_levenshtein(key.name, name))
    };
    let nearest = if of_tenant { tenant().min_by_key(distance) } else { NODE.iter().min_by_key(distance) };
    nearest.expect("there are keys").name
}

fn section(name: &'static str) -> &'static str {
    name.split('.').next().unwrap_or(name)
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        assert_eq!(nearest(false, "tunnel.hartbeat_secs"), "tunnel.heartbeat_secs");
        assert_eq!(nearest(false, "tunnel.heartbeat_sec"), "tunnel.heartbeat_secs");
        assert_eq!(nearest(false, "server.heartbeat_secs"), "tunnel.heartbeat_secs");
        assert_eq!(nearest(false, "server.tls_certificate"), "server.tls_cert");
        assert_eq!(nearest(true, "key"), "keys");
        assert_eq!(nearest(true, "connections"), "limits.connections");
        assert_eq!(nearest_section("tunel"), "tunnel");
        assert_eq!(nearest_section("tenant"), "tenants");
    }

    #[test]
    fn every_secret_has_a_file_form() {
        for (of_tenant, key) in NODE.iter().map(|key| (false, key)).chain(tenant().map(|key| (true, key))) {
            let file = find(of_tenant, &format!("{}_file", key.name));
            assert_eq!(file.is_some(), key.kind.is_secret(), "{}", key.name);
        }
    }
}

//! Tenants: keys, receive URLs, limits and usage.

mod changes;
mod directory;
mod groups;
mod key;
mod node_usage;
mod reservations;
mod settings;
mod substitutes;
mod usage;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;

pub use changes::Changes;
pub use changes::KeyChange;
pub use changes::Removal;
pub use directory::Denied;
pub use directory::Directory;
pub use directory::Stranger;
pub use groups::Groups;
pub use groups::Listed;
pub use groups::NamePage;
pub use groups::NoRoomForNames;
pub use groups::Page;
pub use groups::Roster;
pub use groups::TooManyGroups;
pub use key::Key;
pub use node_usage::Elsewhere;
pub use node_usage::NodeUsage;
pub use node_usage::OtherNodes;
pub use node_usage::TenantUsage;
pub use node_usage::matters;
pub use reservations::Reservations;
pub use settings::Settings;
pub use usage::Usage;

use crate::id::TenantId;
use crate::protocol::authority::split_port;
use crate::protocol::text::md5_hex;
use substitutes::Substitutes;

/// One tenant. The object survives reloads, so that its tunnels see new settings.
#[derive(Debug)]
pub struct Tenant {
    /// Its `tcId`.
    pub id: TenantId,
    /// Its current usage.
    pub usage: Usage,
    /// The groups and users of its open tunnels on this node.
    pub groups: Groups,
    /// Its number in the timeline of this node; zero before it has one.
    pub number: AtomicU32,
    settings: ArcSwap<Settings>,
    substitutes: Substitutes,
    is_out: AtomicBool,
    /// Its sender, if it enrolled itself.
    enrolled_by: Option<TenantId>,
}

impl Tenant {
    /// A tenant with this id.
    pub fn new(id: TenantId, settings: Settings) -> Self {
        Self {
            id,
            usage: Usage::default(),
            groups: Groups::default(),
            number: AtomicU32::new(0),
            settings: ArcSwap::from_pointee(settings),
            substitutes: Substitutes::default(),
            is_out: AtomicBool::new(false),
            enrolled_by: None,
        }
    }

    /// The tenant, enrolled by a sender of this name.
    fn enrolled_by(self, sender: TenantId) -> Self {
        Self { enrolled_by: Some(sender), ..self }
    }

    /// The name under which it takes its share of what tenants share: its id, or that of its sender while it is only
    /// enrolled. Otherwise a stranger would have a share for each id that it makes up.
    pub fn flow(&self) -> &TenantId {
        self.enrolled_by.as_ref().filter(|_| self.settings.load().is_enrolled).unwrap_or(&self.id)
    }

    /// The current settings.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Replaces the settings, also for open tunnels.
    fn set(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.is_out.store(false, Ordering::Release);
    }

    /// Marks the tenant as removed from the configuration.
    fn take_out(&self) {
        self.is_out.store(true, Ordering::Release);
    }

    /// Whether the tenant was removed while it had tunnels: their events are still delivered, with the old keys, but
    /// nothing else is served.
    pub fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Acquire)
    }

    /// The key that signs the Wafer webhooks of a tunnel requested with the key `own`: that key, or the first one if it
    /// is gone, or the one that the business server has [accepted](Self::took) instead.
    pub fn signing_key<'a>(&self, settings: &'a Settings, own: u32) -> &'a Key {
        self.substitutes.key(settings, own)
    }

    /// Stores that the business server accepted the key `taken` for a tunnel requested with the key `own`; true if
    /// another key has signed such webhooks until now.
    pub fn took(&self, settings: &Settings, own: u32, taken: &Key) -> bool {
        self.substitutes.note(settings, own, taken.fingerprint())
    }

    /// Whether the tenant owns a receive URL with this authority and host, as written.
    ///
    /// Without `receive_hosts` it owns the authority, with or without port, whose MD5 is its id: Wafer SDKs derive both
    /// from ServerHost.
    pub fn owns_authority(&self, authority: &str, host: &str) -> bool {
        let settings = self.settings.load();
        if settings.receive_hosts.is_empty() {
            let bare = strip_port(authority);
            return [authority, bare].into_iter().any(|name| md5_hex(name) == self.id.as_str());
        }
        settings
            .receive_hosts
            .iter()
            .any(|entry| entry == "*" || entry.eq_ignore_ascii_case(authority) || entry.eq_ignore_ascii_case(host))
    }
}

fn strip_port(authority: &str) -> &str {
    match split_port(authority) {
        (host, Some(port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;
    use crate::options::Limits;
    use crate::secret::Secret;

    const LIMITS: Limits = Limits {
        connections: 0,
        messages_per_sec: 0,
        messages_per_sec_per_connection: 0,
        pushes_per_sec: 0,
        max_push_targets: 10,
        connectors: 0,
    };

    fn tenant(server_host: &str, receive_hosts: &[&str], webhook_url: &str) -> Tenant {
        let options = options::Tenant {
            server_host: server_host.into(),
            keys: vec![Secret::new("k")],
            receive_hosts: receive_hosts.iter().map(|host| (*host).to_owned()).collect(),
            webhook_url: webhook_url.into(),
            ..Default::default()
        };
        Tenant::new(TenantId::new(&md5_hex(server_host)), Settings::new(&options, LIMITS))
    }

    #[test]
    fn the_authority_that_made_the_id_is_the_tenants_own() {
        let node2 = tenant("api.example.com", &[], "");
        assert!(node2.owns_authority("api.example.com", "api.example.com"));
        assert!(node2.owns_authority("api.example.com:8080", "api.example.com"));
        assert!(!node2.owns_authority("API.example.com", "api.example.com"), "as it was typed");
        assert!(!node2.owns_authority("evil.example.com", "evil.example.com"));

        let java = tenant("api.example.com:8080", &[], "");
        assert!(java.owns_authority("api.example.com:8080", "api.example.com"));
        assert!(!java.owns_authority("api.example.com:81", "api.example.com"));
        assert!(!java.owns_authority("api.example.com", "api.example.com"));
    }

    #[test]
    fn receive_hosts_replace_the_rule() {
        let listed = tenant("api.example.com", &["Hooks.example.com", "b.example.com:81"], "");
        assert!(listed.owns_authority("hooks.EXAMPLE.com:7", "hooks.example.com"));
        assert!(listed.owns_authority("b.example.com:81", "b.example.com"));
        assert!(!listed.owns_authority("b.example.com", "b.example.com"));
        assert!(!listed.owns_authority("api.example.com", "api.example.com"));
        assert!(tenant("x", &["*"], "").owns_authority("anything", "anything"));
    }

    #[test]
    fn the_host_of_webhook_url_is_always_allowed() {
        let native = tenant("api.example.com", &[], "https://hooks.example.com/in");

        assert!(native.owns_authority("hooks.example.com", "hooks.example.com"));
        assert!(native.owns_authority("api.example.com:81", "api.example.com"));
    }

    #[test]
    fn a_key_that_is_gone_is_replaced_by_the_first() {
        let options = options::Tenant { keys: vec![Secret::new("new"), Secret::new("old")], ..Default::default() };
        let settings = Settings::new(&options, LIMITS);
        let old = settings.keys[1].fingerprint();

        assert!(settings.key(old).secret().matches("old"));
        assert!(settings.key(!old).secret().matches("new"));
    }
}

//! Keys that a tenant's business server accepts instead of others, learned from its responses.

use std::collections::HashMap;

use parking_lot::RwLock;

use super::Key;
use super::Settings;

/// Refused keys with the accepted ones, by fingerprint. Empty except during a key rotation.
#[derive(Debug, Default)]
pub(super) struct Substitutes(RwLock<HashMap<u32, u32>>);

impl Substitutes {
    /// The key that signs in place of `own`.
    pub(super) fn key<'a>(&self, settings: &'a Settings, own: u32) -> &'a Key {
        let taken = self.0.read().get(&own).copied();
        taken.and_then(|taken| settings.keys.iter().find(|key| key.fingerprint() == taken)).unwrap_or(settings.key(own))
    }

    /// Stores that `taken` was accepted in place of `own`; true if another key has signed until now.
    pub(super) fn note(&self, settings: &Settings, own: u32, taken: u32) -> bool {
        if self.key(settings, own).fingerprint() == taken {
            return false;
        }
        let mut substitutes = self.0.write();
        // Removed keys return only with a reload.
        substitutes.retain(|_, key| settings.keys.iter().any(|known| known.fingerprint() == *key));
        if settings.key(own).fingerprint() == taken {
            substitutes.remove(&own);
        } else {
            substitutes.insert(own, taken);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Limits;
    use crate::options::Tenant;
    use crate::secret::Secret;

    fn settings(keys: &[&str]) -> Settings {
        let limits = Limits {
            connections: 0,
            messages_per_sec: 0,
            messages_per_sec_per_connection: 0,
            pushes_per_sec: 0,
            max_push_targets: 0,
            connectors: 0,
        };
        let keys = keys.iter().map(|key| Secret::new(*key)).collect();
        Settings::new(&Tenant { keys, ..Tenant::default() }, limits)
    }

    fn fingerprint(key: &str) -> u32 {
        Key::new(Secret::new(key)).fingerprint()
    }

    #[test]
    fn the_key_that_was_taken_signs_until_another_one_is() {
        let (substitutes, both) = (Substitutes::default(), settings(&["old", "new"]));
        let (old, new) = (fingerprint("old"), fingerprint("new"));
        let signs = |own| substitutes.key(&both, own).fingerprint();
        assert_eq!((signs(old), signs(new)), (old, new));

        assert!(substitutes.note(&both, old, new));
        assert!(!substitutes.note(&both, old, new), "it did already");
        assert_eq!((signs(old), signs(new)), (new, new));

        assert!(substitutes.note(&both, old, old), "the business server went back");
        assert_eq!((signs(old), signs(new)), (old, new));
        assert!(substitutes.0.read().is_empty());
    }

    #[test]
    fn a_key_that_is_gone_signs_nothing() {
        let substitutes = Substitutes::default();
        let [old, new] = ["old", "new"].map(fingerprint);
        assert!(substitutes.note(&settings(&["old", "new"]), old, new));

        assert_eq!(substitutes.key(&settings(&["third", "old"]), old).fingerprint(), old);
        assert_eq!(substitutes.key(&settings(&["third"]), old).fingerprint(), fingerprint("third"));

        let (with_third, third) = (settings(&["third", "fourth"]), fingerprint("third"));
        assert!(substitutes.note(&with_third, third, fingerprint("fourth")));
        assert_eq!(substitutes.0.read().len(), 1, "it is forgotten");
    }
}

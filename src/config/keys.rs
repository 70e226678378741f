//! The list of all keys, and the nearest one to a misspelt name.

use std::sync::LazyLock;

use strsim::damerau_levenshtein;

use crate::options::App;
use crate::options::Key;
use crate::options::Kind;
use crate::options::Options;
use crate::options::Tenant;

use super::error::List;

/// The keys of the node: every section but the lists of blocks.
pub(super) static NODE: LazyLock<Vec<Key>> =
    LazyLock::new(|| with_files(Options::SECTIONS.iter().flat_map(|section| section.keys.iter().copied())));

/// The keys of one tenant, except its limits: those are the keys of `[limits]`.
static TENANT: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let keys = Tenant::SECTION.keys.iter().filter(|key| !matches!(key.kind, Kind::Limits));
    of_block(keys)
});

/// The keys of one app.
static APP: LazyLock<Vec<Key>> = LazyLock::new(|| of_block(App::SECTION.keys.iter()));

/// `keys` of a block: named without their section.
fn of_block<'a>(keys: impl Iterator<Item = &'a Key>) -> Vec<Key> {
    with_files(keys.map(|key| Key { name: last(key.name), file: last(key.file), ..*key }))
}

/// `keys`, each secret followed by the key that names its file.
fn with_files(keys: impl Iterator<Item = Key>) -> Vec<Key> {
    let with_file = |key: Key| {
        let file = key.kind.is_secret().then_some(Key { name: key.file, kind: Kind::SecretFile, ..key });
        [Some(key), file].into_iter().flatten()
    };
    keys.flat_map(with_file).collect()
}

/// The keys of a block of this list, or of the node.
pub(super) fn of(list: Option<List>) -> impl Iterator<Item = &'static Key> {
    let (own, limits): (&'static [Key], _) = match list {
        None => (&NODE, false),
        Some(List::Tenants) => (&TENANT, true),
        Some(List::Apps) => (&APP, false),
    };
    own.iter().chain(NODE.iter().filter(move |key| limits && key.name.starts_with("limits.")))
}

/// The key called `name`, of the node or of a block.
pub(super) fn find(list: Option<List>, name: &str) -> Option<&'static Key> {
    of(list).find(|key| key.name == name)
}

/// Whether `name` is a section of the node.
pub(super) fn is_section(name: &str) -> bool {
    NODE.iter().any(|key| section(key.name) == name)
}

/// The section with the name nearest to `name`.
pub(super) fn nearest_section(name: &str) -> &'static str {
    NODE.iter()
        .map(|key| section(key.name))
        .chain(["tenants"])
        .min_by_key(|known| damerau_levenshtein(known, name))
        .expect("there are sections")
}

/// The key most likely meant by `name`: a misspelling, or a key of another section.
pub(super) fn nearest(list: Option<List>, name: &str) -> &'static str {
    let distance = |key: &&'static Key| {
        let moved = 1 + damerau_levenshtein(last(key.name), last(name));
        moved.min(damerau_levenshtein(key.name, name))
    };
    of(list).min_by_key(distance).expect("there are keys").name
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
        assert_eq!(nearest(None, "tunnel.hartbeat_secs"), "tunnel.heartbeat_secs");
        assert_eq!(nearest(None, "tunnel.heartbeat_sec"), "tunnel.heartbeat_secs");
        assert_eq!(nearest(None, "server.heartbeat_secs"), "tunnel.heartbeat_secs");
        assert_eq!(nearest(None, "server.tls_certificate"), "server.tls_cert");
        assert_eq!(nearest(Some(List::Tenants), "key"), "keys");
        assert_eq!(nearest(Some(List::Tenants), "connections"), "limits.connections");
        assert_eq!(nearest(Some(List::Apps), "appid"), "app_id");
        assert_eq!(nearest_section("tunel"), "tunnel");
        assert_eq!(nearest_section("tenant"), "tenants");
    }

    #[test]
    fn every_secret_has_a_file_form() {
        for list in [None, Some(List::Tenants), Some(List::Apps)] {
            for key in of(list) {
                let file = find(list, &format!("{}_file", key.name));
                assert_eq!(file.is_some(), key.kind.is_secret(), "{}", key.name);
            }
        }
    }
}

//! The keys that the gateway keeps in Redis, by the table at the head of `src/engine/redis/keys.rs`.

use super::Redis;

const TABLE: &str = include_str!("../../../src/engine/redis/keys.rs");

/// A pattern of each, with the default prefix.
pub(crate) fn patterns() -> Vec<String> {
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("//! | `P:")?.split_once('`'));
    rows.map(|(key, _)| format!("wafergate:{}", starred(key))).collect()
}

/// Parts in angle brackets are variable.
fn starred(key: &str) -> String {
    let mut parts = key.split('<');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |pattern, part| pattern + "*" + part.split_once('>').expect("closed again").1)
}

impl Redis {
    /// The keys of this pattern.
    pub(crate) async fn keys(&self, pattern: &str) -> Vec<String> {
        let answer = self.command(&["KEYS", pattern]).await;
        answer.lines().filter(|line| line.starts_with("wafergate:")).map(str::to_owned).collect()
    }

    /// Loses all keys of this pattern; how many there were.
    pub(crate) async fn lose(&self, pattern: &str) -> usize {
        let keys = self.keys(pattern).await;
        if !keys.is_empty() {
            let names = keys.iter().map(String::as_str);
            self.command(&["DEL"].into_iter().chain(names).collect::<Vec<_>>()).await;
        }
        keys.len()
    }

    /// Checks that the table names every key there is.
    pub(crate) async fn has_only_known_keys(&self) {
        let mut known = vec![];
        for pattern in patterns() {
            known.extend(self.keys(&pattern).await);
        }
        let unknown: Vec<_> = self.keys("*").await.into_iter().filter(|key| !known.contains(key)).collect();
        assert!(unknown.is_empty(), "src/engine/redis/keys.rs does not name {unknown:?}");
    }
}

#[test]
fn the_table_names_what_the_scripts_change_and_more() {
    let patterns = patterns();
    for name in
        ["{nodes}:leases", "{nodes}:speaks", "{records:*}", "homes:{*}:*:*", "{places:*}", "claim:{*}", "mark:{m*}:*"]
    {
        assert!(patterns.contains(&format!("wafergate:{name}")), "{name}: {patterns:?}");
    }
}

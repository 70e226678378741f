//! A model of Redis: its data and the commands that the gateway uses, with time as an argument.

use std::collections::BTreeMap;

use crate::resp::Reply;
use crate::scripts;

/// The value of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Value {
    Text(Vec<u8>),
    Hash(BTreeMap<String, Vec<u8>>),
    Scores(BTreeMap<String, i64>),
}

/// All that Redis keeps.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Data {
    pub(crate) keys: BTreeMap<String, Value>,
    /// When a key ends, in milliseconds since 1970.
    pub(crate) ends_ms: BTreeMap<String, u64>,
}

/// Faults of earlier releases that the model can be given: the oracle must find them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Planted {
    /// A node asks the lease guard before it waits, and not again.
    pub(crate) asks_once: bool,
    /// A node without a lease counts as dead, and gets no messages.
    pub(crate) missing_lease_is_death: bool,
    /// A node that was declared dead believes that it lives when Redis has forgotten that.
    pub(crate) forgotten_death_is_life: bool,
    /// Nodes do not repeat what may be lost between them: such messages never arrive.
    pub(crate) repeats_nothing: bool,
}

pub(crate) fn word(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn number(bytes: &[u8]) -> i64 {
    word(bytes).parse().unwrap_or_else(|_| panic!("a number: {}", word(bytes)))
}

impl Data {
    /// Does one command.
    pub(crate) fn execute(&mut self, words: &[Vec<u8>], now_ms: u64, planted: Planted) -> Reply {
        let name = word(&words[0]).to_ascii_uppercase();
        let key = || word(&words[1]);
        match name.as_str() {
            "HSET" => {
                let pairs = words[2..].chunks_exact(2);
                Reply::Int(pairs.map(|pair| i64::from(self.hset(&key(), &word(&pair[0]), &pair[1]))).sum())
            }
            "HDEL" => Reply::Int(words[2..].iter().map(|field| i64::from(self.hdel(&key(), &word(field)))).sum()),
            "MGET" => Reply::Array(
                words[1..].iter().map(|key| self.get(&word(key)).map_or(Reply::Nil, Reply::text)).collect(),
            ),
            "HGET" => self.hget(&key(), &word(&words[2])).map_or(Reply::Nil, Reply::text),
            "SET" => {
                let life_ms = u64::try_from(number(&words[4])).expect("a time");
                self.set(&key(), &words[2], now_ms + life_ms);
                Reply::ok()
            }
            "HKEYS" => Reply::texts(self.hkeys(&key())),
            "HSCAN" => {
                let fields = self.hash(&key()).into_iter().flat_map(|(field, value)| [field.into_bytes(), value]);
                Reply::Array(vec![Reply::text("0"), Reply::texts(fields)])
            }
            "DEL" => Reply::Int(words[1..].iter().map(|key| i64::from(self.del(&word(key)))).sum()),
            "EVAL" => {
                let keys = usize::try_from(number(&words[2])).expect("a count");
                let (keys, arguments) = words[3..].split_at(keys);
                let keys: Vec<String> = keys.iter().map(|key| word(key)).collect();
                scripts::run(self, &word(&words[1]), &keys, arguments, now_ms, planted)
            }
            _ => Reply::Error(format!("ERR the model does not know {name}")),
        }
    }

    /// An expired key does not exist.
    pub(crate) fn expire(&mut self, key: &str, now_ms: u64) {
        if self.ends_ms.get(key).is_some_and(|end| *end <= now_ms) {
            self.del(key);
        }
    }

    pub(crate) fn del(&mut self, key: &str) -> bool {
        self.ends_ms.remove(key);
        self.keys.remove(key).is_some()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        match self.keys.get(key)? {
            Value::Text(text) => Some(text),
            other => panic!("{key} is no text: {other:?}"),
        }
    }

    pub(crate) fn set(&mut self, key: &str, text: &[u8], ends_ms: u64) {
        self.keys.insert(key.to_owned(), Value::Text(text.to_vec()));
        self.ends_ms.insert(key.to_owned(), ends_ms);
    }

    pub(crate) fn hash(&self, key: &str) -> BTreeMap<String, Vec<u8>> {
        match self.keys.get(key) {
            None => BTreeMap::new(),
            Some(Value::Hash(fields)) => fields.clone(),
            Some(other) => panic!("{key} is no hash: {other:?}"),
        }
    }

    pub(crate) fn hget(&self, key: &str, field: &str) -> Option<String> {
        match self.keys.get(key) {
            Some(Value::Hash(fields)) => fields.get(field).map(|value| word(value)),
            _ => None,
        }
    }

    pub(crate) fn hset(&mut self, key: &str, field: &str, value: impl AsRef<[u8]>) -> bool {
        let hash = self.keys.entry(key.to_owned()).or_insert_with(|| Value::Hash(BTreeMap::new()));
        let Value::Hash(fields) = hash else { panic!("{key} is no hash") };
        fields.insert(field.to_owned(), value.as_ref().to_vec()).is_none()
    }

    pub(crate) fn hsetnx(&mut self, key: &str, field: &str, value: impl AsRef<[u8]>) {
        if self.hget(key, field).is_none() {
            self.hset(key, field, value);
        }
    }

    pub(crate) fn hdel(&mut self, key: &str, field: &str) -> bool {
        match self.keys.get_mut(key) {
            Some(Value::Hash(fields)) => {
                let was_there = fields.remove(field).is_some();
                // Redis keeps nothing that is empty.
                if fields.is_empty() {
                    self.keys.remove(key);
                }
                was_there
            }
            _ => false,
        }
    }

    pub(crate) fn hkeys(&self, key: &str) -> Vec<String> {
        self.hash(key).into_keys().collect()
    }

    pub(crate) fn zscore(&self, key: &str, member: &str) -> Option<i64> {
        match self.keys.get(key) {
            Some(Value::Scores(members)) => members.get(member).copied(),
            _ => None,
        }
    }

    pub(crate) fn zadd(&mut self, key: &str, score: i64, member: &str) {
        let scores = self.keys.entry(key.to_owned()).or_insert_with(|| Value::Scores(BTreeMap::new()));
        let Value::Scores(members) = scores else { panic!("{key} has no scores") };
        members.insert(member.to_owned(), score);
    }

    pub(crate) fn zadd_nx(&mut self, key: &str, score: i64, member: &str) {
        if self.zscore(key, member).is_none() {
            self.zadd(key, score, member);
        }
    }

    pub(crate) fn zrem(&mut self, key: &str, member: &str) -> bool {
        match self.keys.get_mut(key) {
            Some(Value::Scores(members)) => {
                let was_there = members.remove(member).is_some();
                if members.is_empty() {
                    self.keys.remove(key);
                }
                was_there
            }
            _ => false,
        }
    }

    /// The number of fields or members.
    pub(crate) fn count(&self, key: &str) -> usize {
        match self.keys.get(key) {
            Some(Value::Hash(fields)) => fields.len(),
            Some(Value::Scores(members)) => members.len(),
            _ => 0,
        }
    }

    /// The members with scores up to this one, by their scores.
    pub(crate) fn zrange_to(&self, key: &str, last: i64) -> Vec<(i64, String)> {
        let Some(Value::Scores(members)) = self.keys.get(key) else { return vec![] };
        let mut members: Vec<_> = members
            .iter()
            .filter(|(_, score)| **score <= last)
            .map(|(member, score)| (*score, member.clone()))
            .collect();
        members.sort();
        members
    }

    /// All members by their scores.
    pub(crate) fn zrange(&self, key: &str) -> Vec<(i64, String)> {
        self.zrange_to(key, i64::MAX)
    }
}

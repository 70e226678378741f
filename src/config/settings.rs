//! The settings read so far, each with its source; later layers replace earlier ones.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Table;
use toml::Value;

use crate::options::Key;
use crate::options::Kind;
use crate::options::Options;

use super::error::Block;
use super::error::List;
use super::error::Place;
use super::error::Report;
use super::error::Source;
use super::keys;
use super::value;

/// Values by place.
#[derive(Default)]
pub(super) struct Settings {
    entries: BTreeMap<(Option<Block>, &'static str), Entry>,
    blocks: BTreeMap<List, Vec<Source>>,
}

/// A value and its source.
#[derive(Clone)]
pub(super) struct Entry {
    /// The value, valid for its key.
    pub(super) value: Value,
    /// Its source.
    pub(super) source: Source,
}

impl Settings {
    /// Sets `place`, or reports why `value` is not valid for its key.
    pub(super) fn set(&mut self, place: Place, value: Value, source: Source, report: &mut Report) {
        match value::check(&place.key.kind, &value) {
            Ok(()) => {
                self.entries.insert((place.block, place.key.name), Entry { value, source });
            }
            Err(advice) => report.problem(place, Some(&value), source, advice),
        }
    }

    /// Replaces a value that was already checked.
    pub(super) fn replace(&mut self, place: Place, value: Value, source: Source) {
        self.entries.insert((place.block, place.key.name), Entry { value, source });
    }

    /// Adds a block without settings.
    pub(super) fn add(&mut self, list: List, source: Source) -> Block {
        let blocks = self.blocks.entry(list).or_default();
        blocks.push(source);
        Block { list, number: blocks.len() - 1 }
    }

    /// The number of blocks in a list.
    pub(super) fn count(&self, list: List) -> usize {
        self.blocks.get(&list).map_or(0, Vec::len)
    }

    /// The entry at `place`.
    pub(super) fn entry(&self, place: Place) -> Option<&Entry> {
        self.entries.get(&(place.block, place.key.name))
    }

    /// The source of `place`, or else of its block.
    pub(super) fn source(&self, place: Place) -> Source {
        let block = || place.block.and_then(|block| self.blocks.get(&block.list)?.get(block.number));
        self.entry(place).map(|entry| &entry.source).or_else(block).cloned().unwrap_or(Source::Default)
    }

    /// Every possible place: the node's keys, and those of each block.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let of_block =
            |block: Block| keys::of(Some(block.list)).map(move |key: &'static Key| Place { block: Some(block), key });
        let counts = List::ALL.map(|list| (list, self.count(list)));
        let blocks = counts.into_iter().flat_map(|(list, count)| (0..count).map(move |number| Block { list, number }));
        keys::of(None).map(|key| Place { block: None, key }).chain(blocks.flat_map(of_block))
    }

    /// The settings as typed data; every key must have a value, at least its default.
    pub(super) fn to_options(&self) -> Result<Options, toml::de::Error> {
        let mut node = Table::new();
        let mut lists = List::ALL.map(|list| (list, vec![Table::new(); self.count(list)]));
        for place in self.places() {
            let Some(entry) = self.entry(place) else { continue };
            if matches!(place.key.kind, Kind::SecretFile) {
                continue;
            }
            let table = match place.block {
                None => &mut node,
                Some(block) => &mut lists[block.list as usize].1[block.number],
            };
            insert(table, place.key.name, entry.value.clone());
        }
        for (list, blocks) in lists {
            insert(&mut node, list.name(), Value::Array(blocks.into_iter().map(Value::Table).collect()));
        }
        Options::deserialize(node)
    }
}

fn insert(table: &mut Table, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            table.insert(name.to_owned(), value);
        }
        Some((section, rest)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                insert(section, rest, value);
            }
        }
    }
}

//! The settings read so far, each with its source; later layers replace earlier ones.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Table;
use toml::Value;

use crate::options::Key;
use crate::options::Kind;
use crate::options::Options;

use super::error::Place;
use super::error::Report;
use super::error::Source;
use super::keys;
use super::value;

/// Values by place.
#[derive(Default)]
pub(super) struct Settings {
    entries: BTreeMap<(Option<usize>, &'static str), Entry>,
    tenants: Vec<Source>,
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
                self.entries.insert((place.tenant, place.key.name), Entry { value, source });
            }
            Err(advice) => report.problem(place, Some(&value), source, advice),
        }
    }

    /// Replaces a value that was already checked.
    pub(super) fn replace(&mut self, place: Place, value: Value, source: Source) {
        self.entries.insert((place.tenant, place.key.name), Entry { value, source });
    }

    /// Adds a tenant without settings and returns its number.
    pub(super) fn add_tenant(&mut self, source: Source) -> usize {
        self.tenants.push(source);
        self.tenants.len() - 1
    }

    /// The number of tenants.
    pub(super) fn tenant_count(&self) -> usize {
        self.tenants.len()
    }

    /// The entry at `place`.
    pub(super) fn entry(&self, place: Place) -> Option<&Entry> {
        self.entries.get(&(place.tenant, place.key.name))
    }

    /// The source of `place`, or else of its tenant.
    pub(super) fn source(&self, place: Place) -> Source {
        let tenant = || place.tenant.and_then(|index| self.tenants.get(index));
        self.entry(place).map(|entry| &entry.source).or_else(tenant).cloned().unwrap_or(Source::Default)
    }

    /// Every possible place: the node's keys, and those of each tenant.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let of_tenant = |index| keys::tenant().map(move |key: &'static Key| Place { tenant: Some(index), key });
        let of_node = keys::NODE.iter().map(|key| Place { tenant: None, key });
        of_node.chain((0..self.tenants.len()).flat_map(of_tenant))
    }

    /// The settings as typed data; every key must have a value, at least its default.
    pub(super) fn to_options(&self) -> Result<Options, toml::de::Error> {
        let mut node = Table::new();
        let mut tenants = vec![Table::new(); self.tenants.len()];
        for place in self.places() {
            let Some(entry) = self.entry(place) else { continue };
            if matches!(place.key.kind, Kind::SecretFile) {
                continue;
            }
            let table = place.tenant.map_or(&mut node, |index| &mut tenants[index]);
            insert(table, place.key.name, entry.value.clone());
        }
        node.insert("tenants".to_owned(), Value::Array(tenants.into_iter().map(Value::Table).collect()));
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

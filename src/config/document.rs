//! Reads a TOML document into settings, with the line of each.

use std::collections::HashMap;
use std::sync::Arc;

use toml::Spanned;
use toml::Table;
use toml::Value;
use toml::de::DeTable;
use toml::de::DeValue;

use super::error::Block;
use super::error::List;
use super::error::Place;
use super::error::Report;
use super::error::Source;
use super::keys;
use super::settings::Settings;
use super::value;

/// The origin of a document.
pub(super) enum Origin {
    /// The compiled-in defaults.
    Default,
    /// The file with this path.
    File(Arc<str>),
}

/// Adds all settings in `text` to `settings`, replacing earlier ones.
pub(super) fn read(text: &str, origin: Origin, settings: &mut Settings, report: &mut Report) {
    let lines = Lines::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { places: HashMap::new(), origin, settings, report };
    for error in &errors {
        let line = error.span().map_or(1, |span| lines.at(span.start));
        reader.report.stray("TOML syntax", reader.origin.line(line), error.message());
    }
    if !errors.is_empty() {
        return;
    }
    let mut oversized = vec![];
    locate(document.get_ref(), "", &lines, &mut reader.places, &mut oversized);
    for path in &oversized {
        reader.oversized(path);
    }
    if !oversized.is_empty() {
        return;
    }
    match toml::from_str(text) {
        Ok(table) => reader.node(table),
        Err(error) => reader.report.stray("TOML syntax", reader.origin.whole(), error.message()),
    }
}

impl Origin {
    fn line(&self, line: usize) -> Source {
        match self {
            Self::Default => Source::Default,
            Self::File(path) => Source::File(Arc::clone(path), line),
        }
    }

    fn whole(&self) -> Source {
        match self {
            Self::Default => Source::Default,
            Self::File(path) => Source::WholeFile(Arc::clone(path)),
        }
    }
}

/// Turns byte offsets into line numbers.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        Self { starts: text.match_indices('\n').map(|(at, _)| at + 1).collect() }
    }

    fn at(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset) + 1
    }
}

/// Records the line of every key below `table`, by path, and reports integers that do not fit.
fn locate(
    table: &DeTable<'_>,
    prefix: &str,
    lines: &Lines,
    places: &mut HashMap<String, usize>,
    oversized: &mut Vec<String>,
) {
    for (name, value) in table {
        let path = format!("{prefix}{}", name.get_ref());
        places.insert(path.clone(), lines.at(name.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => locate(inner, &format!("{path}."), lines, places, oversized),
            DeValue::Integer(number) if i64::from_str_radix(number.as_str(), number.radix()).is_err() => {
                oversized.push(path);
            }
            DeValue::Array(items) => items.iter().enumerate().for_each(|(index, item): (usize, &Spanned<_>)| {
                if let DeValue::Table(inner) = item.get_ref() {
                    places.insert(format!("{path}[{index}]"), lines.at(item.span().start));
                    locate(inner, &format!("{path}[{index}]."), lines, places, oversized);
                }
            }),
            _ => {}
        }
    }
}

struct Reader<'a> {
    places: HashMap<String, usize>,
    origin: Origin,
    settings: &'a mut Settings,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn node(&mut self, table: Table) {
        for (section, value) in table {
            match value {
                value if section == List::Tenants.name() => self.list(List::Tenants, value),
                Value::Table(entries) if keys::is_section(&section) => {
                    for (name, value) in entries {
                        let name = format!("{section}.{name}");
                        match List::ALL.into_iter().find(|list| list.name() == name) {
                            Some(list) => self.list(list, value),
                            None => self.put(None, &name, value),
                        }
                    }
                }
                _ if keys::is_section(&section) => {
                    self.stray(&section, format!("is a section, not a key: write [{section}] and its keys below"));
                }
                Value::Table(_) => {
                    let nearest = keys::nearest_section(&section);
                    self.stray(&section, format!("unknown section; the nearest one is `{nearest}`"));
                }
                value => self.put(None, &section, value),
            }
        }
    }

    fn list(&mut self, list: List, value: Value) {
        match value {
            Value::Array(blocks) => {
                blocks.into_iter().enumerate().for_each(|(number, value)| self.block(Block { list, number }, value));
            }
            _ => {
                let (name, item) = (list.name(), list.item());
                self.stray(name, format!("must be a list: write [[{name}]] before each {item}"));
            }
        }
    }

    fn block(&mut self, block: Block, value: Value) {
        let (path, list) = (block.to_string(), block.list.name());
        let source = self.source(&path);
        self.settings.add(block.list, source);
        let Value::Table(entries) = value else {
            return self.stray(&path, format!("must be a table: write [[{list}]] and its keys below"));
        };
        for (name, value) in entries {
            let is_limits = block.list == List::Tenants && name == "limits";
            match value {
                Value::Table(limits) if is_limits => {
                    for (limit, value) in limits {
                        self.put(Some(block), &format!("limits.{limit}"), value);
                    }
                }
                _ if is_limits => {
                    self.stray(&format!("{path}.limits"), "must be a table, such as { connections = 100 }");
                }
                value => self.put(Some(block), &name, value),
            }
        }
    }

    fn put(&mut self, block: Option<Block>, name: &str, value: Value) {
        let prefix = block.map(|block| format!("{block}.")).unwrap_or_default();
        let path = format!("{prefix}{name}");
        let list = block.map(|block| block.list);
        match keys::find(list, name) {
            Some(key) => {
                let source = self.source(&path);
                self.settings.set(Place { block, key }, value, source, self.report);
            }
            None => {
                let nearest = keys::nearest(list, name);
                self.stray(&path, format!("unknown key; the nearest one is `{prefix}{nearest}`"));
            }
        }
    }

    /// Reports a number above the limit of its key.
    fn oversized(&mut self, path: &str) {
        let of_block = |list: List| {
            let (_, name) = path.strip_prefix(list.name())?.strip_prefix('[')?.split_once("].")?;
            keys::find(Some(list), name)
        };
        let key = List::ALL.into_iter().find_map(of_block).or_else(|| keys::find(None, path));
        let advice = key.and_then(|key| value::check(&key.kind, &Value::Integer(i64::MAX)).err());
        self.stray(path, advice.unwrap_or_else(|| "is a number that is too large".to_owned()));
    }

    fn stray(&mut self, path: &str, advice: impl Into<String>) {
        let source = self.source(path);
        self.report.stray(path.escape_debug().to_string(), source, advice);
    }

    fn source(&self, path: &str) -> Source {
        self.places.get(path).map_or_else(|| self.origin.whole(), |line| self.origin.line(*line))
    }
}

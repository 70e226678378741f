//! Reads a TOML document into settings, with the line of each.

use std::collections::HashMap;
use std::sync::Arc;

use toml::Spanned;
use toml::Table;
use toml::Value;
use toml::de::DeTable;
use toml::de::DeValue;

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
                Value::Array(tenants) if section == "tenants" => {
                    tenants.into_iter().enumerate().for_each(|(index, tenant)| self.tenant(index, tenant));
                }
                _ if section == "tenants" => {
                    self.stray(&section, "must be a list: write [[tenants]] before each tenant");
                }
                Value::Table(entries) if keys::is_section(&section) => {
                    for (name, value) in entries {
                        self.put(None, &format!("{section}.{name}"), value);
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

    fn tenant(&mut self, index: usize, tenant: Value) {
        let path = format!("tenants[{index}]");
        let source = self.source(&path);
        self.settings.add_tenant(source);
        let Value::Table(entries) = tenant else {
            return self.stray(&path, "must be a table: write [[tenants]] and its keys below");
        };
        for (name, value) in entries {
            match value {
                Value::Table(limits) if name == "limits" => {
                    for (limit, value) in limits {
                        self.put(Some(index), &format!("limits.{limit}"), value);
                    }
                }
                _ if name == "limits" => {
                    self.stray(&format!("{path}.limits"), "must be a table, such as { connections = 100 }");
                }
                value => self.put(Some(index), &name, value),
            }
        }
    }

    fn put(&mut self, tenant: Option<usize>, name: &str, value: Value) {
        let prefix = tenant.map(|index| format!("tenants[{index}].")).unwrap_or_default();
        let path = format!("{prefix}{name}");
        match keys::find(tenant.is_some(), name) {
            Some(key) => {
                let source = self.source(&path);
                self.settings.set(Place { tenant, key }, value, source, self.report);
            }
            None => {
                let nearest = keys::nearest(tenant.is_some(), name);
                self.stray(&path, format!("unknown key; the nearest one is `{prefix}{nearest}`"));
            }
        }
    }

    /// Reports a number above the limit of its key.
    fn oversized(&mut self, path: &str) {
        let of_tenant = path.strip_prefix("tenants[").and_then(|rest| rest.split_once("].")).map(|(_, name)| name);
        let key = keys::find(of_tenant.is_some(), of_tenant.unwrap_or(path));
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

//! Problems of a configuration, in terms of the text that the operator wrote.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use toml::Value;

use crate::options::Key;
use crate::options::LogFormat;

use super::value;

/// Why a configuration cannot be used: every problem found, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", listed(.problems))]
pub struct ConfigError {
    problems: Vec<Problem>,
    /// The format of the log as far as it is known, to write the problems in.
    log_format: LogFormat,
}

impl ConfigError {
    /// The problems in the order in which they were found; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The format of the log that is configured; text if not even that can be read.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }
}

fn listed(problems: &[Problem]) -> String {
    let head = match problems.len() {
        1 => "the configuration has a problem:".to_owned(),
        count => format!("the configuration has {count} problems:"),
    };
    problems.iter().fold(head, |text, problem| format!("{text}\n  {problem}"))
}

/// One problem or warning: the key, its value, its source, and advice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    key: String,
    value: Option<String>,
    source: Source,
    advice: String,
}

impl Problem {
    /// The key with its dots, such as `tunnel.heartbeat_secs` or `tenants[0].keys`.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({}): {}", self.source, self.advice)
    }
}

/// The source of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// The compiled-in defaults.
    Default,
    /// A line of the configuration file.
    File(Arc<str>, usize),
    /// The configuration file as a whole.
    WholeFile(Arc<str>),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{path}:{line}"),
            Self::WholeFile(path) => f.write_str(path),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// A list of blocks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum List {
    /// `[[tenants]]`
    Tenants,
    /// `[[session.apps]]`
    Apps,
}

impl List {
    /// Every list.
    pub(super) const ALL: [Self; 2] = [Self::Tenants, Self::Apps];

    /// Its name in the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Apps => "session.apps",
        }
    }

    /// What one block describes.
    pub(super) fn item(self) -> &'static str {
        match self {
            Self::Tenants => "tenant",
            Self::Apps => "app",
        }
    }
}

/// One block of a list, counted from 0.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Block {
    /// The list.
    pub(super) list: List,
    /// Its number in it.
    pub(super) number: usize,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.list.name(), self.number)
    }
}

/// A key of the node, or of a block.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The block; none: the node.
    pub(super) block: Option<Block>,
    /// The key in it.
    pub(super) key: &'static Key,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(block) = self.block {
            write!(f, "{block}.")?;
        }
        f.write_str(self.key.name)
    }
}

/// Collects findings while a configuration is read.
#[derive(Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    notes: Vec<Problem>,
}

/// The findings of a usable configuration.
pub(super) struct Findings {
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Report {
    /// Reports a setting that must be changed; the value of a secret is left out.
    pub(super) fn problem(&mut self, place: Place, value: Option<&Value>, source: Source, advice: impl Into<String>) {
        self.problems.push(about(place, value, source, advice));
    }

    /// Reports a problem that belongs to no known key.
    pub(super) fn stray(&mut self, key: impl Into<String>, source: Source, advice: impl Into<String>) {
        self.problems.push(Problem { key: key.into(), value: None, source, advice: advice.into() });
    }

    /// Reports something doubtful that sets no key.
    pub(super) fn stray_warning(&mut self, key: impl Into<String>, source: Source, advice: impl Into<String>) {
        self.warnings.push(Problem { key: key.into(), value: None, source, advice: advice.into() });
    }

    /// Reports a setting that works but may not be intended.
    pub(super) fn warning(&mut self, place: Place, value: Option<&Value>, source: Source, advice: impl Into<String>) {
        self.warnings.push(about(place, value, source, advice));
    }

    /// Reports a correct setting that an older release understood differently.
    pub(super) fn note(&mut self, place: Place, value: Option<&Value>, source: Source, words: impl Into<String>) {
        self.notes.push(about(place, value, source, words));
    }

    /// The keys with problems. The file of a secret counts as the secret.
    pub(super) fn blamed(&self) -> HashSet<String> {
        let name = |problem: &Problem| problem.key.strip_suffix("_file").unwrap_or(&problem.key).to_owned();
        self.problems.iter().map(name).collect()
    }

    /// Returns warnings and notes, or one error with all problems.
    pub(super) fn finish(self, log_format: LogFormat) -> Result<Findings, ConfigError> {
        if self.problems.is_empty() {
            let [warnings, notes] =
                [self.warnings, self.notes].map(|found| found.iter().map(Problem::to_string).collect());
            Ok(Findings { warnings, notes })
        } else {
            Err(ConfigError { problems: self.problems, log_format })
        }
    }
}

fn about(place: Place, value: Option<&Value>, source: Source, advice: impl Into<String>) -> Problem {
    let value = value.filter(|_| !place.key.kind.is_secret()).map(value::shown);
    Problem { key: place.to_string(), value, source, advice: advice.into() }
}

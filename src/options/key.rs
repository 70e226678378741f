//! What a setting takes, where it stands and what operators read about it.

/// A section of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is for: lines of prose, each behind a blank.
    pub(crate) about: &'static str,
    /// Its keys, in the order of the documents.
    pub(crate) keys: &'static [Key],
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its section and its name, with a dot between them; in `[[tenants]]` its name alone, once `config` has taken it apart.
    pub(crate) name: &'static str,
    /// The name of the key whose file holds it, if it is a secret.
    pub(crate) file: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What operators read: lines of prose, each behind a blank.
    pub(crate) about: &'static str,
    /// Its default, as TOML.
    pub(crate) default: &'static str,
    /// What the documents show as its value, as TOML.
    pub(crate) example: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A whole number.
    Number {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// What is counted.
        unit: &'static str,
    },
    /// `true` or `false`.
    Flag,
    /// Any text in one line.
    Text,
    /// IP address and port.
    Address,
    /// A list of CIDRs.
    Networks,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of ports.
    Ports,
    /// A list of texts.
    Texts,
    /// Text that is never shown.
    Secret,
    /// A list of texts that are never shown.
    Secrets,
    /// Path of the file in which the secret of the same name without `_file` is kept.
    SecretFile,
    /// A table with keys of `[limits]`.
    Limits,
}

impl Kind {
    /// Whether values must not be printed.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self, Self::Secret | Self::Secrets)
    }

    /// Whether values are lists.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self, Self::Networks | Self::Ports | Self::Texts | Self::Secrets)
    }
}

/// Seconds of a day.
pub(crate) const DAY_SECS: i64 = 86_400;
/// Bytes of a MiB.
pub(crate) const MIB: i64 = 1 << 20;
/// Bytes of a GiB.
pub(crate) const GIB: i64 = 1 << 30;
/// More than there is of anything.
pub(crate) const BILLION: i64 = 1_000_000_000;

/// A whole number of `unit` from `min` to `max`.
pub(crate) const fn number(min: i64, max: i64, unit: &'static str) -> Kind {
    Kind::Number { min, max, unit }
}

/// From `min` to `max` seconds.
pub(crate) const fn seconds(min: i64, max: i64) -> Kind {
    number(min, max, "seconds")
}

/// From `min` to `max` bytes.
pub(crate) const fn bytes(min: i64, max: i64) -> Kind {
    number(min, max, "bytes")
}

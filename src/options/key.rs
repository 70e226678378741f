//! Descriptions of settings: value kind, place and documentation text.

/// A section of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its documentation: lines of prose, each with a leading space.
    pub(crate) about: &'static str,
    /// Its keys, in documentation order.
    pub(crate) keys: &'static [Key],
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Section and name, joined by a dot; in `[[tenants]]` the name alone, once `config` has split it.
    pub(crate) name: &'static str,
    /// For a secret, the name of the key that holds the path of its file.
    pub(crate) file: &'static str,
    /// Which values it accepts.
    pub(crate) kind: Kind,
    /// Its documentation: lines of prose, each with a leading space.
    pub(crate) about: &'static str,
    /// Its default, as TOML.
    pub(crate) default: &'static str,
    /// The value shown in the documentation, as TOML.
    pub(crate) example: &'static str,
}

/// Which values a key accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A whole number.
    Number {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// Unit of the number.
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
    /// Text that is never printed.
    Secret,
    /// A list of texts that are never printed.
    Secrets,
    /// Path of the file that contains the secret named without `_file`.
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
/// Upper bound for counts without a natural limit.
pub(crate) const BILLION: i64 = 1_000_000_000;

/// A whole number of `unit`, `min` to `max`.
pub(crate) const fn number(min: i64, max: i64, unit: &'static str) -> Kind {
    Kind::Number { min, max, unit }
}

/// `min` to `max` seconds.
pub(crate) const fn seconds(min: i64, max: i64) -> Kind {
    number(min, max, "seconds")
}

/// `min` to `max` bytes.
pub(crate) const fn bytes(min: i64, max: i64) -> Kind {
    number(min, max, "bytes")
}

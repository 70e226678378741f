//! `[log]`

use serde::Deserialize;
use serde::Serialize;

use super::key::Kind;
use super::section::section;

section! {
    /// Log level and format.
    [log]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Log {
        /// error, warn, info, debug, trace or off, or directives as in RUST_LOG: "info,wafergate::webhook=debug".
        level: String = "info", Kind::Text;

        /// "text" for people, "json" for log collectors, with one object per line. Both go to stderr.
        format: LogFormat = "text", Kind::Choice(&["text", "json"]);
    }
}

/// The log formats.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

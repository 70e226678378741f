//! The configuration: defaults, file and environment become [`Options`], or one error with all problems.
//!
//! `options` has types, defaults, ranges and documentation; `check` has the rules across settings.

mod address;
mod check;
mod checker;
mod document;
mod environment;
mod error;
mod file;
mod keys;
mod reference;
mod restart;
mod secrets;
mod sessions;
mod settings;
mod tenants;
mod value;

use std::io;
use std::path::Path;

use crate::options::LogFormat;
use crate::options::Options;

pub use self::environment::variables;
pub use self::error::ConfigError;
pub use self::error::Problem;
pub use self::reference::defaults;
pub use self::reference::page;
pub use self::restart::need_restart;

use self::document::Origin;
use self::error::Findings;
use self::error::Report;
use self::error::Source;
use self::settings::Settings;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Every setting, with defaults where nothing is set.
    pub options: Options,
    /// Settings that work but may not be intended, one sentence each, for the log or `check-config`.
    pub warnings: Vec<String>,
    /// Settings that are correct but may surprise users of an older release.
    pub notes: Vec<String>,
}

/// Reads the defaults, then `file`, then the `WAFERGATE__*` variables of `environment`; later ones win.
///
/// Other variables are ignored. Secret files are read here too, so a reload reads their new contents.
///
/// ```
/// let variable = ("WAFERGATE__TUNNEL__HEARTBEAT_SECS".to_owned(), "15".to_owned());
/// let loaded = wafergate::config::load(None, [variable]).expect("a usable configuration");
///
/// assert_eq!(loaded.options.tunnel.heartbeat_secs, 15);
/// assert_eq!(loaded.options.tunnel.connect_ttl_secs, 60);
/// ```
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let mut report = Report::default();
    let mut settings = Settings::default();
    document::read(defaults(), Origin::Default, &mut settings, &mut report);
    if let Some(path) = file {
        read_file(path, &mut settings, &mut report);
    }
    environment::read(environment, &mut settings, &mut report);
    secrets::resolve(&mut settings, &mut report);
    let options = match settings.to_options() {
        Ok(mut options) => {
            check::check(&mut options, &settings, &mut report);
            Some(options)
        }
        Err(error) => {
            report.stray("configuration", Source::Default, error.message());
            None
        }
    };
    let log_format = options.as_ref().map_or(LogFormat::Text, |options| options.log.format);
    let Findings { warnings, notes } = report.finish(log_format)?;
    let options = options.expect("what has no options has a problem, and finish() returned it");
    Ok(Loaded { options, warnings, notes })
}

fn read_file(path: &Path, settings: &mut Settings, report: &mut Report) {
    let name = path.display().to_string();
    let text = file::read(path).and_then(|bytes| String::from_utf8(bytes).map_err(|_| not_text()));
    match text {
        Ok(text) => document::read(&text, Origin::File(name.into()), settings, report),
        Err(error) => {
            let advice = format!("cannot be read: {error}; check the path given with --config");
            report.stray("configuration file", Source::WholeFile(name.into()), advice);
        }
    }
}

fn not_text() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")
}

/// The effective configuration as TOML, with every secret masked; a comment tells the id of a tenant with a `server_host`.
pub fn render(options: &Options) -> String {
    let text = toml::to_string(options).expect("options are tables of plain values");
    let mut tenants = options.tenants.iter();
    text.lines().fold(String::with_capacity(text.len()), |mut rendered, line| {
        rendered = rendered + line + "\n";
        match (line == "[[tenants]]").then(|| tenants.next()).flatten() {
            Some(tenant) if tenant.id.is_empty() => rendered + &format!("# id (tcId) {}\n", tenants::tenant_id(tenant)),
            _ => rendered,
        }
    })
}

#[cfg(test)]
mod tests;

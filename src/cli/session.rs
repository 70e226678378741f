//! `wafergate session`: takes the users and sessions of a former session server over.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use anyhow::bail;
use clap::Args;
use clap::Subcommand;

use super::ConfigFile;
use super::EXIT_USAGE;
use super::app::kept_store;
use super::block_on;
use super::failure;
use super::print;
use super::private_file::private_file;
use super::usage;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::clock::millis;
use crate::config;
use crate::login::sealed_key;
use crate::options::DatabaseUrl;
use crate::options::Options;
use crate::secret::Secret;
use crate::session::Import;
use crate::session::Imported;
use crate::session::Judged;
use crate::session::Limits;
use crate::session::ProfileFate;
use crate::session::SessionFate;
use crate::session::Vault;
use crate::session_store::OldApp;
use crate::session_store::Store;
use crate::session_store::WaferDatabase;

/// Rows that are stored together.
const BATCH: usize = 200;

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Take over the users and sessions of a former session server: nobody logs in again. Safe to repeat
    Import(ImportArguments),
}

/// `wafergate session import`
#[derive(Args, Debug)]
pub(super) struct ImportArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Database of the former server, mysql://USER:PASSWORD@HOST/cAuth; it is only read. The environment does not show it to others
    #[arg(long, value_name = "URL", env = "WAFERGATE_IMPORT_FROM", hide_env_values = true)]
    from: Secret,
    /// The app of its sessions, if it has several apps or none
    #[arg(long, value_name = "APP_ID")]
    app: Option<String>,
    /// How far its times are ahead of UTC: Wafer's server wrote those of Shanghai
    #[arg(long, value_name = "OFFSET", default_value = "+08:00", value_parser = offset, allow_hyphen_values = true)]
    utc_offset: i64,
    /// Write the app's secret to this new file, for secret_file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Only show what would happen
    #[arg(long)]
    dry_run: bool,
}

/// Seconds of an offset such as `+08:00`.
fn offset(text: &str) -> Result<i64, String> {
    let advice = || "write it as +08:00".to_owned();
    let (sign, rest) = match text.as_bytes().first() {
        Some(b'+') => (1, &text[1..]),
        Some(b'-') => (-1, &text[1..]),
        _ => return Err(advice()),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(advice)?;
    let number = |text: &str, below: i64| text.parse::<u8>().ok().map(i64::from).filter(|number| *number < below);
    let (hours, minutes) = number(hours, 15).zip(number(minutes, 60)).ok_or_else(advice)?;
    Ok(sign * (hours * 3_600 + minutes * 60))
}

/// Runs it.
pub(super) fn run(action: Action) -> ExitCode {
    let Action::Import(arguments) = action;
    let options = match config::load(arguments.config.file.as_deref(), config::variables()) {
        Ok(loaded) => loaded.options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    // Clap would print an address that it refuses, and so the password.
    let from = match arguments.from.expose().parse() {
        Ok(from) => from,
        Err(error) => return usage(&format!("--from: {error}")),
    };
    match block_on(import(&from, &arguments, &options)) {
        Ok(said) => print(&said),
        Err(error) => failure(&error),
    }
}

async fn import(from: &DatabaseUrl, arguments: &ImportArguments, options: &Options) -> anyhow::Result<String> {
    let session = &options.session;
    let (store, vault) = kept_store(options)?;
    let mut source = WaferDatabase::open(from).await.context("--from")?;
    let apps = source.apps().await.context("--from")?;
    let app_id = app_of(arguments.app.as_deref(), &apps, source.has_app_ids())?;
    let own = apps.iter().find(|app| app.app_id == app_id);
    if let (Some(path), Some(app), false) = (&arguments.secret_file, own, arguments.dry_run) {
        write_secret(path, app)?;
    }
    let import = Import {
        app_id: app_id.clone(),
        utc_offset_secs: arguments.utc_offset,
        limits: Limits { login: session.login(), idle: session.idle(), per_user: session.sessions_per_user },
        now_ms: millis(SystemClock.unix_time()),
    };
    let mut target =
        Target { store, vault, import, is_dry: arguments.dry_run, counts: Counts::default(), seen: HashSet::new() };
    let mut rows = source.rows().await.context("--from")?;
    let mut batch = vec![];
    while let Some(row) = rows.next().await.context("--from")? {
        batch.extend(target.judge(&row));
        if batch.len() == BATCH {
            target.take(std::mem::take(&mut batch)).await?;
        }
    }
    target.take(batch).await?;
    let mut said = target.counts.to_text(arguments.dry_run);
    for app in &apps {
        let secret_file = arguments.secret_file.as_deref().filter(|_| app.app_id == app_id);
        said += &block(app, secret_file, options);
    }
    Ok(said)
}

/// The app of sessions that do not name theirs.
fn app_of(given: Option<&str>, apps: &[OldApp], has_app_ids: bool) -> anyhow::Result<String> {
    let ids: Vec<&str> = apps.iter().map(|app| app.app_id.as_str()).collect();
    match (given, &*ids) {
        (Some(given), []) => Ok(given.to_owned()),
        (Some(given), ids) if ids.contains(&given) => Ok(given.to_owned()),
        (Some(given), ids) => bail!("--app {given} is not in cAppinfo, which has {}", ids.join(", ")),
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) if has_app_ids => Ok(String::new()),
        (None, []) => bail!("the database names no app: name the one of its sessions with --app"),
        (None, ids) => {
            bail!("the database has several apps: name the one of its sessions with --app, of {}", ids.join(", "))
        }
    }
}

/// Where rows go.
struct Target {
    store: Arc<dyn Store>,
    vault: Vault,
    import: Import,
    is_dry: bool,
    counts: Counts,
    /// Users who would be new.
    seen: HashSet<(String, String)>,
}

impl Target {
    fn judge(&mut self, row: &crate::session::OldRow) -> Option<Imported> {
        let vault = &self.vault;
        let judged = self.import.judge(row, |app_id, open_id, key| sealed_key(vault, app_id, open_id, key));
        self.counts.note(judged.as_ref());
        judged.map(|judged| judged.imported).filter(|imported| !imported.user.app_id.is_empty())
    }

    async fn take(&mut self, batch: Vec<Imported>) -> anyhow::Result<()> {
        if !self.is_dry {
            let taken = self.store.import(batch).await?;
            self.counts.new_users += taken.new_users;
            self.counts.taken_sessions += taken.sessions;
            return Ok(());
        }
        for Imported { user, session, .. } in batch {
            self.counts.taken_sessions += usize::from(session.is_some());
            let is_known = self.store.user(&user.app_id, &user.open_id).await?.is_some();
            let is_new = !is_known && self.seen.insert((user.app_id, user.open_id));
            self.counts.new_users += usize::from(is_new);
        }
        Ok(())
    }
}

/// What became of the rows.
#[derive(Debug, Default)]
struct Counts {
    rows: usize,
    userless: usize,
    appless: usize,
    new_users: usize,
    profiles: usize,
    unreadable: usize,
    foreign: usize,
    going_on: usize,
    taken_sessions: usize,
    too_old: usize,
    idle: usize,
    unusable: usize,
    in_future: usize,
}

impl Counts {
    fn note(&mut self, judged: Option<&Judged>) {
        self.rows += 1;
        let Some(judged) = judged else {
            self.userless += 1;
            return;
        };
        self.in_future += usize::from(judged.is_in_future);
        self.appless += usize::from(judged.imported.user.app_id.is_empty());
        let profile = match judged.profile {
            ProfileFate::Taken => Some(&mut self.profiles),
            ProfileFate::Absent => None,
            ProfileFate::Unreadable => Some(&mut self.unreadable),
            ProfileFate::OfAnother => Some(&mut self.foreign),
        };
        profile.into_iter().for_each(|count| *count += 1);
        let session = match judged.session {
            SessionFate::GoesOn => &mut self.going_on,
            SessionFate::LoginTooOld => &mut self.too_old,
            SessionFate::Idle => &mut self.idle,
            SessionFate::Unusable => &mut self.unusable,
        };
        *session += 1;
    }

    fn to_text(&self, is_dry: bool) -> String {
        let lines = [
            (self.rows, "rows of cSessionInfo"),
            (self.new_users, "users who are new here"),
            (self.profiles, "profiles"),
            (self.unreadable, "profiles that cannot be read: their users come without one"),
            (self.foreign, "profiles that name another user: their users come without one"),
            (self.going_on, "sessions that go on"),
            (self.going_on.saturating_sub(self.taken_sessions), "of them are here already, or have ended here"),
            (self.too_old, "sessions that have ended: the login is longer ago than session.login_days"),
            (self.idle, "sessions that have ended: not used for session.idle_secs"),
            (self.unusable, "sessions without a usable id and skey"),
            (self.userless, "rows without an open_id, left out"),
        ];
        let hints = [
            (self.appless, "rows without an appid, left out: name their app with --app"),
            (self.in_future, "rows with times in the future: is --utc-offset right?"),
        ];
        let mut text = String::new();
        for (count, words) in lines.iter().chain(hints.iter().filter(|(count, _)| *count > 0)) {
            // A string takes everything.
            let _ = writeln!(text, "{count:>9}  {words}");
        }
        text + if is_dry { "\nnothing is written: leave out --dry-run to take them over\n" } else { "\ntaken over\n" }
    }
}

fn write_secret(path: &Path, app: &OldApp) -> anyhow::Result<()> {
    let file = private_file().write(true).create_new(true).open(path);
    let mut file = file.with_context(|| format!("--secret-file {} cannot be created", path.display()))?;
    writeln!(file, "{}", app.secret.expose()).with_context(|| format!("--secret-file {}", path.display()))
}

/// The configuration of an app of the former server.
fn block(app: &OldApp, secret_file: Option<&Path>, options: &Options) -> String {
    let OldApp { app_id, login_days, idle_secs, .. } = app;
    let file = secret_file.map_or_else(|| format!("/etc/wafergate/{app_id}.secret"), |path| path.display().to_string());
    let mut text = format!("\n[[session.apps]]\napp_id = {app_id:?}\nsecret_file = {file:?}\n");
    let (own_days, own_secs) = (options.session.login_days, options.session.idle_secs);
    if let Some(days) = login_days.filter(|days| *days != own_days) {
        let _ = writeln!(text, "# its sessions lived for {days} days: session.login_days is {own_days}");
    }
    if let Some(secs) = idle_secs.filter(|secs| *secs != own_secs) {
        let _ = writeln!(text, "# they lived for {secs} s without being used: session.idle_secs is {own_secs}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(app_id: &str) -> OldApp {
        OldApp { app_id: app_id.into(), secret: Default::default(), login_days: None, idle_secs: None }
    }

    #[test]
    fn an_offset_has_a_sign_hours_and_minutes() {
        assert_eq!(offset("+08:00"), Ok(28_800));
        assert_eq!(offset("-03:30"), Ok(-12_600));
        for text in ["8", "08:00", "+8", "+15:00", "+08:60", "+x:00", ""] {
            assert!(offset(text).is_err_and(|advice| advice.contains("+08:00")), "{text}");
        }
    }

    #[test]
    fn the_app_of_sessions_is_clear_or_asked_for() {
        let of = |given, apps: &[&str], has_app_ids| {
            app_of(given, &apps.iter().map(|id| app(id)).collect::<Vec<_>>(), has_app_ids)
                .map_err(|error| error.to_string())
        };

        assert_eq!(of(None, &["a"], false), Ok("a".into()));
        assert_eq!(of(Some("b"), &["a", "b"], false), Ok("b".into()));
        assert_eq!(of(Some("c"), &[], false), Ok("c".into()));
        assert_eq!(of(None, &["a", "b"], true), Ok(String::new()));
        assert!(of(None, &["a", "b"], false).is_err_and(|error| error.contains("--app, of a, b")));
        assert!(of(None, &[], false).is_err_and(|error| error.contains("--app")));
        assert!(of(Some("c"), &["a"], false).is_err_and(|error| error.contains("which has a")));
    }
}

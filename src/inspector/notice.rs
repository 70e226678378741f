//! A file that tells `wafergate replay` of the same user where listeners have their inspectors.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

/// The file of one listener; it is removed when dropped.
pub struct Notice(PathBuf);

/// What is in it.
#[derive(Deserialize, Serialize)]
struct Content {
    origin: String,
    token: String,
}

impl Notice {
    /// Leaves one, or none if there is no place for it: replays need its page then.
    pub(super) fn leave(origin: &str, token: &str) -> Option<Self> {
        let directory = directory();
        make_private(&directory).ok()?;
        let path = directory.join(format!("listen-{}-{}.json", std::process::id(), &token[..8]));
        let content = Content { origin: origin.to_owned(), token: token.to_owned() };
        let content = serde_json::to_vec(&content).expect("strings always serialise");
        write_private(&path, &content).ok()?;
        Some(Self(path))
    }

    /// Origin and token of every listener of this user, the newest first.
    pub fn all() -> Vec<(String, String)> {
        let files = fs::read_dir(directory()).into_iter().flatten().flatten();
        let mut found: Vec<_> = files
            .filter_map(|file| {
                let (path, about) = (file.path(), file.metadata().ok()?);
                if !is_own(&about) {
                    return None;
                }
                let Content { origin, token } = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
                Some((about.modified().ok()?, origin, token))
            })
            .collect();
        found.sort_by_key(|(modified, ..)| std::cmp::Reverse(*modified));
        found.into_iter().map(|(_, origin, token)| (origin, token)).collect()
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        // A file that stays names a port at which nothing listens.
        let _ = fs::remove_file(&self.0);
    }
}

fn directory() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()).map(PathBuf::from);
    own.unwrap_or_else(|| std::env::temp_dir().join(format!("wafergate-{}", user()))).join("wafergate")
}

#[cfg(unix)]
fn user() -> String {
    rustix::process::getuid().as_raw().to_string()
}

#[cfg(not(unix))]
fn user() -> String {
    // The directory for temporary files belongs to the user already.
    "user".to_owned()
}

#[cfg(unix)]
fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if is_own(&fs::metadata(directory)?) { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

#[cfg(not(unix))]
fn make_private(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

#[cfg(unix)]
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?.write_all(content)
}

#[cfg(not(unix))]
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)
}

/// Whether this user wrote it, and not another one to lead a replay astray.
#[cfg(unix)]
fn is_own(about: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    about.uid() == rustix::process::getuid().as_raw()
}

#[cfg(not(unix))]
fn is_own(_: &fs::Metadata) -> bool {
    true
}

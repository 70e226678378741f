//! A tenant's keys for the small clients: from a file, or from the environment.

use std::path::Path;

use crate::secret::Secret;

/// The environment variable with a key.
const VARIABLE: &str = "WAFERGATE_KEY";

/// The first key.
///
/// # Errors
///
/// If there is none; with what to change.
pub(super) fn one(file: Option<&Path>) -> Result<Secret, String> {
    all(file).map(|mut keys| keys.swap_remove(0))
}

/// All keys: one a line of `file`, or the one in the environment. Empty lines and those that begin with `#` are skipped.
///
/// # Errors
///
/// If there is none; with what to change.
pub(super) fn all(file: Option<&Path>) -> Result<Vec<Secret>, String> {
    let text = match file {
        Some(path) => {
            let name = path.display();
            std::fs::read_to_string(path).map_err(|error| format!("--key-file {name} cannot be read: {error}"))?
        }
        None => std::env::var(VARIABLE).unwrap_or_default(),
    };
    let lines = text.lines().map(|line| line.trim_end_matches('\r'));
    let keys: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(Secret::new).collect();
    match (keys.is_empty(), file) {
        (false, _) => Ok(keys),
        (true, Some(path)) => Err(format!("--key-file {} holds no key: write one a line", path.display())),
        (true, None) => Err(format!("a key is needed: name a file with --key-file, or set {VARIABLE}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lines_without_comments() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "# rotated in May\n\nnew key \nold\r\n").expect("written");

        let keys = all(Some(file.path())).expect("two keys");

        assert_eq!(keys.iter().map(|key| key.expose()).collect::<Vec<_>>(), ["new key ", "old"]);
        std::fs::write(file.path(), "# nothing\n").expect("written");
        assert!(one(Some(file.path())).is_err_and(|advice| advice.contains("holds no key")));
    }
}

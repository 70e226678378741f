//! Files for their owner only.

use std::fs::OpenOptions;

/// A file to be opened that only its owner may read, since it holds payloads or a secret.
#[cfg(unix)]
pub(super) fn private_file() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// A file to be opened, where the system has no modes.
#[cfg(not(unix))]
pub(super) fn private_file() -> OpenOptions {
    OpenOptions::new()
}

//! Reads whole files of bounded size.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

/// Longest file: a million tenants fit.
const MAX_BYTES: u64 = 256 << 20;

/// The content of the file at `path`.
pub(super) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    if File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)? as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

//! Shell blocks that are to be pasted: POSIX, and no command that one system lacks.

use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use super::documents;
use super::markdown::Document;

/// Commands and options that macOS lacks, or understands otherwise.
const LINUX_ONLY: [&str; 9] =
    ["md5sum", "sha1sum", "sha256sum", "sed -i", "readlink -f", "grep -P", "date -d", "stat -c", "$(jobs -p)"];

#[test]
fn shell_blocks_are_posix() {
    let mut count = 0;
    for path in documents() {
        for fence in Document::read(&path).fences.iter().filter(|fence| fence.language == "sh") {
            let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().expect("sh");
            let script = fence.lines.join("\n");
            shell.stdin.take().expect("piped").write_all(script.as_bytes()).expect("written");
            assert!(shell.wait().expect("it ends").success(), "{}: {script}", path.display());
            count += 1;
        }
    }
    assert!(count > 20, "only {count} blocks");
}

/// Servers run Linux; the pages of `deploy/` are for them.
#[test]
fn shell_blocks_run_on_macos_too() {
    for path in documents().into_iter().filter(|path| !path.starts_with("deploy")) {
        for fence in Document::read(&path).fences.iter().filter(|fence| fence.language == "sh") {
            for line in &fence.lines {
                let found = LINUX_ONLY.iter().find(|word| line.contains(**word));
                assert!(found.is_none(), "{}: {line}", path.display());
                // zsh takes a comment for an argument where somebody types.
                assert!(!format!(" {line}").contains(" # "), "{}: a comment in {line}", path.display());
            }
        }
    }
}

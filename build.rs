//! Names the commit that a release is built from. Other builds have none, so that they are not built again after each commit.

use std::env;
use std::path::Path;
use std::process::Command;

/// Changes with each commit.
const HEAD: &str = ".git/logs/HEAD";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=WAFERGATE_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let commit = env::var("WAFERGATE_COMMIT").ok().or_else(commit_of_release).unwrap_or_default();
    let version = if commit.is_empty() { version } else { format!("{version} ({commit})") };
    println!("cargo:rustc-env=WAFERGATE_COMMIT={commit}");
    println!("cargo:rustc-env=WAFERGATE_VERSION={version}");
}

/// The commit in the work tree, if this is a release built from one.
fn commit_of_release() -> Option<String> {
    if env::var("PROFILE").ok()? != "release" {
        return None;
    }
    if Path::new(HEAD).exists() {
        println!("cargo:rerun-if-changed={HEAD}");
    }
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

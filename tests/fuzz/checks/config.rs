//! The configuration: any file and environment variables are usable, or every problem is named.

use std::fs;

use wafergate::config;

/// Panics where a promise does not hold.
pub(crate) fn check(input: (&str, Vec<(&str, &str)>)) {
    let (text, variables) = input;
    // Files that a setting may name are read: no path may come from the fuzzer.
    if text.contains("_file") || variables.iter().any(|(name, _)| name.to_ascii_lowercase().contains("_file")) {
        return;
    }
    let file = std::env::temp_dir().join(format!("wafergate-fuzz-{}.toml", std::process::id()));
    fs::write(&file, text).expect("writable");
    let variables = variables.into_iter().map(|(name, value)| (format!("WAFERGATE__{name}"), value.to_owned()));
    match config::load(Some(&file), variables) {
        Ok(loaded) => drop(config::render(&loaded.options)),
        Err(error) => assert!(!error.problems().is_empty()),
    }
}

//! Checks of the documents: links resolve, both languages say the same, tables and quotations follow the code.

mod alerts;
mod architecture;
mod figures;
mod languages;
mod links;
mod markdown;
mod settings;
mod shell;
mod tables;

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// The folders with documents.
const FOLDERS: [&str; 4] = ["", "docs", "docs/zh-CN", "deploy"];

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document, by its path.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(Path::new(".").join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
        found.extend(names.filter(|name| name.ends_with(".md")).map(|name| Path::new(folder).join(name)));
    }
    found.sort();
    found
}

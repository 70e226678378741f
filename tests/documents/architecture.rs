//! The page and the picture of the architecture show what is there.

use std::fs;
use std::path::Path;

use super::documents;
use super::text;

/// The name of each top-level module.
fn modules() -> Vec<String> {
    let entries = fs::read_dir("src").expect("a folder").map(|entry| entry.expect("an entry").path());
    let names = entries.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned());
    names.filter(|name| !["lib", "main"].contains(&name.as_str())).collect()
}

#[test]
fn the_tree_and_the_picture_have_every_module() {
    let words = |text: &str| -> Vec<String> {
        text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').map(str::to_owned).collect()
    };
    let page = text("docs/architecture.md");
    let tree = page.split("```").nth(1).expect("a tree").to_owned();
    for (name, shown) in [("the tree", words(&tree)), ("deploy/layers.svg", words(&text("deploy/layers.svg")))] {
        for module in modules() {
            assert!(shown.contains(&module), "{module} is not in {name}");
        }
    }
}

#[test]
fn paths_in_the_documents_exist() {
    let mut count = 0;
    for document in documents() {
        for word in text(&document).split('`').skip(1).step_by(2) {
            let is_path =
                ["src/", "tests/", "docs/", "deploy/", "config/", "benches/"].iter().any(|root| word.starts_with(root));
            if is_path && !word.contains([' ', '*', '{']) {
                assert!(Path::new(word).exists(), "{} names {word}", document.display());
                count += 1;
            }
        }
    }
    assert!(count > 60, "only {count} paths");
}

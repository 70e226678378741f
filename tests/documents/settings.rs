//! The configurations that the documents show are configurations.

use std::fs;

use wafergate::config;

use super::documents;
use super::markdown::Document;

/// Files of secrets that the pages name.
const SECRET_FILES: [&str; 4] = ["tenant.keys", "/etc/wafergate/ticket.key", "wx.secret", "wafer.key"];

#[test]
fn every_configuration_that_is_shown_loads() {
    let dir = tempfile::tempdir().expect("a directory");
    let secret = dir.path().join("secret");
    fs::write(&secret, "the-same-secret-of-32-characters-or-more-on-every-node\n").expect("written");
    let secret = format!("{:?}", secret.to_str().expect("text"));

    let mut count = 0;
    for path in documents() {
        for fence in Document::read(&path).fences.iter().filter(|fence| fence.language == "toml") {
            let mut text = fence.lines.join("\n");
            for name in SECRET_FILES {
                text = text.replace(&format!("{name:?}"), &secret);
            }
            let file = dir.path().join("wafergate.toml");
            fs::write(&file, &text).expect("written");
            if let Err(error) = config::load(Some(&file), []) {
                panic!("{}: {error}\n{text}", path.display());
            }
            count += 1;
        }
    }
    assert!(count >= 8, "only {count} configurations");
}

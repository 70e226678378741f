//! Links lead to files and headings that exist.

use super::documents;
use super::markdown::Document;
use super::markdown::target;

#[test]
fn links_lead_to_what_is_there() {
    let mut count = 0;
    for path in documents() {
        for link in Document::read(&path).links {
            let (file, place) = target(&path, &link);
            let is_there = file.exists()
                && (place.is_empty() || Document::read(&file).headings.iter().any(|heading| heading.anchor == place));
            assert!(is_there, "{} links to {link}", path.display());
            count += 1;
        }
    }
    assert!(count > 150, "only {count} links");
}

#[test]
fn every_page_begins_with_what_it_answers() {
    for path in documents().into_iter().filter(|path| path.starts_with("docs")) {
        let text = super::text(&path);
        let question = text.split("\n\n").nth(1).expect("a paragraph behind the title");
        assert!(question.contains(['?', '？']), "{}: {question}", path.display());
    }
}

//! The Chinese pages have the headings, the blocks of code, the tables and the links of the English ones.

use std::path::Path;
use std::path::PathBuf;

use super::documents;
use super::markdown::Document;
use super::markdown::Fence;
use super::markdown::target;

/// The English page or picture of a Chinese one.
fn english(chinese: &Path) -> PathBuf {
    let path = chinese.to_str().expect("text");
    path.replace("docs/zh-CN/", "docs/").replace(".zh-CN.", ".").into()
}

/// Each Chinese page behind its English one.
fn pairs() -> Vec<[PathBuf; 2]> {
    let chinese = documents().into_iter().filter(|path| english(path) != *path);
    let pairs: Vec<_> = chinese.map(|path| [english(&path), path]).collect();
    assert!(pairs.len() >= 11, "only {} pages", pairs.len());
    pairs
}

/// Compares what `part` finds in both pages of each pair.
fn compare<T: PartialEq + std::fmt::Debug>(part: impl Fn(&Path, &Document) -> T) {
    for pair in pairs() {
        let [english, chinese] = pair.each_ref().map(|path| part(path, &Document::read(path)));
        assert_eq!(chinese, english, "{} is not as {}", pair[1].display(), pair[0].display());
    }
}

/// A block of code without its comments.
fn code(fence: &Fence) -> (String, Vec<String>) {
    let has_comments = !matches!(fence.language.as_str(), "text" | "json");
    let without = |line: &String| {
        let padded = format!(" {line}");
        let end = [" # ", " // "].iter().filter_map(|mark| padded.find(mark)).min();
        padded[..end.filter(|_| has_comments).unwrap_or(padded.len())].trim().to_owned()
    };
    (fence.language.clone(), fence.lines.iter().map(without).filter(|line| !line.is_empty()).collect())
}

/// The English file, and the number of the heading there.
fn place(path: &Path, link: &str) -> (PathBuf, Option<usize>) {
    let (file, fragment) = target(path, link);
    let heading = (!fragment.is_empty()).then(|| {
        let headings = Document::read(&file).headings;
        headings.iter().position(|heading| heading.anchor == fragment).expect("a heading that exists")
    });
    (english(&file), heading)
}

#[test]
fn both_languages_have_the_same_headings() {
    compare(|_, document| document.headings.iter().map(|heading| heading.level).collect::<Vec<_>>());
}

#[test]
fn both_languages_have_the_same_code() {
    compare(|_, document| document.fences.iter().map(code).collect::<Vec<_>>());
}

#[test]
fn both_languages_have_the_same_tables() {
    compare(|_, document| document.tables.clone());
}

#[test]
fn both_languages_lead_to_the_same_places() {
    compare(|path, document| {
        let mut places: Vec<_> = document.links.iter().map(|link| place(path, link)).collect();
        places.sort();
        places
    });
}

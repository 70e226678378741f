//! The parts of a Markdown document that can be compared.

use std::path::Path;
use std::path::PathBuf;

use super::text;

/// What a document is made of.
pub(crate) struct Document {
    pub(crate) headings: Vec<Heading>,
    pub(crate) fences: Vec<Fence>,
    /// Where its links lead, without those to other sites.
    pub(crate) links: Vec<String>,
    /// The number of columns of each row of each table.
    pub(crate) tables: Vec<Vec<usize>>,
}

/// A heading.
pub(crate) struct Heading {
    pub(crate) level: usize,
    /// The fragment that leads to it.
    pub(crate) anchor: String,
}

/// A block of code.
#[derive(Clone)]
pub(crate) struct Fence {
    pub(crate) language: String,
    pub(crate) lines: Vec<String>,
}

impl Document {
    pub(crate) fn read(path: &Path) -> Self {
        Self::parse(&text(path))
    }

    fn parse(text: &str) -> Self {
        let mut document = Self { headings: vec![], fences: vec![], links: vec![], tables: vec![] };
        let mut open: Option<Fence> = None;
        let mut is_in_table = false;
        for line in text.lines() {
            let line = line.trim_start();
            if let Some(mark) = line.strip_prefix("```") {
                match open.take() {
                    Some(fence) => document.fences.push(fence),
                    None => open = Some(Fence { language: mark.to_owned(), lines: vec![] }),
                }
                continue;
            }
            if let Some(fence) = &mut open {
                fence.lines.push(line.to_owned());
                continue;
            }
            document.prose(line, &mut is_in_table);
        }
        assert!(open.is_none(), "a block of code without an end");
        document
    }

    fn prose(&mut self, line: &str, is_in_table: &mut bool) {
        if line.starts_with('#') {
            let title = line.trim_start_matches('#');
            self.headings.push(Heading { level: line.len() - title.len(), anchor: anchor(title) });
        }
        let is_row = line.starts_with('|');
        if is_row {
            if !*is_in_table {
                self.tables.push(vec![]);
            }
            let columns = line.replace("\\|", "").matches('|').count() - 1;
            self.tables.last_mut().expect("one at least").push(columns);
        }
        *is_in_table = is_row;
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        self.links.extend(targets.filter(|target| !target.contains("://")).map(str::to_owned));
    }
}

/// The fragment of a heading.
fn anchor(title: &str) -> String {
    let kept = title.trim().chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The file and the fragment that a link in `document` leads to.
pub(crate) fn target(document: &Path, link: &str) -> (PathBuf, String) {
    let (file, place) = link.split_once('#').unwrap_or((link, ""));
    let mut path = PathBuf::new();
    if file.is_empty() {
        path = document.to_owned();
    } else {
        for part in document.with_file_name(file).components() {
            match part.as_os_str().to_str() {
                Some("..") => assert!(path.pop(), "{link} leads out of the repository"),
                _ => path.push(part),
            }
        }
    }
    (path, place.to_owned())
}

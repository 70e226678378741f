//! Reads `/metrics`.

use std::collections::HashMap;

/// Samples by their name with labels, as they are printed.
#[derive(Debug)]
pub(crate) struct Metrics(HashMap<String, f64>);

impl Metrics {
    /// Reads the text format.
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Self(samples.collect())
    }

    /// The sum of all samples whose name, without the common prefix, begins with `start` and contains `part`.
    pub(crate) fn sum(&self, start: &str, part: &str) -> f64 {
        let start = format!("wafergate_{start}");
        let samples = self.0.iter().filter(|(name, _)| name.starts_with(&start) && name.contains(part));
        samples.map(|(_, value)| value).sum()
    }

    /// The value of a sample that must be there; `name` without the common prefix.
    pub(crate) fn value(&self, name: &str) -> f64 {
        let name = format!("wafergate_{name}");
        *self.0.get(&name).unwrap_or_else(|| panic!("{name} is not among {:?}", self.0.keys()))
    }
}

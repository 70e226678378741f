//! The figures in the documents are those of `benches/results/load.json`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text;

/// One row: the figures of the gateway and of the floor, and the ratios of those that were measured one after the other; all ascending.
struct Row {
    unit: String,
    gateway: Vec<f64>,
    floor: Vec<f64>,
    ratios: Vec<f64>,
}

fn rows() -> BTreeMap<String, Row> {
    let report: Value = serde_json::from_str(&text("benches/results/load.json")).expect("JSON");
    let figures = |series: &Value| -> Vec<f64> {
        let values = series["values"].as_array().expect("an array").iter();
        values.map(|value| value.as_f64().expect("a number")).collect()
    };
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let word = |value: &Value| value.as_str().expect("text").to_owned();
    let rows = report["rows"].as_array().expect("an array").iter().map(|row| {
        let (gateway, floor) = (figures(&row["gateway"]), figures(&row["floor"]));
        let pairs = gateway.iter().zip(&floor).filter(|(_, floor)| **floor > 0.0);
        let ratios = sorted(pairs.map(|(gateway, floor)| gateway / floor).collect());
        (word(&row["name"]), Row { unit: word(&row["unit"]), gateway: sorted(gateway), floor: sorted(floor), ratios })
    });
    rows.collect()
}

fn median(values: &[f64]) -> String {
    format!("{:.2}", values[values.len() / 2])
}

/// The median with the least and the greatest.
fn spread(values: &[f64]) -> String {
    format!("{} ({:.2}–{:.2})", median(values), values[0], values[values.len() - 1])
}

#[test]
fn tables_show_the_recorded_figures() {
    let rows = rows();
    for (document, show, least) in [
        ("README.md", median as fn(&[f64]) -> String, 6),
        ("README.zh-CN.md", median, 6),
        ("docs/performance.md", spread, 25),
        ("docs/zh-CN/performance.md", spread, 25),
    ] {
        let text = text(document);
        let mut count = 0;
        for line in text.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
            let shown = |(name, row): &(&String, &Row)| {
                let with_unit = [format!("{name} ({})", row.unit), format!("{name} each ({})", row.unit)];
                cells[0] == *name || with_unit.contains(&cells[0].to_owned())
            };
            let Some((name, row)) = rows.iter().find(shown) else { continue };
            assert_eq!(cells[1..3], [show(&row.gateway), show(&row.floor)], "{document}: {name}");
            let ratio = if row.ratios.is_empty() { "–".to_owned() } else { median(&row.ratios) };
            assert_eq!(cells[3], ratio, "{document}: {name}");
            count += 1;
        }
        assert!(count >= least, "{document}: {count} rows are those of the report");
    }
}

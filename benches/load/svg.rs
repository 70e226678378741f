//! Bar charts: the gateway beside the floor, with a line at the target.

use std::fmt;
use std::fmt::Write as _;

use crate::report::Spread;

const HEIGHT: f64 = 360.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 44.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const GROUP: f64 = 104.0;
const BAR: f64 = 36.0;

const FLOOR: &str = "#9aa5b1";
const GATEWAY: &str = "#2563eb";
const TARGET: &str = "#c2410c";
const INK: &str = "#1f2933";
const GRID: &str = "#e4e7eb";

/// The bars above one label.
pub(crate) struct Bars {
    /// Its label.
    pub(crate) label: String,
    /// The bar of the floor.
    pub(crate) floor: Option<Spread>,
    /// The bar of the gateway.
    pub(crate) gateway: Option<Spread>,
    /// The target of the gateway's bar.
    pub(crate) target: Option<f64>,
}

/// A chart as an SVG document.
pub(crate) fn draw(title: &str, unit: &str, groups: &[Bars]) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = Chart::new(groups).write(&mut text, title, unit);
    text
}

struct Chart<'a> {
    groups: &'a [Bars],
    width: f64,
    /// The highest value of the scale.
    top: f64,
    step: f64,
}

impl<'a> Chart<'a> {
    fn new(groups: &'a [Bars]) -> Self {
        let values = groups.iter().flat_map(|bars| {
            let ends = [bars.floor, bars.gateway].into_iter().flatten().map(|spread| spread.max);
            ends.chain(bars.target)
        });
        let highest = values.fold(0.0, f64::max).max(1e-9);
        let step = step(highest / 5.0);
        let width = (LEFT + RIGHT + GROUP * groups.len() as f64).max(460.0);
        Self { groups, width, top: (highest / step).ceil() * step, step }
    }

    fn write(&self, out: &mut String, title: &str, unit: &str) -> fmt::Result {
        let width = self.width;
        writeln!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">"#
        )?;
        writeln!(out, r##"<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>"##)?;
        writeln!(out, r#"<text x="16" y="24" font-size="15" font-weight="600">{title}</text>"#)?;
        self.write_legend(out)?;
        self.write_scale(out, unit)?;
        let free = self.width - LEFT - RIGHT - GROUP * self.groups.len() as f64;
        for (number, bars) in self.groups.iter().enumerate() {
            self.write_group(out, LEFT + free / 2.0 + GROUP * (number as f64 + 0.5), bars)?;
        }
        writeln!(out, "</svg>")
    }

    fn write_legend(&self, out: &mut String) -> fmt::Result {
        let has_floor = self.groups.iter().any(|bars| bars.floor.is_some());
        let mut x = 16.0;
        for (name, colour, is_there) in [("floor (bare epoll)", FLOOR, has_floor), ("wafergate", GATEWAY, true)] {
            if is_there {
                writeln!(out, r#"<rect x="{x}" y="37" width="12" height="12" fill="{colour}"/>"#)?;
                writeln!(out, r#"<text x="{}" y="48">{name}</text>"#, x + 18.0)?;
                x += 36.0 + 7.0 * name.len() as f64;
            }
        }
        write_dashes(out, x, x + 20.0, 43.0)?;
        writeln!(out, r#"<text x="{}" y="48">target</text>"#, x + 26.0)
    }

    fn write_scale(&self, out: &mut String, unit: &str) -> fmt::Result {
        let mut value = 0.0;
        while value <= self.top + self.step / 2.0 {
            let y = self.y(value);
            let right = self.width - RIGHT;
            writeln!(out, r#"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="{GRID}"/>"#)?;
            let label = short(value);
            writeln!(out, r#"<text x="{}" y="{:.1}" text-anchor="end">{label}</text>"#, LEFT - 8.0, y + 4.0)?;
            value += self.step;
        }
        writeln!(out, r#"<text x="{}" y="48" text-anchor="end">{unit}</text>"#, self.width - RIGHT)
    }

    fn write_group(&self, out: &mut String, middle: f64, bars: &Bars) -> fmt::Result {
        let alone = if bars.floor.is_some() { 0.0 } else { -BAR / 2.0 };
        for (spread, x, colour) in [(bars.floor, middle - BAR, FLOOR), (bars.gateway, middle + alone, GATEWAY)] {
            let Some(spread) = spread else { continue };
            let (top, bottom) = (self.y(spread.median), self.y(0.0));
            let (width, height) = (BAR - 4.0, bottom - top);
            writeln!(
                out,
                r#"<rect x="{:.1}" y="{top:.1}" width="{width}" height="{height:.1}" fill="{colour}"/>"#,
                x + 2.0
            )?;
            let centre = x + BAR / 2.0;
            let (high, low) = (self.y(spread.max), self.y(spread.min));
            writeln!(out, r#"<line x1="{centre}" y1="{high:.1}" x2="{centre}" y2="{low:.1}" stroke="{INK}"/>"#)?;
            let label = short(spread.median);
            let y = high - 5.0;
            writeln!(out, r#"<text x="{centre}" y="{y:.1}" text-anchor="middle" font-size="12">{label}</text>"#)?;
        }
        if let Some(target) = bars.target {
            write_dashes(out, middle + alone - 4.0, middle + alone + BAR + 4.0, self.y(target))?;
        }
        let label = &bars.label;
        writeln!(out, r#"<text x="{middle}" y="{}" text-anchor="middle">{label}</text>"#, HEIGHT - BOTTOM + 22.0)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.top * (HEIGHT - BOTTOM - TOP)
    }
}

fn write_dashes(out: &mut String, from: f64, to: f64, y: f64) -> fmt::Result {
    writeln!(
        out,
        r#"<line x1="{from}" y1="{y:.1}" x2="{to}" y2="{y:.1}" stroke="{TARGET}" stroke-width="2" stroke-dasharray="5 3"/>"#
    )
}

/// The next of 1, 2, 5, 10, 20, ... above `least`.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= least).unwrap_or(10.0 * power)
}

fn short(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

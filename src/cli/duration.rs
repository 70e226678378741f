//! Spans of time on the command line: `500ms`, `30s`, `10m`, `2h`.

use std::time::Duration;

/// Reads a number with its unit.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let advice = || "write a number and its unit, such as 500ms, 30s, 10m or 2h".to_owned();
    let digits = text.find(|char: char| !char.is_ascii_digit()).ok_or_else(advice)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| advice())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(advice()),
    };
    number.checked_mul(unit_ms).filter(|ms| *ms <= 86_400_000 * 365).map(Duration::from_millis).ok_or_else(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_unit() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["10", "m", "", "1.5s", "1d", "99999999999999999999s", "9999999999h"] {
            assert!(parse(text).is_err_and(|advice| advice.contains("10m")), "{text}");
        }
    }
}

//! One record as a line: time, tunnel, what happened, size, status, time taken, words.

use serde_json::Value;

const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// The line of an event of the stream; none if there is nothing to say.
pub(super) fn line(name: &str, data: &Value, has_colours: bool) -> Option<String> {
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    match name {
        "record" => {
            let line = record(data);
            Some(if has_colours && data["failed"] == true { format!("{RED}{line}{PLAIN}") } else { line })
        }
        "open" => Some(format!("ready       {}", text("node"))),
        "skipped" => Some(format!("            {} records skipped: more happens than can be shown", data["count"])),
        "missing" => Some(format!("            node {} is not shown: {}", text("node"), text("reason"))),
        _ => None,
    }
}

fn record(data: &Value) -> String {
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    let time = text("time").get(11..23).unwrap_or_default();
    let what = if text("type") == "attempt" { text("event") } else { text("type") };
    let bytes = data["bytes"].as_u64().map(|bytes| format!("{bytes} B")).unwrap_or_default();
    let status = match (text("type"), data["status"].as_u64()) {
        (_, Some(status)) => status.to_string(),
        ("attempt", None) => "--".to_owned(),
        _ => String::new(),
    };
    let took = data["ms"].as_f64().map(|ms| format!("{ms:.0} ms")).unwrap_or_default();
    let columns =
        format!("{time} {:<8} {what:<15} {bytes:>8}  {status:>3}  {took:>8}  {}", short(text("tunnel")), words(data));
    columns.trim_end().to_owned()
}

/// The words behind the columns.
fn words(data: &Value) -> String {
    let text = |name: &str| data[name].as_str().filter(|text| !text.is_empty());
    let is_delivered = text("type") == Some("attempt") && data["failed"] == false;
    let counts = data["targets"].as_u64().map(|targets| format!("{} of {targets}", data["accepted"]));
    let said = text("detail").or(text("reason")).filter(|_| !is_delivered).map(str::to_owned);
    let words: Vec<String> = [counts, said].into_iter().flatten().collect();
    match text("fix") {
        // Some details end with the fix already.
        Some(fix) if !words.concat().contains(fix) => format!("{}: {fix}", words.join(", ")),
        _ => words.join(", "),
    }
}

/// The ends of a tunnel id.
fn short(tunnel: &str) -> String {
    match (tunnel.get(..4), tunnel.len().checked_sub(2).and_then(|end| tunnel.get(end..))) {
        (Some(first), Some(last)) if tunnel.len() > 8 => format!("{first}…{last}"),
        _ => tunnel.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TUNNEL: &str = "t3f9000000000000000000000000000c1";

    #[test]
    fn a_record_is_one_line() {
        let delivered = json!({
            "time": "2026-11-28T10:15:03.001Z", "type": "attempt", "event": "message", "tunnel": TUNNEL, "failed": false,
            "bytes": 57, "status": 200, "ms": 8.2, "code": "delivered", "reason": "the business server has accepted it",
        });
        assert_eq!(
            line("record", &delivered, true).as_deref(),
            Some("10:15:03.001 t3f9…c1  message             57 B  200      8 ms")
        );
        let refused = json!({
            "time": "2026-11-28T10:15:09.000Z", "type": "attempt", "event": "message", "tunnel": TUNNEL, "failed": true,
            "bytes": 61, "ms": 0.4, "reason": "connection refused", "detail": "connection refused", "fix": "start it",
        });
        assert_eq!(
            line("record", &refused, false).as_deref(),
            Some("10:15:09.000 t3f9…c1  message             61 B   --      0 ms  connection refused: start it")
        );
        let many = json!({
            "time": "2026-11-28T10:15:09.000Z", "type": "push", "failed": false, "bytes": 5, "targets": 100, "accepted": 99,
            "detail": "group g", "reason": "on its way to the client",
        });
        let line = line("record", &many, false).expect("a line");
        assert!(line.ends_with("99 of 100, group g"), "{line}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let skipped = line("skipped", &json!({"count": 7}), false).expect("a line");
        assert!(skipped.contains("7 records skipped"), "{skipped}");
        assert!(line("missing", &json!({"node": "ab", "reason": "no_answer"}), false).is_some());
        assert_eq!(line("end", &json!({}), false), None);
    }
}

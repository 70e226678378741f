//! What a response other than 101 means: of a gateway or not, whether to dial again, and what to change.

use serde::Deserialize;

use crate::protocol::text::printable;

/// Longest words of a gateway that are shown, in bytes.
const MAX_WORDS_BYTES: usize = 600;

/// Why there is no connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Not with this tenant, key or configuration: 401 and 403.
    Denied(String),
    /// Not now, because of a limit: 429.
    Limited(String),
    /// Never at this URL.
    Wrong(String),
    /// Later, at the earliest after so many seconds.
    Later(String, u64),
}

/// Judges a response to the upgrade. `retry_after_secs` is its header.
pub fn refusal(status: u16, body: &[u8], retry_after_secs: Option<u64>) -> Refusal {
    #[derive(Deserialize)]
    struct Problem {
        r#type: String,
        code: String,
        #[serde(default)]
        detail: String,
    }
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let of_gateway = problem.filter(|problem| problem.r#type.starts_with("urn:wafergate:problem:"));
    let Some(Problem { code, detail, .. }) = of_gateway else { return stranger(status, body, retry_after_secs) };
    let words = printable(&format!("{code}: {detail}"), MAX_WORDS_BYTES).into_owned();
    match status {
        401 | 403 => Refusal::Denied(words),
        429 => Refusal::Limited(words),
        404 | 405 => Refusal::Wrong(format!("{words} (is the gateway older than this program?)")),
        426 => Refusal::Wrong(format!("{words} (does a proxy in between remove the Upgrade header?)")),
        _ => Refusal::Later(words, retry_after_secs.unwrap_or(0)),
    }
}

/// The response of something else than a gateway.
fn stranger(status: u16, body: &[u8], retry_after_secs: Option<u64>) -> Refusal {
    let is_page = body.trim_ascii_start().first() == Some(&b'<');
    let later = |words: String| Refusal::Later(words, retry_after_secs.unwrap_or(0));
    match status {
        200..=399 | 511 if is_page => later(format!(
            "answered {status} with a web page, as a login page of this network does: open a browser and log in, or check --gateway"
        )),
        407 => Refusal::Denied(
            "a proxy in between wants a login (407): name it in HTTPS_PROXY as http://user:password@host:port".into(),
        ),
        400 | 426 => later(format!(
            "answered {status}, not by a gateway: a proxy in between may not pass WebSockets; see deploy/ for nginx and haproxy"
        )),
        401 | 403 => {
            later(format!("answered {status}, but not by a gateway: a proxy in between refuses; check --gateway"))
        }
        502..=504 => later(format!("answered {status}: the proxy in front of the gateway does not reach it")),
        _ => later(format!("answered {status}, but not by a gateway: check --gateway")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBLEM: &[u8] = br#"{"type":"urn:wafergate:problem:x","code":"x","detail":"change y","status":0}"#;

    #[test]
    fn a_problem_decides_by_its_status() {
        assert_eq!(refusal(401, PROBLEM, None), Refusal::Denied("x: change y".into()));
        assert_eq!(refusal(403, PROBLEM, None), Refusal::Denied("x: change y".into()));
        assert_eq!(refusal(429, PROBLEM, Some(9)), Refusal::Limited("x: change y".into()));
        assert_eq!(refusal(503, PROBLEM, Some(9)), Refusal::Later("x: change y".into(), 9));
        assert!(matches!(refusal(404, PROBLEM, None), Refusal::Wrong(words) if words.contains("older")));
    }

    #[test]
    fn another_server_is_never_the_last_word() {
        for (status, body, hint) in [
            (200, &b"<!DOCTYPE html>"[..], "log in"),
            (302, b"", "not by a gateway"),
            (511, b"<html>", "log in"),
            (400, b"bad request", "WebSockets"),
            (403, b"forbidden", "proxy"),
            (403, br#"{"code":"Forbidden","detail":"by a firewall"}"#, "proxy"),
            (502, b"<html>", "does not reach it"),
            (500, b"", "check --gateway"),
            (101, b"", "check --gateway"),
        ] {
            match refusal(status, body, None) {
                Refusal::Later(words, 0) => assert!(words.contains(hint), "{status}: {words}"),
                other => panic!("{status}: {other:?}"),
            }
        }
        assert!(matches!(refusal(407, b"", None), Refusal::Denied(words) if words.contains("HTTPS_PROXY")));
    }
}

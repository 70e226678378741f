//! What the gateway will make of an answer, in words.

use std::time::Duration;

use crate::connector::Outcome;
use crate::delivery::Verdict;
use crate::delivery::retry_pause;
use crate::listen::Attempt;
use crate::listen::Body;
use crate::listen::Done;
use crate::protocol::connector::Event;
use crate::protocol::native::Action;
use crate::webhook::Sent;
use crate::webhook::judge;

/// An attempt as it is kept and shown. The words behind its columns are the second part.
pub fn verdict(event: &Event, target: &str, began_ms: u64, took: Duration, done: &Done) -> (Attempt, String) {
    let attempt = Attempt {
        attempt: event.attempt,
        began_ms,
        target: target.to_owned(),
        ms: crate::clock::millis(took),
        ..Attempt::default()
    };
    match done {
        Done::Failed(failure) => {
            let (code, reason) = (Some(failure.code.as_str().to_owned()), failure.reason.clone());
            (Attempt { code, reason, ..attempt }, failure.reason.clone())
        }
        Done::Answered(answer, body) => {
            let is_native = event.is_native();
            let is_batch = event.headers.get("content-type").is_some_and(|kind| kind.contains("batch"));
            let sent = Sent { is_native, is_close: event.event == "close", is_batch };
            let outcome = Outcome::Answered(answer.clone(), body.clone()).into_result(took);
            let judgement = judge(&outcome, sent);
            let actions = match judgement.verdict {
                Verdict::Delivered => Action::parse_all(body.trim_ascii()).map(|actions| actions.len()),
                _ => Ok(0),
            };
            let mut reason = judgement.reason.into_owned();
            if let (Err(defect), true) = (&actions, contains_actions(body)) {
                reason = format!("actions that cannot be read: {defect}");
            }
            let actions = actions.unwrap_or(0);
            let words = words(judgement.verdict, &reason, actions, event.attempt);
            let attempt = Attempt {
                status: Some(answer.status),
                reason,
                headers: answer.headers.clone(),
                body: Body(body.clone()),
                actions,
                is_over: matches!(judgement.verdict, Verdict::Delivered | Verdict::Final),
                ..attempt
            };
            (attempt, words)
        }
    }
}

fn contains_actions(body: &[u8]) -> bool {
    body.windows(b"\"actions\"".len()).any(|window| window == b"\"actions\"")
}

fn words(verdict: Verdict, reason: &str, actions: usize, attempt: u32) -> String {
    match verdict {
        Verdict::Delivered if !reason.is_empty() => reason.to_owned(),
        Verdict::Delivered => match actions {
            0 => String::new(),
            1 => "1 action".to_owned(),
            count => format!("{count} actions"),
        },
        Verdict::Final => format!("{reason}; not repeated"),
        Verdict::Split => format!("{reason}; its events follow one by one"),
        Verdict::Refused => format!("{reason}; again for ten minutes"),
        Verdict::Retry(pause) => match pause.unwrap_or_else(|| retry_pause(attempt, 0.0)) {
            Duration::ZERO => format!("{reason}; again at once"),
            pause => format!("{reason}; again in {} s", pause.as_secs_f64()),
        },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::connector::Answer;
    use crate::protocol::connector::Headers;

    fn judged(is_native: bool, status: u16, headers: &[(&str, &str)], body: &'static str) -> (Attempt, String) {
        let kind = if is_native { "application/cloudevents+json" } else { "application/json" };
        let event = Event {
            id: "i".into(),
            attempt: 2,
            tunnel: "t".into(),
            event: "message".into(),
            sequence: Some(1),
            url: String::new(),
            path: String::new(),
            headers: [("content-type", kind)].into_iter().collect(),
            timeout_ms: 1,
            expires: 0,
        };
        let answer = Answer { headers: headers.iter().copied().collect::<Headers>(), ..Answer::new("i", 2, status) };
        verdict(&event, "http://h/", 0, Duration::from_millis(7), &Done::Answered(answer, Bytes::from(body)))
    }

    #[test]
    fn an_answer_means_what_the_gateway_makes_of_it() {
        for (is_native, status, headers, body, words, is_over) in [
            (false, 200, &[][..], r#"{"code":0}"#, "", true),
            (true, 204, &[], "", "", true),
            (true, 200, &[], r#"{"actions":[{"join":"g"},{"leave":"g"}]}"#, "2 actions", true),
            (true, 200, &[], r#"{"actions":[{"shout":"g"}]}"#, "actions that cannot be read", true),
            (false, 200, &[], "ok", "answered 200 without JSON code 0: ok; not repeated", true),
            (true, 400, &[], "no", "answered 400: no; not repeated", true),
            (true, 500, &[], "", "answered 500; again in 0.1 s", false),
            (true, 503, &[("retry-after", "7")], "", "answered 503; again in 7 s", false),
            (
                true,
                503,
                &[("retry-after", "Sat, 28 Nov 2026 06:00:09 GMT"), ("date", "Sat, 28 Nov 2026 06:00:00 GMT")],
                "",
                "answered 503; again in 9 s",
                false,
            ),
        ] {
            let (attempt, own) = judged(is_native, status, headers, body);
            assert!(own.starts_with(words) && (own == words || words.ends_with("read")), "{own}");
            assert_eq!(attempt.is_over, is_over, "{own}");
        }
    }
}

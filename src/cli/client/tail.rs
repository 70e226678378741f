//! `wafergate tail`: what happens to a tenant's tunnels, one line each.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::sleep;
use tokio::time::timeout;

use super::Access;
use super::call::Call;
use super::call::Failure;
use super::exit_code;
use super::keys;
use super::tail_line::line;
use super::usage;
use crate::cli::EXIT_FAILURE;
use crate::cli::event_line::Look;
use crate::cli::event_line::shown;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::reason::Language;

/// A stream without a byte for so long is dead: its gateway sends a comment every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// First and longest pause before the next connection.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Longest event of a stream, in bytes.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// `wafergate tail`
#[derive(Args, Debug)]
pub(in crate::cli) struct Tail {
    #[command(flatten)]
    access: Access,
    /// Only this tunnel
    #[arg(long, value_name = "ID")]
    tunnel: Option<String>,
    /// Only the tunnels of this user
    #[arg(long)]
    user: Option<String>,
    /// Only the tunnels of this connector, such as the --name of `wafergate listen`
    #[arg(long, value_name = "NAME")]
    connector: Option<String>,
    /// Only events for receive URLs that begin so
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Only what did not work
    #[arg(long)]
    failed: bool,
    /// Language of reasons and fixes; by default that of LC_ALL or LANG
    #[arg(long, value_name = "TAG")]
    language: Option<String>,
}

/// How a stream ended.
enum End {
    /// The output is closed.
    Output,
    /// The gateway ended it, or the connection broke.
    Offline(String),
}

/// Runs the command until it is interrupted.
pub(super) fn run(tail: &Tail) -> ExitCode {
    let key = match keys::one(tail.access.key_file.as_deref()) {
        Ok(key) => key,
        Err(error) => return usage(&error),
    };
    let call = match Call::new(&tail.access.gateway, &tail.access.tenant, key) {
        Ok(call) => call,
        Err(error) => return usage(&error),
    };
    let done = crate::cli::block_on(async {
        Ok(tokio::select! {
            failure = follow(&call, tail) => Err(failure),
            _ = tokio::signal::ctrl_c() => Ok(()),
        })
    });
    match done {
        Ok(Ok(()) | Err(None)) => ExitCode::SUCCESS,
        Ok(Err(Some(failure))) => {
            eprintln!("wafergate: {failure}");
            ExitCode::from(exit_code(&failure))
        }
        Err(error) => {
            eprintln!("wafergate: {error:#}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Prints what comes, over one connection after the other; returns why that is over: none if the output was closed.
async fn follow(call: &Call, tail: &Tail) -> Option<Failure> {
    let target = tail.target();
    let (mut pause, mut was_open) = (FIRST_PAUSE, false);
    loop {
        let reason = match call.stream(&target).await {
            Ok(stream) => {
                (pause, was_open) = (FIRST_PAUSE, true);
                match print_all(stream, tail.access.json).await {
                    End::Output => return None,
                    End::Offline(reason) => reason,
                }
            }
            Err(failure @ Failure::Refused { status: 400..=499, .. }) => return Some(failure),
            Err(failure) if !was_open => return Some(failure),
            Err(failure) => failure.to_string(),
        };
        eprintln!("offline: {}; again in {:.1} s", shown(&reason), pause.as_secs_f64());
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn print_all(mut stream: Incoming, is_json: bool) -> End {
    let look = Look::of_stdout();
    let mut buffer = vec![];
    loop {
        let frame = match timeout(SILENCE, stream.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return End::Offline(error.to_string()),
            Ok(None) => return End::Offline("the gateway has ended the stream".to_owned()),
            Err(_) => return End::Offline(format!("nothing came for {} s", SILENCE.as_secs())),
        };
        buffer.extend_from_slice(&frame.into_data().unwrap_or_else(|_| Bytes::new()));
        if buffer.len() > MAX_EVENT_BYTES {
            return End::Offline("an event is too long".to_owned());
        }
        for (name, data) in events(&mut buffer) {
            let text = if is_json { json(&name, &data) } else { line(&name, &data, SystemClock.unix_time(), look) };
            let mut stdout = std::io::stdout().lock();
            if let Some(text) = text
                && writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_err()
            {
                return End::Output;
            }
        }
    }
}

/// Takes the complete events out of what has come.
fn events(buffer: &mut Vec<u8>) -> Vec<(String, Value)> {
    let mut events = vec![];
    while let Some(end) = buffer.windows(2).position(|window| window == b"\n\n") {
        let event: Vec<u8> = buffer.drain(..end + 2).collect();
        let text = String::from_utf8_lossy(&event);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let (Some(name), Some(data)) = (field("event:"), field("data:"))
            && let Ok(data) = serde_json::from_str(data)
        {
            events.push((name.to_owned(), data));
        }
    }
    events
}

/// An event as one JSON object: a record as it is, what else comes with its name as `type`.
fn json(name: &str, data: &Value) -> Option<String> {
    let mut data = data.clone();
    if name != "record" {
        data.as_object_mut()?.insert("type".to_owned(), name.into());
    }
    Some(data.to_string())
}

impl Tail {
    /// Path and query of the call.
    fn target(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let (tunnel, user, url) = (("tunnel", &self.tunnel), ("user", &self.user), ("url", &self.url));
        for (name, value) in [tunnel, user, ("connector", &self.connector), url] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if self.failed {
            query.append_pair("failed", "true");
        }
        let own = ["LC_ALL", "LANG"].into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
        let language = Language::of(self.language.as_ref().unwrap_or(&own));
        if language != Language::English {
            query.append_pair("language", language.as_str());
        }
        match query.finish() {
            query if query.is_empty() => "/v1/tail".to_owned(),
            query => format!("/v1/tail?{query}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_taken_when_they_are_complete() {
        let mut buffer = b"event: open\ndata: {\"node\":\"a\"}\n\n: \n\nevent: record\ndata: {\"x\":".to_vec();
        assert_eq!(events(&mut buffer), [("open".to_owned(), json!({"node": "a"}))]);
        buffer.extend_from_slice(b"1}\n\n");

        assert_eq!(events(&mut buffer), [("record".to_owned(), json!({"x": 1}))]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn json_names_what_is_no_record() {
        assert_eq!(super::json("skipped", &json!({"count": 3})).as_deref(), Some(r#"{"count":3,"type":"skipped"}"#));
        assert_eq!(super::json("record", &json!({"type": "push"})).as_deref(), Some(r#"{"type":"push"}"#));
    }
}

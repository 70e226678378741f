//! Explains errors of Redis to operators, without the password.

use std::fmt;

use redis::RedisError;

use super::sentinel;
use crate::engine::EngineError;
use crate::tls::failure;

/// Displays an error with advice.
pub(super) struct Explained<'a>(pub(super) &'a RedisError);

/// Known parts of error texts that have no error kind, with advice.
const ADVICE: [(&str, &str); 8] = [
    (
        sentinel::WANTS_PASSWORD,
        "the Sentinels want a password: set engine.sentinel_password (that in engine.redis_url is for Redis)",
    ),
    (sentinel::WRONG_PASSWORD, "engine.sentinel_password is refused by the Sentinels"),
    ("WRONGPASS", "user or password in engine.redis_url refused"),
    ("NOAUTH", "Redis wants a password in engine.redis_url"),
    ("no permissions", LACKS_RIGHT),
    ("user executing the script can't", LACKS_RIGHT),
    ("Parse error", "what is there does not speak Redis (without TLS, or with it: redis:// or rediss://)"),
    // A Cluster error holds only text; the full text says what is wrong.
    ("invalid peer certificate", "the certificate of a Redis node cannot be verified"),
];

const LACKS_RIGHT: &str = "the user in engine.redis_url lacks a right, deploy/README.md names all it needs";

impl Explained<'_> {
    /// Whether Redis denies this user a command.
    pub(super) fn is_right_missing(&self) -> bool {
        advice(&self.0.to_string()) == Some(LACKS_RIGHT)
    }
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tls) = failure::find(self.0) {
            return write!(out, "TLS with Redis fails: {}", failure::words(tls));
        }
        let said = self.0.to_string();
        match advice(&said) {
            Some(advice) => write!(out, "{advice}: {said}"),
            None => out.write_str(&said),
        }
    }
}

fn advice(said: &str) -> Option<&'static str> {
    ADVICE.iter().find(|(words, _)| said.contains(words)).map(|(_, advice)| *advice)
}

/// Logs why Redis did not do something.
pub(super) fn away(error: RedisError) -> EngineError {
    let error = Explained(&error);
    if error.is_right_missing() {
        tracing::error!(%error, "the engine refuses");
    } else {
        tracing::debug!(%error, "the engine does not answer");
    }
    EngineError::Away
}

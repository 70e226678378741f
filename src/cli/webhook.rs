//! `wafergate webhook verify`: checks a webhook that a business server has received, offline.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;

use super::EXIT_FAILURE;
use super::EXIT_USAGE;
use super::keys;
use super::print;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::protocol::signature::HmacKey;

/// Age in seconds from which Standard Webhooks libraries refuse a webhook.
const TOLERANCE_SECS: u64 = 300;

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the signature of a webhook as it was received: its three headers and its raw body
    Verify(Verify),
}

/// `wafergate webhook verify`
#[derive(Args, Debug)]
pub(super) struct Verify {
    /// File with the tenant's keys, one a line; WAFERGATE_KEY in the environment holds one key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The header webhook-id
    #[arg(long)]
    id: String,
    /// The header webhook-timestamp
    #[arg(long, value_name = "SECONDS")]
    timestamp: u64,
    /// The header webhook-signature
    #[arg(long, allow_hyphen_values = true)]
    signature: String,
    /// File with the raw body; `-` reads it from stdin
    #[arg(default_value = "-")]
    body: PathBuf,
}

/// The result of a check.
#[derive(Debug, Eq, PartialEq)]
enum Verdict {
    /// The key with this number, from 1, has signed it.
    Valid(usize),
    /// It is not valid, for this likely reason.
    Invalid(&'static str),
}

/// Runs a command. Ends with 0 if the webhook is valid, with 1 if it is not.
pub(super) fn run(Command::Verify(verify): &Command) -> ExitCode {
    let (keys, body) = match (keys::all(verify.key_file.as_deref()), verify.body()) {
        (Ok(keys), Ok(body)) => (keys, body),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("wafergate: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let keys: Vec<HmacKey> = keys.iter().map(|key| HmacKey::new(key.expose())).collect();
    match judge(&keys, &verify.id, verify.timestamp, &verify.signature, &body) {
        Verdict::Valid(number) => {
            let age = SystemClock.unix_time().as_secs().abs_diff(verify.timestamp);
            let stale = match age > TOLERANCE_SECS {
                true => format!("; it is {age} s old, libraries refuse more than {TOLERANCE_SECS} s"),
                false => String::new(),
            };
            print(&format!("valid: signed with key {number}{stale}\n"))
        }
        Verdict::Invalid(reason) => {
            eprintln!("wafergate: not valid: {reason}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

impl Verify {
    fn body(&self) -> Result<Vec<u8>, String> {
        if self.body.as_os_str() != "-" {
            let name = self.body.display();
            return std::fs::read(&self.body).map_err(|error| format!("{name} cannot be read: {error}"));
        }
        let mut body = vec![];
        std::io::stdin().read_to_end(&mut body).map_err(|error| format!("stdin cannot be read: {error}"))?;
        Ok(body)
    }
}

/// Checks the signatures, which are separated by spaces, and guesses why none is valid.
fn judge(keys: &[HmacKey], id: &str, timestamp: u64, signature: &str, body: &[u8]) -> Verdict {
    let signed_by = |body: &[u8]| {
        keys.iter().position(|key| {
            let own = key.sign_webhook(id, timestamp, body);
            signature.split_ascii_whitespace().any(|given| given == own)
        })
    };
    if let Some(index) = signed_by(body) {
        return Verdict::Valid(index + 1);
    }
    let without_break = body.strip_suffix(b"\n").map(|body| body.strip_suffix(b"\r").unwrap_or(body));
    if without_break.is_some_and(|body| signed_by(body).is_some()) {
        return Verdict::Invalid("the body has a line break at its end that was not sent: save it without");
    }
    if signed_by(&[body, b"\n"].concat()).is_some() {
        return Verdict::Invalid("the body lacks the line break at its end: save it as it came");
    }
    if !signature.split_ascii_whitespace().any(|given| given.starts_with("v1,")) {
        return Verdict::Invalid("webhook-signature holds no signature that begins with v1,");
    }
    Verdict::Invalid(
        "no key has signed this id, timestamp and body: is it another tenant's key, or was the body parsed and written again?",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_1";
    const AT: u64 = 1_700_000_000;

    fn keys() -> Vec<HmacKey> {
        ["new", "old"].map(HmacKey::new).to_vec()
    }

    fn judged(signature: &str, body: &[u8]) -> Verdict {
        judge(&keys(), ID, AT, signature, body)
    }

    #[test]
    fn one_valid_signature_of_any_key_is_enough() {
        let [new, old] = ["new", "old"].map(|key| HmacKey::new(key).sign_webhook(ID, AT, b"{}"));

        assert_eq!(judged(&new, b"{}"), Verdict::Valid(1));
        assert_eq!(judged(&format!("v1,other {old}"), b"{}"), Verdict::Valid(2));
    }

    #[test]
    fn the_likely_reason_is_told() {
        let signature = HmacKey::new("new").sign_webhook(ID, AT, b"{\"a\": 1}");
        let reason = |signature: &str, body: &[u8]| match judged(signature, body) {
            Verdict::Invalid(reason) => reason,
            Verdict::Valid(_) => "valid",
        };

        assert!(reason(&signature, b"{\"a\": 1}\n").contains("line break at its end that was not sent"));
        assert!(reason(&signature, b"{\"a\": 1}\r\n").contains("line break at its end that was not sent"));
        assert!(reason(&signature, b"{\"a\":1}").contains("parsed and written again"));
        assert!(reason("abc", b"{\"a\": 1}").contains("begins with v1,"));
    }
}

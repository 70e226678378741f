//! Releases what was claimed in vain: connect URLs of clients that left before they got a response, and calls with an
//! `Idempotency-Key` of which it is not known whether they began.

use std::time::Duration;

use parking_lot::Mutex;
use redis::Cmd;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout_at;

use super::connection::CALL_TIMEOUT;
use super::keys::Keys;
use super::scripts;
use crate::engine::RUNNING_TTL;
use crate::engine::Released;
use crate::engine::Token;
use crate::id::TunnelId;

/// Releases per batch.
const CHUNK: usize = 100;
/// From this number of waiting claims on, a further call is left to expire.
const MOST_WITH_CALLS: usize = 10_000;
/// A release is repeated after this time: its claim may still be in flight on a hanging connection.
const AGAIN_AFTER: Duration = CALL_TIMEOUT;

/// What was claimed.
#[derive(Debug)]
enum Claimed {
    /// A connect URL.
    Url(TunnelId),
    /// A call with an `Idempotency-Key`.
    Call(Box<str>),
}

/// A claim to release.
#[derive(Debug)]
pub(super) struct Release {
    claimed: Claimed,
    token: Token,
    /// Not before this time.
    due: Instant,
    /// When it expires.
    until: Instant,
    /// Completed by the first success; the repetition has none.
    done: Option<oneshot::Sender<()>>,
}

/// Claims waiting for release.
#[derive(Debug, Default)]
pub(super) struct Releases {
    waiting: Mutex<Vec<Release>>,
    changed: Notify,
}

impl Releases {
    /// Releases the claim of `token`, unless the URL expires first.
    pub(super) fn add(&self, tunnel: TunnelId, token: Token, life: Duration) -> Released {
        self.claimed_in_vain(Claimed::Url(tunnel), token, life)
    }

    /// Releases a call that `token` may have begun, unless it expires first.
    pub(super) fn add_call(&self, name: &str, token: Token) {
        if self.waiting.lock().len() >= MOST_WITH_CALLS {
            return;
        }
        self.claimed_in_vain(Claimed::Call(name.into()), token, RUNNING_TTL);
    }

    fn claimed_in_vain(&self, claimed: Claimed, token: Token, life: Duration) -> Released {
        let (now, (done, released)) = (Instant::now(), Released::pending());
        self.put([Release { claimed, token, due: now, until: now + life, done: Some(done) }]);
        released
    }

    fn put(&self, releases: impl IntoIterator<Item = Release>) {
        self.waiting.lock().extend(releases);
        self.changed.notify_one();
    }

    /// Some of those that are due; if none is, when the next one will be, if there is any.
    fn take(&self, now: Instant) -> Result<Vec<Release>, Option<Instant>> {
        let mut waiting = self.waiting.lock();
        waiting.retain(|release| release.until > now);
        let due: Vec<_> = waiting.extract_if(.., |release| release.due <= now).take(CHUNK).collect();
        if due.is_empty() { Err(waiting.iter().map(|release| release.due).min()) } else { Ok(due) }
    }

    /// The next releases, as soon as some are due.
    pub(super) async fn next(&self) -> Vec<Release> {
        loop {
            let changed = self.changed.notified();
            match self.take(Instant::now()) {
                Ok(releases) => return releases,
                Err(Some(next)) => {
                    // Either way it is looked again.
                    let _ = timeout_at(next, changed).await;
                }
                Err(None) => changed.await,
            }
        }
    }

    /// Repeats those that were not done, and each of the others once more.
    pub(super) fn tried(&self, releases: Vec<Release>, are_done: &[bool]) {
        let second = Instant::now() + AGAIN_AFTER;
        self.put(releases.into_iter().zip(are_done).filter_map(|(release, is_done)| match is_done {
            false => Some(release),
            true => release.done.map(|done| {
                // It may not be waited for.
                let _ = done.send(());
                Release { due: second, done: None, ..release }
            }),
        }));
    }
}

impl Release {
    pub(super) fn command(&self, keys: &Keys) -> Cmd {
        let (script, key) = match &self.claimed {
            Claimed::Url(tunnel) => (scripts::RELEASE, keys.claim(*tunnel)),
            Claimed::Call(name) => (scripts::ABANDON, keys.call(name)),
        };
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1).arg(key).arg(&self.token[..]);
        command
    }
}

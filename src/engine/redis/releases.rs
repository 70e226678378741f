//! Releases connect URLs of clients that left before they got a response.

use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::RedisEngine;
use super::adoption::WRITE_RETRY;
use super::link::CALL_TIMEOUT;
use super::scripts;
use crate::engine::Token;
use crate::id::TunnelId;

/// Releases per batch.
const CHUNK: usize = 100;
/// A release is repeated after this time: its claim may still be in flight on a hanging connection.
const AGAIN_AFTER: Duration = CALL_TIMEOUT;

/// A claim to release.
#[derive(Clone, Copy, Debug)]
struct Release {
    tunnel: TunnelId,
    token: Token,
    /// When the URL expires.
    until: Instant,
    /// Whether this is the repetition.
    is_second: bool,
}

/// Claims waiting for release.
#[derive(Debug, Default)]
pub(super) struct Releases {
    waiting: Mutex<Vec<Release>>,
    changed: Notify,
}

impl Releases {
    /// Releases the claim of `token`, unless the URL expires first.
    pub(super) fn add(&self, tunnel: TunnelId, token: Token, life: Duration) {
        self.put([Release { tunnel, token, until: Instant::now() + life, is_second: false }]);
    }

    fn put(&self, releases: impl IntoIterator<Item = Release>) {
        self.waiting.lock().extend(releases);
        self.changed.notify_one();
    }

    fn take(&self) -> Vec<Release> {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        waiting.retain(|release| release.until > now);
        let rest = waiting.len().saturating_sub(CHUNK);
        waiting.split_off(rest)
    }
}

impl RedisEngine {
    /// Sends releases to Redis, until dropped.
    pub(super) async fn give_back(&self) {
        loop {
            let changed = self.releases.changed.notified();
            let releases = self.releases.take();
            if releases.is_empty() {
                changed.await;
                continue;
            }
            let given_back = join_all(releases.into_iter().map(async |release| (release, self.release(release).await)));
            let mut is_away = false;
            let mut again = vec![];
            for (release, is_done) in given_back.await {
                is_away |= !is_done;
                if !is_done {
                    self.releases.put([release]);
                } else if !release.is_second {
                    again.push(Release { is_second: true, ..release });
                }
            }
            if is_away {
                // A timeout and a notification both lead to a retry.
                let _ = timeout(WRITE_RETRY, self.came_back.notified()).await;
            } else if !again.is_empty() {
                sleep(AGAIN_AFTER).await;
                self.releases.put(again);
            }
        }
    }

    async fn release(&self, release: Release) -> bool {
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::RELEASE).arg(1).arg(self.keys.claim(release.tunnel)).arg(&release.token[..]);
        self.call::<i64>(&command).await.is_ok()
    }
}

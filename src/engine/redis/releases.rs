//! Connect URLs that were used up for clients who went away before they got an answer: they are good again.

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

/// Most claims that are given back in one go.
const CHUNK: usize = 100;
/// A claim may still be on its way when it is given back, on a connection that hangs: so that is done once more after so long.
const AGAIN_AFTER: Duration = CALL_TIMEOUT;

/// A claim that is to be given back.
#[derive(Clone, Copy, Debug)]
struct Release {
    tunnel: TunnelId,
    token: Token,
    /// Then the URL has expired.
    until: Instant,
    /// Whether it has been given back once.
    is_second: bool,
}

/// Claims that wait to be given back.
#[derive(Debug, Default)]
pub(super) struct Releases {
    waiting: Mutex<Vec<Release>>,
    changed: Notify,
}

impl Releases {
    /// Gives back what `token` has claimed, unless the URL has expired before that.
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
    /// Gives back claims as they come, until it is dropped.
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
                // Either way it is tried again.
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

//! Detects what Redis has lost: single keys, as by eviction, and the data of a server of a Cluster.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::future::try_join_all;
use redis::RedisError;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::RedisEngine;
use super::first_use::Turn;
use super::group_index_state::IndexEntry;
use super::loss_marks::WRITE_EVERY;
use crate::id::TunnelId;

/// Interval of checks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Groups and users per check.
const ENTRIES: usize = 100;

impl RedisEngine {
    /// Writes all data again whenever a key of this node is missing, until dropped.
    pub(super) async fn watch_own_keys(&self) {
        let (mut witness, mut entries, mut turn, mut kept) = (None, vec![], Turn::default(), None);
        loop {
            sleep(LOOK_EVERY).await;
            self.records.write_again();
            let started = Instant::now();
            // Check a record that was confirmed in the last round.
            let tunnel = witness.take().filter(|tunnel| self.records.is_kept(*tunnel));
            if entries.is_empty() {
                entries = self.index.sure();
            }
            let some = entries.split_off(entries.len().saturating_sub(ENTRIES));
            let looked = async {
                if let Some(tunnel) = tunnel
                    && self.is_record_missing(tunnel).await?
                {
                    return Ok(true);
                }
                self.is_any_entry_missing(&some).await
            };
            match looked.await {
                Ok(true) => {
                    tracing::warn!(
                        "Redis has lost a key of this node: writing its data again (Redis needs maxmemory-policy noeviction)"
                    );
                    self.past.doubt(started);
                    self.write_all_again();
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "could not check the keys of this node"),
            }
            if let Err(error) = self.remind(&mut turn).await {
                tracing::debug!(%error, "used tokens could not be rewritten");
            }
            match self.keep_entries(kept).await {
                Ok((missing, next)) => {
                    kept = next;
                    if missing > 0 {
                        tracing::warn!(
                            missing,
                            "Redis has lost claims of open tunnels: writing them again (Redis needs maxmemory-policy noeviction)"
                        );
                    }
                }
                Err(error) => tracing::debug!(%error, "claims of open tunnels could not be extended"),
            }
            witness = tunnel.or_else(|| self.records.any_kept());
        }
    }

    /// Writes and checks marks, until dropped.
    pub(super) async fn keep_marks(&self) {
        let Some(marks) = &self.marks else { return std::future::pending().await };
        loop {
            if marks.notice() {
                tracing::debug!("a connection to a server of the Cluster has broken: writing this node's data again");
                self.past.doubt(Instant::now());
                self.write_all_again();
            }
            let (asked, (number, commands)) = (self.lease_guard.now(), marks.next());
            let answers = join_all(commands.iter().map(|command| self.call::<Option<u64>>(command))).await;
            let before: Vec<Option<u64>> = answers.into_iter().map(|answer| known(&answer)).collect();
            if marks.found(number, &before, asked) {
                tracing::warn!(
                    "a server of the Redis Cluster has lost data or went back to an older state: writing this node's data again"
                );
                self.past.doubt(Instant::now());
                self.write_all_again();
            }
            // A timeout and a notification both lead to the next write.
            let _ = timeout(WRITE_EVERY, marks.changed.notified()).await;
        }
    }

    async fn is_record_missing(&self, tunnel: TunnelId) -> Result<bool, RedisError> {
        let key = self.keys.records(self.me());
        let is_there = self.has(&key, &tunnel.to_string()).await?;
        Ok(!is_there && self.records.is_kept(tunnel) && key == self.keys.records(self.me()))
    }

    async fn is_any_entry_missing(&self, entries: &[IndexEntry]) -> Result<bool, RedisError> {
        let looks = entries.iter().map(|entry| self.is_entry_missing(entry));
        Ok(try_join_all(looks).await?.contains(&true))
    }

    async fn is_entry_missing(&self, entry: &IndexEntry) -> Result<bool, RedisError> {
        let (tenant, audience) = entry;
        let name = self.keys.index_entry(tenant, audience);
        // The last tunnel may leave and another one join between the two reads.
        for _ in 0..2 {
            let me = self.me();
            let is_sure = self.index.is_sure(entry);
            let (list, nodes_listed) = (self.keys.index_entries(me), self.keys.index(&name));
            let is_there = self.has(&list, &name).await? && self.has(&nodes_listed, &me.to_string()).await?;
            if is_there || !is_sure || !self.index.is_sure(entry) || me != self.me() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn has(&self, hash: &str, field: &str) -> Result<bool, RedisError> {
        let value: Option<Vec<u8>> = self.call(redis::cmd("HGET").arg(hash).arg(field)).await?;
        Ok(value.is_some())
    }
}

/// The previous number, 0 if there was none; `None` if the call failed.
fn known(answer: &Result<Option<u64>, RedisError>) -> Option<u64> {
    answer.as_ref().ok().map(|number| number.unwrap_or(0))
}

//! Redis may lose single keys, as it does when it makes room: each node looks now and then whether its own are still there.

use std::time::Duration;

use futures_util::future::try_join_all;
use redis::RedisError;
use tokio::time::Instant;
use tokio::time::sleep;

use super::RedisEngine;
use super::group_index_state::Place;
use super::once::Turn;
use crate::id::TunnelId;

/// How often a node looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// At so many groups and users at a time, one after the other.
const PLACES: usize = 100;

impl RedisEngine {
    /// Writes all again whenever a key of this node is missing, until it is dropped.
    pub(super) async fn watch_own_keys(&self) {
        let (mut witness, mut places, mut turn) = (None, vec![], Turn::default());
        loop {
            sleep(LOOK_EVERY).await;
            self.records.write_again();
            let asked = Instant::now();
            // Redis has the record of a tunnel that was there a moment ago, too.
            let tunnel = witness.take().filter(|tunnel| self.records.is_kept(*tunnel));
            if places.is_empty() {
                places = self.places.sure();
            }
            let some = places.split_off(places.len().saturating_sub(PLACES));
            let looked = async {
                if let Some(tunnel) = tunnel
                    && self.is_record_missing(tunnel).await?
                {
                    return Ok(true);
                }
                self.is_a_place_missing(&some).await
            };
            match looked.await {
                Ok(true) => {
                    tracing::warn!(
                        "Redis has lost a key of this node: it writes its part again (Redis needs maxmemory-policy noeviction)"
                    );
                    self.past.doubt(asked);
                    self.write_all_again();
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "it could not be seen whether the keys of this node are there"),
            }
            if let Err(error) = self.remind(&mut turn).await {
                tracing::debug!(%error, "what was used up could not be written once more");
            }
            witness = tunnel.or_else(|| self.records.any_kept());
        }
    }

    async fn is_record_missing(&self, tunnel: TunnelId) -> Result<bool, RedisError> {
        let key = self.keys.records(self.me());
        let is_there = self.has(&key, &tunnel.to_string()).await?;
        Ok(!is_there && self.records.is_kept(tunnel) && key == self.keys.records(self.me()))
    }

    async fn is_a_place_missing(&self, places: &[Place]) -> Result<bool, RedisError> {
        let looks = places.iter().map(|place| self.is_place_missing(place));
        Ok(try_join_all(looks).await?.contains(&true))
    }

    async fn is_place_missing(&self, place: &Place) -> Result<bool, RedisError> {
        let (tenant, audience) = place;
        let name = self.keys.place(tenant, audience);
        // The last one may leave, and another one come, while Redis answers.
        for _ in 0..2 {
            let me = self.me();
            let is_sure = self.places.is_sure(place);
            let (list, homes) = (self.keys.places(me), self.keys.homes(&name));
            let is_there = self.has(&list, &name).await? && self.has(&homes, &me.to_string()).await?;
            if is_there || !is_sure || !self.places.is_sure(place) || me != self.me() {
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

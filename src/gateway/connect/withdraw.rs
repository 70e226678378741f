//! Withdraws tunnels, whether or not a client has connected.

use std::sync::Arc;

use super::ConnectUrls;
use crate::engine::EngineError;
use crate::gateway::Gateway;
use crate::gateway::NativeError;
use crate::id::TunnelId;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::tenant::Tenant;
use crate::timeline::Record;

/// What became of a tunnel that its business server does not want any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Withdrawn {
    /// It was open, and is closed.
    Closed,
    /// It was not open, and its connect URL, if there is one, opens nothing any more.
    NotOpen,
}

impl Gateway {
    /// Closes a tunnel of `tenant`, and makes its connect URL useless. Repeatable; it belongs to `trace`.
    ///
    /// # Errors
    ///
    /// If a limit forbids it, or the engine or a node that may have the tunnel does not answer.
    pub async fn withdraw(&self, tenant: &Arc<Tenant>, tunnel: TunnelId, trace: u64) -> Result<Withdrawn, NativeError> {
        // First the URL: a client that claims it from here on is refused, and one that has claimed it before is found.
        let first = self.connect_urls.withdraw(tenant, tunnel);
        if self.pushes.close_one(tenant, tunnel, trace, first).await? {
            return Ok(Withdrawn::Closed);
        }
        let record = Record::new(Kind::Action, Reason::Done, self.clock.unix_time());
        let record = record.of(self.timeline.tenant(&tenant.number, &tenant.id), tunnel).traced(trace);
        self.timeline.record(record.with_words(self.timeline.word("withdraw")));
        Ok(Withdrawn::NotOpen)
    }
}

impl ConnectUrls {
    async fn withdraw(&self, tenant: &Tenant, tunnel: TunnelId) -> Result<(), NativeError> {
        let withdrawn = self.engine.claims.withdraw_tunnel(tenant.id.as_str(), tunnel, self.connect_ttl).await;
        withdrawn.map_err(|error| match error {
            EngineError::Full => NativeError::TooManyWithdrawals,
            _ => NativeError::EngineAway,
        })
    }
}

//! Withdraws tunnels, whether or not a client has connected.

use std::sync::Arc;

use super::ConnectUrls;
use crate::engine::EngineError;
use crate::gateway::Gateway;
use crate::gateway::NativeError;
use crate::id::TunnelId;
use crate::tenant::Tenant;

/// What became of a tunnel that its business server does not want any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Withdrawn {
    /// It was open, and is closed.
    Closed,
    /// It was not open, and its connect URL, if there is one, opens nothing any more.
    NotOpen,
}

impl Gateway {
    /// Closes a tunnel of `tenant`, and makes its connect URL useless. Repeatable.
    ///
    /// # Errors
    ///
    /// If a limit forbids it, or the engine or a node that may have the tunnel does not answer.
    pub async fn withdraw(&self, tenant: &Arc<Tenant>, tunnel: TunnelId) -> Result<Withdrawn, NativeError> {
        // First the URL: a client that claims it from here on is refused, and one that has claimed it before is found.
        let first = self.connect_urls.withdraw(tenant, tunnel);
        let is_closed = self.pushes.close_one(tenant, tunnel, first).await?;
        Ok(if is_closed { Withdrawn::Closed } else { Withdrawn::NotOpen })
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

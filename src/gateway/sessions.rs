//! Tunnels of sessions: a tunnel that was asked for with a session ends with it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Gateway;
use super::push::Call;
use super::push::Command;
use crate::login::Tunnels;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;
use crate::protocol::text::md5_hex;
use crate::session::SessionId;
use crate::tenant::Tenant;

/// When ended sessions are told to all nodes once more: a node may believe for 5 s that a session is valid.
const AGAIN_AFTER: Duration = Duration::from_secs(6);

impl Gateway {
    /// Closes the tunnels of one session on every node.
    async fn close_session(&self, tenant: &Arc<Tenant>, session: &SessionId) {
        let Ok(name) = Name::new(session.as_str()) else { return };
        self.engine.lease_guard.valid().await;
        let audience = Audience::Session(name);
        let closed = self.groups.command(tenant, &audience, &[], Command::EndSession, 0, Call::default());
        if let Err(error) = closed.await {
            tracing::warn!(
                tenant.id = %tenant.id,
                reason = %error,
                "tunnels of an ended session may still be open: they are closed in a moment, or when they end",
            );
        }
    }
}

#[async_trait]
impl Tunnels for Gateway {
    async fn close_of(self: Arc<Self>, tenant: &str, sessions: &[SessionId]) {
        let found = self.tenants.tenant(tenant).or_else(|| self.tenants.tenant(&md5_hex(tenant)));
        let Some(tenant) = found else { return };
        for session in sessions {
            self.close_session(&tenant, session).await;
        }
        let sessions = sessions.to_vec();
        tokio::spawn(async move {
            tokio::time::sleep(AGAIN_AFTER).await;
            for session in sessions {
                self.close_session(&tenant, &session).await;
            }
        });
    }
}

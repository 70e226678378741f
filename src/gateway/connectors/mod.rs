//! The connectors of this node, under the configuration of the moment, and the way to those of other nodes.

mod elsewhere;
mod presence;

use std::sync::Arc;

pub use presence::Listed;
pub(in crate::gateway) use presence::sought;

use super::Gateway;
use super::cluster::Router;
use crate::connector::Connectors;
use crate::connector::Link;
use crate::connector::Permit;
use crate::connector::Refused;
use crate::connector::Settings;
use crate::delivery::Take;
use crate::delivery::Ttl;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::options::ConnectorUse;
use crate::options::Options;
use crate::protocol::connector::close_code;
use crate::tenant::Directory;

/// No connectors yet.
pub(super) fn new(
    options: &Options,
    metrics: &Metrics,
    (tenants, router, engine): (&Arc<Directory>, &Arc<Router>, &Engine),
) -> Arc<Connectors> {
    let settings = Settings {
        webhook_timeout: options.webhook.timeout(),
        ttl: Ttl { message: options.webhook.message_ttl(), close: options.webhook.close_ttl() },
        outbox_bytes: options.tunnel.outbox_bytes,
        max_message_bytes: options.tunnel.max_message_bytes,
    };
    let connectors = Connectors::new(settings, metrics.clone());
    connectors.set_elsewhere(Arc::new(elsewhere::OtherNodes {
        tenants: Arc::clone(tenants),
        router: Arc::clone(router),
        engine: engine.clone(),
    }));
    Arc::new(connectors)
}

impl Gateway {
    /// Whether an event may be written to a connector now.
    pub fn permits(&self, permit: Permit) -> bool {
        let guard = &self.engine.lease_guard;
        match permit {
            Permit::Incarnation(incarnation) => guard.is_valid_for(incarnation),
            Permit::Until(until) => guard.is_valid() && guard.now() < until,
        }
    }

    /// Why a connector must be closed under the current configuration; `None` if it may stay.
    pub fn review_connector(&self, link: &Link) -> Option<Refused> {
        let refused = |code, reason: &'static str| Some(Refused { code, reason: reason.into() });
        let settings = self.tenants.tenant(link.tenant.as_str()).map(|tenant| tenant.settings());
        let key = |key: &crate::tenant::Key| key.fingerprint() == link.key_fingerprint;
        let Some(settings) = settings.filter(|settings| settings.keys.iter().any(key)) else {
            return refused(close_code::KEY_WITHDRAWN, "the key of this connection was withdrawn");
        };
        match (&link.take, settings.connectors) {
            (_, ConnectorUse::Off) => refused(close_code::REFUSED, "connectors are off for this tenant"),
            (Take::Urls(_), ConnectorUse::Named) => {
                refused(close_code::REFUSED, "URLs cannot be claimed any more: connectors = \"named\"")
            }
            _ => None,
        }
    }
}

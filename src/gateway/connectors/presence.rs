//! Which connectors this node has, as the other nodes find it: one entry for each name, and one for all that claim URLs.

use std::sync::Arc;

use crate::connector::Link;
use crate::connector::Refused;
use crate::connector::Sought;
use crate::engine::Announcement;
use crate::engine::GroupIndex;
use crate::gateway::Gateway;
use crate::protocol::connector::close_code;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;

/// The name of those that claim URLs: no connector can have it.
const CLAIMING: &str = "*";

/// The entry of a connector. Drop it after the connector has left.
pub struct Listed {
    index: Arc<dyn GroupIndex>,
    tenant: Box<str>,
    audience: Audience,
    /// Until the connector has joined.
    announcement: Option<Announcement>,
}

impl Listed {
    /// The connector has joined.
    pub fn has_joined(&mut self) {
        self.announcement = None;
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.index.withdraw(&self.tenant, &self.audience);
    }
}

/// How the index names connectors.
pub(super) fn audience(sought: &Sought) -> Audience {
    let name = match sought {
        Sought::Named(name) => name.as_str(),
        Sought::Claiming => CLAIMING,
    };
    Audience::Connector(Name::new(name).expect("a name of a connector is one of a group too"))
}

/// The connectors that the index names so.
pub(in crate::gateway) fn sought(audience: &Audience) -> Option<Sought> {
    match audience {
        Audience::Connector(name) if name.as_str() == CLAIMING => Some(Sought::Claiming),
        Audience::Connector(name) => name.as_str().parse().ok().map(Sought::Named),
        Audience::Group(_) | Audience::User(_) | Audience::Session(_) => None,
    }
}

impl Gateway {
    /// Lists a connector that is about to join, so that other nodes find it.
    ///
    /// # Errors
    ///
    /// If they would not.
    pub async fn list_connector(&self, link: &Link) -> Result<Listed, Refused> {
        let (tenant, audience) = (link.tenant.as_str(), audience(&Sought::of_take(&link.take)));
        let announced = self.engine.group_index.announce(tenant, &audience).await;
        let announcement = announced.map_err(|_| Refused {
            code: close_code::LEAVING,
            reason: "this node cannot tell the others of this connector at present: connect again".into(),
        })?;
        let index = Arc::clone(&self.engine.group_index);
        Ok(Listed { index, tenant: tenant.into(), audience, announcement: Some(announcement) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connectors_are_found_by_what_they_are_listed_under() {
        let all = ["ann", "a", "0-9", "claiming"].map(|name| Sought::Named(name.parse().expect("a name")));
        for each in all.into_iter().chain([Sought::Claiming]) {
            assert_eq!(sought(&audience(&each)), Some(each));
        }
        assert_eq!(sought(&Audience::Group(Name::new("ann").expect("a name"))), None);
    }
}

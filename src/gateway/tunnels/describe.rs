//! Describes an open tunnel.

use serde::Deserialize;
use serde::Serialize;

use super::Connection;
use super::Socket;
use super::Tunnels;
use crate::clock::rfc3339;
use crate::protocol::content::Profile;
use crate::protocol::native::Name;
use crate::protocol::native::request::Metadata;
use crate::webhook::Demand;

/// An open tunnel, as its business server sees it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    tunnel_id: String,
    profile: String,
    user: Option<Name>,
    groups: Vec<Name>,
    metadata: Option<Metadata>,
    node: String,
    connected_since: String,
    queues: Queues,
    /// Missing from nodes of an earlier version.
    #[serde(default)]
    endpoint: Endpoint,
    last_error: Option<String>,
}

/// Queue lengths.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Queues {
    events: usize,
    event_bytes: usize,
    push_bytes: usize,
}

/// Load of its receive URL by all tunnels of its tenant on its node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    in_flight: usize,
    in_flight_limit: usize,
    waiting: usize,
}

impl Description {
    /// The same without what its business server has written into the tunnel for itself.
    pub(in crate::gateway) fn without_metadata(self) -> Self {
        Self { metadata: None, ..self }
    }
}

impl Tunnels {
    /// Describes an open tunnel of this node.
    pub(in crate::gateway) fn describe(&self, connection: &Connection<dyn Socket>) -> Description {
        let event_queue = &connection.event_queue;
        let (user, groups) = event_queue.tenant.groups.of(event_queue.tunnel);
        let known = event_queue.known();
        let Demand { in_flight, limit, waiting, .. } = event_queue.endpoint.demand();
        Description {
            tunnel_id: event_queue.tunnel.to_string(),
            profile: if connection.profile == Profile::Native { "native" } else { "wafer" }.to_owned(),
            user,
            groups,
            metadata: known.metadata,
            node: self.node.clone(),
            connected_since: rfc3339(connection.opened_unix()),
            queues: Queues {
                events: event_queue.len(),
                event_bytes: event_queue.bytes(),
                push_bytes: connection.queued_bytes(),
            },
            endpoint: Endpoint { in_flight, in_flight_limit: limit, waiting },
            last_error: known.last_error,
        }
    }
}

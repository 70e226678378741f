//! Executes a command on one tunnel of this node.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::command::Command;
use super::command::EncodedCommand;
use super::queued::Queued;
use crate::gateway::tunnels::Connection;
use crate::gateway::tunnels::Sent;
use crate::gateway::tunnels::Socket;
use crate::gateway::tunnels::Tunnels;
use crate::id::TunnelId;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Profile;
use crate::tenant::Tenant;

/// Executes a command on a tunnel at once, and counts it; [`Sent::Closed`] if it is not open here.
pub(in crate::gateway) fn execute(
    tunnels: &Tunnels,
    tenant: &Arc<Tenant>,
    tunnel: TunnelId,
    command: &mut EncodedCommand<'_>,
    now: Instant,
) -> Sent {
    execute_in(tunnels, tenant, tunnel, command, now, None)
}

/// As [`execute`]; a frame waits in `queued` for the end of its batch, if there is one.
pub(super) fn execute_in(
    tunnels: &Tunnels,
    tenant: &Arc<Tenant>,
    tunnel: TunnelId,
    command: &mut EncodedCommand<'_>,
    now: Instant,
    queued: Option<&mut Queued>,
) -> Sent {
    let mut is_opening = false;
    let connection = tunnels.find(tenant, tunnel).or_else(|| {
        is_opening = matches!(command.command, Command::Close(_)) && tunnels.openings.close(tunnel, tenant);
        // It may have opened before it was marked.
        tunnels.find(tenant, tunnel)
    });
    let Some(connection) = connection else {
        if is_opening {
            command.count((tunnel, None), Sent::Accepted);
        }
        return if is_opening { Sent::Accepted } else { Sent::Closed };
    };
    let connector = connection.event_queue.connector.clone();
    let sent = match (command.command, command.frame(connection.profile)) {
        (_, Some(frame)) => send(tunnels, connection, frame, now, queued),
        (Command::Close(text), None) => close(tunnels, &connection, CloseReason::PushedClose, text, now),
        (Command::EndSession, None) => close(tunnels, &connection, CloseReason::SessionRevoked, None, now),
        (_, None) => return Sent::Accepted,
    };
    command.count((tunnel, connector.as_ref()), sent);
    sent
}

fn send(
    tunnels: &Tunnels,
    connection: Arc<Connection<dyn Socket>>,
    frame: &Bytes,
    now: Instant,
    queued: Option<&mut Queued>,
) -> Sent {
    let counting = (connection.profile == Profile::Native).then(|| Arc::clone(&connection.event_queue));
    let sent = match queued {
        None => tunnels.send(&connection, frame, now),
        Some(queued) => {
            let (sent, is_first) = tunnels.queue(&connection, frame, now);
            if sent == Sent::Accepted && is_first {
                queued.add(connection);
            }
            sent
        }
    };
    if let (Some(event_queue), Sent::Accepted) = (counting, sent) {
        event_queue.count_pushed();
    }
    sent
}

fn close(
    tunnels: &Tunnels,
    connection: &Connection<dyn Socket>,
    reason: CloseReason,
    text: Option<&str>,
    now: Instant,
) -> Sent {
    if !connection.close_saying(reason, text.unwrap_or(reason.text()), now) {
        return Sent::Closed;
    }
    tunnels.detach(connection);
    Sent::Accepted
}

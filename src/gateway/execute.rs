//! Executes a command on one open tunnel.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Connection;
use super::Gateway;
use super::Sent;
use super::Socket;
use super::batch::Queued;
use super::command::Command;
use super::command::EncodedCommand;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Profile;

impl Gateway {
    /// Executes a command on an open tunnel; [`Sent::Closed`] if it has ended.
    pub(super) fn execute(
        &self,
        connection: Arc<Connection<dyn Socket>>,
        frames: &mut EncodedCommand<'_>,
        now: Instant,
        queued: Option<&mut Queued>,
    ) -> Sent {
        let sent = match (frames.command, frames.frame(connection.profile)) {
            (_, Some(frame)) => self.send_or_queue(connection, frame, now, queued),
            (Command::Close(text), None) => self.close_saying(&connection, text, now),
            (_, None) => return Sent::Accepted,
        };
        match sent {
            Sent::Accepted => frames.accepted += 1,
            Sent::Slow => self.metrics.deliveries.slow.inc(),
            Sent::Closed => {}
        }
        sent
    }

    fn send_or_queue(
        &self,
        connection: Arc<Connection<dyn Socket>>,
        frame: &Bytes,
        now: Instant,
        queued: Option<&mut Queued>,
    ) -> Sent {
        let counting = (connection.profile == Profile::Native).then(|| Arc::clone(&connection.event_queue));
        let sent = match queued {
            None => self.send(&connection, frame, now),
            Some(queued) => self.queue(connection, frame, now, queued),
        };
        if let (Some(event_queue), Sent::Accepted) = (counting, sent) {
            event_queue.count_pushed();
        }
        sent
    }

    fn close_saying(&self, connection: &Connection<dyn Socket>, text: Option<&str>, now: Instant) -> Sent {
        let reason = CloseReason::PushedClose;
        if !connection.close_saying(reason, text.unwrap_or(reason.text()), now) {
            return Sent::Closed;
        }
        self.detach(connection);
        Sent::Accepted
    }
}

//! Opens and closes tunnels of admitted clients, each once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Admission;
use super::Connection;
use super::Phase;
use super::Socket;
use super::Tunnels;
use crate::clock::millis;
use crate::delivery::EventKind;
use crate::engine::Closed;
use crate::protocol::close::CloseReason;
use crate::protocol::content::Profile;
use crate::protocol::frame;
use crate::protocol::packet;
use crate::protocol::ticket::About;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::timeline::group_words;
use crate::timeline::user_words;
use crate::webhook::EventQueue;

impl Tunnels {
    /// Opens the tunnel of a client after its handshake; `answer` is the handshake response. Pushes can reach it before
    /// its `connect` event is sent.
    pub fn attach<S: Socket>(
        &self,
        admission: Admission,
        profile: Profile,
        socket: S,
        answer: Bytes,
    ) -> Arc<Connection<S>> {
        let Admission {
            ticket,
            tenant,
            endpoint,
            subprotocol,
            mut claimed,
            mut registration,
            opening,
            arriving: _arriving,
        } = admission;
        (claimed.is_kept, registration.is_kept) = (true, true);
        tenant.usage.take_reservation(ticket.expires_unix_ms / 1_000);
        self.expected.lock().remove(ticket.expires_unix_ms / 1_000);
        let (now, opened_unix) = (Instant::now(), self.clock.unix_time());
        let about = ticket.native.map(|about| *about);
        let joining = about.clone().unwrap_or_default();
        let event_queue = EventQueue::new(ticket.tunnel, tenant, endpoint, ticket.key_fingerprint)
            .of_incarnation(registration.incarnation)
            .to_connector(ticket.connector);
        let event_queue = Arc::new(match about {
            Some(about) => event_queue.native(about, now, opened_unix),
            None => event_queue,
        });
        let connection =
            Arc::new(Connection::new(event_queue, profile, socket, opened_unix, self.idle_timeouts.now_ms()));
        let first = match profile {
            Profile::Wafer => {
                let timeout = frame::text(&packet::timeout(self.options.heartbeat_secs), "");
                [answer, timeout].concat().into()
            }
            Profile::Native => answer,
        };
        // Queue the response until other nodes can find the tunnel.
        connection.queue(&first, self.options.outbox_bytes, now);
        let shared: Arc<Connection<dyn Socket>> = connection.clone();
        self.idle_timeouts.watch(Arc::downgrade(&shared), profile, self.idle_timeouts.now_ms());
        self.open.insert(ticket.tunnel, shared);
        self.join_first(&connection.event_queue, &joining);
        connection.flush_queued();
        registration.announcements.clear();
        self.metrics.connections.inc();
        tracing::debug!(tunnel.id = %ticket.tunnel, tenant.id = %connection.event_queue.tenant.id, "tunnel open");
        self.record_open(&connection.event_queue, &joining, opened_unix);
        self.events.enqueue(&connection.event_queue, EventKind::Connect { subprotocol }, now);
        if opening.is_closed() {
            connection.close(CloseReason::PushedClose, now);
        }
        if self.is_released() {
            connection.close(CloseReason::Drain, now);
        }
        if registration.incarnation != self.engine.lease_guard.incarnation() {
            connection.close(CloseReason::CutOff, now);
        }
        connection
    }

    /// Removes a closing connection from the open tunnels. Idempotent; returns why it ended.
    ///
    /// The connection's own task sends the `close` event, so that no message follows it.
    pub fn detach<S: Socket + ?Sized>(&self, connection: &Connection<S>) -> Option<CloseReason> {
        let Phase::Closing(reason) = connection.phase() else {
            return None;
        };
        if self.open.remove(&connection.event_queue.tunnel).is_some() {
            connection.event_queue.close();
            self.leave_all(&connection.event_queue);
            self.metrics.connections.dec();
            if reason != CloseReason::CutOff {
                // Another node sends its event and counts it.
                self.metrics.close(reason);
                let closed = Closed { reason, unix_ms: millis(self.clock.unix_time()) };
                self.engine.registry.set_closed(connection.event_queue.tunnel, closed);
            }
            let EventQueue { tunnel, tenant, .. } = &*connection.event_queue;
            tracing::debug!(tunnel.id = %tunnel, reason = reason.as_str(), "tunnel closed");
            self.record(&connection.event_queue, Kind::Closed, reason.reason(), |record| {
                record.with_words(self.timeline.word(reason.detail()))
            });
            if reason == CloseReason::SlowConsumer {
                tracing::info!(
                    tunnel.id = %tunnel,
                    tenant.id = %tenant.id,
                    user = connection.event_queue.user().as_ref().map(tracing::field::display),
                    queued_bytes = connection.queued_bytes(),
                    "slow consumer closed: its client does not read",
                );
            }
        }
        Some(reason)
    }

    /// Records a tunnel that has opened, with the user and the groups that it opens in: pushes reach it since `began`.
    fn record_open(&self, event_queue: &EventQueue, about: &About, began: Duration) {
        if !self.timeline.is_on() {
            return;
        }
        let (trace, took) = (event_queue.trace().mark(1), self.unix_time().saturating_sub(began));
        self.record(event_queue, Kind::Connected, Reason::None, |record| record.traced(trace).took(took));
        let user = about.user.iter().map(|user| (Reason::UserSet, user_words(user.as_str())));
        let groups = about.groups.iter().map(|group| (Reason::Joined, group_words(group.as_str())));
        for (reason, words) in user.chain(groups) {
            self.record(event_queue, Kind::Action, reason, |record| {
                record.took(took).changing(self.timeline.audience(&words)).with_words(self.timeline.word(&words))
            });
        }
    }

    /// Adds a new tunnel to its requested groups, user and session. No effect if it has ended meanwhile.
    fn join_first(&self, event_queue: &EventQueue, about: &About) {
        let is_open = || self.open.contains_key(&event_queue.tunnel);
        for group in &about.groups {
            // A new tunnel has fewer groups than the limit.
            let _ = event_queue.tenant.groups.join(event_queue.tunnel, group, is_open);
        }
        if let Some(user) = &about.user {
            let _ = event_queue.tenant.groups.set_user(event_queue.tunnel, user, is_open);
        }
        if let Some(session) = &about.session {
            event_queue.tenant.groups.set_session(event_queue.tunnel, session, is_open);
        }
    }

    /// Removes an ended tunnel from all groups and its user.
    fn leave_all(&self, event_queue: &EventQueue) {
        for audience in event_queue.tenant.groups.remove(event_queue.tunnel) {
            self.engine.group_index.withdraw(event_queue.tenant.id.as_str(), &audience);
        }
    }
}

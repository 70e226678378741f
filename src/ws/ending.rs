//! The end of a connection: sends the last frames, gives the client time to answer, and queues the `close` event.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;
use tokio::time::timeout_at;

use super::connection::End;
use super::connection::Task;
use super::pause::PauseEnd;
use crate::gateway::Socket;
use crate::protocol::close::CloseReason;
use crate::protocol::frame::Goodbye;
use crate::reason::Kind;
use crate::reason::Reason;

/// Time limit for a client to answer a close frame before its socket is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for room in a full event queue after a client has hung up: events expire long before.
const HUNG_UP_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// What happens to data that a client sends behind the end.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Rest {
    /// It is delivered, because the client did not know of the end.
    Deliver,
    /// It is searched for the client's close frame only.
    Decode,
    /// It is discarded: the client has sent a close frame, or cannot be understood any more. It is still read, because dropping a
    /// socket with unread data resets it, and the client might miss the last frames.
    Discard,
}

impl<S: Socket> Task<S> {
    /// Ends the tunnel with `end`, unless it has ended already, then its socket.
    pub(super) async fn finish(&mut self, end: End) {
        if end == End::Gone {
            self.gateway.tunnels.turn_to_leave().await;
        }
        let now = Instant::now();
        let is_first = match end {
            End::Goodbye(goodbye) => self.connection.answer_goodbye(goodbye, now),
            End::Fault(fault) => self.connection.close_saying(fault.reason(), fault.text(), now),
            End::Slow => self.connection.close(CloseReason::SlowConsumer, now),
            End::Gone | End::HungUp => self.connection.close(CloseReason::ClientGone, now),
            End::Closed => false,
        };
        if is_first {
            if end == End::Slow {
                self.gateway
                    .tunnels
                    .record(&self.connection.event_queue, Kind::Slow, Reason::OutboxTooOld, |record| record);
            }
            self.log(end);
        }
        let reason = self.gateway.tunnels.detach(&self.connection).unwrap_or(CloseReason::Internal);
        if reason != CloseReason::CutOff {
            self.gateway.groups.count_user_tunnels_left(&self.connection.event_queue).await;
        }
        let rest = match end {
            End::HungUp => Rest::Deliver,
            End::Closed if reason == CloseReason::Drain => Rest::Deliver,
            End::Slow | End::Closed => Rest::Decode,
            End::Fault(_) | End::Goodbye(_) | End::Gone => Rest::Discard,
        };
        if rest != Rest::Deliver {
            self.tell(reason);
        }
        let patience = if end == End::HungUp { HUNG_UP_TIMEOUT } else { CLOSE_TIMEOUT };
        let deadline = now + patience;
        if end != End::Gone {
            // At the deadline the socket is dropped regardless of pending data.
            let _ = timeout_at(deadline, self.linger(rest)).await;
        }
        self.tell(reason);
    }

    /// Logs a fault of the client.
    fn log(&self, end: End) {
        let (tunnel, tenant) = (self.connection.event_queue.tunnel, &self.connection.event_queue.tenant.id);
        match end {
            End::Fault(fault) => {
                let (reason, fault) = (fault.reason().as_str(), fault.text());
                tracing::info!(tunnel.id = %tunnel, tenant.id = %tenant, reason, fault, "client breaks the rules, tunnel closed");
            }
            End::Goodbye(Goodbye::Faulty(fault)) => {
                let fault = fault.text();
                tracing::debug!(tunnel.id = %tunnel, tenant.id = %tenant, fault, "client says goodbye in a wrong way");
            }
            _ => {}
        }
    }

    /// Writes the queued frames and reads until the client has closed its side.
    async fn linger(&mut self, rest: Rest) {
        let mut is_flushed = false;
        loop {
            let step = poll_fn(|cx| {
                if !is_flushed {
                    match self.connection.poll_flushed(cx) {
                        Poll::Ready(Ok(())) => {
                            is_flushed = true;
                            if rest == Rest::Discard {
                                self.connection.socket().shutdown_write();
                            }
                        }
                        Poll::Ready(Err(error)) if rest != Rest::Deliver => return Poll::Ready(Err(error)),
                        Poll::Ready(Err(_)) => is_flushed = true,
                        Poll::Pending => {}
                    }
                }
                if self.pause.is_some() {
                    return self.poll_pause(cx).map(|end| Ok(Some(end)));
                }
                self.connection.socket().poll_read_ready(cx).map_ok(|()| None)
            });
            let went_on = match step.await {
                Err(_) => Err(End::Gone),
                Ok(Some(PauseEnd::Over)) => {
                    self.resume();
                    Ok(false)
                }
                Ok(Some(PauseEnd::HungUp)) => Ok(false),
                Ok(None) => match rest {
                    Rest::Deliver => self.read(Self::handle),
                    Rest::Decode => self.read(Self::handle_goodbye),
                    Rest::Discard => self.read(|_, _| Ok(())),
                },
            };
            match went_on {
                Err(_) => return,
                Ok(false) => {}
                Ok(true) => yield_now().await,
            }
        }
    }
}

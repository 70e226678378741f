//! The delivery task of one tunnel: it makes attempts until the queue is empty.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;

use super::attempt::Attempts;
use super::backlog::Backlog;
use super::carrier::post;
use super::event_queue::EventQueue;
use super::report::expired;
use crate::delivery::Event;
use crate::delivery::Step;

/// Delay before a task that panicked is restarted.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Delivers the events in `event_queue` until it is empty.
///
/// This future is small while it waits, since thousands may wait for a server that is down: the lane holds the events.
pub(super) async fn run(attempts: Arc<Attempts>, event_queue: Arc<EventQueue>) {
    let at_work = AtWork { attempts: &attempts, event_queue: &event_queue };
    loop {
        let next = next(&attempts, &event_queue);
        match next {
            Next::Idle => break,
            Next::WaitUntil(at) => {
                // Boxed: tasks mostly wait for their turn, and then need no timer.
                Box::pin(sleep_until(at)).await;
                continue;
            }
            Next::Expired(_) | Next::Send { .. } => {}
        }
        // Boxed too: a lease is rarely waited for.
        if !attempts.hooks.lease_guard.is_valid_for(event_queue.incarnation)
            && !Box::pin(attempts.hooks.lease_guard.valid_for(event_queue.incarnation)).await
        {
            abandon(&attempts, &event_queue, next);
            break;
        }
        let Some((deadline, is_late)) = to_send(&attempts, &event_queue, next) else { continue };
        let carrier = if attempts.goes_to_connectors(&event_queue) {
            // Boxed: most events are posted.
            Box::pin(attempts.seat(&event_queue, is_late, deadline)).await
        } else {
            post(&event_queue, is_late, deadline).await
        };
        if let Some(carrier) = carrier {
            Box::pin(attempts.attempt(&event_queue, carrier)).await;
        }
    }
    std::mem::forget(at_work);
}

/// A running delivery task. After a panic another one is started, so that no tunnel is stuck.
struct AtWork<'a> {
    attempts: &'a Arc<Attempts>,
    event_queue: &'a Arc<EventQueue>,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !std::thread::panicking() {
            // The runtime is shutting down, and this task with it.
            return self.event_queue.update(|state| state.is_running = false);
        }
        tracing::error!(
            tunnel.id = %self.event_queue.tunnel,
            tenant.id = %self.event_queue.tenant.id,
            "delivery of a tunnel's events has failed by an error in the gateway: retrying"
        );
        let (attempts, event_queue) = (Arc::clone(self.attempts), Arc::clone(self.event_queue));
        runtime.spawn(async move {
            sleep(AGAIN_AFTER).await;
            run(attempts, event_queue).await;
        });
    }
}

/// An event taken from its lane; no longer counted as queued after the drop.
struct Taken<'a> {
    backlog: &'a Backlog,
    expired: Box<Expired>,
}

/// An event whose time is over.
struct Expired {
    event: Event,
    /// Failed attempts.
    failures: u32,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.backlog.remove(&self.expired.event.kind);
    }
}

/// The next step for a tunnel: a small [`Step`].
enum Next<'a> {
    Idle,
    WaitUntil(Instant),
    Expired(Taken<'a>),
    /// Post the lane's first event, which expires at `deadline`; a late tunnel lets others go first.
    Send {
        deadline: Instant,
        is_late: bool,
    },
}

fn next<'a>(attempts: &'a Attempts, event_queue: &EventQueue) -> Next<'a> {
    let (step, failures, is_late) = event_queue.update(|state| {
        let failures = state.lane.failures();
        let step = state.lane.poll(Instant::now().into_std(), &attempts.ttl);
        state.is_running = !matches!(step, Step::Idle);
        (step, failures, state.is_late)
    });
    match step {
        Step::Idle => Next::Idle,
        Step::WaitUntil(at) => Next::WaitUntil(at.into()),
        Step::Expired(event) => {
            Next::Expired(Taken { backlog: &attempts.backlog, expired: Box::new(Expired { event, failures }) })
        }
        Step::Send(event) => Next::Send { deadline: attempts.ttl.deadline(&event).into(), is_late },
    }
}

/// Gives up an event whose time is over; until when the next one is to be sent, and whether its tunnel is late.
fn to_send(attempts: &Attempts, event_queue: &EventQueue, next: Next<'_>) -> Option<(Instant, bool)> {
    match next {
        Next::Expired(taken) => {
            let Expired { event, failures } = &*taken.expired;
            expired(&attempts.reporter(), event_queue, event, *failures);
            attempts.settle(event_queue.tunnel, event);
            None
        }
        Next::Send { deadline, is_late } => {
            attempts.record_wait(event_queue);
            Some((deadline, is_late))
        }
        Next::Idle | Next::WaitUntil(_) => None,
    }
}

/// Drops the events of a tunnel that another node owns now, one that has just expired included.
fn abandon(attempts: &Attempts, event_queue: &EventQueue, next: Next<'_>) {
    let abandoned = event_queue.update(|state| {
        state.is_running = false;
        state.lane.drain().collect::<Vec<_>>()
    });
    let events = abandoned.len() + usize::from(matches!(next, Next::Expired(_)));
    tracing::debug!(tunnel.id = %event_queue.tunnel, events, "events left to another node");
    abandoned.iter().for_each(|event| attempts.backlog.remove(&event.kind));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::carrier::Carrier;

    fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    fn size_of_attempt<'a, F>(_: impl Fn(&'a Attempts, &'a EventQueue, Carrier<'a>) -> F) -> usize {
        size_of::<F>()
    }

    /// It is copied to the heap for each attempt; from 4 KiB on the allocator takes whole pages for it.
    #[test]
    fn an_attempt_is_small() {
        let bytes = size_of_attempt(Attempts::attempt);
        assert!(bytes <= 3_584, "{bytes}");
    }

    /// With it a pending close event takes less than a kibibyte.
    #[test]
    fn a_tunnel_that_waits_for_its_business_server_is_small() {
        assert!(size(run) <= 280, "{}", size(run));
    }
}

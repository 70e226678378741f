//! Turns at an endpoint: as many at a time as its allowance permits, none while its breaker is open, in order of
//! arrival.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::SemaphorePermit;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout_at;

use super::endpoint::Endpoint;
use super::endpoint::Gate;
use super::endpoint::Server;
use super::endpoint::Turn;
use crate::delivery::Admission;
use crate::delivery::Ended;
use crate::delivery::Health;
use crate::delivery::Strain;
use crate::http_client::flights::Flight;
use crate::id::TenantId;
use crate::id::TunnelId;

/// The permits of an attempt: a turn, a slot of its server and a slot of its tenant.
pub(super) struct Permits<'a> {
    turn: Turn,
    server: SemaphorePermit<'a>,
    flight: Flight,
}

/// How an attempt ended.
pub(super) struct End<'a> {
    pub(super) health: Health,
    pub(super) strain: Strain,
    pub(super) tunnel: TunnelId,
    /// The reason of a failure, as text for operators.
    pub(super) reason: &'a str,
}

/// What the end of an attempt changes for others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shift {
    /// Nothing.
    None,
    /// The business server is down.
    Down,
    /// The business server responds again.
    Up,
    /// The business server is overloaded.
    Overloaded,
}

/// What to do about waiting attempts.
enum Next {
    Call(oneshot::Sender<Turn>),
    WaitUntil(Instant),
    Nothing,
}

/// Waits for a turn, a `late` tunnel behind the others; `None` if `deadline` passes first.
/// `flow` is the name under which the tenant takes its share of what tenants share.
pub(super) async fn admit<'a>(
    endpoint: &'a Arc<Endpoint>,
    flow: &TenantId,
    is_late: bool,
    deadline: Instant,
) -> Option<Permits<'a>> {
    let turn = match endpoint.ask(is_late) {
        Ok(turn) => turn,
        Err(called) => Box::pin(timeout_at(deadline, called)).await.ok()?.ok()?,
    };
    let (server, flight) = match endpoint.server.take(flow) {
        Some(taken) => taken,
        None => Box::pin(timeout_at(deadline, endpoint.server_permits(flow, is_late))).await.ok()??,
    };
    Some(Permits { turn, server, flight })
}

impl Endpoint {
    /// A turn at once, or a receiver for one.
    fn ask(self: &Arc<Self>, is_late: bool) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut gate = self.gate.lock();
        if gate.line.is_empty() && matches!(gate.admit(Instant::now()), Admission::Go) {
            gate.in_flight += 1;
            return Ok(Turn { endpoint: Arc::clone(self), is_over: false });
        }
        let (call, called) = oneshot::channel();
        gate.line.push(call, is_late, oneshot::Sender::is_closed);
        drop(gate);
        self.call();
        Err(called)
    }

    /// Grants free turns to waiting attempts.
    fn call(self: &Arc<Self>) {
        loop {
            let next = self.gate.lock().next(Instant::now());
            match next {
                // A waiter that has just gone releases its turn at once.
                Next::Call(call) => drop(call.send(Turn { endpoint: Arc::clone(self), is_over: false })),
                Next::WaitUntil(at) => return self.set_alarm(at),
                Next::Nothing => return,
            }
        }
    }

    /// Waits for a slot of the server and then for one of the tenant.
    async fn server_permits(&self, flow: &TenantId, is_late: bool) -> Option<(SemaphorePermit<'_>, Flight)> {
        let _turn = self.server_turn.lock().await;
        let permit = self.server.permits.acquire().await.ok()?;
        Some((permit, self.server.flights.wait(flow, is_late).await?))
    }

    /// Calls again at this time. Without a runtime no attempt waits any more.
    fn set_alarm(self: &Arc<Self>, at: Instant) {
        let Ok(runtime) = Handle::try_current() else { return };
        {
            let mut gate = self.gate.lock();
            if gate.alarm.is_some_and(|alarm| alarm <= at) {
                return;
            }
            gate.alarm = Some(at);
        }
        let endpoint = Arc::downgrade(self);
        runtime.spawn(async move {
            sleep_until(at).await;
            if let Some(endpoint) = endpoint.upgrade() {
                endpoint.gate.lock().alarm.take_if(|alarm| *alarm == at);
                endpoint.call();
            }
        });
    }
}

impl Server {
    /// Takes both slots, if they are free.
    fn take(&self, flow: &TenantId) -> Option<(SemaphorePermit<'_>, Flight)> {
        let permit = self.permits.try_acquire().ok()?;
        Some((permit, self.flights.take(flow)?))
    }
}

impl Gate {
    /// Whether another request may be in flight.
    fn admit(&mut self, now: Instant) -> Admission {
        match self.in_flight < self.allowance.limit() {
            true => self.breaker.admit(now.into_std()),
            false => Admission::WaitForProbe,
        }
    }

    fn next(&mut self, now: Instant) -> Next {
        if !self.line.is_awaited(oneshot::Sender::is_closed) {
            return Next::Nothing;
        }
        match self.admit(now) {
            Admission::Go => match self.line.next(oneshot::Sender::is_closed) {
                Some(call) => {
                    self.in_flight += 1;
                    Next::Call(call)
                }
                None => Next::Nothing,
            },
            Admission::WaitUntil(at) => Next::WaitUntil(at.into()),
            Admission::WaitForProbe => Next::Nothing,
        }
    }
}

impl Permits<'_> {
    /// Reports the end of the attempt and releases its permits.
    pub(super) fn end(self, end: &End<'_>) -> Shift {
        let Self { mut turn, server, flight } = self;
        // The next turn needs them.
        drop((server, flight));
        turn.end(end)
    }
}

impl Turn {
    fn end(&mut self, &End { health, strain, tunnel, reason }: &End<'_>) -> Shift {
        let (is_halved, limit, was_open, is_open) = {
            let now = Instant::now().into_std();
            let mut gate = self.endpoint.gate.lock();
            let is_wanted = !gate.line.is_empty();
            let ended = Ended { strain, tunnel, in_flight: gate.in_flight, is_wanted };
            let is_halved = gate.allowance.handle(&ended, now);
            let was_open = gate.breaker.is_open();
            gate.breaker.record(health, now);
            let is_open = gate.breaker.is_open();
            if is_open && !was_open {
                gate.allowance.restart();
            }
            (is_halved, gate.allowance.limit(), was_open, is_open)
        };
        self.give_back();
        let (tenant, url) = (&self.endpoint.server.tenant, &self.endpoint.url);
        match (was_open, is_open) {
            (false, true) => {
                tracing::warn!(tenant.id = %tenant, %url, reason, "business server is down: one probe at a time until it responds");
                Shift::Down
            }
            (true, false) => {
                tracing::info!(tenant.id = %tenant, %url, "business server responds again");
                Shift::Up
            }
            _ if is_halved => {
                tracing::info!(tenant.id = %tenant, %url, limit, reason, "business server is overloaded: fewer requests at a time");
                Shift::Overloaded
            }
            _ => Shift::None,
        }
    }

    fn give_back(&mut self) {
        self.is_over = true;
        self.endpoint.gate.lock().in_flight -= 1;
        self.endpoint.call();
    }
}

impl Drop for Turn {
    /// An attempt without an outcome: it was not made, or was cancelled.
    fn drop(&mut self) {
        if !self.is_over {
            self.endpoint.gate.lock().breaker.record(Health::Unknown, Instant::now().into_std());
            self.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::http_client::Flights;
    use crate::webhook::Demand;
    use crate::webhook::Endpoints;

    const SOON: Duration = Duration::from_millis(10);

    fn endpoint(max_in_flight: usize) -> Arc<Endpoint> {
        let endpoints = Endpoints::new(max_in_flight, Duration::from_secs(10), Flights::unbounded());
        endpoints.endpoint(&TenantId::new("t"), "http://h.example/").expect("valid")
    }

    async fn admitted(endpoint: &Arc<Endpoint>) -> Permits<'_> {
        let deadline = Instant::now() + Duration::from_secs(100);
        admit(endpoint, &endpoint.server.tenant, false, deadline).await.expect("its turn comes")
    }

    fn end(health: Health, strain: Strain) -> End<'static> {
        End { health, strain, tunnel: TunnelId::from_bytes([0; 16]), reason: "" }
    }

    fn ok() -> End<'static> {
        end(Health::Up, Strain::Answered(SOON))
    }

    fn open(endpoint: &Endpoint) {
        let now = Instant::now().into_std();
        (0..10).for_each(|_| {
            endpoint.gate.lock().breaker.record(Health::Down, now);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_given_in_the_order_of_asking_to_those_that_still_wait() {
        let endpoint = endpoint(1);
        let first = admitted(&endpoint).await;
        let order = Arc::new(parking_lot::Mutex::new(vec![]));
        let mut waiting = tokio::task::JoinSet::new();
        for (number, is_late) in [(0, false), (1, true), (2, false), (3, false)] {
            let (endpoint, order) = (Arc::clone(&endpoint), Arc::clone(&order));
            waiting.spawn(async move {
                let deadline = Instant::now() + if number == 0 { SOON } else { 100 * SOON };
                if let Some(permits) = admit(&endpoint, &endpoint.server.tenant, is_late, deadline).await {
                    order.lock().push(number);
                    permits.end(&ok());
                }
            });
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(2 * SOON).await;
        assert_eq!(endpoint.demand(), Demand { in_flight: 1, limit: 1, waiting: 4, is_down: false });

        first.end(&ok());
        waiting.join_all().await;

        assert_eq!(*order.lock(), [2, 3, 1], "the time of 0 was over");
        assert_eq!(endpoint.demand(), Demand { in_flight: 0, limit: 1, waiting: 0, is_down: false });
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_panics_is_followed_by_another() {
        let endpoint = endpoint(8);
        open(&endpoint);
        let probe = tokio::spawn({
            let endpoint = Arc::clone(&endpoint);
            async move {
                let _permits = admitted(&endpoint).await;
                panic!("in the middle of a probe");
            }
        });
        assert!(probe.await.expect_err("it panicked").is_panic());

        admitted(&endpoint).await.end(&ok());

        assert_eq!((endpoint.demand().in_flight, endpoint.gate.lock().breaker.is_open()), (0, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_task_is_dropped_is_followed_by_another() {
        let endpoint = endpoint(8);
        open(&endpoint);
        let probe = tokio::spawn({
            let endpoint = Arc::clone(&endpoint);
            async move {
                let _permits = admitted(&endpoint).await;
                std::future::pending::<()>().await;
            }
        });
        while endpoint.demand().in_flight == 0 {
            tokio::time::sleep(SOON).await;
        }
        probe.abort();

        admitted(&endpoint).await.end(&ok());

        assert_eq!(endpoint.demand().in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_they_come_one_by_one_and_then_as_before() {
        let endpoint = endpoint(64);
        (0..10).for_each(|_| {
            let turn = endpoint.ask(false).expect("it is closed");
            let (server, flight) = endpoint.server.take(&endpoint.server.tenant).expect("free");
            Permits { turn, server, flight }.end(&end(Health::Down, Strain::Refused));
        });
        let mut crowd = tokio::task::JoinSet::new();
        let begun = Instant::now();
        let ends = Arc::new(parking_lot::Mutex::new(BTreeMap::<u128, usize>::new()));
        for _ in 0..127 {
            let (endpoint, ends) = (Arc::clone(&endpoint), Arc::clone(&ends));
            crowd.spawn(async move {
                let permits = admitted(&endpoint).await;
                tokio::time::sleep(SOON).await;
                *ends.lock().entry(begun.elapsed().as_millis()).or_default() += 1;
                permits.end(&ok());
            });
        }

        crowd.join_all().await;

        let ends = ends.lock();
        assert_eq!(ends.values().copied().collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64]);
        assert!(ends.keys().next().is_some_and(|first| *first >= 1_000));
    }

    /// A URL with many requests waiting for the server's permits does not block another URL.
    #[tokio::test(start_paused = true)]
    async fn the_urls_of_a_server_take_turns() {
        let endpoints = Endpoints::new(2, Duration::from_secs(10), Flights::unbounded());
        let url = |path: usize| endpoints.endpoint(&TenantId::new("t"), &format!("http://h.example/{path}"));
        let busy = [0, 1, 2, 3].map(|path| url(path).expect("valid"));
        let held = [0, 1, 2, 3].map(|number| busy[number].server.permits.try_acquire_many(2).expect("free"));
        let mut order = vec![];
        let (told, mut heard) = tokio::sync::mpsc::channel(3);
        for (name, url_number) in [("a1", 4), ("a2", 4), ("b", 5)] {
            let (endpoint, told) = (url(url_number).expect("valid"), told.clone());
            tokio::spawn(async move {
                let permits = admitted(&endpoint).await;
                told.send(name).await.expect("heard");
                tokio::time::sleep(SOON).await;
                permits.end(&ok());
            });
            tokio::task::yield_now().await;
        }
        let mut held = held.into_iter();
        let mut one = held.next().expect("four of them");
        drop(one.split(1));
        for _ in 0..3 {
            order.push(heard.recv().await.expect("told"));
        }
        assert_eq!(order, ["a1", "b", "a2"]);
    }
}

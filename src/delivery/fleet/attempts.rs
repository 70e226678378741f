//! Events that are out at connectors: one attempt each, from its choice to its answer or loss.

use std::time::Duration;
use std::time::Instant;

use super::choice::Instance;
use super::choice::Session;
use super::choice::Wanted;
use super::flight::Flight;
use super::flight::FlightId;
use super::flight::Look;
use super::flight::Place;
use super::members::Fleet;
use crate::id::TunnelId;

/// An event whose connection ended is repeated at another connector after this time: its own connector may come back until then.
const ELSEWHERE_AFTER: Duration = Duration::from_millis(250);

impl<L, A> Fleet<L, A> {
    /// Begins an attempt at a connection; `answer` is handed out with its answer. `None` if the connection has ended, or an attempt
    /// for this id is out.
    pub fn begin(&mut self, id: &str, tunnel: TunnelId, attempt: u32, session: Session, answer: A) -> Option<FlightId> {
        let instance = self.member(session)?.instance;
        if self.flights.contains_key(id) {
            return None;
        }
        self.begun += 1;
        let (number, place) = (FlightId(self.begun), Place::At { session, was_sent: false });
        self.flights.insert(id.into(), Flight { number, tunnel, attempt, instance, place, answer });
        Some(number)
    }

    /// The attempt for this id that is out.
    pub fn out(&self, id: &str) -> Option<(FlightId, u32)> {
        self.flights.get(id).map(|flight| (flight.number, flight.attempt))
    }

    /// Notes that an attempt is being sent over this connection. False if it must not be: it has ended.
    pub fn send(&mut self, id: &str, number: FlightId, session: Session) -> bool {
        let Some(flight) = self.flights.get_mut(id).filter(|flight| flight.number == number) else { return false };
        let is_there = matches!(flight.place, Place::At { session: own, .. } if own == session);
        if is_there {
            flight.place = Place::at(session);
        }
        is_there
    }

    /// Notes that an attempt was not sent after all, as the node of the connection says.
    pub fn take_back(&mut self, id: &str, number: FlightId) {
        if let Some(flight) = self.flights.get_mut(id).filter(|flight| flight.number == number)
            && let Place::At { was_sent, .. } = &mut flight.place
        {
            *was_sent = false;
        }
    }

    /// Notes that the node of a connection has lost an attempt; false if it is not out there.
    pub fn lose(&mut self, id: &str, attempt: u32, session: Session, was_sent: bool) -> bool {
        let Some(flight) = self.flights.get_mut(id).filter(|flight| flight.attempt == attempt) else { return false };
        let is_there = match flight.place {
            Place::At { session: own, .. } => own == session,
            Place::Adrift { .. } => true,
            Place::Lost { .. } => false,
        };
        if is_there {
            flight.place = Place::Lost { was_sent };
        }
        is_there
    }

    /// Notes that an attempt could not be sent over this connection.
    pub fn unsent(&mut self, id: &str, number: FlightId, session: Session) {
        let place = Place::At { session, was_sent: false };
        let is_it = |flight: &&mut Flight<A>| flight.number == number && flight.place == place;
        if let Some(flight) = self.flights.get_mut(id).filter(is_it) {
            flight.place = Place::Lost { was_sent: false };
        }
    }

    /// The attempts that were sent and are not answered: id, number and connection of each.
    pub fn sent(&self) -> impl Iterator<Item = (&str, u32, Session)> {
        self.flights.iter().filter_map(|(id, flight)| match flight.place {
            Place::At { session, was_sent: true } => Some((&**id, flight.attempt, session)),
            _ => None,
        })
    }

    /// Ends an attempt that a process has answered. `None` for an answer that does not fit: a late one, a second one, or one for an
    /// event that the process never got.
    pub fn answer(&mut self, instance: Instance, id: &str, attempt: u32) -> Option<A> {
        let flight = self.flights.get(id)?;
        let was_sent = !matches!(flight.place, Place::At { was_sent: false, .. } | Place::Lost { was_sent: false });
        if flight.instance != instance || flight.attempt != attempt || !was_sent {
            return None;
        }
        self.flights.remove(id).map(|flight| flight.answer)
    }

    /// Ends an attempt without an answer. Returns the connection where it must be cancelled, if there is one, and whether it was sent.
    pub fn end(&mut self, id: &str, number: FlightId) -> Option<(Option<Session>, bool)> {
        self.flights.get(id).filter(|flight| flight.number == number)?;
        let flight = self.flights.remove(id)?;
        Some(match flight.place {
            Place::At { session, was_sent } => (was_sent.then_some(session), was_sent),
            Place::Adrift { .. } => (None, true),
            Place::Lost { was_sent } => (None, was_sent),
        })
    }

    /// What an attempt waits for now.
    pub fn look(&self, id: &str, wanted: &Wanted<'_>, now: Instant) -> Look {
        match self.flights.get(id) {
            Some(Flight { place: Place::Lost { was_sent }, .. }) => Look::Lost { was_sent: *was_sent },
            Some(Flight { place: Place::Adrift { since }, tunnel, .. }) if self.choose(*tunnel, wanted).is_some() => {
                let until = *since + ELSEWHERE_AFTER;
                if now >= until { Look::Lost { was_sent: true } } else { Look::WaitUntil(until) }
            }
            _ => Look::Wait,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may pick its start")]
mod tests {
    use super::super::choice::Take;
    use super::super::members::Member;
    use super::*;

    const ID: &str = "msg_t_1";
    const TUNNEL: [u8; 16] = [1; 16];

    fn member(session: u128, is_local: bool) -> Member<()> {
        let (take, instance) = (Take::Named("ann".parse().expect("a name")), Instance::parse(&"1".repeat(32)));
        let instance = instance.expect("128 bits");
        Member { session: Session(session), instance, take, is_local, is_draining: false, link: () }
    }

    /// A connector of another node, and an attempt that it has.
    fn sent() -> (Fleet<(), ()>, FlightId) {
        let mut fleet = Fleet::default();
        fleet.join(member(1, false), |_, ()| false);
        let begun = fleet.begin(ID, TunnelId::from_bytes(TUNNEL), 1, Session(1), ()).expect("it is there");
        assert!(fleet.send(ID, begun, Session(1)));
        (fleet, begun)
    }

    fn look(fleet: &Fleet<(), ()>) -> Look {
        fleet.look(ID, &Wanted::Named(&"ann".parse().expect("a name")), Instant::now())
    }

    #[test]
    fn another_node_loses_only_what_is_out_there() {
        let (mut fleet, _) = sent();
        assert!(!fleet.lose(ID, 2, Session(1), true), "another attempt");
        assert!(!fleet.lose(ID, 1, Session(2), true), "another connection");
        assert_eq!(look(&fleet), Look::Wait);
        assert!(fleet.lose(ID, 1, Session(1), true));
        assert_eq!(look(&fleet), Look::Lost { was_sent: true });

        let (mut fleet, _) = sent();
        fleet.leave(Session(1), Instant::now());
        fleet.join(member(2, true), |_, ()| true);
        assert!(!fleet.lose(ID, 1, Session(1), true), "its process has brought it along");
        assert_eq!(look(&fleet), Look::Wait);
    }

    #[test]
    fn an_attempt_that_is_taken_back_was_not_sent() {
        let (mut fleet, begun) = sent();
        fleet.take_back(ID, begun);
        assert!(fleet.begin(ID, TunnelId::from_bytes(TUNNEL), 1, Session(1), ()).is_none(), "one is out");
        assert_eq!(fleet.end(ID, begun), Some((None, false)));

        let again = fleet.begin(ID, TunnelId::from_bytes(TUNNEL), 1, Session(1), ()).expect("none is out");
        assert_eq!(fleet.end(ID, begun), None, "the number of the attempt is the same, and it is another one");
        assert!(fleet.send(ID, again, Session(1)));
        assert_eq!(fleet.end(ID, again), Some((Some(Session(1)), true)));
    }
}

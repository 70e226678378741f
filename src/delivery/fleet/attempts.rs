//! Events that are out at connectors: one attempt each, from its choice to its answer or loss.

use std::time::Duration;
use std::time::Instant;

use super::choice::Instance;
use super::choice::Session;
use super::choice::Wanted;
use super::flight::Flight;
use super::flight::Look;
use super::flight::Place;
use super::members::Fleet;
use crate::id::TunnelId;

/// An event whose connection ended is repeated at another connector after this time: its own connector may come back until then.
const ELSEWHERE_AFTER: Duration = Duration::from_millis(250);

impl<L, A> Fleet<L, A> {
    /// Begins an attempt at a connection; `answer` is handed out with its answer. False if the connection has ended, or an attempt
    /// for this id is out.
    pub fn begin(&mut self, id: &str, tunnel: TunnelId, attempt: u32, session: Session, answer: A) -> bool {
        let Some(instance) = self.member(session).map(|member| member.instance) else { return false };
        if self.flights.contains_key(id) {
            return false;
        }
        let place = Place::At { session, was_sent: false };
        self.flights.insert(id.into(), Flight { tunnel, attempt, instance, place, answer });
        true
    }

    /// Notes that an attempt is being sent over this connection. False if it must not be: it has ended.
    pub fn send(&mut self, id: &str, attempt: u32, session: Session) -> bool {
        let Some(flight) = self.flights.get_mut(id).filter(|flight| flight.attempt == attempt) else { return false };
        let is_there = matches!(flight.place, Place::At { session: own, .. } if own == session);
        if is_there {
            flight.place = Place::at(session);
        }
        is_there
    }

    /// Notes that an attempt could not be sent over this connection.
    pub fn unsent(&mut self, id: &str, attempt: u32, session: Session) {
        let place = Place::At { session, was_sent: false };
        if let Some(flight) =
            self.flights.get_mut(id).filter(|flight| flight.attempt == attempt && flight.place == place)
        {
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
    pub fn end(&mut self, id: &str, attempt: u32) -> Option<(Option<Session>, bool)> {
        self.flights.get(id).filter(|flight| flight.attempt == attempt)?;
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

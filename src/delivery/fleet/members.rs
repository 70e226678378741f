//! The connections of a tenant's connectors, and the choice among them.

use std::collections::HashMap;
use std::time::Instant;

use super::choice::Instance;
use super::choice::Session;
use super::choice::Take;
use super::choice::Wanted;
use super::flight::Flight;
use super::flight::Place;
use crate::id::TunnelId;

/// A live connection of a connector. `L` leads to it.
#[derive(Debug)]
pub struct Member<L> {
    /// The connection.
    pub session: Session,
    /// The process at its other end.
    pub instance: Instance,
    /// The events that it takes.
    pub take: Take,
    /// Whether it ends at this node.
    pub is_local: bool,
    /// Whether it takes nothing new.
    pub is_draining: bool,
    /// The way to it.
    pub link: L,
}

/// The connectors of a tenant, and the events out at them. `A` takes the answer to an event.
#[derive(Debug)]
pub struct Fleet<L, A> {
    /// In the order in which they joined.
    pub(super) members: Vec<Member<L>>,
    pub(super) flights: HashMap<Box<str>, Flight<A>>,
    /// How many attempts have begun.
    pub(super) begun: u64,
}

impl<L, A> Default for Fleet<L, A> {
    fn default() -> Self {
        Self { members: vec![], flights: HashMap::new(), begun: 0 }
    }
}

impl<L, A> Fleet<L, A> {
    /// Whether there is neither a connector nor an event out.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.flights.is_empty()
    }

    /// All connections.
    pub fn members(&self) -> impl Iterator<Item = &Member<L>> {
        self.members.iter()
    }

    /// A connection.
    pub fn member(&self, session: Session) -> Option<&Member<L>> {
        self.members.iter().find(|member| member.session == session)
    }

    /// Adds a connection. Events that its process had received over a connection that has ended go on if it says that they are
    /// pending there, and are lost otherwise.
    pub fn join(&mut self, member: Member<L>, is_pending: impl Fn(&str, &A) -> bool) {
        for (id, flight) in &mut self.flights {
            if flight.instance == member.instance && matches!(flight.place, Place::Adrift { .. }) {
                flight.place = if is_pending(id, &flight.answer) {
                    Place::at(member.session)
                } else {
                    Place::Lost { was_sent: true }
                };
            }
        }
        self.members.push(member);
    }

    /// Removes a connection that has ended. Events that were not sent yet are lost, the others are adrift.
    pub fn leave(&mut self, session: Session, now: Instant) -> Option<Member<L>> {
        let at = self.members.iter().position(|member| member.session == session)?;
        for flight in self.flights.values_mut() {
            match flight.place {
                Place::At { session: own, was_sent: true } if own == session => {
                    flight.place = Place::Adrift { since: now };
                }
                Place::At { session: own, was_sent: false } if own == session => {
                    flight.place = Place::Lost { was_sent: false };
                }
                _ => {}
            }
        }
        Some(self.members.remove(at))
    }

    /// Lets a connection take nothing new.
    pub fn drain(&mut self, session: Session) {
        self.set_draining(session, true);
    }

    /// Lets a connection take new events or not; whether that is new.
    pub fn set_draining(&mut self, session: Session, is_draining: bool) -> bool {
        let member = self.members.iter_mut().find(|member| member.session == session);
        member.is_some_and(|member| std::mem::replace(&mut member.is_draining, is_draining) != is_draining)
    }

    /// The connector for the next event of `tunnel`: at this node if there is one, and among several always the same one while it
    /// stays; of its connections the last.
    pub fn choose(&self, tunnel: TunnelId, wanted: &Wanted<'_>) -> Option<&Member<L>> {
        let candidates = || self.members.iter().filter(|member| !member.is_draining && member.take.takes(wanted));
        let has_local = candidates().any(|member| member.is_local);
        candidates().filter(|member| member.is_local == has_local).max_by_key(|member| member.instance.weight(tunnel))
    }
}

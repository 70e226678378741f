//! Answers that the gateway may not have got: they are sent again on the next connection.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::protocol::connector::Answer;
use crate::protocol::connector::Failure;

/// Answers kept at most. A window is smaller, and the gateway confirms every few seconds.
const MOST: usize = 1_024;

/// What became of an attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Done {
    /// The business server answered with this body.
    Answered(Answer, Bytes),
    /// It did not.
    Failed(Failure),
}

impl Done {
    /// Id and attempt of the event.
    pub fn key(&self) -> (&str, u32) {
        match self {
            Self::Answered(answer, _) => (&answer.id, answer.attempt),
            Self::Failed(failure) => (&failure.id, failure.attempt),
        }
    }

    /// Head and body of the message.
    pub(super) fn message(&self) -> (Vec<u8>, Bytes) {
        match self {
            Self::Answered(answer, body) => (answer.head(), body.clone()),
            Self::Failed(failure) => (failure.head(), Bytes::new()),
        }
    }
}

/// Where and when an answer was sent.
#[derive(Debug)]
struct Sent {
    done: Done,
    /// Its connection, and the number of the next ping on it, whose pong confirms it. None while there is no connection.
    on: Option<(u32, u64)>,
}

/// The answers, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed(VecDeque<Sent>);

impl Unconfirmed {
    /// Adds an answer that was sent on connection `on.0` before its ping `on.1`.
    pub(super) fn push(&mut self, done: Done, on: Option<(u32, u64)>) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(Sent { done, on });
    }

    /// The pong to ping `number` came on `link`: what was sent before it has arrived.
    pub(super) fn confirm(&mut self, link: u32, number: u64) {
        self.0.retain(|sent| !matches!(sent.on, Some((on, ping)) if on == link && ping <= number));
    }

    /// An attempt of this event came: the gateway does not wait for answers to earlier ones.
    pub(super) fn forget(&mut self, id: &str) {
        self.0.retain(|sent| sent.done.key().0 != id);
    }

    /// Ids of their events.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|sent| sent.done.key().0)
    }

    /// Whether there is one that no connection has taken yet.
    pub(super) fn has_unsent(&self) -> bool {
        self.0.iter().any(|sent| sent.on.is_none())
    }

    /// The messages whose connection is gone, to be sent again, now on connection `on.0` before its ping `on.1`.
    pub(super) fn resend(&mut self, on: (u32, u64), is_there: impl Fn(u32) -> bool) -> Vec<(Vec<u8>, Bytes)> {
        let mut again = vec![];
        for sent in self.0.iter_mut().filter(|sent| !sent.on.is_some_and(|(link, _)| is_there(link))) {
            sent.on = Some(on);
            again.push(sent.done.message());
        }
        again
    }
}

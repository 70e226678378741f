//! This node among the others: what it asks them, and what they want from it. Owners decide; nobody keeps a table of tunnels.

mod answer;
mod hints;
mod member;
mod question;
mod remote;
mod undecided;

pub(in crate::gateway) use hints::Hints;
pub(in crate::gateway) use question::Ids;
pub(in crate::gateway) use question::Joined;
pub(in crate::gateway) use question::Listed;
pub(in crate::gateway) use question::Question;
pub(in crate::gateway) use question::Reached;
pub(in crate::gateway) use question::read_answer;
pub(in crate::gateway) use undecided::Fate;
pub(in crate::gateway) use undecided::Open;

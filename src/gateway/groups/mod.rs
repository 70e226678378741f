//! Groups and users: which tunnels are in them, and what is sent to all of them.

mod broadcast;
mod membership;

pub(in crate::gateway) use broadcast::Except;

//! Groups and users: membership of tunnels, and commands for all of them.

mod broadcast;
mod membership;

pub(in crate::gateway) use broadcast::Except;

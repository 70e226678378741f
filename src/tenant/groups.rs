//! Which of a tenant's open tunnels are in which groups, and whose they are.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::ops::Bound;

use parking_lot::Mutex;

use crate::id::TunnelId;
use crate::protocol::native::Name;

/// Most groups that one tunnel may be in.
const MAX_GROUPS: usize = 64;

/// The tunnel is in as many groups as it may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the tunnel is in {MAX_GROUPS} groups, which is the limit: let it leave one first")]
pub struct TooManyGroups;

/// The groups and users of one tenant. A tunnel that has neither costs nothing here.
#[derive(Debug, Default)]
pub struct Groups(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    groups: HashMap<Name, BTreeSet<TunnelId>>,
    users: HashMap<Name, BTreeSet<TunnelId>>,
    members: HashMap<TunnelId, Member>,
}

#[derive(Debug, Default)]
struct Member {
    user: Option<Name>,
    groups: BTreeSet<Name>,
}

/// Some ids of a set, in a stable order, and how many there are altogether.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// How many ids the set has.
    pub count: usize,
    /// The ids of this page, ascending.
    pub tunnels: Vec<TunnelId>,
    /// Whether ids come behind these.
    pub has_more: bool,
}

impl Groups {
    /// Puts a tunnel into a group, if `is_open` says so then. True if it is open.
    ///
    /// `is_open` is asked while nothing else can change here, so that a tunnel which has ended is never put in behind its end.
    ///
    /// # Errors
    ///
    /// If it is in too many groups.
    pub fn join(&self, tunnel: TunnelId, group: &Name, is_open: impl FnOnce() -> bool) -> Result<bool, TooManyGroups> {
        let mut state = self.0.lock();
        if !is_open() {
            return Ok(false);
        }
        let member = state.members.entry(tunnel).or_default();
        if !member.groups.contains(group) {
            if member.groups.len() >= MAX_GROUPS {
                return Err(TooManyGroups);
            }
            member.groups.insert(group.clone());
            state.groups.entry(group.clone()).or_default().insert(tunnel);
        }
        Ok(true)
    }

    /// Takes a tunnel out of a group.
    pub fn leave(&self, tunnel: TunnelId, group: &Name) {
        let mut state = self.0.lock();
        let Some(member) = state.members.get_mut(&tunnel) else { return };
        if member.groups.remove(group) {
            remove(&mut state.groups, group, tunnel);
        }
        state.forget_if_alone(tunnel);
    }

    /// Makes a tunnel this user's, if `is_open` says so then: see [`join`](Self::join). True if it is open.
    pub fn set_user(&self, tunnel: TunnelId, user: &Name, is_open: impl FnOnce() -> bool) -> bool {
        let mut state = self.0.lock();
        if !is_open() {
            return false;
        }
        let before = state.members.entry(tunnel).or_default().user.replace(user.clone());
        if let Some(before) = before.filter(|before| before != user) {
            remove(&mut state.users, &before, tunnel);
        }
        state.users.entry(user.clone()).or_default().insert(tunnel);
        true
    }

    /// The tunnel has ended.
    pub fn remove(&self, tunnel: TunnelId) {
        let mut state = self.0.lock();
        let Some(member) = state.members.remove(&tunnel) else { return };
        if let Some(user) = &member.user {
            remove(&mut state.users, user, tunnel);
        }
        for group in &member.groups {
            remove(&mut state.groups, group, tunnel);
        }
    }

    /// The user of a tunnel, and its groups in order.
    pub fn of(&self, tunnel: TunnelId) -> (Option<Name>, Vec<Name>) {
        let state = self.0.lock();
        let member = state.members.get(&tunnel);
        member.map_or((None, vec![]), |member| (member.user.clone(), member.groups.iter().cloned().collect()))
    }

    /// All tunnels of a group, ascending.
    pub fn in_group(&self, group: &Name) -> Vec<TunnelId> {
        self.0.lock().groups.get(group).map_or(vec![], |tunnels| tunnels.iter().copied().collect())
    }

    /// All tunnels of a user, ascending.
    pub fn of_user(&self, user: &Name) -> Vec<TunnelId> {
        self.0.lock().users.get(user).map_or(vec![], |tunnels| tunnels.iter().copied().collect())
    }

    /// At most `limit` tunnels of a group that come behind `after`; none if nobody is in the group.
    pub fn group_page(&self, group: &Name, after: Option<TunnelId>, limit: usize) -> Option<Page> {
        self.0.lock().groups.get(group).map(|tunnels| page(tunnels, after, limit))
    }

    /// At most `limit` tunnels of a user that come behind `after`; none if the user has no tunnel.
    pub fn user_page(&self, user: &Name, after: Option<TunnelId>, limit: usize) -> Option<Page> {
        self.0.lock().users.get(user).map(|tunnels| page(tunnels, after, limit))
    }
}

impl State {
    fn forget_if_alone(&mut self, tunnel: TunnelId) {
        if self.members.get(&tunnel).is_some_and(|member| member.user.is_none() && member.groups.is_empty()) {
            self.members.remove(&tunnel);
        }
    }
}

fn remove(sets: &mut HashMap<Name, BTreeSet<TunnelId>>, name: &Name, tunnel: TunnelId) {
    if let Some(set) = sets.get_mut(name) {
        set.remove(&tunnel);
        if set.is_empty() {
            sets.remove(name);
        }
    }
}

fn page(tunnels: &BTreeSet<TunnelId>, after: Option<TunnelId>, limit: usize) -> Page {
    let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = tunnels.range((begin, Bound::Unbounded)).copied();
    let ids = rest.by_ref().take(limit).collect();
    Page { count: tunnels.len(), tunnels: ids, has_more: rest.next().is_some() }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;

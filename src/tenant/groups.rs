//! Groups and users of a tenant's open tunnels.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::ops::Bound;

use parking_lot::Mutex;
use serde::Deserialize;
use serde::Serialize;

use crate::id::TunnelId;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;

/// Limit of groups per tunnel.
const MAX_GROUPS: usize = 64;

/// The tunnel has reached the limit of groups.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the tunnel is in {MAX_GROUPS} groups, which is the limit: let it leave one first")]
pub struct TooManyGroups;

/// The tenant has as many groups and users as it may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the groups and users of this tenant take {limit_kib} KiB, which is the limit (1 KiB for each of webhook.max_pending_closes): \
     let tunnels leave groups first"
)]
pub struct NoRoomForNames {
    /// The limit.
    pub limit_kib: u64,
}

/// Measured memory of a group or user beside its name, here and in what the nodes share.
const NAME_BYTES: u64 = 512;
/// How often its name is stored.
const COPIES: u64 = 3;

/// The groups and users of one tenant. A tunnel without either costs nothing.
#[derive(Debug, Default)]
pub struct Groups(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    audiences: HashMap<Audience, BTreeSet<TunnelId>>,
    /// What the audiences take, beside their members.
    bytes: u64,
    members: HashMap<TunnelId, Member>,
}

#[derive(Debug, Default)]
struct Member {
    user: Option<Name>,
    session: Option<Name>,
    groups: BTreeSet<Name>,
}

impl Member {
    fn is_alone(&self) -> bool {
        self.user.is_none() && self.session.is_none() && self.groups.is_empty()
    }
}

/// A page of tunnels in ascending order, with the total.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// The total number of tunnels.
    pub count: usize,
    /// The tunnels of this page, ascending.
    pub tunnels: Vec<Listed>,
    /// Whether more tunnels follow.
    pub has_more: bool,
}

/// A tunnel in a list.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Listed {
    /// Its id.
    pub tunnel: TunnelId,
    /// Its user, if it has one.
    pub user: Option<Name>,
}

/// The groups or the users of a tenant.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Roster {
    /// Its groups with open tunnels.
    Groups,
    /// Its users with open tunnels.
    Users,
}

/// A page of groups or users in ascending order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamePage {
    /// The names, each with the number of its tunnels.
    pub names: Vec<(Name, usize)>,
    /// Whether more names follow.
    pub has_more: bool,
}

impl Groups {
    /// Checks that a group or user exists, or may be added.
    ///
    /// # Errors
    ///
    /// If all of them would take more than `limit_kib`.
    pub fn check_room(&self, audience: &Audience, limit_kib: u64) -> Result<(), NoRoomForNames> {
        let state = self.0.lock();
        let is_known = state.audiences.contains_key(audience);
        let fits = || state.bytes + bytes(audience) <= limit_kib.saturating_mul(1_024);
        if is_known || fits() { Ok(()) } else { Err(NoRoomForNames { limit_kib }) }
    }

    /// Adds a tunnel to a group if `is_open`; returns that.
    ///
    /// `is_open` runs under the lock, so that an ended tunnel is never added after its removal.
    ///
    /// # Errors
    ///
    /// If the tunnel has reached the limit of groups.
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
            state.add(Audience::Group(group.clone()), tunnel);
        }
        Ok(true)
    }

    /// Removes a tunnel from a group; returns the group if it is empty now.
    pub fn leave(&self, tunnel: TunnelId, group: &Name) -> Option<Audience> {
        let mut state = self.0.lock();
        if !state.members.get_mut(&tunnel)?.groups.remove(group) {
            return None;
        }
        state.forget_if_alone(tunnel);
        state.remove(Audience::Group(group.clone()), tunnel)
    }

    /// Sets the user of a tunnel if `is_open`: see [`join`](Self::join). `None` if it is not open; else the former
    /// user, if it has no tunnel now.
    pub fn set_user(&self, tunnel: TunnelId, user: &Name, is_open: impl FnOnce() -> bool) -> Option<Option<Audience>> {
        let mut state = self.0.lock();
        if !is_open() {
            return None;
        }
        let before = state.members.entry(tunnel).or_default().user.replace(user.clone());
        state.add(Audience::User(user.clone()), tunnel);
        let before = before.filter(|before| before != user);
        Some(before.and_then(|before| state.remove(Audience::User(before), tunnel)))
    }

    /// Notes the session that a new tunnel was opened with, if `is_open`: see [`join`](Self::join).
    pub fn set_session(&self, tunnel: TunnelId, session: &Name, is_open: impl FnOnce() -> bool) {
        let mut state = self.0.lock();
        if is_open() {
            state.members.entry(tunnel).or_default().session = Some(session.clone());
            state.add(Audience::Session(session.clone()), tunnel);
        }
    }

    /// Removes an ended tunnel; returns the groups and user that are empty now.
    pub fn remove(&self, tunnel: TunnelId) -> Vec<Audience> {
        let mut state = self.0.lock();
        let Some(member) = state.members.remove(&tunnel) else { return vec![] };
        let groups = member.groups.into_iter().map(Audience::Group);
        let session = member.session.map(Audience::Session);
        let audiences = member.user.map(Audience::User).into_iter().chain(session).chain(groups);
        audiences.filter_map(|audience| state.remove(audience, tunnel)).collect()
    }

    /// The user of a tunnel, and its groups in order.
    pub fn of(&self, tunnel: TunnelId) -> (Option<Name>, Vec<Name>) {
        let state = self.0.lock();
        let member = state.members.get(&tunnel);
        member.map_or((None, vec![]), |member| (member.user.clone(), member.groups.iter().cloned().collect()))
    }

    /// Whether the group or user has a tunnel.
    pub fn has(&self, audience: &Audience) -> bool {
        self.0.lock().audiences.contains_key(audience)
    }

    /// All tunnels of a group or user, ascending.
    pub fn tunnels(&self, audience: &Audience) -> Vec<TunnelId> {
        self.0.lock().audiences.get(audience).map_or(vec![], |tunnels| tunnels.iter().copied().collect())
    }

    /// At most `limit` tunnels of a group or user after `after`.
    pub fn page(&self, audience: &Audience, after: Option<TunnelId>, limit: usize) -> Page {
        let state = self.0.lock();
        let Some(tunnels) = state.audiences.get(audience) else { return Page::default() };
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = tunnels.range((begin, Bound::Unbounded)).copied();
        let page = rest.by_ref().take(limit).map(|tunnel| state.listed(tunnel)).collect();
        Page { count: tunnels.len(), tunnels: page, has_more: rest.next().is_some() }
    }

    /// At most `limit` of `tunnels` after `after`, the smallest ones.
    pub fn page_of(&self, tunnels: impl Iterator<Item = TunnelId>, after: Option<TunnelId>, limit: usize) -> Page {
        let (mut count, mut has_more, mut smallest) = (0, false, BinaryHeap::new());
        for tunnel in tunnels {
            count += 1;
            if after.is_none_or(|after| tunnel > after) {
                smallest.push(tunnel);
                has_more |= smallest.len() > limit;
                if smallest.len() > limit {
                    smallest.pop();
                }
            }
        }
        let state = self.0.lock();
        let tunnels = smallest.into_sorted_vec().into_iter().map(|tunnel| state.listed(tunnel)).collect();
        Page { count, tunnels, has_more }
    }

    /// At most `limit` groups or users after `after`.
    pub fn names(&self, roster: Roster, after: Option<&Name>, limit: usize) -> NamePage {
        let (mut has_more, mut smallest) = (false, BTreeMap::new());
        for (audience, tunnels) in &self.0.lock().audiences {
            let name = match (audience, roster) {
                (Audience::Group(name), Roster::Groups) | (Audience::User(name), Roster::Users) => name,
                _ => continue,
            };
            if after.is_none_or(|after| name > after) {
                smallest.insert(name.clone(), tunnels.len());
                has_more |= smallest.len() > limit;
                if smallest.len() > limit {
                    smallest.pop_last();
                }
            }
        }
        NamePage { names: smallest.into_iter().collect(), has_more }
    }
}

impl NamePage {
    /// Merges pages of at most `limit` names each. The tunnels of a name are on any number of nodes.
    pub fn merge(pages: impl IntoIterator<Item = Self>, limit: usize) -> Self {
        let (mut has_more, mut names) = (false, BTreeMap::new());
        for page in pages {
            has_more |= page.has_more;
            for (name, tunnels) in page.names {
                *names.entry(name).or_default() += tunnels;
            }
        }
        has_more |= names.len() > limit;
        Self { names: names.into_iter().take(limit).collect(), has_more }
    }
}

/// What a group or user takes, beside its members.
fn bytes(audience: &Audience) -> u64 {
    let (Audience::Group(name) | Audience::User(name) | Audience::Session(name) | Audience::Connector(name)) = audience;
    NAME_BYTES + COPIES * name.as_str().len() as u64
}

impl Page {
    /// Merges pages of at most `limit` tunnels each.
    pub fn merge(pages: impl IntoIterator<Item = Self>, limit: usize) -> Self {
        let mut merged = Self::default();
        for page in pages {
            merged.count += page.count;
            merged.tunnels.extend(page.tunnels);
            merged.has_more |= page.has_more;
        }
        merged.tunnels.sort_unstable();
        merged.has_more |= merged.tunnels.len() > limit;
        merged.tunnels.truncate(limit);
        merged
    }
}

impl State {
    fn add(&mut self, audience: Audience, tunnel: TunnelId) {
        let bytes = bytes(&audience);
        let tunnels = self.audiences.entry(audience).or_default();
        self.bytes += if tunnels.is_empty() { bytes } else { 0 };
        tunnels.insert(tunnel);
    }

    /// Removes a tunnel; returns the audience if it is empty now.
    fn remove(&mut self, audience: Audience, tunnel: TunnelId) -> Option<Audience> {
        let tunnels = self.audiences.get_mut(&audience)?;
        tunnels.remove(&tunnel);
        if !tunnels.is_empty() {
            return None;
        }
        self.audiences.remove(&audience);
        self.bytes -= bytes(&audience);
        Some(audience)
    }

    fn listed(&self, tunnel: TunnelId) -> Listed {
        Listed { tunnel, user: self.members.get(&tunnel).and_then(|member| member.user.clone()) }
    }

    fn forget_if_alone(&mut self, tunnel: TunnelId) {
        if self.members.get(&tunnel).is_some_and(|member| member.is_alone()) {
            self.members.remove(&tunnel);
        }
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;

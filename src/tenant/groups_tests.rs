//! Groups and users against the simplest model: a list of facts.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn tunnel(number: u8) -> TunnelId {
    TunnelId::from_bytes([number; 16])
}

fn name(number: u8) -> Name {
    Name::new(&format!("n{number}")).expect("a name")
}

fn in_group(number: u8) -> Audience {
    Audience::Group(name(number))
}

fn of_user(number: u8) -> Audience {
    Audience::User(name(number))
}

#[derive(Clone, Debug)]
enum Step {
    Open(u8),
    Join(u8, u8),
    Leave(u8, u8),
    User(u8, u8),
    End(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (tunnel, name) = (0..6_u8, 0..4_u8);
    let step = prop_oneof![
        tunnel.clone().prop_map(Step::Open),
        (tunnel.clone(), name.clone()).prop_map(|(tunnel, group)| Step::Join(tunnel, group)),
        (tunnel.clone(), name.clone()).prop_map(|(tunnel, group)| Step::Leave(tunnel, group)),
        (tunnel.clone(), name).prop_map(|(tunnel, user)| Step::User(tunnel, user)),
        tunnel.prop_map(Step::End),
    ];
    prop::collection::vec(step, 0..80)
}

/// Facts: open tunnels, their groups and their users.
#[derive(Default)]
struct Oracle {
    open: HashSet<u8>,
    memberships: HashSet<(u8, u8)>,
    users: HashSet<(u8, u8)>,
}

impl Oracle {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open(tunnel) => {
                self.open.insert(tunnel);
            }
            Step::Join(tunnel, group) if self.open.contains(&tunnel) => {
                self.memberships.insert((tunnel, group));
            }
            Step::Leave(tunnel, group) => {
                self.memberships.remove(&(tunnel, group));
            }
            Step::User(tunnel, user) if self.open.contains(&tunnel) => {
                self.users.retain(|(owned, _)| *owned != tunnel);
                self.users.insert((tunnel, user));
            }
            Step::End(tunnel) => {
                self.open.remove(&tunnel);
                self.memberships.retain(|(member, _)| *member != tunnel);
                self.users.retain(|(owned, _)| *owned != tunnel);
            }
            Step::Join(..) | Step::User(..) => {}
        }
    }

    fn tunnels(facts: &HashSet<(u8, u8)>, name: u8) -> Vec<TunnelId> {
        let mut tunnels: Vec<_> = facts.iter().filter(|fact| fact.1 == name).map(|fact| tunnel(fact.0)).collect();
        tunnels.sort();
        tunnels
    }
}

proptest! {
    #[test]
    fn groups_and_users_are_what_was_said(steps in steps()) {
        let groups = Groups::default();
        let mut oracle = Oracle::default();
        // The audiences with tunnels, as counted from every reported end.
        let mut occupied = HashSet::new();
        for step in &steps {
            oracle.take(step);
            let is_open = |number: u8| oracle.open.contains(&number);
            let mut emptied = vec![];
            match *step {
                Step::Open(_) => {}
                Step::Join(number, group) => {
                    prop_assert_eq!(groups.join(tunnel(number), &name(group), || is_open(number)), Ok(is_open(number)));
                    if is_open(number) {
                        occupied.insert(in_group(group));
                    }
                }
                Step::Leave(number, group) => emptied.extend(groups.leave(tunnel(number), &name(group))),
                Step::User(number, user) => {
                    let set = groups.set_user(tunnel(number), &name(user), || is_open(number));
                    prop_assert_eq!(set.is_some(), is_open(number));
                    if is_open(number) {
                        occupied.insert(of_user(user));
                    }
                    emptied.extend(set.flatten());
                }
                Step::End(number) => emptied = groups.remove(tunnel(number)),
            }
            for audience in emptied {
                prop_assert!(occupied.remove(&audience), "{:?} was empty before", audience);
            }
            for number in 0..4 {
                prop_assert_eq!(groups.tunnels(&in_group(number)), Oracle::tunnels(&oracle.memberships, number));
                prop_assert_eq!(groups.tunnels(&of_user(number)), Oracle::tunnels(&oracle.users, number));
                for audience in [in_group(number), of_user(number)] {
                    let count = groups.tunnels(&audience).len();
                    prop_assert_eq!(groups.page(&audience, None, 2).count, count);
                    prop_assert_eq!((groups.has(&audience), occupied.contains(&audience)), (count > 0, count > 0));
                }
            }
        }
        oracle.open.iter().for_each(|number| drop(groups.remove(tunnel(*number))));
        let state = groups.0.lock();
        prop_assert!(state.audiences.is_empty() && state.members.is_empty(), "{:?}", state);
    }

    #[test]
    fn pages_of_several_nodes_are_one_list(
        nodes in prop::collection::vec(prop::collection::btree_set(any::<u8>(), 0..20), 1..4),
        limit in 1..6_usize,
    ) {
        let all: BTreeSet<TunnelId> = nodes.iter().flatten().map(|number| tunnel(*number)).collect();
        // A tunnel is on one node.
        let mut seen = HashSet::new();
        let nodes: Vec<Groups> = nodes.into_iter().map(|members| {
            let groups = Groups::default();
            for number in members.into_iter().filter(|number| seen.insert(*number)) {
                groups.join(tunnel(number), &name(0), || true).expect("room");
            }
            groups
        }).collect();
        let (mut found, mut after) = (vec![], None);
        loop {
            let page = Page::merge(nodes.iter().map(|node| node.page(&in_group(0), after, limit)), limit);
            prop_assert_eq!(page.count, all.len());
            prop_assert!(page.tunnels.len() <= limit);
            after = page.tunnels.last().map(|listed| listed.tunnel);
            found.extend(ids(&page));
            if !page.has_more {
                break;
            }
        }
        prop_assert_eq!(found, all.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn pages_follow_each_other_although_members_come_and_go() {
    let (groups, group) = (Groups::default(), name(0));
    (0..10).for_each(|number| assert_eq!(groups.join(tunnel(2 * number), &group, || true), Ok(true)));

    let first = groups.page(&in_group(0), None, 4);
    assert_eq!((first.count, first.has_more), (10, true));
    assert_eq!(ids(&first), [0, 2, 4, 6].map(tunnel));

    assert_eq!(groups.remove(tunnel(6)), []);
    assert_eq!(groups.join(tunnel(9), &group, || true), Ok(true));
    let second = groups.page(&in_group(0), ids(&first).last().copied(), 4);
    assert_eq!(ids(&second), [8, 9, 10, 12].map(tunnel));
    let last = groups.page(&in_group(0), ids(&second).last().copied(), 4);
    assert_eq!((ids(&last), last.has_more), ([14, 16, 18].map(tunnel).to_vec(), false));
}

#[test]
fn pages_carry_users_and_all_tunnels_can_be_listed() {
    let groups = Groups::default();
    assert_eq!(groups.join(tunnel(1), &name(0), || true), Ok(true));
    groups.set_user(tunnel(1), &name(7), || true).expect("open");
    let listed = |number, user: Option<u8>| Listed { tunnel: tunnel(number), user: user.map(name) };

    assert_eq!(groups.page(&in_group(0), None, 4).tunnels, [listed(1, Some(7))]);
    let all = || [3, 0, 2, 1].map(tunnel).into_iter();
    let first = groups.page_of(all(), None, 3);
    assert_eq!((first.count, first.has_more), (4, true));
    assert_eq!(first.tunnels, [listed(0, None), listed(1, Some(7)), listed(2, None)]);
    let last = groups.page_of(all(), Some(tunnel(2)), 3);
    assert_eq!((last.tunnels, last.has_more), (vec![listed(3, None)], false));
}

proptest! {
    #[test]
    fn names_of_several_nodes_are_one_list(
        nodes in prop::collection::vec(prop::collection::btree_set((any::<u8>(), 0..8_u8), 0..20), 1..4),
        limit in 1..6_usize,
    ) {
        let mut expected = BTreeMap::new();
        let nodes: Vec<Groups> = nodes.into_iter().map(|members| {
            let groups = Groups::default();
            for (number, group) in members {
                groups.join(tunnel(number), &name(group), || true).expect("room");
                groups.set_user(tunnel(number), &name(100), || true).expect("open");
                *expected.entry(name(group)).or_insert(0) += 1;
            }
            groups
        }).collect();
        let (mut found, mut after): (Vec<(Name, usize)>, Option<Name>) = (vec![], None);
        loop {
            let of_node = |node: &Groups| node.names(Roster::Groups, after.as_ref(), limit);
            let page = NamePage::merge(nodes.iter().map(of_node), limit);
            prop_assert!(page.names.len() <= limit);
            after = page.names.last().map(|(name, _)| name.clone());
            found.extend(page.names);
            if !page.has_more {
                break;
            }
        }
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

fn ids(page: &Page) -> Vec<TunnelId> {
    page.tunnels.iter().map(|listed| listed.tunnel).collect()
}

#[test]
fn a_tunnel_is_in_so_many_groups_and_not_more() {
    let groups = Groups::default();
    let name = |number: usize| Name::new(&number.to_string()).expect("a name");
    for number in 0..MAX_GROUPS {
        assert_eq!(groups.join(tunnel(1), &name(number), || true), Ok(true));
    }

    assert_eq!(groups.join(tunnel(1), &name(MAX_GROUPS), || true), Err(TooManyGroups));
    assert_eq!(groups.join(tunnel(1), &name(0), || true), Ok(true), "it is there already");
    assert!(!groups.has(&Audience::Group(name(MAX_GROUPS))));
    assert_eq!(groups.leave(tunnel(1), &name(0)), Some(Audience::Group(name(0))));
    assert_eq!(groups.join(tunnel(1), &name(MAX_GROUPS), || true), Ok(true));
}

#[test]
fn groups_and_users_of_a_tenant_take_so_much_and_no_more() {
    let groups = Groups::default();
    let check = |audience: Audience| groups.check_room(&audience, 2);
    assert_eq!(groups.join(tunnel(1), &name(0), || true), Ok(true));
    assert_eq!(groups.join(tunnel(2), &name(0), || true), Ok(true), "counted once");
    assert_eq!(groups.set_user(tunnel(1), &name(1), || true), Some(None));
    assert_eq!(check(in_group(2)), Ok(()));
    assert_eq!(groups.join(tunnel(1), &name(2), || true), Ok(true));

    assert_eq!(check(in_group(3)), Err(NoRoomForNames { limit_kib: 2 }));
    assert_eq!(check(of_user(2)), Err(NoRoomForNames { limit_kib: 2 }));
    assert_eq!(check(in_group(2)), Ok(()), "it exists");
    groups.remove(tunnel(1));
    assert_eq!(check(of_user(2)), Ok(()));
    groups.remove(tunnel(2));
    assert_eq!(groups.0.lock().bytes, 0);
}

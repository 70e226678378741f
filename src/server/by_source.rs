//! Members grouped by the network they come from, to find the network with the most of them.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;

/// The origin of a connection: an IPv4 address, or the /64 prefix of an IPv6 address.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            v4 => v4,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Numbered members by source; the larger number is the newer member.
#[derive(Debug, Default)]
pub(super) struct BySource {
    members: HashMap<Source, BTreeSet<u64>>,
    sizes: BTreeSet<(usize, Source)>,
}

impl BySource {
    /// Adds a member.
    pub(super) fn insert(&mut self, source: Source, number: u64) {
        self.change(source, |numbers| numbers.insert(number));
    }

    /// Removes a member, if present.
    pub(super) fn remove(&mut self, source: Source, number: u64) {
        self.change(source, |numbers| numbers.remove(&number));
    }

    /// The newest member of the source with the most members.
    pub(super) fn newest_of_the_largest(&self) -> Option<u64> {
        let (_, source) = self.sizes.last()?;
        self.members[source].last().copied()
    }

    fn change(&mut self, source: Source, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let numbers = self.members.entry(source).or_default();
        let before = numbers.len();
        change(numbers);
        let after = numbers.len();
        self.sizes.remove(&(before, source));
        if after == 0 {
            self.members.remove(&source);
        } else {
            self.sizes.insert((after, source));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        address.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn the_newest_of_the_source_that_has_most_comes_first() {
        let mut crowd = BySource::default();
        for (address, number) in
            [("192.0.2.1", 1), ("192.0.2.2", 2), ("192.0.2.1", 3), ("192.0.2.2", 4), ("192.0.2.1", 5)]
        {
            crowd.insert(source(address), number);
        }

        let order = std::iter::from_fn(|| {
            let number = crowd.newest_of_the_largest()?;
            let from = if number % 2 == 1 { "192.0.2.1" } else { "192.0.2.2" };
            crowd.remove(source(from), number);
            Some(number)
        });

        assert_eq!(order.collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
        assert!(crowd.members.is_empty() && crowd.sizes.is_empty(), "{crowd:?}");
    }

    #[test]
    fn a_site_is_one_source() {
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), source("2001:db8:1:2::1"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn what_is_not_there_cannot_be_taken_out() {
        let mut crowd = BySource::default();
        crowd.insert(source("192.0.2.1"), 1);

        crowd.remove(source("192.0.2.1"), 2);
        crowd.remove(source("192.0.2.9"), 1);

        assert_eq!(crowd.newest_of_the_largest(), Some(1));
    }
}

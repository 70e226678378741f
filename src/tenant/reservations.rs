//! Issued tickets without a client yet, so that limits count them before their tunnels open.

use std::collections::BTreeMap;

/// Outstanding tickets by second of expiry.
///
/// A ticket may be used on another node than it was issued on. There it counts as -1 until it expires, so that the sum
/// over all nodes is right.
#[derive(Debug, Default)]
pub struct Reservations {
    by_expiry_secs: BTreeMap<u64, i64>,
    total: i64,
}

impl Reservations {
    /// Counts an issued ticket.
    pub fn add(&mut self, expires_unix_secs: u64) {
        self.change(expires_unix_secs, 1);
    }

    /// Counts a used ticket.
    pub fn remove(&mut self, expires_unix_secs: u64) {
        self.change(expires_unix_secs, -1);
    }

    /// Outstanding tickets that have not expired; negative if more tickets of other nodes were used here.
    pub fn count(&mut self, now_unix_secs: u64) -> i64 {
        while let Some(oldest) = self.by_expiry_secs.first_entry().filter(|oldest| *oldest.key() < now_unix_secs) {
            self.total -= oldest.remove();
        }
        self.total
    }

    /// Outstanding tickets in groups of `width_secs` by expiry, with the last second of each group.
    pub fn by_expiry(&mut self, now_unix_secs: u64, width_secs: u64) -> Vec<(u64, i64)> {
        self.count(now_unix_secs);
        let width_secs = width_secs.max(1);
        let mut groups: BTreeMap<u64, i64> = BTreeMap::new();
        for (expires_unix_secs, tickets) in &self.by_expiry_secs {
            *groups.entry(expires_unix_secs.next_multiple_of(width_secs)).or_default() += tickets;
        }
        groups.into_iter().filter(|(_, tickets)| *tickets != 0).collect()
    }

    fn change(&mut self, expires_unix_secs: u64, by: i64) {
        *self.by_expiry_secs.entry(expires_unix_secs).or_default() += by;
        self.total += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_counts_until_it_is_used_or_expires() {
        let mut reservations = Reservations::default();
        [160, 160, 161].into_iter().for_each(|expiry| reservations.add(expiry));
        assert_eq!(reservations.count(100), 3);

        reservations.remove(160);
        assert_eq!(reservations.count(160), 2);
        assert_eq!(reservations.count(161), 1);
        assert_eq!(reservations.count(162), 0);
        reservations.remove(160);
        assert_eq!(reservations.count(162), 0);
    }

    #[test]
    fn tickets_that_expire_at_about_the_same_time_are_told_of_together() {
        let mut reservations = Reservations::default();
        [150, 160, 161, 168, 169].into_iter().for_each(|expiry| reservations.add(expiry));
        reservations.remove(169);

        assert_eq!(reservations.by_expiry(155, 8), [(160, 1), (168, 2)]);
        assert_eq!(reservations.by_expiry(155, 0), [(160, 1), (161, 1), (168, 1)]);
    }

    #[test]
    fn a_ticket_that_is_used_elsewhere_counts_once_on_all_nodes_together() {
        let (mut here, mut there) = (Reservations::default(), Reservations::default());
        here.add(160);
        there.add(160);
        there.remove(160);
        there.remove(160);

        assert_eq!((here.count(160), there.count(160)), (1, -1));
        assert_eq!((here.count(161), there.count(161)), (0, 0));
    }
}

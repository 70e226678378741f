//! Tunnels that have been asked for and wait for their clients, so that a limit counts them before they are open.

use std::collections::BTreeMap;

/// How many tickets are out, by the second in which they expire.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    by_expiry_secs: BTreeMap<u64, u64>,
    total: u64,
}

impl Reservations {
    /// A ticket has been issued.
    pub(super) fn add(&mut self, expires_unix_secs: u64) {
        *self.by_expiry_secs.entry(expires_unix_secs).or_default() += 1;
        self.total += 1;
    }

    /// A ticket has been used. One that is not known has expired, or was issued by another node.
    pub(super) fn remove(&mut self, expires_unix_secs: u64) {
        if let Some(count) = self.by_expiry_secs.get_mut(&expires_unix_secs).filter(|count| **count > 0) {
            *count -= 1;
            self.total -= 1;
        }
    }

    /// How many tickets are out that have not expired.
    pub(super) fn count(&mut self, now_unix_secs: u64) -> u64 {
        while let Some(oldest) = self.by_expiry_secs.first_entry().filter(|oldest| *oldest.key() < now_unix_secs) {
            self.total -= oldest.remove();
        }
        self.total
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
        reservations.remove(999);
        assert_eq!(reservations.count(160), 2);
        assert_eq!(reservations.count(161), 1);
        assert_eq!(reservations.count(162), 0);
        reservations.remove(160);
        assert_eq!(reservations.count(162), 0);
    }
}

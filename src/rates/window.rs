//! One value for each of the last 60 seconds and the last 60 minutes.

/// Seconds that are kept.
pub const SECONDS: usize = 60;
/// Minutes that are kept, the running one included.
pub const MINUTES: usize = 60;

/// Values by second and by minute. Time is a number of seconds since any start.
#[derive(Clone, Debug)]
pub struct Window<B> {
    newest: Option<u64>,
    seconds: [B; SECONDS],
    minutes: [B; MINUTES],
}

impl<B: Copy + Default> Default for Window<B> {
    fn default() -> Self {
        Self { newest: None, seconds: [B::default(); SECONDS], minutes: [B::default(); MINUTES] }
    }
}

impl<B: Copy + Default> Window<B> {
    /// Goes to `second`, and empties what has been passed on the way; true if a new minute began. It never goes back: an earlier
    /// second counts as the newest.
    pub fn advance(&mut self, second: u64) -> bool {
        let Some(newest) = self.newest else {
            self.newest = Some(second);
            return true;
        };
        if second <= newest {
            return false;
        }
        self.newest = Some(second);
        clear(&mut self.seconds, newest, second);
        clear(&mut self.minutes, newest / 60, second / 60);
        second / 60 > newest / 60
    }

    /// The newest second, if there is one.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// The value of the newest second, and that of its minute.
    pub fn current(&mut self) -> (&mut B, &mut B) {
        let newest = self.newest.unwrap_or_default();
        (&mut self.seconds[at(newest, SECONDS)], &mut self.minutes[at(newest / 60, MINUTES)])
    }

    /// The values of the last 60 seconds, the newest at the end.
    pub fn seconds(&self) -> impl DoubleEndedIterator<Item = &B> + ExactSizeIterator {
        oldest_first(&self.seconds, self.newest.unwrap_or_default())
    }

    /// The values of the last 60 minutes, the running one at the end.
    pub fn minutes(&self) -> impl DoubleEndedIterator<Item = &B> + ExactSizeIterator {
        oldest_first(&self.minutes, self.newest.unwrap_or_default() / 60)
    }
}

fn at(number: u64, length: usize) -> usize {
    usize::try_from(number % length as u64).expect("it is below the length")
}

/// Empties the places behind `from` up to `to`.
fn clear<B: Copy + Default>(ring: &mut [B], from: u64, to: u64) {
    let passed = (to - from).min(ring.len() as u64);
    (to - passed + 1..=to).for_each(|number| ring[at(number, ring.len())] = B::default());
}

fn oldest_first<B>(ring: &[B], newest: u64) -> impl DoubleEndedIterator<Item = &B> + ExactSizeIterator {
    let first = at(newest + 1, ring.len());
    (0..ring.len()).map(move |offset| &ring[(first + offset) % ring.len()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Steps of any length, also longer than the whole window: a process may stand still.
        #[test]
        fn it_has_what_a_full_log_has(
            start in 0_u64..10_000,
            steps in proptest::collection::vec((prop_oneof![0_u64..3, 0_u64..100, 0_u64..9_000], 1_u64..50), 1..80),
        ) {
            let (mut window, mut log, mut now) = (Window::<u64>::default(), vec![], start);
            for (step, amount) in steps {
                now += step;
                window.advance(now);
                let (second, minute) = window.current();
                *second += amount;
                *minute += amount;
                log.push((now, amount));
            }
            let sum = |from: u64, to: u64| -> u64 {
                log.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, amount)| amount).sum()
            };
            for (value, ago) in window.seconds().rev().zip(0_u64..) {
                let second = now.checked_sub(ago);
                prop_assert_eq!(*value, second.map_or(0, |second| sum(second, second + 1)), "{} s ago", ago);
            }
            for (value, ago) in window.minutes().rev().zip(0_u64..) {
                let minute = (now / 60).checked_sub(ago);
                prop_assert_eq!(*value, minute.map_or(0, |minute| sum(60 * minute, 60 * minute + 60)), "{} min ago", ago);
            }
            prop_assert_eq!(window.seconds().len(), SECONDS);
        }
    }

    #[test]
    fn it_never_goes_back() {
        let mut window = Window::<u64>::default();
        assert!(window.advance(100), "the first minute begins");
        *window.current().0 = 1;

        assert!(!window.advance(40));

        assert_eq!((window.newest(), window.seconds().next_back()), (Some(100), Some(&1)));
    }
}

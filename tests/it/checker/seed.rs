//! Chance that can be repeated: the same seed decides the same, on every machine and with every version of every crate.

/// A source of decisions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    /// The next decision: a number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % bound
    }

    /// Whether something of this chance happens.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// The decisions about one thing: the same whatever is decided about others, and in whichever order.
    pub(crate) fn of(self, thing: &[u64]) -> Self {
        Self(thing.iter().fold(self.0, |state, part| mix(state ^ part.wrapping_mul(0xff51_afd7_ed55_8ccd))))
    }
}

/// The finalizer of SplitMix64.
fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[test]
fn a_seed_repeats_itself_and_differs_from_others() {
    let run = |seed: u64| (0..100).scan(Seed(seed), |seed, _| Some(seed.below(1_000))).collect::<Vec<_>>();

    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert_eq!(Seed(1).of(&[2, 3]).0, Seed(1).of(&[2, 3]).0);
    assert_ne!(Seed(1).of(&[2, 3]).0, Seed(1).of(&[3, 2]).0);
    let hits = (0..10_000).filter(|number| Seed(7).of(&[*number]).percent(50)).count();
    assert!((4_700..5_300).contains(&hits), "{hits}");
}

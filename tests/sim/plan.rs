//! The faults of a simulation, with time and duration, all derived from the seed.

use std::time::Duration;

use crate::business_server::BAD_MOODS;
use crate::business_server::Mood;
use crate::dice::Dice;
use crate::world::PHONE_HOSTS;
use crate::world::SHOPS;

/// When everything is repaired.
pub(crate) const HEALED_AT: Duration = Duration::from_secs(8);

/// One simulation's faults and its end.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) faults: Vec<Fault>,
    /// Whether the gateway is drained in the end; otherwise the clients leave.
    pub(crate) ends_with_drain: bool,
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) machine: Machine,
    pub(crate) kind: Kind,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

/// A simulated machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Machine {
    Gateway,
    BusinessServer(usize),
    /// One that runs several clients.
    Phones(usize),
}

/// A fault of a machine, or of its connection to the gateway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Its programs end at once; they start again in the end.
    Crash,
    /// Packets are lost in both directions.
    Partition,
    /// Packets from the gateway are lost.
    Deaf,
    /// Packets to the gateway are lost.
    Dumb,
    /// Packets are delayed until the end.
    Hold,
    /// Everything takes so many milliseconds.
    Lag(u64),
    /// The business server misbehaves.
    Mood(Mood),
}

impl Machine {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Gateway => "gateway".to_owned(),
            Self::BusinessServer(number) => format!("shop-{number}"),
            Self::Phones(number) => format!("phones-{number}"),
        }
    }
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 2);
        let count = dice.range(3, 7);
        let mut faults: Vec<_> = (0..count).map(|_| Fault::new(&mut dice)).collect();
        if dice.once_in(8) {
            let from = dice.millis(1_000, 5_000);
            let until = from + dice.millis(50, 1_500);
            faults.push(Fault { machine: Machine::Gateway, kind: Kind::Crash, from, until });
        }
        Self { faults, ends_with_drain: dice.once_in(3) }
    }
}

impl Fault {
    fn new(dice: &mut Dice) -> Self {
        let machine = match dice.index(2) {
            0 => Machine::BusinessServer(dice.index(SHOPS)),
            _ => Machine::Phones(dice.index(PHONE_HOSTS)),
        };
        let kind = match (dice.index(8), machine) {
            (0 | 1, _) => Kind::Crash,
            (2, _) => Kind::Partition,
            (3, _) => dice.pick(&[Kind::Deaf, Kind::Dumb]),
            (4, _) => Kind::Hold,
            (5, _) => Kind::Lag(dice.range(100, 1_200)),
            (_, Machine::BusinessServer(_)) => Kind::Mood(dice.pick(&BAD_MOODS)),
            _ => Kind::Crash,
        };
        let from = dice.millis(300, 6_000);
        let until = from + dice.millis(50, 1_900);
        Self { machine, kind, from, until }
    }
}

//! Distant clients in large numbers, and hostile ones beside them; nginx and haproxy, if installed, for comparison.

mod backlog;
mod business;
mod bystander;
mod clients;
mod front;
mod handshakes;
mod hostile;
mod netstat;
mod overload;
mod siege;
mod slow;
mod speech;
mod table;

use crate::cpu::Cores;
use crate::options::Mode;
use crate::options::Options;
use backlog::Backlog;
use front::Front;
use handshakes::Handshakes;
use overload::Overload;
use siege::Siege;

pub(crate) use hostile::Hostility;
pub(crate) use hostile::Origin;
pub(crate) use speech::Speech;
pub(crate) use table::Table;

/// One measurement.
pub(crate) enum Case {
    /// `handshakes`.
    Handshakes(Handshakes),
    /// `siege`.
    Siege(Siege),
    /// `backlog`.
    Backlog(Backlog),
    /// `overload`.
    Overload(Overload),
}

impl Case {
    /// Its name.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Handshakes(handshakes) => handshakes.name(),
            Self::Siege(siege) => siege.name(),
            Self::Backlog(backlog) => backlog.name(),
            Self::Overload(overload) => overload.name(),
        }
    }

    /// Measures once at each front, one after the other.
    pub(crate) fn run(
        &self,
        options: &Options,
        cores: Cores,
        fronts: &[Front],
        table: &mut Table,
    ) -> anyhow::Result<()> {
        for front in fronts {
            let name = self.name();
            match self {
                Self::Handshakes(case) => table.came(name, *front, case.run(options, cores, *front)?),
                Self::Siege(case) => table.besieged(name, *front, case.run(options, cores, *front)?),
                Self::Backlog(case) => table.queued(name, *front, case.run(options, cores, *front)?),
                // A proxy in front of the gateway makes no difference here.
                Self::Overload(case) if *front == Front::Gateway => {
                    table.overloaded(name, *front, case.run(options, cores)?);
                }
                Self::Overload(_) => {}
            }
        }
        Ok(())
    }
}

/// The available fronts.
pub(crate) fn fronts(options: &Options) -> Vec<Front> {
    Front::here(options)
}

/// The cases of this mode, with at most `files` open files.
pub(crate) fn cases(mode: Mode, options: &Options, files: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    let is_wanted = |each| mode == Mode::All || mode == each;
    if is_wanted(Mode::Handshakes) {
        cases.extend(handshakes::cases(options, files).into_iter().map(Case::Handshakes));
    }
    if is_wanted(Mode::Siege) {
        cases.extend(siege::cases(options).into_iter().map(Case::Siege));
    }
    if is_wanted(Mode::Backlog) {
        cases.push(Case::Backlog(Backlog::new(options)));
    }
    if is_wanted(Mode::Overload) {
        cases.extend(overload::cases(options).into_iter().map(Case::Overload));
    }
    cases
}

//! The measurements and their parameters.

mod connect;
mod echo;
mod idle;
mod live;
mod mass_disconnect;
mod push;
mod sessions;

use crate::cpu::Cores;
use crate::figure::Figure;
use crate::figure::Target;
use crate::options::Mode;
use crate::options::Options;
use crate::options::Subject;
use connect::Connect;
use echo::Echo;
use idle::Idle;
use mass_disconnect::MassDisconnect;
use push::Push;
use sessions::Sessions;

/// Open files beside the clients.
const OTHER_FILES: usize = 500;

/// One measurement.
pub(crate) enum Case {
    /// `fanout`, `unicast` and `burst`.
    Push(Push),
    /// `upstream` and `echo`.
    Echo(Echo),
    /// `connect`.
    Connect(Connect),
    /// `storm`.
    MassDisconnect(MassDisconnect),
    /// `idle`.
    Idle(Idle),
    /// `sessions`.
    Sessions(Sessions),
}

impl Case {
    /// Its name.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Push(push) => push.name(),
            Self::Echo(echo) => echo.name(),
            Self::Connect(connect) => connect.name(),
            Self::MassDisconnect(case) => case.name(),
            Self::Idle(idle) => idle.name(),
            Self::Sessions(sessions) => sessions.name(),
        }
    }

    /// Measures once.
    pub(crate) fn run(&self, options: &Options, cores: Cores, subject: Subject) -> anyhow::Result<Vec<Figure>> {
        match self {
            Self::Push(push) => push.run(options, cores, subject),
            Self::Echo(echo) => echo.run(options, cores, subject),
            Self::Connect(connect) => connect.run(options, cores, subject),
            Self::MassDisconnect(case) => case.run(options, cores, subject),
            Self::Idle(idle) => idle.run(options, cores, subject),
            Self::Sessions(sessions) => sessions.run(options, cores, subject),
        }
    }
}

/// The cases of this mode, with at most `files` open files.
pub(crate) fn cases(mode: Mode, options: &Options, files: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    let is_wanted = |each| mode == Mode::All || mode == each;
    if is_wanted(Mode::Fanout) {
        cases.extend(push::fanout(options, files).into_iter().map(Case::Push));
    }
    if is_wanted(Mode::Unicast) {
        cases.push(Case::Push(push::unicast(options)));
    }
    if is_wanted(Mode::Burst) {
        cases.push(Case::Push(push::burst(options)));
    }
    if is_wanted(Mode::Upstream) {
        cases.extend(echo::upstream(options).map(Case::Echo));
    }
    if is_wanted(Mode::Echo) {
        cases.extend(echo::echo(options).map(Case::Echo));
    }
    if is_wanted(Mode::Connect) {
        cases.push(Case::Connect(Connect::new(options)));
    }
    if is_wanted(Mode::Storm) {
        cases.push(Case::MassDisconnect(MassDisconnect::new(options, files)));
    }
    if is_wanted(Mode::Idle) {
        cases.push(Case::Idle(Idle::new(options)));
    }
    if is_wanted(Mode::Sessions) {
        cases.push(Case::Sessions(Sessions::new(options)));
    }
    if mode == Mode::Timelines {
        cases.push(Case::Push(push::to_all(options)));
        cases.push(Case::Push(push::unicast(options)));
        cases.extend(echo::upstream(options).take(1).map(Case::Echo));
        cases.push(Case::Echo(echo::crowd(options, files)));
        cases.push(Case::Idle(Idle::new(options)));
    }
    cases
}

/// The figures with the targets of this mode: timelines may cost a two-hundredth of the CPU time.
pub(crate) fn aimed(mode: Mode, figures: Vec<Figure>) -> Vec<Figure> {
    let aim = |figure: Figure| match (mode, figure.unit) {
        (Mode::Timelines, "µs") => figure.target(Some(Target::TimesFloor(1.005))),
        _ => figure,
    };
    figures.into_iter().map(aim).collect()
}

/// A number with commas between the thousands.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

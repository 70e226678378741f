//! `connect`: opening connections, from the tunnel request to the connect event, and closing them, up to the close event.

use super::grouped;
use crate::arrivals::Arrival;
use crate::arrivals::Departure;
use crate::cpu::Cores;
use crate::figure::Chart;
use crate::figure::Figure;
use crate::figure::Target;
use crate::options::Options;
use crate::options::Subject;
use crate::setup::Setup;

/// Connections for tunnel requests.
const LINES: usize = 64;

/// Clients that connect and disconnect.
pub(crate) struct Connect {
    connections: usize,
}

impl Connect {
    /// The default number of clients, or the one from the options.
    pub(super) fn new(options: &Options) -> Self {
        Self { connections: options.connections.unwrap_or(if options.smoke { 100 } else { 10_000 }) }
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        format!("connect and close, {} connections", grouped(self.connections))
    }

    /// Measures once.
    pub(super) fn run(&self, options: &Options, cores: Cores, subject: Subject) -> anyhow::Result<Vec<Figure>> {
        let mut stage = Setup::open(options, cores, subject, self.connections / 20, LINES)?;
        let mut arrival = Arrival::new(&stage.world, self.connections);
        let arriving = stage.measure(&mut arrival)?;
        let mut departure = Departure::new(&stage.world);
        let leaving = stage.measure(&mut departure)?;
        let gone = stage.world.clients.len();
        let connections = grouped(self.connections);
        Ok(vec![
            Figure::cpu(format!("connect, {connections} connections"), self.connections as u64, arriving)
                .target(Some(Target::TimesFloor(1.9)))
                .seen(&arrival.roll.latency, arrival.roll.faults)
                .drawn(Chart::Paths, "connect"),
            Figure::cpu(format!("close, {connections} connections"), gone as u64, leaving)
                .target(Some(Target::AtMost(20.0)))
                .seen(&departure.roll.latency, departure.roll.faults)
                .drawn(Chart::Paths, "close"),
        ])
    }
}

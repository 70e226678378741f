//! The set-up of one measurement: a new server, its clients and its business server.

use std::net::TcpListener;
use std::time::Duration;
use std::time::Instant;

use crate::arrivals::Arrival;
use crate::clock::now;
use crate::cpu::Cores;
use crate::options::Options;
use crate::options::Subject;
use crate::server::Server;
use crate::wire::Protocol;
use crate::world::Load;
use crate::world::World;

/// How long no event may arrive when all is done.
const QUIET: Duration = Duration::from_millis(20);

/// A server and its peers.
pub(crate) struct Setup {
    /// The server. Dropped first, so that it does not see its peers go.
    pub(crate) server: Server,
    /// The peers.
    pub(crate) world: World,
}

/// The cost of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// CPU time of the server.
    pub(crate) cpu: Duration,
    /// Elapsed time.
    pub(crate) wall: Duration,
}

impl Setup {
    /// Starts a server, with `connections` clients and `lines` connections for calls.
    pub(crate) fn open(
        options: &Options,
        cores: Cores,
        subject: Subject,
        connections: usize,
        lines: usize,
    ) -> anyhow::Result<Self> {
        let door = TcpListener::bind("127.0.0.1:0")?;
        let business = door.local_addr()?;
        let server = Server::start(subject, options, cores, business)?;
        let dialect = Protocol::new(subject, server.address, business);
        let world = World::new(dialect, server.address, door, lines)?;
        let mut stage = Self { server, world };
        stage.fill(connections)?;
        Ok(stage)
    }

    /// Connects more clients.
    pub(crate) fn fill(&mut self, connections: usize) -> anyhow::Result<()> {
        let mut arrival = Arrival::new(&self.world, connections);
        self.world.run(&mut arrival)?;
        self.rest(QUIET)
    }

    /// Runs a load and returns its cost.
    pub(crate) fn measure(&mut self, load: &mut impl Load) -> anyhow::Result<Usage> {
        let (start, before) = (now(), self.server.cpu()?);
        self.world.run(load)?;
        let wall = now() - start;
        self.rest(QUIET)?;
        Ok(Usage { cpu: self.server.cpu()?.saturating_sub(before), wall })
    }

    /// Stays idle for a while; no event may arrive.
    pub(crate) fn rest(&mut self, duration: Duration) -> anyhow::Result<()> {
        self.world.run(&mut Rest::new(duration))
    }
}

/// An idle period.
pub(crate) struct Rest {
    until: Instant,
    is_over: bool,
}

impl Rest {
    /// An idle period of this length.
    pub(crate) fn new(duration: Duration) -> Self {
        Self { until: now() + duration, is_over: false }
    }
}

impl Load for Rest {
    fn is_done(&self) -> bool {
        self.is_over
    }

    fn drive(&mut self, _: &mut World, now: Instant) -> anyhow::Result<Option<Duration>> {
        self.is_over = now >= self.until;
        Ok(Some(self.until.saturating_duration_since(now).max(Duration::from_millis(1))))
    }
}

//! Command-line options.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::ValueEnum;

use crate::far::Hostility;
use crate::far::Origin;
use crate::far::Speech;

/// Measures the cost of the gateway on one core, with a bare server (the floor) for comparison in the same run.
///
/// Everything runs on 127.0.0.1. Server and load have separate cores if there are two. CPU times come from /proc.
#[derive(Clone, Debug, Parser)]
#[command(name = "load", verbatim_doc_comment)]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) mode: Option<Mode>,
    /// Tiny counts: shows in seconds that everything works, measures nothing
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Number of repetitions; floor and gateway take turns
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) repeats: usize,
    /// Duration of each measurement
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub(crate) seconds: f64,
    /// Only this server
    #[arg(long, value_enum)]
    pub(crate) only: Option<Subject>,
    /// idle, fanout, unicast, connect, storm, handshakes, backlog, overload: number of connections, instead of the defaults
    #[arg(long, value_name = "N")]
    pub(crate) connections: Option<usize>,
    /// fanout: number of recipients of each message, instead of the defaults
    #[arg(long, value_name = "N")]
    pub(crate) targets: Option<usize>,
    /// fanout, burst: number of messages in flight, instead of the defaults
    #[arg(long, value_name = "N")]
    pub(crate) in_flight: Option<usize>,
    /// fanout, unicast, burst, upstream, echo: bytes of a message, instead of the defaults
    #[arg(long, value_name = "BYTES")]
    pub(crate) bytes: Option<usize>,
    /// sessions: number of sessions in the larger store, instead of 1,000,000
    #[arg(long, value_name = "N")]
    pub(crate) sessions: Option<u64>,
    /// handshakes, siege: round-trip time, instead of the defaults
    #[arg(long, value_name = "MS")]
    pub(crate) round_trip_ms: Option<u64>,
    /// handshakes, siege: transport of the clients and key of the server, instead of the defaults
    #[arg(long, value_enum)]
    pub(crate) speech: Option<Speech>,
    /// handshakes: delay between the two halves of each client's first flight, which is split then
    #[arg(long, value_name = "MS")]
    pub(crate) gap_ms: Option<u64>,
    /// siege: number of hostile sockets, instead of the defaults
    #[arg(long, value_name = "N")]
    pub(crate) hostile: Option<usize>,
    /// siege: behaviour of the hostile sockets, instead of each in turn
    #[arg(long, value_enum)]
    pub(crate) hostility: Option<Hostility>,
    /// siege: source addresses of the hostile sockets, instead of `same` and `spread`
    #[arg(long, value_enum)]
    pub(crate) origin: Option<Origin>,
    /// The gateway's binary, instead of the one built for this run
    #[arg(long, value_name = "PATH", env = "WAFERGATE_BIN")]
    pub(crate) gateway: Option<PathBuf>,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write charts to this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) svg: Option<PathBuf>,
    /// Added by `cargo bench`
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
    /// Address for the floor's events
    #[arg(long, hide = true)]
    pub(crate) business: Option<SocketAddr>,
}

/// The measurements.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    /// Memory of idle connections; CPU when idle and for heartbeats
    Idle,
    /// One push to many connections
    Fanout,
    /// Pushes to one connection each
    Unicast,
    /// Many pushes to one connection at the same time: CPU, and the number of TCP segments
    Burst,
    /// Client -> webhook
    Upstream,
    /// Client -> webhook -> push -> client
    Echo,
    /// Opening and closing connections, webhooks included
    Connect,
    /// Half of all clients vanish at once while others connect one after the other
    Storm,
    /// What timelines cost: the gateway with them and without them, in turns
    Timelines,
    /// Checks of sessions, with few and with many in the store, and logins
    Sessions,
    /// Many distant clients at once through TLS; with nginx and haproxy for comparison
    Handshakes,
    /// Phones beside sockets that send half of a handshake, or nothing
    Siege,
    /// Many TCP connections while the server is stopped
    Backlog,
    /// All tunnels of a business server with limited capacity open at once
    Overload,
    /// All of these, but for `timelines`
    All,
    /// The bare server itself
    #[value(hide = true)]
    Floor,
}

/// The server to measure.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Subject {
    /// The bare server: no ids, no signatures, no JSON
    Floor,
    /// wafergate
    Gateway,
    /// wafergate with `timeline.bytes = 0`
    WithoutTimelines,
}

impl Subject {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Gateway => "gateway",
            Self::WithoutTimelines => "without timelines",
        }
    }
}

impl Options {
    /// Duration of one measurement.
    pub(crate) fn duration(&self) -> Duration {
        if self.smoke { Duration::from_millis(50) } else { Duration::from_secs_f64(self.seconds) }
    }

    /// How long a server runs before the measurement, and rests before memory is measured.
    pub(crate) fn warm_up(&self) -> Duration {
        self.duration().mul_f64(0.15)
    }

    /// Number of repetitions.
    pub(crate) fn repeats(&self) -> usize {
        if self.smoke { 1 } else { self.repeats.max(1) }
    }

    /// The servers to measure, in the order of their turns.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        self.only.map_or_else(|| vec![self.baseline(), Subject::Gateway], |subject| vec![subject])
    }

    /// What the gateway is compared with.
    pub(crate) fn baseline(&self) -> Subject {
        if self.mode == Some(Mode::Timelines) { Subject::WithoutTimelines } else { Subject::Floor }
    }
}

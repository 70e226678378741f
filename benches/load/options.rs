//! The words of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::ValueEnum;

use crate::far::Hostility;
use crate::far::Origin;
use crate::far::Speech;

/// Measures what the gateway costs on one core, with a bare server (the floor) beside it in the same run.
///
/// Everything is on 127.0.0.1. Server and load have a core each, where there are two. CPU times come from /proc.
#[derive(Clone, Debug, Parser)]
#[command(name = "load", verbatim_doc_comment)]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) mode: Option<Mode>,
    /// Tiny counts: shows in seconds that everything works, measures nothing
    #[arg(long)]
    pub(crate) smoke: bool,
    /// How often everything is measured; floor and gateway take turns
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) repeats: usize,
    /// How long each measurement takes
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub(crate) seconds: f64,
    /// Only this server
    #[arg(long, value_enum)]
    pub(crate) only: Option<Subject>,
    /// idle, fanout, unicast, connect, storm, handshakes, backlog, overload: how many connections, instead of the usual ones
    #[arg(long, value_name = "N")]
    pub(crate) connections: Option<usize>,
    /// fanout: how many of them get each message, instead of the usual ones
    #[arg(long, value_name = "N")]
    pub(crate) targets: Option<usize>,
    /// fanout, burst: how many messages are on their way at a time, instead of the usual ones
    #[arg(long, value_name = "N")]
    pub(crate) in_flight: Option<usize>,
    /// fanout, unicast, burst, upstream, echo: bytes of a message, instead of the usual ones
    #[arg(long, value_name = "BYTES")]
    pub(crate) bytes: Option<usize>,
    /// handshakes, siege: the time of a round trip, instead of the usual ones
    #[arg(long, value_name = "MS")]
    pub(crate) round_trip_ms: Option<u64>,
    /// handshakes, siege: what clients speak, and the server's key, instead of the usual ones
    #[arg(long, value_enum)]
    pub(crate) speech: Option<Speech>,
    /// handshakes: the first flight of each client comes in two halves that are so far apart
    #[arg(long, value_name = "MS")]
    pub(crate) gap_ms: Option<u64>,
    /// siege: how many hostile sockets, instead of the usual ones
    #[arg(long, value_name = "N")]
    pub(crate) hostile: Option<usize>,
    /// siege: what they do, instead of each thing in turn
    #[arg(long, value_enum)]
    pub(crate) hostility: Option<Hostility>,
    /// siege: where they come from, instead of `same` and `spread`
    #[arg(long, value_enum)]
    pub(crate) origin: Option<Origin>,
    /// The gateway's binary, instead of the one that was built for this run
    #[arg(long, value_name = "PATH", env = "WAFERGATE_BIN")]
    pub(crate) gateway: Option<PathBuf>,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw pictures into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) svg: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
    /// Where the floor posts to
    #[arg(long, hide = true)]
    pub(crate) business: Option<SocketAddr>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    /// Memory of idle connections; CPU of silence and of heartbeats
    Idle,
    /// One push to many connections
    Fanout,
    /// Pushes to one connection each
    Unicast,
    /// Many pushes to one connection at the same time: CPU, and how many TCP segments they leave in
    Burst,
    /// Client -> webhook
    Upstream,
    /// Client -> webhook -> push -> client
    Echo,
    /// Setting up connections and closing them, webhooks included
    Connect,
    /// Half of all clients vanish at once while others come, one after the other
    Storm,
    /// Many clients at once, from far away, through TLS; nginx and haproxy in front of the gateway beside it
    Handshakes,
    /// Phones beside sockets that say half of what they should, or nothing
    Siege,
    /// Many TCP connections while the server does not look
    Backlog,
    /// All tunnels of a business server open at once, which can do only so much at a time
    Overload,
    /// All of these
    All,
    /// The bare server itself
    #[value(hide = true)]
    Floor,
}

/// Which server is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Subject {
    /// The bare server: no ids, no signatures, no JSON
    Floor,
    /// wafergate
    Gateway,
}

impl Subject {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Gateway => "gateway",
        }
    }
}

impl Options {
    /// How long one measurement takes.
    pub(crate) fn duration(&self) -> Duration {
        if self.smoke { Duration::from_millis(50) } else { Duration::from_secs_f64(self.seconds) }
    }

    /// How long a server is used before it is measured, and left alone before its memory is.
    pub(crate) fn warm_up(&self) -> Duration {
        self.duration().mul_f64(0.15)
    }

    /// How often everything is measured.
    pub(crate) fn repeats(&self) -> usize {
        if self.smoke { 1 } else { self.repeats.max(1) }
    }

    /// The servers to measure, in the order of their turns.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        self.only.map_or(vec![Subject::Floor, Subject::Gateway], |subject| vec![subject])
    }
}

//! Which addresses and ports a receive URL may reach: public ones, and those that the operator allows. Pure checks.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use ipnet::IpNet;
use ipnet::Ipv4Net;
use ipnet::Ipv6Net;
use url::Host;

use super::networks::v4;
use super::networks::v6;
use super::platform::PLATFORMS;
use super::ports;
use crate::options;
use crate::reason::Reason;

/// Every block that is not public, most specific first, with a description.
///
/// Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries, with all entries, even globally reachable ones;
/// also multicast and the withdrawn IPv6 site-local and IPv4-compatible blocks. IPv4-mapped addresses are checked as
/// IPv4.
const SPECIAL: &[(IpNet, &str)] = &[
    (v4([0, 0, 0, 0], 8), "this network"),
    (v4([10, 0, 0, 0], 8), "private"),
    (v4([100, 64, 0, 0], 10), "shared by carriers"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([172, 16, 0, 0], 12), "private"),
    (v4([192, 0, 0, 0], 24), "for protocol assignments"),
    (v4([192, 0, 2, 0], 24), "for documentation"),
    (v4([192, 31, 196, 0], 24), "an AS112 sink"),
    (v4([192, 52, 193, 0], 24), "a multicast relay"),
    (v4([192, 88, 99, 0], 24), "a 6to4 relay"),
    (v4([192, 168, 0, 0], 16), "private"),
    (v4([192, 175, 48, 0], 24), "an AS112 sink"),
    (v4([198, 18, 0, 0], 15), "for benchmarking"),
    (v4([198, 51, 100, 0], 24), "for documentation"),
    (v4([203, 0, 113, 0], 24), "for documentation"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([255, 255, 255, 255], 32), "broadcast"),
    (v4([240, 0, 0, 0], 4), "reserved"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "IPv4-compatible"),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), "translated to IPv4"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "translated to IPv4"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard-only"),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), "a dummy prefix"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "a Teredo tunnel"),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), "for benchmarking"),
    (v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), "an ORCHID"),
    (v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), "an ORCHID"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "for protocol assignments"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "for documentation"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "a 6to4 tunnel"),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), "an AS112 sink"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "for documentation"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "a segment routing identifier"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "private"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

/// The only IPv6 block with public addresses.
const GLOBAL_UNICAST: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// The policy: public addresses and web ports, plus what the operator allows, minus what the operator denies.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Guard {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    allow_ports: Vec<u16>,
}

/// Why an address is denied.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{address} {why}")]
pub struct Refusal {
    /// The denied address, an IPv4-mapped one as IPv4.
    pub address: IpAddr,
    /// The reason.
    pub why: Why,
}

/// Why an address is denied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// Not public.
    Special {
        /// Its block.
        network: IpNet,
        /// The description of the block.
        block: &'static str,
    },
    /// Denied by the operator.
    Denied(IpNet),
    /// A port of another kind of service.
    Port(BadPort),
}

/// A port of another kind of service than a web server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("port {0} belongs to another service than a web server; {fix}", fix = Reason::PortBlocked.fix())]
pub struct BadPort(pub u16);

impl Refusal {
    /// Why, for timelines.
    pub fn code(&self) -> Reason {
        match self.why {
            Why::Special { .. } => Reason::AddressBlocked,
            Why::Denied(_) => Reason::AddressDenied,
            Why::Port(_) => Reason::PortBlocked,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Special { network, block } => {
                write!(f, "is {block} ({network}); {}", Reason::AddressBlocked.fix())
            }
            Self::Denied(network) => write!(f, "is in webhook.deny_networks ({network})"),
            Self::Port(port) => write!(f, "is refused there: {port}"),
        }
    }
}

impl Guard {
    /// A guard that allows public addresses and those in `allow`.
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self { allow: canonical(&allow), ..Self::default() }
    }

    /// The guard for `options`.
    pub fn of(options: &options::Webhook) -> Self {
        Self {
            allow: canonical(&options.allow_networks),
            deny: canonical(&options.deny_networks),
            allow_ports: options.allow_ports.clone(),
        }
    }

    /// Checks `address` for a web port.
    pub fn admits(&self, address: IpAddr) -> Result<(), Refusal> {
        let address = address.to_canonical();
        if let Some(network) = self.deny.iter().find(|network| network.contains(&address)) {
            return Err(Refusal { address, why: Why::Denied(*network) });
        }
        if self.allows(address) {
            return Ok(());
        }
        match special(address) {
            Some((network, block)) => Err(Refusal { address, why: Why::Special { network, block } }),
            None => Ok(()),
        }
    }

    /// Checks an address with its port.
    pub fn admits_at(&self, address: SocketAddr) -> Result<(), Refusal> {
        let (address, port) = (address.ip().to_canonical(), address.port());
        self.admits(address)?;
        if self.allows(address) {
            return Ok(());
        }
        self.admits_port(port).map_err(|port| Refusal { address, why: Why::Port(port) })
    }

    /// Checks the host of a receive URL: addresses now, names after they resolve.
    pub fn admits_literal<S>(&self, host: &Host<S>) -> Result<(), Refusal> {
        match host {
            Host::Domain(_) => Ok(()),
            Host::Ipv4(address) => self.admits(IpAddr::V4(*address)),
            Host::Ipv6(address) => self.admits(IpAddr::V6(*address)),
        }
    }

    /// Checks the port of a receive URL. A name that may resolve into an allowed network passes.
    pub fn admits_port_of<S>(&self, host: &Host<S>, port: u16) -> Result<(), BadPort> {
        let may_be_allowed = match host {
            Host::Domain(_) => !self.allow.is_empty(),
            Host::Ipv4(address) => self.allows(IpAddr::V4(*address)),
            Host::Ipv6(address) => self.allows(IpAddr::V6(*address).to_canonical()),
        };
        if may_be_allowed { Ok(()) } else { self.admits_port(port) }
    }

    fn admits_port(&self, port: u16) -> Result<(), BadPort> {
        if ports::is_refused(port) && !self.allow_ports.contains(&port) { Err(BadPort(port)) } else { Ok(()) }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(&address))
    }
}

impl From<Vec<IpNet>> for Guard {
    /// A guard that allows public addresses and these.
    fn from(allow: Vec<IpNet>) -> Self {
        Self::new(allow)
    }
}

/// The block that makes `address` non-public, if any.
fn special(address: IpAddr) -> Option<(IpNet, &'static str)> {
    let listed = SPECIAL.iter().find(|(network, _)| network.contains(&address)).copied();
    let platform = || {
        let platform = PLATFORMS.iter().find(|platform| platform.network.contains(&address))?;
        Some((platform.network, platform.block))
    };
    match (listed.or_else(platform), address) {
        (None, IpAddr::V6(v6)) if !GLOBAL_UNICAST.contains(&v6) => {
            Some((IpNet::V6(GLOBAL_UNICAST), "outside the public addresses"))
        }
        (found, _) => found,
    }
}

fn canonical(networks: &[IpNet]) -> Vec<IpNet> {
    networks.iter().copied().map(canonical_net).collect()
}

/// The IPv4 network for one of IPv4-mapped addresses; others unchanged.
fn canonical_net(network: IpNet) -> IpNet {
    let mapped = match network.addr().to_canonical() {
        IpAddr::V4(address) => network.prefix_len().checked_sub(96).map(|length| (address, length)),
        IpAddr::V6(_) => None,
    };
    match (network, mapped) {
        (IpNet::V6(_), Some((address, length))) => Ipv4Net::new(address, length).map_or(network, IpNet::V4),
        _ => network,
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;

//! Listening sockets that the service manager has bound, found by the addresses of the configuration.

use std::net::SocketAddr;
use std::net::TcpListener;

use anyhow::ensure;

use crate::options;

/// Those that no listener has taken yet.
pub(super) struct Sockets(Vec<TcpListener>);

impl Sockets {
    /// Fails if one of them has an address that is not in the configuration: clients would wait there for ever.
    pub(super) fn of(sockets: Vec<TcpListener>, server: &options::Server) -> anyhow::Result<Self> {
        for socket in &sockets {
            let (address, listen, admin_listen) = (socket.local_addr()?, server.listen, server.admin_listen);
            ensure!(
                address == listen || address == admin_listen,
                "the service manager passes a socket on {address}, which is neither server.listen = \"{listen}\" nor \
                 server.admin_listen = \"{admin_listen}\": write the same address into the configuration and the ListenStream= of the \
                 socket unit"
            );
        }
        Ok(Self(sockets))
    }

    /// The one at this address.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_at = |socket: &TcpListener| socket.local_addr().is_ok_and(|own| own == address);
        let place = self.0.iter().position(is_at)?;
        Some(self.0.swap_remove(place))
    }
}

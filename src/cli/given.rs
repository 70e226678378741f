//! Settings on the command line of `serve`, which override the others, also in a reload.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config;
use crate::config::ConfigError;
use crate::config::Loaded;

/// The command-line arguments.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) file: Option<PathBuf>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) admin_listen: Option<SocketAddr>,
}

impl Given {
    /// Reads the configuration; command-line arguments override it.
    pub(super) fn load(&self) -> Result<Loaded, ConfigError> {
        let mut loaded = config::load(self.file.as_deref(), config::variables())?;
        let server = &mut loaded.options.server;
        server.listen = self.listen.unwrap_or(server.listen);
        server.admin_listen = self.admin_listen.unwrap_or(server.admin_listen);
        Ok(loaded)
    }
}

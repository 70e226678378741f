//! Applies another configuration to a running node.

use std::sync::Arc;

use crate::admin::Console;
use crate::admin::Hosts;
use crate::config;
use crate::gateway::Gateway;
use crate::http_client::guard::Guard;
use crate::options::Options;
use crate::server::Certificate;
use crate::server::NextCertificate;
use crate::tenant::Changes;
use crate::webhook::Dispatcher;

/// Reloads a node's configuration.
pub struct Reloader {
    /// The options at start, without the tenants.
    pub(super) started_with: Options,
    pub(super) gateway: Arc<Gateway>,
    pub(super) dispatcher: Dispatcher,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) admin_hosts: Hosts,
    pub(super) console: Arc<Console>,
}

/// A configuration with the contents of the files it names.
pub struct Prepared {
    options: Options,
    certificate: Option<NextCertificate>,
}

/// The changes made by a reload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reloaded {
    /// Changes of tenants.
    pub tenants: Changes,
    /// Whether new connections get another certificate.
    pub is_other_certificate: bool,
    /// Keys that have changed and need a restart.
    pub need_restart: Vec<&'static str>,
}

impl Reloader {
    /// Reads the certificate that `options` name. Changes nothing.
    ///
    /// # Errors
    ///
    /// If the certificate cannot be used.
    pub fn prepare(&self, options: Options) -> anyhow::Result<Prepared> {
        let certificate = match &self.certificate {
            // Enabling or disabling TLS needs a restart.
            Some(certificate) if !options.server.tls_cert.is_empty() => Some(certificate.read_again(&options.server)?),
            _ => None,
        };
        Ok(Prepared { options, certificate })
    }

    /// Applies tenants, keys, limits, address rules of receive URLs, the admin listener's host names, the console, and the certificate. No
    /// socket is dropped, and no file is read.
    ///
    /// # Errors
    ///
    /// If tenants would be removed as if by mistake; then nothing is changed.
    pub fn take_over(&self, prepared: Prepared) -> anyhow::Result<Reloaded> {
        let Prepared { options, certificate } = prepared;
        let tenants = self.gateway.reload(&options)?;
        self.dispatcher.client().set_policy(Guard::of(&options.webhook));
        self.admin_hosts.set(&options.server.admin_hosts);
        self.console.reload(&options.console);
        let taken_over = self.certificate.as_ref().zip(certificate);
        let is_other_certificate = taken_over.is_some_and(|(current, next)| current.take_over(next));
        self.gateway.metrics.configured(self.gateway.clock.unix_time().as_secs());
        let need_restart = config::need_restart(&self.started_with, &options);
        Ok(Reloaded { tenants, is_other_certificate, need_restart })
    }

    /// Notes that a configuration could not be applied.
    pub fn failed(&self) {
        self.gateway.metrics.reload_failed();
    }

    /// Prepares and applies `options`.
    ///
    /// # Errors
    ///
    /// Those of both steps.
    pub fn reload(&self, options: &Options) -> anyhow::Result<Reloaded> {
        self.take_over(self.prepare(options.clone())?)
    }
}

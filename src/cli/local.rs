//! What `trigger` and `replay` share: a server on this machine, and the rule about others.

use std::path::PathBuf;

use clap::Args;
use url::Host;
use url::Url;

use crate::listen::Targets;
use crate::listener::Forwarder;
use crate::listener::Local;
use crate::listener::Trust;
use crate::protocol::connector::MAX_LISTEN_ATTEMPT;

/// How the server is reached.
#[derive(Args, Debug)]
pub(super) struct Reach {
    /// Send it to another machine than this one
    #[arg(long)]
    pub(super) yes: bool,
    /// Accept every certificate
    #[arg(long, conflicts_with = "cacert")]
    insecure: bool,
    /// PEM file with the authority of its certificate
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
}

impl Reach {
    /// Requests to `url` and no other place.
    ///
    /// # Errors
    ///
    /// If it is no URL, or another machine without `--yes`; with what to change.
    pub(super) fn prepare(&self, url: &str) -> Result<(Url, Forwarder), String> {
        let target = url.parse()?;
        let url = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        if !self.yes && !is_here(&url) {
            let host = url.host_str().unwrap_or_default();
            return Err(format!(
                "{host} is not this machine: a made-up event there is real for its users; add --yes if you mean it"
            ));
        }
        let targets = Targets::new(vec![target])?;
        let local = Local { targets, headers: vec![], limit: MAX_LISTEN_ATTEMPT };
        let trust = match (&self.cacert, self.insecure) {
            (Some(file), _) => Trust::File(file),
            (None, true) => Trust::Anything,
            (None, false) => Trust::System,
        };
        Ok((url, Forwarder::new(local, trust)?))
    }
}

/// Whether a URL leads to this machine.
fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_ipv4_mapped().map_or(address.is_loopback(), |v4| v4.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_reached_without_a_yes() {
        let is_here = |url: &str| is_here(&Url::parse(url).expect("a URL"));

        for url in [
            "http://localhost:1",
            "http://127.9.9.9",
            "http://[::1]:1",
            "http://a.localhost",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(is_here(url), "{url}");
        }
        for url in ["http://localhost.example.com", "http://10.0.0.1", "http://[::2]", "http://0.0.0.0"] {
            assert!(!is_here(url), "{url}");
        }
    }
}

//! The flags of `wafergate listen`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use url::Url;

use super::snippet::Sdk;
use crate::cli::duration::parse as duration;
use crate::cli::keys;
use crate::cli::private_file::private_file;
use crate::id::TenantId;
use crate::listen::Settings;
use crate::listen::Shown;
use crate::listen::Target;
use crate::listen::Targets;
use crate::listener::Forwarder;
use crate::listener::Gateway;
use crate::listener::Local;
use crate::listener::Proxy;
use crate::listener::Trust;
use crate::protocol::connector::ConnectorName;
use crate::protocol::connector::MAX_LISTEN_ATTEMPT;
use crate::protocol::connector::Window;
use crate::protocol::text::hex;
use crate::secret::Secret;

/// Events that may be unanswered.
const WINDOW: Window = Window { events: 32, bytes: 4 * 1024 * 1024 };

/// `wafergate listen`
#[derive(Args, Debug)]
pub(in crate::cli) struct Listen {
    /// URL of the gateway
    #[arg(long, value_name = "URL", env = "WAFERGATE_GATEWAY", default_value = "http://127.0.0.1:8080")]
    gateway: String,
    /// Id of the tenant; for a Wafer tenant the MD5 of its server_host, as check-config prints it
    #[arg(long, value_name = "ID", env = "WAFERGATE_TENANT", required_unless_present = "print_config")]
    tenant: Option<String>,
    /// File with the tenant's key in its first line; WAFERGATE_KEY in the environment holds the key itself
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The key itself, for everyone on this machine to see
    #[arg(long, value_name = "KEY", conflicts_with = "key_file")]
    key: Option<String>,
    /// Name of this listener [default: user and host]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where events go: a URL without path keeps the path of the receive URL; /PATH=URL is for that path; may be given several times
    #[arg(long = "forward-to", value_name = "[PATH=]URL", required_unless_present = "print_config")]
    forward_to: Vec<Target>,
    /// Show the content of events, or so many bytes of it
    #[arg(long, value_name = "BYTES", num_args = 0..=1, require_equals = true, default_missing_value = "1024")]
    pub(super) show_payload: Option<usize>,
    /// Show these kinds of events only: connect, message, close; all are forwarded
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = ["connect", "message", "close"])]
    events: Vec<String>,
    /// Show tunnels whose id begins so only; all are forwarded
    #[arg(long = "tunnel", value_name = "ID")]
    tunnels: Vec<String>,
    /// Show events of this user only; all are forwarded
    #[arg(long = "user", value_name = "USER")]
    users: Vec<String>,
    /// Show attempts that failed only; all are forwarded
    #[arg(long)]
    failed: bool,
    /// Print one JSON object a line, as docs/event-lines.schema.json describes
    #[arg(long)]
    pub(super) json: bool,
    /// Print no events
    #[arg(long)]
    pub(super) quiet: bool,
    /// Longest attempt, at most 10m: time for a breakpoint
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    attempt_timeout: Duration,
    /// Accept every certificate of the server on this machine
    #[arg(long, conflicts_with = "cacert")]
    insecure: bool,
    /// PEM file with the authority of its certificate
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Header for the server on this machine, instead of one with its name; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Proxy to the gateway, instead of HTTPS_PROXY: http://user:password@host:port
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Address of the inspector's page, on this machine only; `off`: none
    #[arg(long, value_name = "ADDR|off", default_value = "127.0.0.1:4041")]
    pub(super) inspect: Inspect,
    /// Append each attempt to this file, with payloads, one JSON object a line
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// End when so many events are over
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) exit_after: Option<u64>,
    /// End with 69 after so long without the gateway [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    give_up_after: Option<Duration>,
    /// Print what to set in an SDK, and end
    #[arg(long, value_name = "SDK")]
    pub(super) print_config: Option<Sdk>,
}

/// Where the inspector listens, if it does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inspect(pub(super) Option<SocketAddr>);

impl FromStr for Inspect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address: SocketAddr =
            text.parse().map_err(|_| "write ADDR:PORT, such as 127.0.0.1:4041, or off".to_owned())?;
        match address.ip().is_loopback() {
            true => Ok(Self(Some(address))),
            false => Err(format!("{text} can be reached from other machines: use a loopback address")),
        }
    }
}

/// Everything that can be wrong is read.
pub(super) struct Prepared {
    pub(super) gateway: Gateway,
    pub(super) tunnel_server_url: String,
    pub(super) forwarder: Forwarder,
    pub(super) settings: Settings,
    pub(super) key: Secret,
    pub(super) record: Option<Box<dyn Write + Send>>,
}

impl Listen {
    /// The URL of the gateway.
    pub(super) fn url(&self) -> Result<Url, String> {
        let url = Url::parse(&self.gateway).ok();
        let is_one = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        url.filter(is_one)
            .ok_or_else(|| "--gateway must be an http or https URL, such as https://ws.example.com".to_owned())
    }

    /// The name of this listener.
    pub(super) fn name(&self) -> Result<ConnectorName, String> {
        match &self.name {
            Some(name) => name.parse().map_err(|error| format!("--name {name}: {error}")),
            None => Ok(default_name()),
        }
    }

    /// Which events are shown.
    pub(super) fn shown(&self) -> Shown {
        Shown {
            events: self.events.clone(),
            tunnels: self.tunnels.clone(),
            users: self.users.clone(),
            failed: self.failed,
        }
    }

    /// Reads everything, and says what to change.
    pub(super) fn prepare(&self) -> Result<Prepared, String> {
        let (url, name) = (self.url()?, self.name()?);
        let tenant = self.tenant.as_deref().unwrap_or_default();
        if !TenantId::is_valid(tenant) {
            return Err("--tenant must be the id of a tenant: ASCII letters, digits, '-', '_' and '.'".to_owned());
        }
        let key = match &self.key {
            Some(key) => Secret::new(key.as_str()),
            None => keys::one(self.key_file.as_deref())?,
        };
        if self.attempt_timeout > MAX_LISTEN_ATTEMPT || self.attempt_timeout.is_zero() {
            return Err("--attempt-timeout must be more than 0 and at most 10m".to_owned());
        }
        let proxy = match &self.proxy {
            Some(proxy) => Some(Proxy::parse(proxy).map_err(|error| format!("--proxy: {error}"))?),
            None => Proxy::of_environment(&url, |name| std::env::var(name).ok())?,
        };
        let targets = Targets::new(self.forward_to.clone())?;
        let local = Local { targets, headers: self.headers.clone(), limit: self.attempt_timeout };
        let trust = match (&self.cacert, self.insecure) {
            (Some(file), _) => Trust::File(file),
            (None, true) => Trust::Anything,
            (None, false) => Trust::System,
        };
        let record: Option<Box<dyn Write + Send>> = match &self.record {
            Some(path) => {
                let file = private_file().create(true).append(true).open(path);
                Some(Box::new(file.map_err(|error| format!("--record {} cannot be opened: {error}", path.display()))?))
            }
            None => None,
        };
        Ok(Prepared {
            tunnel_server_url: format!("{}/@{name}", url.as_str().trim_end_matches('/')),
            gateway: Gateway::new(url, tenant, &key, proxy)?,
            forwarder: Forwarder::new(local, trust)?,
            settings: Settings {
                name: name.to_string(),
                instance: hex(&rand::random::<[u8; 16]>()),
                window: WINDOW,
                attempt: self.attempt_timeout,
                agent: concat!("wafergate/", env!("CARGO_PKG_VERSION")).to_owned(),
                give_up_after: self.give_up_after,
            },
            key,
            record,
        })
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let advice = || "write it as \"name: value\"".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(advice)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| advice())?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| advice())?;
    Ok((name, value))
}

/// User and host.
fn default_name() -> ConnectorName {
    let variable = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    ConnectorName::of(&variable(&["USER", "LOGNAME", "USERNAME"]), &host())
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inspector_is_on_this_machine_or_off() {
        assert_eq!("off".parse::<Inspect>().expect("off").0, None);
        assert!("[::1]:0".parse::<Inspect>().expect("loopback").0.is_some());
        assert!("0.0.0.0:1".parse::<Inspect>().is_err_and(|advice| advice.contains("loopback")));
        assert!("localhost".parse::<Inspect>().is_err_and(|advice| advice.contains("ADDR:PORT")));
    }

    #[test]
    fn a_header_has_a_name_and_a_value() {
        assert_eq!(
            header("X-A: b:c").expect("a header"),
            (HeaderName::from_static("x-a"), HeaderValue::from_static("b:c"))
        );
        assert!(header("x").is_err() && header("a b: c").is_err());
    }
}

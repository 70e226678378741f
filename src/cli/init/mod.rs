//! `wafergate init`: a first configuration, complete and with keys of its own.

mod file;

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ipnet::IpNet;

use super::EXIT_FAILURE;
use super::EXIT_USAGE;
use super::new_key;
use super::print;
use crate::config;
use file::Choices;
use file::Tenant;
use file::Tls;

/// For the owner, and to be read by the group that the node runs as.
const MODE: u32 = 0o640;

/// The options of `wafergate init`.
#[derive(Args, Debug)]
pub(super) struct Init {
    /// File to write; one that exists is not overwritten
    #[arg(long = "config", value_name = "FILE", default_value = "/etc/wafergate/wafergate.toml")]
    file: PathBuf,
    /// Public name of the gateway, such as ws.example.com; without it, `init` asks for all of this
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// ServerHost of a business server with a Wafer SDK, letter for letter; may be repeated
    #[arg(long, value_name = "HOST")]
    server_host: Vec<String>,
    /// Business server with the native API: a name of your choice, and the URL that gets its events; may be repeated
    #[arg(long, value_name = "ID=URL", value_parser = native)]
    tenant: Vec<(String, String)>,
    /// Certificate chain (PEM), if the node ends TLS itself
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Network of the proxy that ends TLS; may be repeated
    #[arg(long, value_name = "CIDR", conflicts_with = "tls_cert", default_value = "127.0.0.1/32")]
    proxy: Vec<IpNet>,
    /// Redis, for more than one node
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
}

fn native(text: &str) -> Result<(String, String), String> {
    let (id, url) = text.split_once('=').ok_or("write ID=URL, such as shop=https://shop.example.com/events")?;
    Ok((id.to_owned(), url.to_owned()))
}

/// Writes the file, or says what to change.
pub(super) fn run(mut init: Init) -> ExitCode {
    let refused = |words: String| {
        eprintln!("wafergate: {words}");
        ExitCode::from(EXIT_USAGE)
    };
    if init.file.exists() {
        return refused(format!(
            "{} exists and is not overwritten: name another --config, or move it away",
            init.file.display()
        ));
    }
    if init.host.is_none() {
        init.ask();
    }
    let path = init.file.clone();
    let choices = match init.choices() {
        Ok(choices) => choices,
        Err(words) => return refused(words),
    };
    let name = path.display().to_string();
    match write(&path, &choices.text(&name, new_key)) {
        Ok(warnings) => {
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            print(&choices.next_steps(&name))
        }
        Err(Failure::Refused(words)) => refused(words),
        Err(Failure::Io(error)) => {
            eprintln!("wafergate: cannot write {name}: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Why nothing was written.
enum Failure {
    /// With what to change.
    Refused(String),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Writes a file that was not there, if a node can use it; returns warnings. The file has its name only when it is complete and checked.
fn write(path: &Path, text: &str) -> Result<Vec<String>, Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let draft = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let loaded = config::load(Some(&draft), std::iter::empty());
        let loaded = loaded.map_err(|error| Failure::Refused(format!("this makes no configuration\n{error}")))?;
        fs::hard_link(&draft, path)?;
        Ok(loaded.warnings)
    })();
    // It holds keys. If it cannot be removed, it could not be made either.
    let _ = fs::remove_file(&draft);
    written
}

impl Init {
    /// Asks for what is missing: on stderr, so that stdout has the result only.
    fn ask(&mut self) {
        let mut host = String::new();
        if !answer("Public name of the gateway, as mini-programs reach it (ws.example.com): ", &mut host) {
            return;
        }
        self.host = Some(host);
        let mut text = String::new();
        while answer("ServerHost of a business server with a Wafer SDK (empty: no more): ", &mut text)
            && !text.is_empty()
        {
            self.server_host.push(std::mem::take(&mut text));
        }
        while answer("Name of a business server with the native API (empty: no more): ", &mut text) && !text.is_empty()
        {
            let mut url = String::new();
            answer("URL that gets its events: ", &mut url);
            self.tenant.push((std::mem::take(&mut text), url));
        }
        if self.tls_cert.is_none()
            && answer("Certificate chain, if the node ends TLS itself (empty: a proxy does): ", &mut text)
            && !text.is_empty()
        {
            self.tls_cert = Some(std::mem::take(&mut text).into());
            answer("Its private key: ", &mut text);
            self.tls_key = Some(text.into());
        }
    }

    fn choices(self) -> Result<Choices, String> {
        let host = self.host.filter(|host| !host.is_empty()).ok_or("name the gateway: --host ws.example.com")?;
        if host.contains('/') {
            return Err(format!("--host {host}: write the name only, such as ws.example.com"));
        }
        let wafer = self.server_host.into_iter().map(|server_host| Tenant::Wafer { server_host });
        let native = self.tenant.into_iter().map(|(id, webhook_url)| Tenant::Native { id, webhook_url });
        let tenants: Vec<_> = wafer.chain(native).collect();
        if tenants.is_empty() {
            let words = "name a business server: --server-host HOST for one with a Wafer SDK, --tenant ID=URL for one with the native API";
            return Err(words.to_owned());
        }
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => Tls::Node { cert, key },
            _ => Tls::Proxies(self.proxy),
        };
        Ok(Choices { host, tls, redis_url: self.redis_url, tenants })
    }
}

/// Reads the answer to a question; false if there is none any more.
fn answer(question: &str, text: &mut String) -> bool {
    eprint!("{question}");
    text.clear();
    let is_read = io::stdin().read_line(text).is_ok_and(|bytes| bytes > 0);
    *text = text.trim().to_owned();
    is_read
}

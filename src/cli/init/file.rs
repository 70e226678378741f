//! The text of a first configuration.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

/// The port of wss.
const WSS: u16 = 443;
/// The port for a proxy.
const PLAIN: u16 = 8080;
/// Ports below it need a right.
const UNPRIVILEGED: u16 = 1024;

/// What the operator chooses.
pub(super) struct Choices {
    /// The public name, with a port if it is not 443.
    pub(super) host: String,
    pub(super) tls: Tls,
    pub(super) redis_url: Option<String>,
    pub(super) tenants: Vec<Tenant>,
}

/// What ends TLS.
pub(super) enum Tls {
    Node { cert: PathBuf, key: PathBuf },
    Proxies(Vec<IpNet>),
}

/// A business server.
pub(super) enum Tenant {
    /// With a Wafer SDK.
    Wafer { server_host: String },
    /// With the native API.
    Native { id: String, webhook_url: String },
}

impl Choices {
    /// The whole file; `key` makes a new key at each call.
    pub(super) fn text(&self, file: &str, mut key: impl FnMut() -> String) -> String {
        let mut lines = Lines(vec![
            "# The configuration of this node, written by `wafergate init`. It holds keys: other users must not read it. All nodes that".to_owned(),
            "# share a Redis use the same one. `wafergate default-config` explains every other key; this checks the file:".to_owned(),
            format!("#   wafergate check-config --config {file}"),
            "[server]".to_owned(),
        ]);
        lines.set("listen", &quoted(&self.listen().to_string()), "HTTP API and WebSocket");
        match &self.tls {
            Tls::Node { cert, key } => {
                lines.set("tls_cert", &quoted(&cert.to_string_lossy()), "SIGHUP reads both files again");
                lines.set("tls_key", &quoted(&key.to_string_lossy()), "");
            }
            Tls::Proxies(networks) => {
                let networks: Vec<_> = networks.iter().map(|network| quoted(&network.to_string())).collect();
                lines.set("trusted_proxies", &format!("[{}]", networks.join(", ")), "where the proxy connects from");
            }
        }
        lines.set("admin_listen", &quoted("127.0.0.1:9090"), "health, metrics and the console; never for the public");
        lines.set("public_url", &quoted(&format!("wss://{}", self.host)), "what connect URLs begin with");
        lines.set("ticket_key", &quoted(&key()), "seals connect URLs");
        if let Some(url) = &self.redis_url {
            lines.section("[engine]");
            lines.set("kind", &quoted("redis"), "");
            lines.set("redis_url", &quoted(url), "");
        }
        lines.section("[console]");
        lines.set("token", &quoted(&key()), "of the page at http://127.0.0.1:9090/console/");
        for tenant in &self.tenants {
            lines.section("[[tenants]]");
            match tenant {
                Tenant::Wafer { server_host } => {
                    lines.set("server_host", &quoted(server_host), "the SDK's ServerHost, letter for letter");
                }
                Tenant::Native { id, webhook_url } => {
                    lines.set("id", &quoted(id), "");
                    lines.set("webhook_url", &quoted(webhook_url), "where its events go");
                }
            }
            lines.set("keys", &format!("[{}]", quoted(&key())), "the same in the settings of the business server");
        }
        lines.0.join("\n") + "\n"
    }

    /// What remains to be done, in words.
    pub(super) fn next_steps(&self, file: &str) -> String {
        let port = match self.listen().port() {
            port @ ..UNPRIVILEGED => format!(
                "\nUnder systemd, port {port} needs ListenStream=0.0.0.0:{port} in wafergate.socket (systemctl edit), or a right of its own.\n"
            ),
            _ => String::new(),
        };
        let hosts: Vec<_> =
            self.tenants.iter().filter_map(Tenant::host).map(|host| format!("https://{host}")).collect();
        format!(
            "wrote {file}\n\n\
             Each tenant has a key in it: put the same one into the settings of its business server.\n\
             At WeChat, in the development settings of the mini-program, enter\n  \
             request domain  {}\n  socket domain   wss://{}\n\n\
             Then:\n  wafergate check-config --config {file}\n  wafergate serve --config {file}\n{port}",
            hosts.join(", "),
            self.host,
        )
    }

    /// Where the node listens: for clients itself, or for the proxy on this machine.
    fn listen(&self) -> SocketAddr {
        match &self.tls {
            Tls::Node { .. } => {
                let port = self.host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                (Ipv4Addr::UNSPECIFIED, port.unwrap_or(WSS)).into()
            }
            Tls::Proxies(_) => (Ipv4Addr::LOCALHOST, PLAIN).into(),
        }
    }
}

/// The lines of a file.
struct Lines(Vec<String>);

impl Lines {
    fn section(&mut self, header: &str) {
        self.0.extend([String::new(), header.to_owned()]);
    }

    fn set(&mut self, key: &str, value: &str, meaning: &str) {
        let pair = format!("{key} = {value}");
        self.0.push(if meaning.is_empty() { pair } else { format!("{pair:<36} # {meaning}") });
    }
}

impl Tenant {
    /// The host that the mini-program asks, as far as it is known.
    fn host(&self) -> Option<&str> {
        match self {
            Self::Wafer { server_host } => Some(server_host),
            Self::Native { webhook_url, .. } => webhook_url.split("://").nth(1)?.split('/').next(),
        }
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_is_another_one_and_text_stays_text() {
        let mut count = 0;
        let key = || {
            count += 1;
            format!("key {count}")
        };
        let choices = Choices {
            host: "ws.example.com:8443".to_owned(),
            tls: Tls::Node { cert: "/etc/a \"quoted\" file.pem".into(), key: "/etc/key.pem".into() },
            redis_url: Some("redis://:a\\b@redis:6379".to_owned()),
            tenants: vec![
                Tenant::Wafer { server_host: "api.example.com".to_owned() },
                Tenant::Native { id: "shop".to_owned(), webhook_url: "https://shop.example.com/events".to_owned() },
            ],
        };

        let text = choices.text("wafergate.toml", key);

        let file: toml::Table = text.parse().expect("TOML");
        assert_eq!(file["server"]["listen"].as_str(), Some("0.0.0.0:8443"));
        assert_eq!(file["server"]["tls_cert"].as_str(), Some("/etc/a \"quoted\" file.pem"));
        assert_eq!(file["engine"]["redis_url"].as_str(), Some("redis://:a\\b@redis:6379"));
        let secrets = [
            &file["server"]["ticket_key"],
            &file["console"]["token"],
            &file["tenants"][0]["keys"][0],
            &file["tenants"][1]["keys"][0],
        ];
        assert_eq!(secrets.map(|secret| secret.as_str().expect("text")), ["key 1", "key 2", "key 3", "key 4"]);
        let steps = choices.next_steps("wafergate.toml");
        assert!(steps.contains("https://api.example.com, https://shop.example.com\n"), "{steps}");
        assert!(steps.contains("wss://ws.example.com:8443\n") && !steps.contains("key 3"), "{steps}");
        assert!(!steps.contains("ListenStream"), "{steps}");
        let choices = Choices { host: "ws.example.com".to_owned(), ..choices };
        assert!(choices.next_steps("wafergate.toml").contains("ListenStream=0.0.0.0:443"));
    }
}

//! `[server]`

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::Serialize;

use crate::secret::Secret;

use super::key::Kind;
use super::key::seconds;
use super::section::section;

section! {
    /// Listeners, public address and the secret of the node.
    [server]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Server {
        /// IP address and port of the HTTP API and of the WebSocket endpoint; IPv6 as "[::]:8080", port 0 takes a free one.
        /// Only this machine by default, so that a first try is open to nobody else; behind a proxy on another host "0.0.0.0:8080".
        listen: SocketAddr = "127.0.0.1:8080", Kind::Address;

        /// IP address and port of health, metrics and drain. There is no password on it: never expose it to the public.
        admin_listen: SocketAddr = "127.0.0.1:9090", Kind::Address;

        /// Further host names by which the admin listener is asked, such as `["ops.example.com"]`. Without this it answers to IP addresses,
        /// localhost, names without a dot, this machine's name, and names under .svc, .cluster.local, .internal and .local: any other name a
        /// web page could have point here. SIGHUP reloads it.
        admin_hosts: Vec<String> = [], Kind::Texts;

        /// Scheme and host of every connectUrl, such as "wss://ws.example.com". Empty: the host that the request was sent to, and
        /// the scheme that it asked for (Wafer) or came with (native). Set it when clients reach the gateway by another name than
        /// business servers do.
        public_url: String = "", Kind::Text;

        /// PEM file with the certificate chain: the server's own first, then its intermediates. With `tls_key`: TLS (https and wss) on `listen`.
        /// Both empty: plain HTTP, for use behind a proxy that ends TLS.
        tls_cert: String = "", Kind::Text;

        /// PEM file with the private key of the first certificate in `tls_cert`.
        tls_key: String = "", Kind::Text;

        /// Secret, 32 characters or more, from which the keys that seal connect URLs and TLS sessions and sign between nodes are
        /// derived. It must be the same on every node and is required with redis. Empty: random per start. The memory engine
        /// forgets at its end which connect URLs have been used, so there they are good for one process anyway.
        ticket_key: Secret = "", Kind::Secret;

        /// Networks (CIDR) of the proxies whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are believed, such as `["10.0.0.0/8"]`: then
        /// the log names their clients. None by default, since anybody can send these headers.
        trusted_proxies: Vec<IpNet> = [], Kind::Networks;

        /// "required": connections from `trusted_proxies` begin with a PROXY protocol header (version 1 or 2), as haproxy's `send-proxy`,
        /// nginx's `proxy_protocol on` and load balancers of TCP send it; from others such a header is refused. "off": from all it is.
        proxy_protocol: ProxyProtocol = "off", Kind::Choice(&["off", "required"]);

        /// How long a client has for the head of a request, in seconds: for the first one from the moment its connection (and its TLS)
        /// is there, for later ones from their first byte. Far and slow clients need seconds.
        header_timeout_secs: u64 = 10, seconds(1, 3600);

        /// How long a client has for its TLS handshake, in seconds.
        tls_handshake_timeout_secs: u64 = 30, seconds(1, 3600);

        /// How long a connection may wait for its next request, in seconds. Longer than the 60 s of nginx and of cloud load balancers: the
        /// side that opened the connection has to be the one that closes it, or its next request may be lost.
        keep_alive_secs: u64 = 620, seconds(1, 3600);
    }
}

impl Server {
    /// How long the head of a request may take.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_secs)
    }

    /// How long a TLS handshake may take.
    pub fn tls_handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.tls_handshake_timeout_secs)
    }

    /// How long a connection may wait for its next request.
    pub fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive_secs)
    }
}

/// What connections from trusted proxies begin with.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// HTTP or TLS.
    Off,
    /// A PROXY protocol header of version 1 or 2, then HTTP or TLS.
    Required,
}

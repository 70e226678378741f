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
    /// Listeners, public address and the node's secret.
    [server]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Server {
        /// IP address and port of the HTTP API and the WebSocket endpoint; IPv6 as `[::]:8080`; port 0 picks a free port. The
        /// default accepts connections from this machine only; behind a proxy on another host use "0.0.0.0:8080".
        listen: SocketAddr = "127.0.0.1:8080", Kind::Address;

        /// IP address and port of health, metrics and drain. It has no password: never expose it to the public.
        admin_listen: SocketAddr = "127.0.0.1:9090", Kind::Address;

        /// Additional host names that the admin listener accepts, such as `["ops.example.com"]`. It always accepts IP addresses,
        /// localhost, names without a dot, this machine's name, and names under .svc, .cluster.local, .internal and .local; any
        /// other name could be pointed here by a web page (DNS rebinding). SIGHUP reloads it.
        admin_hosts: Vec<String> = [], Kind::Texts;

        /// Scheme and host of every connectUrl, such as "wss://ws.example.com". Empty: the host of the request, with the scheme
        /// that the request names (Wafer) or arrived with (native). Set it when clients reach the gateway under another name than
        /// business servers do.
        public_url: String = "", Kind::Text;

        /// Name of this node in the API, the log and the metrics. Empty: the host name. It identifies nothing: two processes may have
        /// the same.
        node_name: String = "", Kind::Text;

        /// PEM file with the certificate chain, the server's own certificate first. Together with `tls_key` it enables TLS (https
        /// and wss) on `listen`. Both empty: plain HTTP, for use behind a proxy that terminates TLS.
        tls_cert: String = "", Kind::Text;

        /// PEM file with the private key of the first certificate in `tls_cert`.
        tls_key: String = "", Kind::Text;

        /// Secret of 32 characters or more. It derives the keys that seal connect URLs and TLS sessions and that authenticate
        /// messages between nodes. Required with redis, and the same on every node. Empty: a random one at each start, which is
        /// enough for the memory engine, whose connect URLs are valid for one process only.
        ticket_key: Secret = "", Kind::Secret;

        /// Networks (CIDR) of the proxies whose X-Forwarded-For, X-Forwarded-Proto and Forwarded headers are trusted, such as
        /// `["10.0.0.0/8"]`, so that logs show the address of the client. None by default, because any client can send these
        /// headers.
        trusted_proxies: Vec<IpNet> = [], Kind::Networks;

        /// "required": connections from `trusted_proxies` must begin with a PROXY protocol header (version 1 or 2), as sent by
        /// haproxy's `send-proxy`, nginx's `proxy_protocol on` and TCP load balancers; from other addresses such a header is
        /// refused. "off": such a header is always refused.
        proxy_protocol: ProxyProtocol = "off", Kind::Choice(&["off", "required"]);

        /// Time limit for the head of a request, in seconds: for the first request from the end of the connection setup (TCP,
        /// PROXY header, TLS), for later ones from their first byte. The default leaves time for distant and slow clients.
        header_timeout_secs: u64 = 10, seconds(1, 3600);

        /// Time limit for the TLS handshake, in seconds.
        tls_handshake_timeout_secs: u64 = 30, seconds(1, 3600);

        /// How long a connection may stay idle between two requests, in seconds. Longer than the usual 60 s of nginx and of cloud
        /// load balancers: the side that opened the connection should close it first, otherwise its next request may be lost.
        keep_alive_secs: u64 = 620, seconds(1, 3600);
    }
}

impl Server {
    /// Time limit for the head of a request.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_secs)
    }

    /// Time limit for a TLS handshake.
    pub fn tls_handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.tls_handshake_timeout_secs)
    }

    /// Longest idle time between two requests.
    pub fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive_secs)
    }
}

/// How connections from trusted proxies begin.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// With HTTP or TLS.
    Off,
    /// With a PROXY protocol header of version 1 or 2, then HTTP or TLS.
    Required,
}

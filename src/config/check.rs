//! Checks across settings: combinations, files on this machine, and dangerous values.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::clock::SystemClock;
use crate::engine::RedisEngine;
use crate::http_client::guard::Guard;
use crate::http_client::platform;
use crate::options::EngineKind;
use crate::options::Options;
use crate::options::ProxyProtocol;
use crate::options::Server;
use crate::options::Webhook;
use crate::server::Certificate;
use crate::server::CertificateError;
use crate::telemetry;

use super::address;
use super::checker::Checker;
use super::checker::TICKET_KEY_CHARS;
use super::error::Report;
use super::sessions;
use super::settings::Settings;
use super::tenants;

/// Longest Redis key prefix, in bytes.
const PREFIX_BYTES: usize = 64;
/// A console token below this length is weak.
const CONSOLE_TOKEN_BYTES: usize = 16;

/// Reports problems of `options` as a whole, and normalises valid values.
pub(super) fn check(options: &mut Options, settings: &Settings, report: &mut Report) {
    let mut checker = Checker::new(settings, report);
    listeners(options, &mut checker);
    public_url(options, &mut checker);
    tls(options, &mut checker);
    engine(options, &mut checker);
    queues(options, &mut checker);
    proxies(&options.server, &mut checker);
    admin_hosts(&options.server, &mut checker);
    checker.networks("server.trusted_proxies", &options.server.trusted_proxies);
    checker.networks("webhook.allow_networks", &options.webhook.allow_networks);
    reachable_platforms(&options.webhook, &mut checker);
    enrolment(options, &mut checker);
    tenants::check(options, &mut checker);
    sessions::check(options, &mut checker);
    console(options, &mut checker);
    if let Err(error) = telemetry::parse_filter(&options.log.level) {
        checker.problem("log.level", format!("{error}; write a level such as \"info\" or \"info,wafergate=debug\""));
    }
}

fn listeners(options: &Options, checker: &mut Checker<'_>) {
    let server = &options.server;
    if overlap(server.listen, server.admin_listen) {
        checker.problem("server.admin_listen", "is the same address as server.listen; give it another port");
    }
    if !server.admin_listen.ip().is_loopback() {
        checker.warning(
            "server.admin_listen",
            "others can reach it, and there is no password on it; use a loopback address unless the network is trusted",
        );
    }
}

fn admin_hosts(server: &Server, checker: &mut Checker<'_>) {
    for name in &server.admin_hosts {
        let is_name = matches!(address::authority_host(name), Some(url::Host::Domain(_))) && !name.contains(':');
        if !is_name {
            let advice = format!("\"{name}\" is no host name; write the name alone, such as \"ops.example.com\"");
            checker.problem("server.admin_hosts", advice);
        }
    }
}

fn console(options: &Options, checker: &mut Checker<'_>) {
    let token = options.console.token.expose();
    if !token.is_empty() && token.len() < CONSOLE_TOKEN_BYTES {
        let advice = format!(
            "is shorter than {CONSOLE_TOKEN_BYTES} bytes, so it can be guessed; take one of `wafergate keygen`"
        );
        checker.warning("console.token", advice);
    }
    if token.is_empty() && options.console.write {
        checker.warning("console.write", "does nothing: console.token is empty, so there is no console");
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && same_ip
}

fn public_url(options: &mut Options, checker: &mut Checker<'_>) {
    if options.server.public_url.is_empty() {
        if tenants::any_wafer(options) && speaks_only_plain(&options.server) {
            let advice = format!("is empty, so Wafer clients are sent to wss, but {NO_TLS}, or ws://host:port here");
            checker.warning("server.public_url", advice);
        }
        return;
    }
    match address::public_url(&options.server.public_url) {
        Ok(url) => {
            if url.starts_with("ws:") && !options.server.tls_cert.is_empty() {
                checker.warning(
                    "server.public_url",
                    "clients are sent to plain ws, but server.tls_cert asks for TLS; use wss",
                );
            }
            if url.starts_with("wss:") && speaks_only_plain(&options.server) {
                checker.warning("server.public_url", format!("clients are sent to wss, but {NO_TLS}"));
            }
            options.server.public_url = url;
        }
        Err(advice) => checker.problem("server.public_url", advice),
    }
}

/// What is missing for clients that connect by wss.
const NO_TLS: &str =
    "neither this gateway nor a proxy that it knows ends TLS: set server.tls_cert, or server.trusted_proxies";

/// Whether nothing is configured that ends TLS.
fn speaks_only_plain(server: &Server) -> bool {
    server.tls_cert.is_empty() && server.trusted_proxies.is_empty()
}

fn tls(options: &Options, checker: &mut Checker<'_>) {
    let server = &options.server;
    match (server.tls_cert.is_empty(), server.tls_key.is_empty()) {
        (true, true) => return,
        (false, true) => {
            checker.problem("server.tls_key", "is empty although server.tls_cert is set; set both or neither");
        }
        (true, false) => {
            checker.problem("server.tls_cert", "is empty although server.tls_key is set; set both or neither");
        }
        (false, false) => {}
    }
    let mut is_readable = true;
    for (name, path) in [("server.tls_cert", &server.tls_cert), ("server.tls_key", &server.tls_key)] {
        if let Err(error) = readable(path) {
            is_readable = false;
            if !path.is_empty() {
                checker.problem(name, format!("cannot be read: {error}; name a PEM file that this user may read"));
            }
        }
    }
    if is_readable {
        certificate(server, checker);
    }
}

fn certificate(server: &Server, checker: &mut Checker<'_>) {
    use CertificateError::{Chain, Key, Unusable};
    match Certificate::load(server, Arc::new(SystemClock)) {
        Ok(certificate) => {
            for doubt in certificate.doubts() {
                checker.warning("server.tls_cert", doubt.to_string());
            }
        }
        Err(Chain { source, .. }) => {
            let advice = "name a PEM file with the certificate chain, the server's own first";
            checker.problem("server.tls_cert", format!("holds no certificate: {source}; {advice}"));
        }
        Err(Key { source, .. }) => {
            let advice = "name a PEM file with the private key, without a password";
            checker.problem("server.tls_key", format!("holds no private key: {source}; {advice}"));
        }
        Err(Unusable(rustls::Error::InconsistentKeys(_))) => {
            let advice = "the first certificate in that file must be the one that this key was made for";
            checker.problem("server.tls_key", format!("is not the key of server.tls_cert; {advice}"));
        }
        Err(Unusable(error)) => {
            let advice = "name a certificate for servers with an RSA, ECDSA or Ed25519 key";
            checker.problem("server.tls_cert", format!("cannot be used with server.tls_key: {error}; {advice}"));
        }
    }
}

fn readable(path: &str) -> io::Result<()> {
    if File::open(path)?.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(())
}

fn engine(options: &Options, checker: &mut Checker<'_>) {
    let with_redis = options.engine.kind == EngineKind::Redis;
    let ticket_key = options.server.ticket_key.expose();
    if with_redis && ticket_key.is_empty() {
        checker.problem(
            "server.ticket_key",
            "is required with engine.kind = \"redis\"; set the same secret of 32 characters or more on every node",
        );
    } else if !ticket_key.is_empty() && ticket_key.chars().count() < TICKET_KEY_CHARS {
        let chars = ticket_key.chars().count();
        checker.problem("server.ticket_key", format!("has {chars} characters; use {TICKET_KEY_CHARS} or more"));
    }

    let url = options.engine.redis_url.expose();
    match (with_redis, url.is_empty()) {
        (true, true) => checker.problem(
            "engine.redis_url",
            "is required with engine.kind = \"redis\"; write redis://[user:pass@]host:port[/db]",
        ),
        (_, false) => {
            if let Err(error) = RedisEngine::check_url(url) {
                checker.problem("engine.redis_url", error.to_string());
            }
            if !with_redis {
                checker.warning("engine.redis_url", "is not used with engine.kind = \"memory\"");
            }
        }
        (false, true) => {}
    }

    if !options.engine.sentinel_password.is_empty() && !url.contains("+sentinel://") {
        checker.warning("engine.sentinel_password", "is not used: engine.redis_url names no Sentinels");
    }

    let prefix = &options.engine.redis_prefix;
    let is_plain = prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}*?[]\\".contains(&byte));
    if prefix.is_empty() || prefix.len() > PREFIX_BYTES || !is_plain {
        let advice = format!("must be 1 to {PREFIX_BYTES} bytes of ASCII letters, digits, '-', '_', '.' or ':'");
        checker.problem("engine.redis_prefix", advice);
    }
}

fn queues(options: &Options, checker: &mut Checker<'_>) {
    let tunnel = &options.tunnel;
    if tunnel.inbox_bytes < tunnel.max_message_bytes {
        let advice = format!(
            "is less than tunnel.max_message_bytes ({} bytes): one long message takes more than the whole queue",
            tunnel.max_message_bytes
        );
        checker.warning("tunnel.inbox_bytes", advice);
    }
    let webhook = &options.webhook;
    if webhook.timeout() > webhook.message_ttl() {
        let advice = format!(
            "is more than webhook.message_ttl_secs ({} seconds): a message that times out once is given up",
            webhook.message_ttl_secs
        );
        checker.warning("webhook.timeout_ms", advice);
    }
}

fn proxies(server: &Server, checker: &mut Checker<'_>) {
    if server.proxy_protocol == ProxyProtocol::Required && server.trusted_proxies.is_empty() {
        checker.warning(
            "server.proxy_protocol",
            "no connection can begin with a PROXY header, since server.trusted_proxies is empty; name the proxies that send it there",
        );
    }
}

/// Warns of an allowed network that includes cloud platform addresses.
fn reachable_platforms(webhook: &Webhook, checker: &mut Checker<'_>) {
    for network in webhook.allow_networks.iter().filter(|network| network.prefix_len() > 0) {
        let Some((address, cloud)) = platform::metadata_in(network) else { continue };
        if Guard::of(webhook).admits(address).is_ok() && network.prefix_len() < network.max_prefix_len() {
            let advice = format!(
                "{network} holds {address}, where {cloud} gives out this machine's credentials; name smaller networks, or add the \
                 address to webhook.deny_networks"
            );
            checker.warning("webhook.allow_networks", advice);
        }
    }
}

fn enrolment(options: &Options, checker: &mut Checker<'_>) {
    if options.enrolment.open && !options.server.listen.ip().is_loopback() {
        checker.warning(
            "enrolment.open",
            "anyone who can reach server.listen can open tunnels with a key of their own; for trusted networks only",
        );
    }
    if options.enrolment.open && options.engine.kind == EngineKind::Redis {
        checker.warning(
            "enrolment.open",
            "a tenant that enrols itself is known to the node it came to only, and refused by the others; name tenants in [[tenants]]",
        );
    }
}

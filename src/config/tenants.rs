//! Checks of the tenants: one identity each, at least one key, and receive hosts that can match.

use std::collections::HashMap;

use url::Host;

use crate::http_client::guard::Guard;
use crate::id::TenantId;
use crate::options::Options;
use crate::options::Tenant;
use crate::protocol::origin;
use crate::protocol::signature;
use crate::protocol::subprotocol;
use crate::protocol::text;

use super::address;
use super::checker::Checker;

/// Shortest key that counts as hard to guess, in bytes.
const KEY_BYTES: usize = 16;

/// Least entropy of a key in bits, from the frequencies of its bytes. A higher value proves nothing, a lower one shows a pattern.
const KEY_BITS: f64 = 40.0;

/// Longest name of a subprotocol, in bytes.
const SUBPROTOCOL_BYTES: usize = 256;

/// Reports problems of each tenant and between tenants.
pub(super) fn check(options: &Options, checker: &mut Checker<'_>) {
    if options.tenants.is_empty() && !options.enrolment.open {
        checker.warning(
            "enrolment.open",
            "there are no tenants either, so no tunnel can be requested; add a [[tenants]] block",
        );
    }
    let mut seen = HashMap::new();
    for (index, tenant) in options.tenants.iter().enumerate() {
        identity(index, tenant, checker);
        keys(index, tenant, checker);
        hosts(index, tenant, options, checker);
        subprotocols(index, tenant, checker);
        origins(index, tenant, checker);
        if tenant.server_host.is_empty() == tenant.id.is_empty() {
            continue;
        }
        let id = tenant_id(tenant);
        match seen.get(&id) {
            Some(first) => {
                let name = if tenant.id.is_empty() { "server_host" } else { "id" };
                let advice = format!("is the same tenant as tenants[{first}] (id {id}); join the two or change one");
                checker.tenant_problem(index, name, advice);
            }
            None => {
                seen.insert(id, index);
            }
        }
    }
}

/// Whether a tenant may use a Wafer SDK.
pub(super) fn any_wafer(options: &Options) -> bool {
    options.enrolment.open || options.tenants.iter().any(|tenant| is_md5(&tenant_id(tenant)))
}

/// The id of `tenant`, which Wafer SDKs call tcId.
pub(super) fn tenant_id(tenant: &Tenant) -> String {
    if tenant.id.is_empty() { text::md5_hex(&tenant.server_host) } else { tenant.id.clone() }
}

fn identity(index: usize, tenant: &Tenant, checker: &mut Checker<'_>) {
    let host = tenant.server_host.as_str();
    let id = tenant.id.as_str();
    match (host.is_empty(), id.is_empty()) {
        (true, true) => checker.tenant_problem(index, "server_host", "is empty, and so is id; set one of the two"),
        (false, false) => {
            checker.tenant_problem(index, "id", "is set although server_host is too; keep one of the two");
        }
        _ => {}
    }
    if host.contains("://") || host.trim() != host {
        let advice = "is taken as it is, with its scheme or white space; a ServerHost is usually only a host, with a port at most";
        checker.tenant_warning(index, "server_host", advice);
    }
    if id.is_empty() {
        return;
    }
    if !TenantId::is_valid(id) {
        let advice = format!(
            "must be 1 to {} ASCII letters, digits, '-', '_' or '.', since it travels in headers",
            TenantId::MAX_BYTES
        );
        return checker.tenant_problem(index, "id", advice);
    }
    if is_md5(id) && id.chars().any(|digit| digit.is_ascii_uppercase()) {
        checker.tenant_warning(
            index,
            "id",
            "Wafer SDKs send their tcId in lower case, which is another tenant; write it so",
        );
    }
    if !is_md5(id) && tenant.receive_hosts.is_empty() && tenant.webhook_url.is_empty() {
        checker.tenant_warning(
            index,
            "id",
            "no receive URL can match: it is no MD5 of a host, and neither receive_hosts nor webhook_url is set; set one",
        );
    }
}

fn is_md5(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn keys(index: usize, tenant: &Tenant, checker: &mut Checker<'_>) {
    if tenant.keys.is_empty() {
        return checker.tenant_problem(index, "keys", "needs one key at least; `wafergate keygen` makes one");
    }
    for (number, key) in tenant.keys.iter().enumerate() {
        let written = key.expose();
        let secret = signature::hmac_key(written);
        let prefix = signature::WEBHOOK_SECRET_PREFIX;
        if secret.is_empty() {
            checker.tenant_problem(
                index,
                "keys",
                format!("key {number} is empty; take it out or `wafergate keygen` one"),
            );
            continue;
        }
        if secret.len() < KEY_BYTES {
            let bytes = secret.len();
            let advice = format!("key {number} has {bytes} bytes, which can be guessed; use {KEY_BYTES} bytes or more");
            checker.tenant_warning(index, "keys", advice);
        } else if bits(&secret) < KEY_BITS {
            let advice =
                format!("key {number} repeats few characters, which can be guessed; `wafergate keygen` makes one");
            checker.tenant_warning(index, "keys", advice);
        }
        if written.starts_with(prefix) && secret == written.as_bytes() {
            let advice =
                format!("key {number} begins with {prefix} but is not Base64 behind it; it is used as plain text");
            checker.tenant_warning(index, "keys", advice);
        }
        if written.trim() != written {
            checker.tenant_warning(
                index,
                "keys",
                format!("key {number} begins or ends with white space, which is part of it"),
            );
        }
        if tenant.keys[..number].iter().any(|earlier| earlier.matches(key.expose())) {
            checker.tenant_warning(index, "keys", format!("key {number} is there twice"));
        }
    }
}

/// Entropy of `secret` in bits, given the frequencies of its bytes.
fn bits(secret: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    secret.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let length = f64::from(counts.iter().sum::<u32>());
    let counts = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count));
    counts.map(|count| count * (length / count).log2()).sum()
}

fn hosts(index: usize, tenant: &Tenant, options: &Options, checker: &mut Checker<'_>) {
    for host in &tenant.receive_hosts {
        if !address::is_receive_host(host) {
            let shown = super::value::shown(&host.as_str().into());
            let advice = format!("{shown} is not a host; write \"host\", \"host:port\" (IPv6 in brackets) or \"*\"");
            checker.tenant_problem(index, "receive_hosts", advice);
        }
        if tenant.forward_to.is_empty() {
            reachable(index, "receive_hosts", address::authority_host(host), options, checker);
        }
    }
    if tenant.receive_hosts.is_empty() && tenant.webhook_url.is_empty() && tenant.forward_to.is_empty() {
        reachable(index, "server_host", address::authority_host(&tenant.server_host), options, checker);
    }
    let is_forwarded = !tenant.forward_to.is_empty();
    for (name, text, is_used, parse) in [
        ("webhook_url", &tenant.webhook_url, !is_forwarded, address::webhook_url as fn(&str) -> _),
        ("forward_to", &tenant.forward_to, true, address::forward_to),
    ] {
        match parse(text) {
            _ if text.is_empty() => {}
            Ok(url) if is_used => {
                if let Err(port) = Guard::of(&options.webhook).admits_port_of(url.host(), url.port()) {
                    checker.tenant_warning(index, name, format!("no event will get there: {port}"));
                }
                reachable(index, name, Some(url.host().clone()), options, checker);
            }
            Ok(_) => {}
            Err(advice) => checker.tenant_problem(index, name, advice),
        }
    }
}

fn subprotocols(index: usize, tenant: &Tenant, checker: &mut Checker<'_>) {
    for (number, name) in tenant.subprotocols.iter().enumerate() {
        let shown = super::value::shown(&name.as_str().into());
        if !subprotocol::is_name(name.as_bytes()) {
            let advice = format!("{shown} is not a name; write a token of RFC 9110, such as \"chat.v2\"");
            checker.tenant_problem(index, "subprotocols", advice);
        } else if name.len() > SUBPROTOCOL_BYTES {
            let advice = format!(
                "{shown} has {} bytes; no client's request has room for more than {SUBPROTOCOL_BYTES}",
                name.len()
            );
            checker.tenant_problem(index, "subprotocols", advice);
        } else if name.starts_with(subprotocol::OWN_PREFIX) {
            let advice =
                format!("{shown} begins with {}, which is kept for the gateway; rename it", subprotocol::OWN_PREFIX);
            checker.tenant_problem(index, "subprotocols", advice);
        } else if tenant.subprotocols[..number].contains(name) {
            checker.tenant_warning(index, "subprotocols", format!("{shown} is there twice; take one out"));
        }
    }
}

fn origins(index: usize, tenant: &Tenant, checker: &mut Checker<'_>) {
    for entry in tenant.allow_origins.iter().filter(|entry| !origin::is_entry(entry)) {
        let shown = super::value::shown(&entry.as_str().into());
        let advice = format!(
            "{shown} is no origin; write scheme, host and port if it has one, such as \"https://app.example.com\" (without a path \
             or a slash at the end), \"https://*.example.com\", \"null\" or \"*\""
        );
        checker.tenant_problem(index, "allow_origins", advice);
    }
}

/// Warns of a host that receive URLs may not reach.
fn reachable(index: usize, name: &str, host: Option<Host>, options: &Options, checker: &mut Checker<'_>) {
    let Some(address) = host.as_ref().and_then(address::literal) else {
        return;
    };
    if let Err(refusal) = Guard::of(&options.webhook).admits(address) {
        checker.tenant_warning(index, name, format!("no event will get there: {refusal}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_much_to_guess_is_known() {
        for key in ["aaaaaaaaaaaaaaaa", "abababababababababab", "1111222233334444", "hush-hush-hush-hush"] {
            assert!(bits(key.as_bytes()) < KEY_BITS, "{key}");
        }
        for key in ["0123456789abcdef", "a key of this test", "the tunnel signature key", "9f86d081884c7d65"] {
            assert!(bits(key.as_bytes()) >= KEY_BITS, "{key}");
        }
    }
}

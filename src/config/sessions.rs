//! Checks of the session service and its apps.

use std::collections::HashMap;

use url::Host;
use url::Url;

use crate::options::App;
use crate::options::DatabaseUrl;
use crate::options::EngineKind;
use crate::options::Options;
use crate::options::StoreKind;
use crate::protocol::text;

use super::checker::Checker;
use super::checker::TICKET_KEY_CHARS;

/// Shortest key in an address, in characters.
const WAFER_KEY_CHARS: usize = 16;
/// The address of WeChat.
const WECHAT: &str = "https://api.weixin.qq.com";

/// Reports problems of the section and of each app.
pub(super) fn check(options: &Options, checker: &mut Checker<'_>) {
    wechat_url(options, checker);
    apps(options, checker);
    if options.session.enabled {
        store(options, checker);
        access(options, checker);
    }
}

fn store(options: &Options, checker: &mut Checker<'_>) {
    let Some(kind) = options.session.store_kind() else {
        let advice = "must be sqlite:// and an absolute path, mysql://USER:PASSWORD@HOST/DATABASE, or memory";
        return checker.problem("session.store", advice);
    };
    match kind {
        StoreKind::Memory => return,
        StoreKind::Sqlite(_) => file(options, checker),
        StoreKind::MySql(url) => database(url, checker),
    }
    if options.server.ticket_key.is_empty() {
        let advice = format!(
            "is required with a session.store other than memory, since it seals what is kept there; set a secret of \
             {TICKET_KEY_CHARS} characters or more, and keep it"
        );
        checker.problem("server.ticket_key", advice);
    }
}

fn file(options: &Options, checker: &mut Checker<'_>) {
    if options.engine.kind == EngineKind::Redis {
        checker.warning(
            "session.store",
            "is a file of this node only; with several nodes, enable [session] on one of them, or use a MySQL database",
        );
    }
}

fn database(url: &str, checker: &mut Checker<'_>) {
    if cfg!(not(feature = "mysql")) {
        checker.problem("session.store", "is a MySQL database, and this wafergate was built without the feature mysql");
    }
    match url.parse::<DatabaseUrl>() {
        Err(error) => checker.problem("session.store", error.to_string()),
        Ok(url) if url.is_exposed() => checker.warning(
            "session.store",
            "is a database that is reached over the network without TLS; add ?ssl-mode=verify_identity",
        ),
        Ok(_) => {}
    }
}

fn wechat_url(options: &Options, checker: &mut Checker<'_>) {
    let written = options.session.wechat_url.as_str();
    let Some(url) = Url::parse(written).ok().filter(|url| url.host().is_some()) else {
        return checker.problem("session.wechat_url", "is no address; write https://HOST");
    };
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !is_bare || url.password().is_some() {
        return checker.problem("session.wechat_url", "has more than scheme, host and port; take it out");
    }
    let is_here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && is_here) {
        let advice =
            "would send appSecrets over a network that others can read; use https, or http to a loopback address";
        return checker.problem("session.wechat_url", advice);
    }
    if written.trim_end_matches('/') != WECHAT {
        checker.warning("session.wechat_url", "is not WeChat: whoever runs it gets every appSecret and session_key");
    }
}

fn access(options: &Options, checker: &mut Checker<'_>) {
    let has_key = options.session.apps.iter().any(|app| !app.wafer_key.is_empty());
    if !options.server.listen.ip().is_loopback() && !has_key {
        checker.warning(
            "session.enabled",
            "others can reach /mina_auth/, which has no password for those in session.wafer_allow_networks; give each app a \
             wafer_key, or let only business servers reach it",
        );
    }
    checker.networks("session.wafer_allow_networks", &options.session.wafer_allow_networks);
}

fn apps(options: &Options, checker: &mut Checker<'_>) {
    let mut seen = HashMap::new();
    let mut plain = None;
    for (number, app) in options.session.apps.iter().enumerate() {
        identity(number, app, checker);
        if let Some(first) = seen.insert(app.app_id.as_str(), number) {
            checker.app_problem(number, "app_id", format!("is the app of session.apps[{first}] too; join the two"));
        }
        if app.wafer_key.is_empty() {
            match plain {
                Some(first) => checker.app_problem(
                    number,
                    "wafer_key",
                    format!("is empty, and so is that of session.apps[{first}]: /mina_auth/ can mean one app; set one"),
                ),
                None => plain = Some(number),
            }
        }
        if !app.tenant.is_empty() && !options.enrolment.open && !is_tenant(options, &app.tenant) {
            checker.app_problem(number, "tenant", "is the server_host or id of no [[tenants]] block; correct it");
        }
    }
}

fn is_tenant(options: &Options, name: &str) -> bool {
    let is = |tenant: &crate::options::Tenant| {
        tenant.id == name || tenant.server_host == name || text::md5_hex(&tenant.server_host) == name
    };
    options.tenants.iter().any(is)
}

fn identity(number: usize, app: &App, checker: &mut Checker<'_>) {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if app.app_id.is_empty() || app.app_id.len() > 64 || !is_word(&app.app_id) {
        checker.app_problem(number, "app_id", "must be the appId of a mini-program, such as wx4f4bc4dec97d474b");
    }
    if app.secrets().is_empty() {
        checker.app_problem(number, "secret", "is empty; copy the appSecret from mp.weixin.qq.com, or set secret_file");
    }
    let key = app.wafer_key.expose();
    if !key.is_empty() && (key.len() < WAFER_KEY_CHARS || !is_word(key)) {
        let advice =
            format!("must be {WAFER_KEY_CHARS} or more letters, digits, '-' or '_', since it is part of an address");
        checker.app_problem(number, "wafer_key", advice);
    }
    if app.share_access_token && app.tenant.is_empty() {
        checker.app_warning(number, "share_access_token", "is for its tenant, and tenant is empty");
    }
}

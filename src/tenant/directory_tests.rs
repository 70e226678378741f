//! Which requests are authenticated.
#![expect(clippy::disallowed_methods, reason = "a test may pick its start")]

use super::*;
use crate::tenant::KeyChange;

fn options(tenants: &[(&str, &[&str])], open: bool) -> Options {
    options_with(tenants, open, true)
}

fn options_with(tenants: &[(&str, &[&str])], open: bool, allow_removal: bool) -> Options {
    let tenants: Vec<String> =
        tenants.iter().map(|(id, keys)| format!("[[tenants]]\nid = {id:?}\nkeys = {keys:?}\n")).collect();
    let text = format!(
        r#"
        [server]
        listen = "127.0.0.1:0"
        admin_listen = "127.0.0.1:0"
        admin_hosts = []
        public_url = ""
        node_name = ""
        tls_cert = ""
        tls_key = ""
        ticket_key = ""
        trusted_proxies = []
        proxy_protocol = "off"
        header_timeout_secs = 1
        tls_handshake_timeout_secs = 1
        keep_alive_secs = 1
        [engine]
        kind = "memory"
        redis_url = ""
        sentinel_password = ""
        redis_prefix = ""
        [tunnel]
        connect_ttl_secs = 60
        heartbeat_secs = 30
        max_message_bytes = 1
        outbox_bytes = 1
        outbox_age_secs = 1
        inbox_bytes = 1
        [webhook]
        timeout_ms = 1
        message_ttl_secs = 1
        close_ttl_secs = 1
        max_in_flight_per_endpoint = 1
        max_pending_closes = 1
        allow_networks = []
        deny_networks = []
        allow_ports = []
        [session]
        enabled = false
        store = ""
        login_days = 1
        idle_secs = 1
        sessions_per_user = 1
        wechat_url = ""
        wechat_timeout_ms = 1
        wafer_allow_networks = []
        [drain]
        window_secs = 1
        flush_secs = 1
        [limits]
        connections = 0
        messages_per_sec = 0
        messages_per_sec_per_connection = 0
        pushes_per_sec = 0
        max_push_targets = 1
        connectors = 1
        [timeline]
        bytes = 0
        capture = false
        [console]
        token = ""
        write = false
        [enrolment]
        open = {open}
        [reload]
        allow_removal = {allow_removal}
        [log]
        level = "info"
        format = "text"
        {}
        "#,
        tenants.concat()
    );
    toml::from_str(&text).expect("valid")
}

fn envelope(tenant: &str, signed_with: &str, tc_key: Option<&str>) -> Envelope {
    let signature = signature::wafer("{}", signed_with);
    let body = serde_json::json!({"data": "{}", "tcId": tenant, "signature": signature, "tcKey": tc_key});
    Envelope::parse(body.to_string().as_bytes()).expect("valid")
}

/// Authenticates a request of now.
fn authenticate(directory: &Directory, envelope: &Envelope, needs_key: bool) -> Result<(Arc<Tenant>, Key), Denied> {
    directory.authenticate(envelope, needs_key, &"192.0.2.1", Instant::now())
}

#[test]
fn every_key_of_a_tenant_verifies_and_is_told() {
    let directory = Directory::new(&options(&[("a", &["new", "old"])], false));

    for key in ["new", "old"] {
        let (tenant, found) = authenticate(&directory, &envelope("a", key, Some(key)), true).expect("known");
        assert_eq!(tenant.id.as_str(), "a");
        assert!(found.secret().matches(key));
    }
}

#[test]
fn strangers_are_denied_and_the_log_gets_the_reason() {
    let directory = Directory::new(&options(&[("a", &["ka", "ka2"]), ("b", &["kb"])], false));

    for (what, envelope, needs_key, reason) in [
        ("unknown tenant with its own key", envelope("c", "kc", Some("kc")), true, Stranger::UnknownTenant),
        ("another tenant's key", envelope("a", "kb", Some("kb")), true, Stranger::WrongKey),
        ("signed right, tcKey wrong", envelope("a", "ka", Some("kb")), false, Stranger::OtherKey),
        ("signed with one key, tcKey the other", envelope("a", "ka", Some("ka2")), false, Stranger::OtherKey),
        ("no tcKey where one is needed", envelope("a", "ka", None), true, Stranger::MissingKey),
        ("empty key", envelope("a", "", Some("")), false, Stranger::WrongKey),
    ] {
        let denied = authenticate(&directory, &envelope, needs_key).err();
        assert_eq!(denied, Some(Denied::Stranger(reason)), "{what}");
    }
    assert!(authenticate(&directory, &envelope("a", "ka", None), false).is_ok(), "a push needs no tcKey");
}

#[test]
fn an_open_gateway_keeps_the_key_that_came_first() {
    let directory = Directory::new(&options(&[("a", &["ka"])], true));

    assert!(authenticate(&directory, &envelope("new", "k1", None), false).is_err(), "no key to keep");
    assert!(authenticate(&directory, &envelope("new", "k2", Some("k1")), true).is_err(), "not signed with it");
    assert!(authenticate(&directory, &envelope("new", "k1", Some("k1")), true).is_ok());
    assert!(authenticate(&directory, &envelope("new", "k1", None), false).is_ok());
    assert!(authenticate(&directory, &envelope("new", "k2", Some("k2")), true).is_err());
    assert!(authenticate(&directory, &envelope("a", "k2", Some("k2")), true).is_err(), "a configured key stays");
    assert!(authenticate(&directory, &envelope("ключ", "k", Some("k")), true).is_err(), "not an id");
}

#[test]
fn a_reload_changes_keys_and_keeps_tenants() {
    let directory = Directory::new(&options(&[("a", &["old"]), ("gone", &["k"])], false));
    let tenant = directory.tenant("a").expect("there");

    let _ = directory.reload(&options(&[("a", &["new", "old"])], false));

    assert!(Arc::ptr_eq(&tenant, &directory.tenant("a").expect("there")));
    assert!(tenant.settings().keys[0].secret().matches("new"));
    assert!(authenticate(&directory, &envelope("a", "old", Some("old")), true).is_ok());
    assert!(directory.tenant("gone").is_none());
    let _ = directory.reload(&options(&[("a", &["new"])], false));
    assert!(authenticate(&directory, &envelope("a", "old", Some("old")), true).is_err());
}

#[test]
fn a_tenant_that_comes_back_is_the_one_that_went() {
    let directory = Directory::new(&options(&[("a", &["k"])], false));
    let with_tunnels = directory.tenant("a").expect("there");

    let _ = directory.reload(&options(&[], false));
    assert!(directory.tenant("a").is_none());
    assert!(Arc::ptr_eq(&with_tunnels, &directory.tenant_of_tunnels("a").expect("it has tunnels")));
    let _ = directory.reload(&options(&[("b", &["k"])], false));
    let _ = directory.reload(&options(&[("a", &["k"])], false));

    assert!(Arc::ptr_eq(&with_tunnels, &directory.tenant("a").expect("back")));
}

#[test]
fn a_tenant_that_enrols_again_finds_its_tunnels_and_keeps_its_key() {
    let directory = Directory::new(&options(&[], true));
    let (with_tunnels, _) = authenticate(&directory, &envelope("a", "k", Some("k")), true).expect("enrolled");

    let _ = directory.reload(&options(&[], false));
    assert!(authenticate(&directory, &envelope("a", "k", Some("k")), true).is_err(), "closed");
    let _ = directory.reload(&options(&[], true));

    assert!(
        authenticate(&directory, &envelope("a", "other", Some("other")), true).is_err(),
        "its tunnels are another's"
    );
    let (again, _) = authenticate(&directory, &envelope("a", "k", Some("k")), true).expect("enrolled again");
    assert!(again.settings().is_enrolled, "it can give its place back");
    assert!(Arc::ptr_eq(&with_tunnels, &again));
}

#[test]
fn a_full_gateway_takes_the_places_of_those_who_left() {
    let mut directory = Directory::new(&options(&[("configured", &["k"])], true));
    directory.max_enrolled = 3;
    let start = Instant::now();
    let later = |secs| start + Duration::from_secs(secs);
    let come =
        |id: &str, at| directory.authenticate(&envelope(id, "k", Some("k")), true, &id, at).map(|(tenant, _)| tenant);
    for id in ["with-tunnel", "speaks", "silent"] {
        come(id, start).expect("there is room");
    }
    directory.tenant("with-tunnel").expect("there").usage.add_tunnel();

    assert_eq!(come("newcomer", later(1)).err(), Some(Denied::Full));
    let wrong = envelope("newcomer", "k", Some("another"));
    let stranger = Denied::Stranger(Stranger::UnknownTenant);
    assert_eq!(directory.authenticate(&wrong, true, &"x", later(1)).err(), Some(stranger), "strangers learn nothing");
    come("speaks", later(7_000)).expect("known");
    assert_eq!(come("newcomer", later(7_199)).err(), Some(Denied::Full), "silent for less than two hours");
    assert_eq!(come("newcomer", later(7_200)).err(), Some(Denied::Full), "the places were looked through just now");
    come("newcomer", later(7_259)).expect("the place of the silent one");

    assert!(directory.tenant("silent").is_none());
    for id in ["configured", "with-tunnel", "speaks", "newcomer"] {
        assert!(directory.tenant(id).is_some(), "{id}");
    }
    assert_eq!(come("another", later(7_400)).err(), Some(Denied::Full));
}

#[test]
fn a_reload_says_what_it_has_changed() {
    let directory = Directory::new(&options(&[("stays", &["old", "both"]), ("goes", &["k"])], false));
    let fingerprint = |key: &str| Key::new(Secret::new(key)).fingerprint();
    directory.tenant("goes").expect("there").usage.add_tunnel();

    let changes =
        directory.reload(&options(&[("stays", &["both", "new"]), ("comes", &["k"])], false)).expect("allowed");

    let id = TenantId::new;
    let keys =
        vec![KeyChange { tenant: id("stays"), added: vec![fingerprint("new")], removed: vec![fingerprint("old")] }];
    let (taken_in, taken_out) = (vec![id("comes")], vec![(id("goes"), 1)]);
    assert_eq!(changes, Changes { taken_in, taken_out, keys, limits: vec![] });
    let again = directory.reload(&options(&[("stays", &["both", "new"]), ("comes", &["k"])], false)).expect("the same");
    assert!(again.is_empty(), "{again:?}");
    let mut limited = options(&[("stays", &["both", "new"]), ("comes", &["k"])], false);
    limited.limits.connections = 7;
    assert_eq!(directory.reload(&limited).expect("allowed").limits.len(), 2);
}

#[test]
fn tenants_with_tunnels_and_all_tenants_are_taken_out_only_if_that_is_meant() {
    let all: &[(&str, &[&str])] = &[("a", &["k"]), ("b", &["k"])];
    let directory = Directory::new(&options(all, false));
    let cut = |tenants: &[(&str, &[&str])]| directory.reload(&options_with(tenants, false, false));

    let emptied = cut(&[]).expect_err("no tenant would be left").to_string();
    assert!(emptied.starts_with("all tenants (2) are missing in it; "), "{emptied}");
    assert!(emptied.ends_with("set reload.allow_removal = true in it"), "{emptied}");

    let b = directory.tenant("b").expect("there");
    b.usage.add_tunnel();
    let refused = cut(&all[..1]).expect_err("it has a tunnel").to_string();
    assert!(refused.starts_with("tenants that have tunnels are missing in it: b with 1 tunnels; "), "{refused}");
    assert!(directory.tenant("b").is_some() && !b.is_out(), "nothing is changed");

    cut(&all[1..]).expect("a has no tunnels");
    assert!(directory.tenant("a").is_none());
    directory.reload(&options(&[("c", &["k"])], false)).expect("it is meant");
    assert!(directory.tenant("b").is_none() && b.is_out());
    cut(&[("b", &["k"]), ("c", &["k"])]).expect("no tenant is removed");
    assert!(!directory.tenant("b").expect("back").is_out());
}

#[test]
fn an_emptied_file_does_not_take_out_those_who_enrolled_themselves() {
    let directory = Directory::new(&options(&[], true));
    let (tenant, _) = authenticate(&directory, &envelope("a", "k", Some("k")), true).expect("enrolled");
    tenant.usage.add_tunnel();

    assert!(directory.reload(&options_with(&[], false, false)).is_err());
    assert!(directory.tenant("a").is_some());
    directory.reload(&options_with(&[], true, false)).expect("they stay");
}

#[test]
fn only_what_could_be_configured_can_be_enrolled() {
    let directory = Directory::new(&options(&[], true));
    let long_id = "x".repeat(TenantId::MAX_BYTES + 1);
    for id in ["", "a b", "a:b", "a/b", "a,b", "a;b", "a\\b", "a\"b", "\u{e9}", long_id.as_str()] {
        let refused = authenticate(&directory, &envelope(id, "key", Some("key")), true);
        assert!(matches!(refused, Err(Denied::Stranger(_))), "{id:?}");
    }
    let long_key = "k".repeat(MAX_ENROLLED_KEY_BYTES + 1);
    for key in ["", "whsec_", long_key.as_str()] {
        let refused = authenticate(&directory, &envelope("new", key, Some(key)), true);
        assert!(matches!(refused, Err(Denied::Stranger(_))), "{} bytes", key.len());
    }
    assert!(authenticate(&directory, &envelope("new", &long_key[1..], Some(&long_key[1..])), true).is_ok());
}

#[test]
fn tenants_that_one_sender_enrols_share_what_one_tenant_may_take() {
    let directory = Directory { max_enrolled: 16, ..Directory::new(&options(&[("named", &["k"])], true)) };
    let come = |id: &str, from: &str| {
        let known = directory.authenticate(&envelope(id, "k", Some("k")), true, &from, Instant::now());
        known.map(|(tenant, _)| tenant.flow().as_str().to_owned())
    };

    assert_eq!(come("named", "192.0.2.1"), Ok("named".into()));
    for number in 0..8 {
        assert_eq!(come(&format!("a{number}"), "192.0.2.1"), Ok("enrolled by 192.0.2.1".into()));
    }
    assert_eq!(come("a8", "192.0.2.1"), Err(Denied::Crowd), "others need the rest");
    assert_eq!(come("a0", "192.0.2.9"), Ok("enrolled by 192.0.2.1".into()), "wherever it sends from later");
    assert_eq!(come("b", "192.0.2.2"), Ok("enrolled by 192.0.2.2".into()));
    let configured = options(&[("named", &["k"]), ("a0", &["k"])], true);
    let _ = directory.reload(&configured).expect("nothing is removed");
    assert_eq!(come("a0", "192.0.2.1"), Ok("a0".into()), "it has its own now");
}

#[test]
fn a_wrong_signature_of_a_tenant_with_many_keys_takes_as_long_as_that_of_an_unknown_one() {
    let keys: Vec<String> = (0..64).map(|number| format!("k{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let directory = Directory::new(&options(&[("many", &keys)], false));
    let time = |id: &str| {
        let mut long = envelope(id, "wrong", Some("wrong"));
        long.data.0 = "x".repeat(256 * 1024);
        let start = Instant::now();
        assert!(matches!(authenticate(&directory, &long, true), Err(Denied::Stranger(_))));
        start.elapsed()
    };
    let fastest = |id: &str| (0..5).map(|_| time(id)).min().expect("five");

    assert!(fastest("many") < 8 * fastest("nobody"));
}

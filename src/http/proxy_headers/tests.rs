use std::net::Ipv4Addr;

use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The trusted networks of these tests.
const PROXIES: [&str; 2] = ["10.0.0.0/8", "fd00::/8"];
/// The nearest proxy, and clients.
const PROXY: &str = "10.0.0.1";
const PHONE: &str = "203.0.113.9";

type Lines<'a> = &'a [(&'a str, &'a str)];

fn headers(lines: impl IntoIterator<Item = (String, Vec<u8>)>) -> HeaderMap {
    let value = |value: Vec<u8>| HeaderValue::from_bytes(&value).expect("a value");
    let name = |name: String| name.parse::<HeaderName>().expect("a name");
    lines.into_iter().map(|(left, right)| (name(left), value(right))).collect()
}

fn client(peer: &str, is_tls: bool, headers: &HeaderMap) -> Client {
    let networks: Vec<IpNet> = PROXIES.iter().map(|network| network.parse().expect("a network")).collect();
    let address = (peer.parse::<IpAddr>().expect("an address"), 4711).into();
    let peer = Peer { address, is_tls, proxy_header: ProxyHeader::None };
    Client::of(peer, headers, |address| networks.iter().any(|network| network.contains(&address)))
}

fn of(peer: &str, is_tls: bool, lines: Lines<'_>) -> Client {
    client(peer, is_tls, &headers(lines.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))))
}

/// The address and scheme behind the nearest proxy.
fn seen(lines: Lines<'_>) -> (String, bool) {
    let client = of(PROXY, false, lines);
    assert_eq!(client.is_private, client.is_tls, "nothing here is local");
    (client.address.to_string(), client.is_tls)
}

fn is(address: &str, is_tls: bool) -> (String, bool) {
    (address.to_owned(), is_tls)
}

#[test]
fn a_stranger_is_not_believed() {
    let forwarded = ("forwarded", "for=10.0.0.9;proto=https");
    for lines in [
        &[][..],
        &[(X_FORWARDED_PROTO, "https")],
        &[(X_FORWARDED_FOR, "10.0.0.9"), (X_FORWARDED_PROTO, "https")],
        &[forwarded],
        &[(X_FORWARDED_FOR, "10.0.0.9"), (X_FORWARDED_PROTO, "https"), forwarded],
    ] {
        for is_tls in [false, true] {
            let client = of("198.51.100.7", is_tls, lines);
            assert_eq!((client.address.to_string(), client.is_tls), is("198.51.100.7", is_tls), "{lines:?}");
            assert_eq!(client.is_private, is_tls, "{lines:?}");
        }
    }
}

#[test]
fn the_last_address_that_is_no_proxy_is_the_client() {
    let seen_by = |peer: &str, lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| (X_FORWARDED_FOR, *line)).collect();
        of(peer, false, &lines).address.to_string()
    };

    assert_eq!(seen_by(PROXY, &[]), PROXY);
    assert_eq!(seen_by(PROXY, &["203.0.113.9"]), PHONE);
    assert_eq!(seen_by(PROXY, &["1.1.1.1, 203.0.113.9,10.0.0.2"]), PHONE, "the first is invented");
    assert_eq!(seen_by(PROXY, &["1.1.1.1", "203.0.113.9", "10.0.0.2"]), PHONE, "several lines");
    assert_eq!(seen_by("fd00::1", &["2001:db8::5"]), "2001:db8::5");
    assert_eq!(seen_by(PROXY, &["10.0.0.3, 10.0.0.2"]), "10.0.0.3", "all are proxies");
    for (entry, address) in [
        ("203.0.113.9:4711", PHONE),
        ("[2001:db8::5]:80", "2001:db8::5"),
        ("[2001:db8::5]", "2001:db8::5"),
        ("203.0.113.9, ::ffff:10.0.0.2", PHONE),
        ("\u{e9}, 203.0.113.9", PHONE),
    ] {
        assert_eq!(seen_by("::ffff:10.0.0.1", &[entry]), address, "{entry}");
    }
    for entry in
        ["unknown", "", "\"<script>\"", "203.0.113.9]", "[203.0.113.9", "[::1]x", "_hidden", "203.0.113", "\u{e9}"]
    {
        assert_eq!(seen_by(PROXY, &[&format!("203.0.113.9, {entry}")]), PROXY, "{entry}");
    }
}

#[test]
fn the_scheme_is_that_of_the_clients_own_hop() {
    let two = (X_FORWARDED_FOR, "203.0.113.9, 10.0.0.2");
    let one = (X_FORWARDED_FOR, PHONE);
    for (addresses, schemes, is_tls, why) in [
        (one, &["https"][..], true, "one proxy"),
        (one, &["http"], false, "one proxy"),
        (one, &["HTTPS"], true, "in capitals"),
        (one, &["wss"], true, "a WebSocket"),
        (one, &["WSS "], true, "a WebSocket"),
        (one, &["ws"], false, "a WebSocket"),
        (one, &[], false, "nothing is said"),
        (one, &["https, http"], false, "the first is the client's own"),
        (one, &["https,http"], false, "the first is the client's own"),
        (one, &["https", "http"], false, "the first line is the client's own"),
        (one, &["http", "https"], true, "the first line is the client's own"),
        (one, &["http,https"], true, "the first is the client's own"),
        (one, &["https, "], false, "nothing is nothing that is known"),
        (one, &["\"https\""], false, "no scheme"),
        (one, &["httpsx"], false, "no scheme"),
        (two, &["https, http"], true, "TLS to the first proxy, none between the two"),
        (two, &["https", "http"], true, "the same in two lines"),
        (two, &["http, https"], false, "the client had none"),
        (two, &["https, http, https"], false, "the first is the client's own"),
        (two, &["ftp, https"], false, "the client's hop is none of TLS"),
        (two, &["https"], true, "set by the first and passed on"),
        (two, &["http"], false, "set by the last"),
    ] {
        let lines: Vec<_> = schemes.iter().map(|scheme| (X_FORWARDED_PROTO, *scheme)).chain([addresses]).collect();
        assert_eq!(seen(&lines), is(PHONE, is_tls), "{schemes:?}: {why}");
    }
    assert_eq!(seen(&[(X_FORWARDED_PROTO, "https")]), is(PROXY, true), "a proxy that names no address");
    assert_eq!(seen(&[(X_FORWARDED_PROTO, "https, http")]), is(PROXY, false), "and passes the client's line on");
    let hidden = [(X_FORWARDED_FOR, "203.0.113.9, unknown"), (X_FORWARDED_PROTO, "http, https")];
    assert_eq!(seen(&hidden), is(PROXY, true), "behind an address that is hidden nothing is known");
}

#[test]
fn what_a_trusted_proxy_says_of_its_client_counts_also_behind_tls_of_our_own() {
    let judged = |lines: Lines<'_>| of(PROXY, true, lines).is_tls;

    assert!(judged(&[]));
    assert!(judged(&[(X_FORWARDED_FOR, PHONE)]), "it says nothing of the scheme");
    assert!(!judged(&[(X_FORWARDED_FOR, PHONE), (X_FORWARDED_PROTO, "http")]));
    assert!(!judged(&[("forwarded", "for=203.0.113.9;proto=http")]));
}

#[test]
fn forwarded_is_read_as_its_standard_says() {
    for (lines, address, is_tls) in [
        (&["for=203.0.113.9;proto=https"][..], PHONE, true),
        (&["For=203.0.113.9; Proto=HTTPS; by=10.0.0.1; host=a"], PHONE, true),
        (&["proto=\"wss\";for=\"203.0.113.9:4711\""], PHONE, true),
        (&["for=\"203.0.113.9:_port\";proto=https"], PHONE, true),
        (&["for=\"[2001:db8::5]\";proto=https"], "2001:db8::5", true),
        (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17", false),
        (&["for=203.0.113.9:4711;proto=https"], PHONE, true),
        (&["for=203.0.113.9;ext=\"a,b;proto=http\\\"\";proto=https"], PHONE, true),
        (&["for=203.0.113.9;proto=\"h\\ttps\""], PHONE, true),
        (&[";for=203.0.113.9;;proto=https;"], PHONE, true),
        (&["for=203.0.113.9;proto=https, "], PHONE, true),
        (&["for=203.0.113.9"], PHONE, false),
        (&["for=_hidden;proto=https"], PROXY, true),
        (&["for=\"_SEVKISEK\";proto=http"], PROXY, false),
        (&["for=unknown;proto=https"], PROXY, true),
        (&["proto=https"], PROXY, true),
        (&["for=1.1.1.1;proto=https, for=unknown;proto=http"], PROXY, false),
        (&["for=1.1.1.1;proto=https, for=203.0.113.9;proto=http"], PHONE, false),
        (&["for=203.0.113.9;proto=https, for=10.0.0.2;proto=http"], PHONE, true),
        (&["for=203.0.113.9;proto=https", "for=10.0.0.2;proto=http"], PHONE, true),
        (&["for=203.0.113.9, for=10.0.0.2;proto=https"], PHONE, false),
        (&["for=10.0.0.3;proto=https", "for=203.0.113.9;proto=http, for=\"[fd00::2]\";proto=https"], PHONE, false),
        // What the client leaves open does not swallow what the proxy adds.
        (&["for=1.1.1.1;proto=https, for=\"", "for=203.0.113.9;proto=http"], PHONE, false),
        (&["for=1.1.1.1;proto=https, for=\", for=203.0.113.9;proto=http"], PHONE, false),
        (&["for=\"\\, for=\"[2001:db8::5]\";proto=http"], "2001:db8::5", false),
        (&["proto=https;for=\"1.1.1.1, for=\"203.0.113.9\";proto=http"], PHONE, false),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        assert_eq!(seen(&lines), is(address, is_tls), "{lines:?}");
    }
}

#[test]
fn an_element_that_cannot_be_read_vouches_for_nothing() {
    for element in [
        "https",
        "for=203.0.113.9;https",
        "for=203.0.113.9;proto=https;proto=https",
        "for=203.0.113.9;for=203.0.113.9;proto=https",
        "for=\"203.0.113.9;proto=https",
        "for=203.0.113.9\";proto=https",
        "for=\"203.\"0.113.9\";proto=https",
        "for=203.0.113.9;proto=ht\\tps",
        "=",
        "?",
    ] {
        let lines = [("forwarded", format!("for=1.1.1.1;proto=https, {element}"))];
        let lines = lines.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(seen(&lines), is(PROXY, false), "{element}");
    }
}

#[test]
fn where_both_kinds_come_both_must_say_that_it_is_tls() {
    let (https, http) = ((X_FORWARDED_PROTO, "https"), (X_FORWARDED_PROTO, "http"));
    let address = (X_FORWARDED_FOR, PHONE);
    let forwarded = |value| ("forwarded", value);
    let (secure, plain) = (forwarded("for=1.1.1.1;proto=https"), forwarded("for=1.1.1.1;proto=http"));

    for (lines, expected) in [
        (&[address, https, secure][..], is(PHONE, true)),
        (&[address, https, plain], is(PHONE, false)),
        (&[address, http, secure], is(PHONE, false)),
        (&[address, secure], is(PHONE, false)),
        (&[https, secure], is("1.1.1.1", true)),
        (&[https, forwarded("for=1.1.1.1")], is("1.1.1.1", false)),
        (&[https, forwarded("")], is(PROXY, false)),
    ] {
        assert_eq!(seen(lines), expected, "{lines:?}");
    }
}

#[test]
fn a_loopback_address_in_a_proxy_header_is_not_this_machine() {
    let address = ("127.0.0.1".parse::<IpAddr>().expect("an address"), 4711).into();
    for (proxy_header, is_tls, is_private) in [
        (ProxyHeader::None, false, true),
        (ProxyHeader::Named, false, false),
        (ProxyHeader::Named, true, true),
        (ProxyHeader::Unknown, false, false),
    ] {
        let client = Client::of(Peer { address, is_tls, proxy_header }, &HeaderMap::new(), |_| false);
        assert_eq!(client.is_private, is_private, "{proxy_header:?} {is_tls}");
    }
}

/// The peer may be trusted, but these headers were written by the client.
#[test]
fn a_client_that_its_proxy_does_not_name_is_not_believed() {
    let address = (PROXY.parse::<IpAddr>().expect("an address"), 4711).into();
    let peer = |proxy_header| Peer { address, is_tls: false, proxy_header };
    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.9"));
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));

    let unnamed = Client::of(peer(ProxyHeader::Unknown), &headers, |_| true);
    let named = Client::of(peer(ProxyHeader::Named), &headers, |_| true);

    assert_eq!((unnamed.address.to_string(), unnamed.is_private), (PROXY.to_owned(), false));
    assert_eq!((named.address.to_string(), named.is_private), ("203.0.113.9".to_owned(), true));
}

#[test]
fn a_program_on_this_machine_needs_no_tls_unless_a_proxy_shows() {
    for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        let judged = |lines: Lines<'_>| {
            let client = of(address, false, lines);
            (client.is_tls, client.is_private)
        };

        for lines in [&[][..], &[("user-agent", "curl/7.88.1"), ("accept", "*/*"), ("x-request-id", "7")]] {
            assert_eq!(judged(lines), (false, true), "{address} {lines:?}");
        }
        for name in [
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-server",
            "x-forwarded-ssl",
            "x-forwarded",
            "x-forward-for",
            "forwarded-for",
            "forwarded",
            "via",
            "x-real-ip",
            "x-client-ip",
            "client-ip",
            "x-cluster-client-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "cf-ray",
            "cf-visitor",
            "cdn-loop",
            "fastly-client-ip",
            "fly-client-ip",
            "fly-forwarded-port",
            "do-connecting-ip",
            "cdn-src-ip",
            "ali-cdn-real-ip",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-envoy-external-address",
            "x-original-forwarded-for",
            "x-original-for",
            "x-original-host",
            "x-arr-ssl",
            "x-appengine-user-ip",
            "wl-proxy-client-ip",
            "proxy-client-ip",
            "x-proxyuser-ip",
            "akamai-origin-hop",
            "front-end-https",
            "x-scheme",
            "x-varnish",
            "remote-addr",
            "cloudfront-viewer-address",
            "proxy-connection",
            "x_real_ip",
            "x_forwarded_for",
            "http_client_ip",
            "x-real-port",
            "x-client-port",
            "x-client-scheme",
            "x-host",
            "x-ssl-client-verify",
            "ssl-client-cert",
            "x-amzn-trace-id",
            "x-amz-cf-id",
            "x-amzn-tls-version",
            "x-cloud-trace-context",
            "x-vercel-id",
            "x-nf-request-id",
            "fly-region",
            "x-fastly-client",
            "cdn-connectionid",
            "x-sucuri-country",
            "eagleid",
            "ali-swift-global-savetime",
            "x-nws-log-uuid",
            "x-stgw-time",
            "surrogate-capability",
        ] {
            assert_eq!(judged(&[(name, "https")]), (false, false), "{address} {name}");
        }
    }
    assert!(!of("198.51.100.7", false, &[]).is_private);
    assert_eq!(relay(&headers([("via".to_owned(), b"1.1 a".to_vec())])), Some("via"));
}

/// How a chain of proxies writes what it adds.
#[derive(Clone, Copy, Debug)]
enum Style {
    Customary,
    Standard,
}

/// A header value that a client may have written itself.
fn invention() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("for=10.0.0.7;proto=https".to_owned()),
        Just("for=\"".to_owned()),
        Just("\\\"".to_owned()),
        Just("https".to_owned()),
        Just("10.0.0.7, ".to_owned()),
        "[ -~]{0,12}",
    ];
    vec(word, 0..5).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #[test]
    fn whatever_a_client_writes_its_address_and_scheme_are_those_that_its_proxies_saw(
        style in prop_oneof![Just(Style::Customary), Just(Style::Standard)],
        inventions in vec(invention(), 0..4),
        is_appended in vec(any::<bool>(), 4),
        schemes in vec(any::<bool>(), 1..4),
        phone in any::<[u8; 4]>().prop_filter("no proxy", |address| address[0] != 10),
    ) {
        let phone = Ipv4Addr::from(phone);
        let names: &[&str] = match style {
            Style::Customary => &[X_FORWARDED_FOR, X_FORWARDED_PROTO],
            Style::Standard => &[FORWARDED],
        };
        let mut lines: Vec<(String, Vec<u8>)> = vec![];
        for name in names {
            lines.extend(inventions.iter().map(|invention| ((*name).to_owned(), invention.clone())));
        }
        // Each proxy appends what it saw, to the last line or in a line of its own.
        for (number, is_tls) in schemes.iter().enumerate() {
            let address = if number == 0 { phone.to_string() } else { format!("10.0.1.{number}") };
            let scheme = if *is_tls { "https" } else { "http" };
            let said = match style {
                Style::Customary => vec![address, scheme.to_owned()],
                Style::Standard => vec![format!("for=\"{address}\";proto={scheme}")],
            };
            for (name, said) in names.iter().zip(said) {
                match lines.iter_mut().rev().find(|(line, _)| line == name) {
                    Some((_, line)) if is_appended[number] => line.extend([b", ", said.as_bytes()].concat()),
                    _ => lines.push(((*name).to_owned(), said.into_bytes())),
                }
            }
        }

        let client = client(PROXY, false, &headers(lines));

        prop_assert_eq!((client.address, client.is_tls), (IpAddr::from(phone), schemes[0]));
    }

    #[test]
    fn bytes_of_any_kind_are_no_address_and_no_tls(
        lines in vec((0..3_usize, vec(prop_oneof![Just(b'\t'), 32..=126_u8, 128..=255_u8], 0..40)), 0..6),
        is_tls in any::<bool>(),
    ) {
        let names = [X_FORWARDED_FOR, X_FORWARDED_PROTO, FORWARDED];
        let headers = headers(lines.into_iter().map(|(name, value)| (names[name].to_owned(), value)));

        let stranger = client("198.51.100.7", is_tls, &headers);
        prop_assert_eq!((stranger.address, stranger.is_tls), (IpAddr::from([198, 51, 100, 7]), is_tls));
        client(PROXY, is_tls, &headers);
    }
}

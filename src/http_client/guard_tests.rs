//! Allowed and denied addresses and ports; nothing is sent.

use url::Url;

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

#[test]
fn the_first_and_the_last_address_of_every_block_are_refused() {
    let guard = Guard::default();
    let mut judged = 0;

    for (network, block) in SPECIAL {
        for address in [network.network(), network.broadcast()] {
            let refusal = guard.admits(address).expect_err(block);
            assert!(matches!(refusal.why, Why::Special { network, .. } if network.contains(&address)));
            judged += 1;
        }
        assert_eq!(network.network(), network.addr(), "{network} has bits beyond its prefix");
    }

    assert_eq!(judged, 2 * 40);
}

#[test]
fn the_neighbours_of_the_blocks_are_public() {
    let guard = Guard::default();
    let public = [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2003::1",
        "2620:4f:8001::1",
        "2a00:1450:4001:81b::200e",
        "3ffe:ffff::1",
        "3fff:1000::1",
        "::ffff:8.8.8.8",
    ];

    for text in public {
        assert_eq!(guard.admits(address(text)), Ok(()), "{text}");
    }
}

#[test]
fn inner_addresses_are_refused_with_the_block_in_words() {
    let guard = Guard::default();
    let refused = [
        ("0.0.0.0", "0.0.0.0 is this network (0.0.0.0/8)"),
        ("10.1.2.3", "10.1.2.3 is private (10.0.0.0/8)"),
        ("169.254.169.254", "169.254.169.254 is link-local (169.254.0.0/16)"),
        ("192.0.0.8", "192.0.0.8 is for protocol assignments (192.0.0.0/24)"),
        ("255.255.255.255", "255.255.255.255 is broadcast (255.255.255.255/32)"),
        ("::", ":: is unspecified (::/128)"),
        ("::1", "::1 is loopback (::1/128)"),
        ("::127.0.0.1", "::7f00:1 is IPv4-compatible (::/96)"),
        ("::ffff:127.0.0.1", "127.0.0.1 is loopback (127.0.0.0/8)"),
        ("64:ff9b::a9fe:a9fe", "64:ff9b::a9fe:a9fe is translated to IPv4 (64:ff9b::/96)"),
        ("2001:0:1::1", "2001:0:1::1 is a Teredo tunnel (2001::/32)"),
        ("2001:1::1", "2001:1::1 is for protocol assignments (2001::/23)"),
        ("2002:7f00:1::", "2002:7f00:1:: is a 6to4 tunnel (2002::/16)"),
        ("fd00:ec2::254", "fd00:ec2::254 is private (fc00::/7)"),
        ("::1:0:0:1", "::1:0:0:1 is outside the public addresses (2000::/3)"),
        ("4000::1", "4000::1 is outside the public addresses (2000::/3)"),
    ];

    for (text, words) in refused {
        let refusal = guard.admits(address(text)).expect_err(text).to_string();
        assert_eq!(refusal, format!("{words}; add it to webhook.allow_networks to allow it"));
    }
}

#[test]
fn addresses_of_cloud_platforms_are_refused_and_their_neighbours_are_public() {
    let guard = Guard::default();
    for platform in PLATFORMS {
        for address in [platform.network.network(), platform.network.broadcast()] {
            assert!(guard.admits(address).is_err(), "{address}");
        }
    }
    for text in [
        "168.63.129.15",
        "168.63.129.17",
        "199.36.153.3",
        "199.36.153.12",
        "161.25.255.255",
        "161.27.0.0",
        "166.7.255.255",
        "166.12.0.0",
        "183.60.83.18",
        "185.12.64.3",
        "2a01:4ff:ff00::add:3",
        "2600:2d00:2:3000::1",
    ] {
        assert_eq!(guard.admits(address(text)), Ok(()), "{text}");
    }
    let refusal = guard.admits(address("::ffff:168.63.129.16")).expect_err("mapped").to_string();
    let words = "168.63.129.16 is the platform of Azure: agents, name servers, probes (168.63.129.16/32); add it to webhook.allow_networks";
    assert!(refusal.starts_with(words), "{refusal}");
    assert_eq!(Guard::new(vec![net("168.63.129.16/32")]).admits(address("168.63.129.16")), Ok(()));
}

fn denying(allow: &[&str], deny: &[&str], allow_ports: &[u16]) -> Guard {
    let nets = |texts: &[&str]| canonical(&texts.iter().map(|text| net(text)).collect::<Vec<_>>());
    Guard { allow: nets(allow), deny: nets(deny), allow_ports: allow_ports.to_vec() }
}

#[test]
fn what_is_denied_is_refused_whatever_is_allowed() {
    let guard = denying(&["10.0.0.0/8", "::/0"], &["10.1.0.0/16", "1.1.1.0/24", "::ffff:2.2.2.2/128"], &[]);

    for text in ["10.1.2.3", "1.1.1.1", "::ffff:1.1.1.1", "2.2.2.2"] {
        assert!(matches!(guard.admits(address(text)), Err(Refusal { why: Why::Denied(_), .. })), "{text}");
    }
    for text in ["10.2.0.1", "1.1.2.1", "::1"] {
        assert_eq!(guard.admits(address(text)), Ok(()), "{text}");
    }
    let words = guard.admits(address("10.1.2.3")).expect_err("denied").to_string();
    assert_eq!(words, "10.1.2.3 is in webhook.deny_networks (10.1.0.0/16)");
}

#[test]
fn ports_of_other_services_are_refused_unless_they_or_the_address_are_allowed() {
    let guard = denying(&["127.0.0.0/8"], &[], &[6379]);
    let at = |text: &str| guard.admits_at(text.parse().expect("an address and a port"));
    for text in ["8.8.8.8:80", "8.8.8.8:8080", "8.8.8.8:6379", "127.0.0.1:25", "[::ffff:127.0.0.1]:22", "[2003::1]:443"]
    {
        assert_eq!(at(text), Ok(()), "{text}");
    }
    for text in ["8.8.8.8:25", "8.8.8.8:3306", "[2003::1]:6667", "[::ffff:8.8.8.8]:22"] {
        assert!(matches!(at(text), Err(Refusal { why: Why::Port(_), .. })), "{text}");
    }
    let words = at("8.8.8.8:25").expect_err("refused").to_string();
    let why = "port 25 belongs to another service than a web server; add it to webhook.allow_ports to allow it";
    assert_eq!(words, format!("8.8.8.8 is refused there: {why}"));

    let name = Host::Domain("h.example");
    assert_eq!(guard.admits_port_of(&name, 25), Ok(()), "it may be in 127.0.0.0/8");
    assert_eq!(Guard::default().admits_port_of(&name, 25), Err(BadPort(25)));
    assert_eq!(Guard::default().admits_port_of(&name, 8080), Ok(()));
    assert_eq!(guard.admits_port_of(&Host::<&str>::Ipv4([8, 8, 8, 8].into()), 22), Err(BadPort(22)));
    assert_eq!(guard.admits_port_of(&Host::<&str>::Ipv4([127, 0, 0, 1].into()), 22), Ok(()));
}

#[test]
fn an_allowed_network_admits_its_addresses_and_no_others() {
    let guard = Guard::new(vec![net("127.0.0.0/8"), net("fd00::/8")]);

    for text in ["127.0.0.1", "::ffff:127.0.0.1", "fd12::1"] {
        assert_eq!(guard.admits(address(text)), Ok(()), "{text}");
    }
    for text in ["10.0.0.1", "::1", "::127.0.0.1", "fc00::1", "169.254.169.254"] {
        assert!(guard.admits(address(text)).is_err(), "{text}");
    }
}

#[test]
fn an_allowed_mapped_network_is_the_ipv4_network_that_it_stands_for() {
    let guard = Guard::new(vec![net("::ffff:10.0.0.0/104")]);

    assert_eq!(guard.admits(address("10.1.2.3")), Ok(()));
    assert_eq!(guard.admits(address("::ffff:10.1.2.3")), Ok(()));
    assert!(guard.admits(address("11.1.2.3")).is_ok());
    assert!(guard.admits(address("127.0.0.1")).is_err());
}

#[test]
fn all_of_ipv6_does_not_include_ipv4() {
    let guard = Guard::new(vec![net("::/0")]);

    assert_eq!(guard.admits(address("::1")), Ok(()));
    assert!(guard.admits(address("::ffff:127.0.0.1")).is_err());
    assert!(guard.admits(address("127.0.0.1")).is_err());
}

#[test]
fn every_spelling_of_an_inner_address_is_refused() {
    let guard = Guard::default();
    let spellings = [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.0.0.1./",
        "http://127.1./",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0X7F.0x0.0x0.0x1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://00000177.0x0.1/",
        "http://0/",
        "http://0x/",
        "http://0.0.0.0/",
        "http://127.0.0.1:80/",
        "http://%31%32%37.0.0.1/",
        "http://127%2e0%2e0%2e1/",
        "http://%30x7f.1/",
        "http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/",
        "http://127\u{3002}0\u{3002}0\u{3002}1/",
        "http://127\u{ff0e}0\u{ff0e}0\u{ff0e}1/",
        "http://\u{2460}\u{2461}\u{2466}.0.0.1/",
        "http://12\u{ad}7.0.0.1/",
        "http://12\t7.0\n.0.1/",
        "http:\\\\127.0.0.1\\",
        "http:/127.0.0.1/",
        "http:127.0.0.1",
        "http:///127.0.0.1/",
        " http://127.0.0.1/ ",
        "http://example.com@127.0.0.1/",
        "http://example.com:80@127.0.0.1/",
        "http://example.com%40@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "http://127.0.0.1#@example.com/",
        "http://127.0.0.1?@example.com/",
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[0000:0000::0001]/",
        "http://[::]/",
        "http://[::127.0.0.1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[0:0:0:0:0:FFFF:7F00:0001]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::169.254.169.254]/",
        "http://[2002:a9fe:a9fe::]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9.0xfe.43518/",
        "http://0251.0376.0251.0376/",
        "http://10.1/",
        "http://012.1.2.3/",
        "http://192.168.257/",
        "http://0x64.64.0.1/",
        "http://00/",
        "http://0x00000000/",
        "http://0.0.0.0./",
        "http://000.000.000.000/",
        "http://0x7f000001.:80/",
        "http://0177.0x0.0.01./",
        "http://00000000000000000000177.1/",
        "http://example.com:pass@2130706433/",
        "http://10.0.0.1:80@127.0.0.1:81/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[::ffff:0:0]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b:1::127.0.0.1]/",
        "http://[2002:7f00:1::1]/",
        "http://[2002:c0a8:101::]/",
        "http://[2001:0:7f00:1::]/",
        "http://[fc00::1]/",
        "http://[fdff:ffff::1]/",
        "http://[fe80::a9fe:a9fe]/",
        "http://[febf::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
    ];

    for text in spellings {
        let url = Url::parse(text).expect(text);
        assert!(guard.admits_literal(&url.host().expect(text)).is_err(), "{text} is {url}");
    }
}

#[test]
fn what_looks_like_an_address_and_is_none_is_no_url() {
    let broken = [
        "http://127.0.0.1.1/",
        "http://256.0.0.1/",
        "http://4294967296/",
        "http://08.0.0.1/",
        "http://[::1%25lo]/",
        "http://[127.0.0.1]/",
        "http://127.0.0.1%00.example.com/",
        "http://127.0.0.1%0a/",
        "http://[::1/",
    ];

    for text in broken {
        assert!(Url::parse(text).is_err(), "{text}");
    }
}

#[test]
fn names_pass_until_they_are_resolved() {
    let guard = Guard::default();

    for text in ["http://localhost/", "http://localhost./", "http://127.0.0.1.example.com/", "http://example.com/"] {
        let url = Url::parse(text).expect(text);
        assert!(matches!(url.host(), Some(Host::Domain(_))), "{text}");
        assert_eq!(guard.admits_literal(&url.host().expect(text)), Ok(()), "{text}");
    }
}

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CustomExtension;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// 2030-01-01; certificates are valid from then on, for a year.
const START: Duration = Duration::from_secs(1_893_456_000);
const END: Duration = Duration::from_secs(1_924_991_999);

/// In the middle of the validity.
const NOW: Duration = Duration::from_secs(1_909_000_000);

/// A certificate with its key, which can sign others.
struct Signed {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(2031, 1, 1) - std::time::Duration::from_secs(1);
    params
}

fn authority(name: &str, by: Option<&Signed>) -> Signed {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    sign(params, by)
}

fn sign(params: CertificateParams, by: Option<&Signed>) -> Signed {
    let key = KeyPair::generate().expect("a key");
    let certificate = match by {
        Some(by) => params.signed_by(&key, &by.issuer),
        None => params.self_signed(&key),
    };
    Signed { der: certificate.expect("a certificate").der().clone(), issuer: Issuer::new(params, key) }
}

fn roots(roots: &[&Signed]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().map(|root| root.der.clone()));
    store
}

fn host(text: &str) -> Host<String> {
    let url = url::Url::parse(&format!("wss://{text}")).expect("a URL");
    url.host().expect("a host").to_owned()
}

/// The doubts about a self-signed certificate, for clients that connect to `host`.
fn said(params: CertificateParams, host: Option<&str>, now: Duration) -> Vec<String> {
    let certificate = sign(params, None);
    let host = host.map(self::host);
    doubts(&[certificate.der], host.as_ref(), &roots(&[]), now).iter().map(ToString::to_string).collect()
}

#[test]
fn dates_are_judged_to_the_second_and_named() {
    let at = |now| said(params("a.test", &["a.test"]), None, now).join("\n");
    let second = Duration::from_secs(1);

    assert_eq!(at(NOW), "");
    assert_eq!(at(START), "");
    assert_eq!(at(END - EXPIRES_SOON - second), "");
    for (now, words) in [
        (
            START - second,
            "is not valid before 2030-01-01T00:00:00.000Z: clients refuse it; compare this machine's clock",
        ),
        (START - 400 * DAY, "is not valid before 2030-01-01T00:00:00.000Z"),
        (END - EXPIRES_SOON, "expires in 14 days, at 2030-12-31T23:59:59.000Z; renew it, then send SIGHUP"),
        (END - DAY, "expires in 1 day, at"),
        (END, "expires in less than a day, at"),
        (END + second, "expired at 2030-12-31T23:59:59.000Z: clients refuse it; renew it, then send SIGHUP"),
        (END + 9_999 * DAY, "expired at 2030-12-31T23:59:59.000Z"),
    ] {
        assert!(at(now).starts_with(words), "{now:?}: {}", at(now));
        assert_eq!(at(now).lines().count(), 1);
    }
}

#[test]
fn the_end_is_that_of_the_servers_own_certificate() {
    let own = sign(params("a.test", &["a.test"]), None);

    assert_eq!(expiry(&[own.der]), Some(END));
    assert_eq!(expiry(&[]), None);
    assert_eq!(expiry(&[CertificateDer::from_slice(b"no certificate")]), None);
}

/// RFC 9525: a wildcard matches one label, addresses match addresses, and the common name is ignored.
#[test]
fn the_host_that_clients_are_sent_to_must_be_named() {
    for (names, host, is_named) in [
        (&["ws.example.com"][..], "ws.example.com", true),
        (&["ws.example.com"], "WS.Example.COM", true),
        (&["ws.example.com"], "ws.example.com.", true),
        (&["ws.example.com"], "ws.example.com:8443", true),
        (&["WS.EXAMPLE.COM"], "ws.example.com", true),
        (&["a.example.com", "b.example.com", "ws.example.com"], "ws.example.com", true),
        (&["*.example.com"], "ws.example.com", true),
        (&["*.example.com"], "a.ws.example.com", false),
        (&["*.example.com"], "example.com", false),
        (&["example.com"], "ws.example.com", false),
        (&["w*.example.com"], "ws.example.com", false),
        (&["xn--bcher-kva.example"], "bücher.example", true),
        (&["*.xn--fsqu00a.xn--0zwm56d"], "ws.例子.测试", true),
        (&["127.0.0.1"], "127.0.0.1", true),
        (&["127.0.0.1"], "127.0.0.2", false),
        (&["2001:db8::1"], "[2001:db8::1]", true),
        (&["2001:db8::1"], "[2001:db8::2]", false),
        (&["127.0.0.1.example.com"], "127.0.0.1", false),
        (&["localhost"], "127.0.0.1", false),
        (&["127.0.0.1"], "localhost", false),
    ] {
        let said = said(params("ws.example.com", names), Some(host), NOW);
        assert_eq!(said.is_empty(), is_named, "{names:?} for {host}: {said:?}");
    }

    let said = said(params("x", &["a.test", "10.0.0.1", "2001:db8::1"]), Some("ws.example.com"), NOW);
    let words = "is for a.test, 10.0.0.1, 2001:db8::1, not for ws.example.com, where server.public_url sends clients";
    assert!(said[0].starts_with(words), "{said:?}");
}

#[test]
fn a_certificate_without_names_is_told_of_once() {
    for host in [None, Some("a.test"), Some("b.test")] {
        let said = said(params("a.test", &[]), host, NOW);
        let words =
            "has no subjectAltName: clients refuse it and do not look at its common name \"a.test\"; have it issued";
        assert!(said.len() == 1 && said[0].starts_with(words), "{said:?}");
    }
}

#[test]
fn many_names_are_cut_short() {
    let names: Vec<_> = (0..9).map(|number| format!("{number}.test")).collect();
    assert_eq!(list(&names), "0.test, 1.test, 2.test, 3.test, 4.test and 4 more");
    assert_eq!(list(&names[..5]), "0.test, 1.test, 2.test, 3.test, 4.test");
}

#[test]
fn a_chain_leads_from_the_servers_own_certificate_upwards() {
    let root = authority("Root", None);
    let upper = authority("Upper", Some(&root));
    let lower = authority("Lower", Some(&upper));
    let own = sign(params("a.test", &["a.test"]), Some(&lower));
    let direct = sign(params("a.test", &["a.test"]), Some(&root));
    let alone = sign(params("a.test", &["a.test"]), None);
    let other = authority("Other", None);
    let (none, known) = (roots(&[]), roots(&[&root]));

    for (chain, roots, words) in [
        (&[&alone][..], &none, None),
        (&[&direct], &known, None),
        (&[&direct, &root], &none, None),
        (&[&own, &lower, &upper], &known, None),
        (&[&own, &lower, &upper], &none, None),
        (&[&own, &lower, &upper, &root], &none, None),
        (&[&own], &known, Some("lacks the certificate of its issuer \"Lower\"")),
        (&[&own], &none, Some("lacks the certificate of its issuer \"Lower\"")),
        (&[&own, &other], &known, Some("lacks the certificate of its issuer \"Lower\"")),
        (
            &[&direct],
            &none,
            Some("lacks the certificate of its issuer \"Root\", which is no root that this machine knows"),
        ),
        (
            &[&own, &upper, &lower],
            &known,
            Some("does not have the certificate of \"Lower\" right behind that of \"a.test\""),
        ),
        (&[&own, &own, &lower, &upper], &known, Some("does not have the certificate of \"Lower\" right behind")),
        (
            &[&own, &lower, &root, &upper],
            &none,
            Some("does not have the certificate of \"Upper\" right behind that of \"Lower\""),
        ),
    ] {
        let chain: Vec<_> = chain.iter().map(|certificate| certificate.der.clone()).collect();
        let said: Vec<_> = doubts(&chain, None, roots, NOW).iter().map(ToString::to_string).collect();
        match words {
            Some(words) => assert!(said.len() == 1 && said[0].starts_with(words), "{words}: {said:?}"),
            None => assert_eq!(said, Vec::<String>::new()),
        }
    }
}

/// The URL that public authorities put into each certificate is the quickest way to the missing one.
#[test]
fn the_missing_intermediate_is_told_with_its_address() {
    let lower = authority("Lower", None);
    let mut params = params("a.test", &["a.test"]);
    let url = b"http://i.test/lower.der";
    let url_length = u8::try_from(url.len()).expect("short");
    let method = [6, 8, 0x2b, 6, 1, 5, 5, 7, 48, 2];
    let entry = [&[0x30, 12 + url_length][..], &method, &[0x86, url_length], url].concat();
    let access = [&[0x30, 14 + url_length][..], &entry].concat();
    params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access));
    let own = sign(params, Some(&lower));

    let doubts = doubts(&[own.der], None, &roots(&[]), NOW);

    let [doubt] = doubts.as_slice() else { panic!("{doubts:?}") };
    assert!(
        doubt.to_string().ends_with("append that intermediate certificate (http://i.test/lower.der, as PEM)"),
        "{doubt}"
    );
}

#[test]
fn an_issuer_that_expires_first_is_told_of_too() {
    let mut old = params("Lower", &[]);
    old.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    old.not_after = rcgen::date_time_ymd(2030, 3, 1);
    let lower = sign(old, None);
    let own = sign(params("a.test", &["a.test"]), Some(&lower));

    let said = doubts(&[own.der, lower.der], None, &roots(&[]), NOW);

    let [doubt] = said.as_slice() else { panic!("{said:?}") };
    let words =
        "holds the certificate of its issuer \"Lower\", which expired at 2030-03-01T00:00:00.000Z: clients refuse it";
    assert!(doubt.to_string().starts_with(words), "{doubt}");
}

#[test]
fn a_certificate_that_leaves_servers_out_is_told_of() {
    for (purposes, is_fit) in [
        (vec![], true),
        (vec![ExtendedKeyUsagePurpose::ServerAuth], true),
        (vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth], true),
        (vec![ExtendedKeyUsagePurpose::Any], true),
        (vec![ExtendedKeyUsagePurpose::ClientAuth], false),
    ] {
        let mut params = params("a.test", &["a.test"]);
        params.extended_key_usages = purposes;
        let said = said(params, Some("a.test"), NOW);
        assert_eq!(said.is_empty(), is_fit, "{said:?}");
        assert!(is_fit || said[0].starts_with("is not for servers"), "{said:?}");
    }
}

#[test]
fn the_owner_of_a_certificate_has_the_names_it_is_for() {
    let named = sign(params("x", &["a.test", "127.0.0.1", "*.b.test"]), None);
    let unnamed = sign(params("only-common.test", &[]), None);

    assert_eq!(names(&named.der), ["a.test", "127.0.0.1", "*.b.test"]);
    assert_eq!(names(&unnamed.der), ["CN=only-common.test"]);
    assert_eq!(names(&CertificateDer::from_slice(b"no certificate")), Vec::<String>::new());
}

#[test]
fn what_is_no_certificate_harms_nothing() {
    let own = sign(params("a.test", &["a.test"]), None);
    for length in 0..own.der.len() {
        let cut = CertificateDer::from_slice(&own.der[..length]);
        assert_eq!(doubts(&[cut], Some(&host("a.test")), &roots(&[]), NOW), []);
    }
}

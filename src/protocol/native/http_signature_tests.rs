//! RFC 9421's example of HMAC-SHA256 (appendix B.2.5), and signatures that must be refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::protocol::signature::HmacKey;

/// `test-shared-secret` of appendix B.1.5.
const SECRET: &str = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
const INPUT: &str =
    r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret";nonce="n""#;

/// The header lines of the test request (appendix B.2).
fn field(name: &str) -> Option<String> {
    let value = match name {
        "host" => "example.com",
        "date" => "Tue, 20 Apr 2021 02:07:55 GMT",
        "content-type" => "application/json",
        "content-digest" => "sha-256=:x:",
        _ => return None,
    };
    Some(value.to_owned())
}

fn message() -> Message<'static> {
    Message { method: "POST", path: "/foo", query: Some("param=Value&Pet=dog"), scheme: "https", field: &field }
}

/// The only signature.
fn parse(input: &str, signature: &str) -> Result<Claim, Defect> {
    Claim::parse_all(input, signature).map(|mut claims| claims.remove(0))
}

fn claim(input: &str) -> Claim {
    parse(input, "sig-b25=:AA==:").expect(input)
}

fn defect(input: &str, signature: &str) -> String {
    parse(input, signature).expect_err(input).to_string()
}

/// The example has no nonce, which this gateway requires: so the base is compared, and the HMAC of the example's own base.
#[test]
fn the_example_of_the_standard_verifies() {
    let base = claim(INPUT).base(&message()).expect("complete").replace(";nonce=\"n\"", "");
    assert_eq!(
        base,
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
         \"@authority\": example.com\n\
         \"content-type\": application/json\n\
         \"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\""
    );

    let key = HmacKey::new(&format!("whsec_{SECRET}"));
    let signature = STANDARD.decode("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=").expect("Base64");
    assert!(key.verifies(base.as_bytes(), &signature));
    assert!(!key.verifies(base.replace("POST", "GET").replace("json", "xml").as_bytes(), &signature));
    assert!(!key.verifies(base.as_bytes(), &signature[..31]));
}

#[test]
fn derived_components_are_those_of_the_request() {
    let names = "\"@method\" \"@path\" \"@query\" \"@scheme\" \"@request-target\" \"@target-uri\"";
    let input = format!("a=({names});created=1;keyid=\"k\";nonce=\"n\"");
    let base = parse(&input, "a=:AA==:").expect("valid").base(&message()).expect("known");

    let lines: Vec<&str> = base.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "\"@method\": POST",
            "\"@path\": /foo",
            "\"@query\": ?param=Value&Pet=dog",
            "\"@scheme\": https",
            "\"@request-target\": /foo?param=Value&Pet=dog",
            "\"@target-uri\": https://example.com/foo?param=Value&Pet=dog",
        ]
    );
}

#[test]
fn parameters_are_signed_in_the_order_they_came_in() {
    let input = "a=( \"date\"  );nonce=\"x\\\"y\"; keyid=\"k\";created=5;tag=\"t\"";
    let base = parse(input, "a=:AA==:").expect("valid").base(&message()).expect("known");

    assert!(
        base.ends_with("\"@signature-params\": (\"date\");nonce=\"x\\\"y\";keyid=\"k\";created=5;tag=\"t\""),
        "{base}"
    );
}

#[test]
fn what_must_be_covered_is_named() {
    let covered = claim(r#"sig-b25=("@method" "content-digest");created=1;keyid="k";nonce="n""#);
    let defect = covered.check_coverage(true).expect_err("incomplete").to_string();
    assert!(
        defect.contains(r#"covers "@method" "content-digest", but it must cover "@path" "@query" too"#),
        "{defect}"
    );

    let all = claim(r#"sig-b25=("@method" "@path" "content-digest");created=1;keyid="k";nonce="n""#);
    assert_eq!(all.check_coverage(false), Ok(()));
    assert!(all.check_coverage(true).is_err());
    let nothing = claim(r#"sig-b25=();created=1;keyid="k";nonce="n""#).check_coverage(false);
    assert!(nothing.expect_err("incomplete").to_string().contains("covers nothing"));
}

#[test]
fn the_window_is_open_to_both_sides_and_ends() {
    let claim = claim(INPUT);
    let created = 1_618_884_473;
    for now in [created - 300, created, created + 300] {
        assert_eq!(claim.check_time(now), Ok(()), "{now}");
    }
    let behind = claim.check_time(created + 301).expect_err("stale").to_string();
    assert_eq!(
        behind,
        "created=1618884473 is 301 s behind this server's clock (1618884774): 300 s are allowed, set your clock (created is in seconds)"
    );
    assert!(claim.check_time(created - 301).expect_err("stale").to_string().contains("301 s ahead of"));

    let expiring = Claim { expires: Some(created as i64 + 10), ..claim };
    assert_eq!(expiring.check_time(created + 10), Ok(()));
    assert!(matches!(expiring.check_time(created + 11), Err(Defect::Expired { .. })));
}

#[test]
fn what_cannot_be_read_is_said() {
    let good = "a=:AA==:";
    for (input, signature, hint) in [
        ("", good, "label=(components)"),
        ("(", good, "Signature-Input is no structured field"),
        ("a=1", good, "label=(components)"),
        ("a=();created=1;keyid=\"k\"", good, "needs nonce"),
        ("a=();created=1;nonce=\"\";keyid=\"k\"", good, "needs nonce"),
        ("a=();created=1;nonce=\"n\"", good, "needs keyid"),
        ("a=();keyid=\"k\";nonce=\"n\"", good, "needs created"),
        ("a=();created=\"1\";keyid=\"k\";nonce=\"n\"", good, "needs created"),
        ("a=();created=1;keyid=\"k\";nonce=\"n\";alg=\"rsa-pss-sha512\"", good, "alg must be"),
        ("a=(date);created=1;keyid=\"k\";nonce=\"n\"", good, "in double quotes"),
        ("a=();created=1;keyid=\"k\";nonce=\"n\"", "b=:AA==:", "Signature has no a="),
        ("a=();created=1;keyid=\"k\";nonce=\"n\"", "a=\"AA\"", "Signature has no a="),
    ] {
        let defect = defect(input, signature);
        assert!(defect.contains(hint), "{input}: {defect}");
    }
    assert!(defect(&format!("a=();created=1;keyid=\"k\";nonce=\"{}\"", "n".repeat(257)), good).contains("256"));
}

#[test]
fn a_component_that_is_not_there_cannot_be_signed() {
    for (list, hint) in [
        ("\"x-absent\"", "the request has none"),
        ("\"@status\"", "does not know \"@status\""),
        ("\"Date\"", "lower case"),
        ("\"date\" \"date\"", "twice"),
        ("\"date\";bs", "has parameters"),
    ] {
        let claim = claim(&format!("sig-b25=({list});created=1;keyid=\"k\";nonce=\"n\""));
        let defect = claim.base(&message()).expect_err(list).to_string();
        assert!(defect.contains(hint), "{list}: {defect}");
    }
}

/// The digests are those of RFC 9530, section 2 and appendix B.
#[test]
fn a_digest_is_that_of_the_body() {
    let body = b"{\"hello\": \"world\"}\n";
    let digest = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    assert_eq!(content_digest(body), digest);
    assert_eq!(check_digest(Some(digest), Digested::of(body)), Ok(()));
    assert_eq!(check_digest(Some(&format!("sha-512=:AA==:, {digest}")), Digested::of(body)), Ok(()));

    let other = check_digest(Some(digest), Digested::of(b"{}")).expect_err("differs").to_string();
    assert!(
        other.contains("RK/0qy18") && other.contains(&content_digest(b"{}")) && other.contains("2 bytes"),
        "{other}"
    );
    for header in [None, Some("sha-512=:AA==:"), Some("sha-256"), Some("?!"), Some("sha-256=\"x\"")] {
        assert!(matches!(check_digest(header, Digested::of(body)), Err(Defect::Digest(_))), "{header:?}");
    }
}

#[test]
fn of_several_signatures_all_are_looked_at_up_to_a_bound() {
    let one = |label: &str, key: &str| format!("{label}=(\"@method\");created=1;keyid=\"{key}\";nonce=\"n\"");
    let labels = ["a", "b", "c", "d", "e"];
    let inputs = |of: fn(&str) -> String| labels.map(|label| one(label, &of(label))).join(", ");
    let signatures = labels.map(|label| format!("{label}=:AA==:")).join(", ");

    let claims = Claim::parse_all(&inputs(str::to_owned), &signatures).expect("valid");
    let keys: Vec<&str> = claims.iter().map(|claim| claim.key_id.as_str()).collect();
    assert_eq!(keys, ["a", "b", "c", "d"]);

    let proxied = format!("proxy=(\"@method\");created=1, {}", one("own", "shop"));
    let claims = Claim::parse_all(&proxied, "proxy=:AA==:, own=:AA==:").expect("one can be read");
    assert_eq!(claims.iter().map(|claim| claim.key_id.as_str()).collect::<Vec<_>>(), ["shop"]);
}

#[test]
fn an_end_that_is_no_number_is_malformed() {
    for expires in ["\"2000000000\"", "2.5", "@2000000000", "?1", "soon"] {
        let input = format!("s=(\"@method\");created=1;keyid=\"k\";nonce=\"n\";expires={expires}");
        let defect = parse(&input, "s=:AA==:").expect_err(&input);
        assert_eq!(defect.to_string(), "expires must be <seconds since 1970>");
    }
}

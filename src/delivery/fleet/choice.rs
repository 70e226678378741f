//! Which connectors may have an event, and which of them gets it.

use serde::Deserialize;
use serde::Serialize;

use crate::id::TunnelId;
use crate::protocol::connector::ConnectorName;

/// One connection of a connector.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Session(pub u128);

/// A process that dials in. All its connections have the same one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Instance(u128);

/// The text is not 128 bits in hexadecimal.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("instance must be 128 random bits as 32 hexadecimal digits")]
pub struct InvalidInstance;

impl Instance {
    /// Parses 32 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// If it is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidInstance> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parsed = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        parsed.map(Self).ok_or(InvalidInstance)
    }

    /// Its weight for a tunnel: the candidate with the highest one gets the tunnel's events (rendezvous hashing). When one joins or
    /// leaves, only the tunnels that it gets or had move.
    pub(super) fn weight(self, tunnel: TunnelId) -> u128 {
        let [tunnel_high, tunnel_low] = halves(u128::from_be_bytes(tunnel.to_bytes()));
        let [own_high, own_low] = halves(self.0);
        let first = mix(mix(tunnel_high ^ own_low).wrapping_add(tunnel_low) ^ own_high);
        (u128::from(first) << 64) | u128::from(mix(first ^ own_low))
    }
}

fn halves(bits: u128) -> [u64; 2] {
    let low = u64::try_from(bits & u128::from(u64::MAX)).expect("64 bits");
    [u64::try_from(bits >> 64).expect("64 bits"), low]
}

/// The finaliser of SplitMix64: each bit of the input changes half of the output.
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A claimed part of the receive URLs: everything at and below a path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Claim {
    /// Scheme, host and port, in one form.
    pub origin: String,
    /// The path, without a slash at its end.
    pub path: String,
}

impl Claim {
    /// A claim of what is at and below `path`.
    pub fn new(origin: String, path: &str) -> Self {
        Self { origin, path: path.trim_end_matches('/').to_owned() }
    }

    /// Whether it covers a URL: whole segments of the path count.
    pub fn covers(&self, origin: &str, path: &str) -> bool {
        let rest = path.strip_prefix(&*self.path);
        self.origin == origin && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The events that a connector takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Take {
    /// Those of tunnels that were requested for this name.
    Named(ConnectorName),
    /// Those of receive URLs that it claims.
    Urls(Vec<Claim>),
}

/// What the connector of an event must take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted<'a> {
    /// This name.
    Named(&'a ConnectorName),
    /// A receive URL, without its query.
    Url {
        /// Scheme, host and port, in the form of claims.
        origin: &'a str,
        /// The path.
        path: &'a str,
    },
}

impl Take {
    /// Whether it includes such events.
    pub fn takes(&self, wanted: &Wanted<'_>) -> bool {
        match (self, wanted) {
            (Self::Named(own), Wanted::Named(name)) => own == *name,
            (Self::Urls(claims), Wanted::Url { origin, path }) => claims.iter().any(|claim| claim.covers(origin, path)),
            (Self::Named(_), Wanted::Url { .. }) | (Self::Urls(_), Wanted::Named(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_so_many_digits() {
        assert!(Instance::parse("0123456789abcdefABCDEF0123456789").is_ok());
        for text in ["", "1", "+123456789abcdef0123456789abcdef", "g123456789abcdef0123456789abcdef", &"0".repeat(33)] {
            assert_eq!(Instance::parse(text), Err(InvalidInstance), "{text}");
        }
    }

    #[test]
    fn a_claim_covers_whole_segments() {
        let claim = |path| Claim::new("https://h.example:443".into(), path);
        let covers = |claim: &Claim, path| claim.covers("https://h.example:443", path);
        for claim in [claim("/a"), claim("/a/")] {
            for (path, is_covered) in
                [("/a", true), ("/a/", true), ("/a/b", true), ("/ab", false), ("/", false), ("/b/a", false)]
            {
                assert_eq!(covers(&claim, path), is_covered, "{path}");
            }
            assert!(!claim.covers("http://h.example:80", "/a"));
        }
        for path in ["/", "/x", "/x/y"] {
            assert!(covers(&claim("/"), path), "{path}");
        }
    }

    #[test]
    fn names_and_urls_are_kept_apart() {
        let (ann, bob) = ("ann".parse().expect("a name"), "bob".parse().expect("a name"));
        let url = Wanted::Url { origin: "http://h:80", path: "/" };
        let urls = Take::Urls(vec![Claim::new("http://h:80".into(), "/")]);

        assert!(Take::Named(ann).takes(&Wanted::Named(&"ann".parse().expect("a name"))));
        assert!(!Take::Named(bob).takes(&Wanted::Named(&"ann".parse().expect("a name"))));
        assert!(urls.takes(&url) && !urls.takes(&Wanted::Named(&"ann".parse().expect("a name"))));
        assert!(!Take::Named("ann".parse().expect("a name")).takes(&url));
    }
}

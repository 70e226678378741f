//! HTTP Message Signatures (RFC 9421) with HMAC-SHA256, and Content-Digest (RFC 9530): parsing and checks.
//!
//! This module knows no keys: it makes the signature base, and the caller compares the HMAC.

use sfv::BareItem;
use sfv::Dictionary;
use sfv::InnerList;
use sfv::Item;
use sfv::KeyRef;
use sfv::ListEntry;
use sfv::ListSerializer;
use sfv::Parser;
use sha2::Digest;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::protocol::text::printable;

/// Largest difference between `created` and the server's clock, in seconds.
pub const WINDOW_SECS: u64 = 300;
/// The only supported algorithm.
pub const ALGORITHM: &str = "hmac-sha256";

/// Most signatures of one request that are tried, in the order of `Signature-Input`.
pub const MAX_SIGNATURES: usize = 4;

/// Longest nonce, in bytes.
const MAX_NONCE_BYTES: usize = 256;

/// The parts of a request that a signature covers.
pub struct Message<'a> {
    /// The method as sent.
    pub method: &'a str,
    /// The path as sent.
    pub path: &'a str,
    /// The query without the question mark, if any.
    pub query: Option<&'a str>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// All values of a header, joined by `, `; the name is in lower case.
    pub field: &'a dyn Fn(&str) -> Option<String>,
}

/// One signature from `Signature-Input` and `Signature`.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The tenant id.
    pub key_id: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When it expires, if stated.
    pub expires: Option<i64>,
    /// A single-use value.
    pub nonce: String,
    /// The signature itself.
    pub signature: Vec<u8>,
    input: InnerList,
}

/// A fault that is found without any key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Defect {
    /// It cannot be parsed.
    #[error("{0}")]
    Malformed(String),
    /// It leaves out a component that it must cover.
    #[error(
        "the signature covers {covered}, but it must cover {missing} too: sign \"@method\" \"@path\" \"content-digest\", \
         and \"@query\" when the URL has one"
    )]
    Incomplete {
        /// The covered components.
        covered: String,
        /// The missing components.
        missing: String,
    },
    /// It is too old, or from the future.
    #[error("created={created} is {} s {} this server's clock ({now}): {WINDOW_SECS} s are allowed, \
             set your clock (created is in seconds)",
        created.abs_diff(*now), if created < now { "behind" } else { "ahead of" })]
    Stale {
        /// When it was made, in seconds since 1970.
        created: i64,
        /// The server's time, in seconds since 1970.
        now: i64,
    },
    /// Its `expires` time has passed.
    #[error("expires={expires} has passed: this server's clock shows {now}")]
    Expired {
        /// Its `expires` time, in seconds since 1970.
        expires: i64,
        /// The server's time, in seconds since 1970.
        now: i64,
    },
    /// The body is not the one that was signed.
    #[error("{0}")]
    Digest(String),
}

impl Claim {
    /// Parses both headers: the first [`MAX_SIGNATURES`] valid signatures, since a proxy may have added its own.
    ///
    /// # Errors
    ///
    /// [`Defect::Malformed`] with what is missing, if none can be parsed.
    pub fn parse_all(signature_input: &str, signature: &str) -> Result<Vec<Self>, Defect> {
        let inputs = dictionary("Signature-Input", signature_input)?;
        let signatures = dictionary("Signature", signature)?;
        let (mut claims, mut defect) = (vec![], None);
        for (label, input) in inputs.into_iter().take(MAX_SIGNATURES) {
            match Self::read(&label, input, signatures.get(&label)) {
                Ok(claim) => claims.push(claim),
                Err(other) => defect = defect.or(Some(other)),
            }
        }
        if claims.is_empty() { Err(defect.unwrap_or_else(not_a_list)) } else { Ok(claims) }
    }

    fn read(label: &KeyRef, input: ListEntry, signature: Option<&ListEntry>) -> Result<Self, Defect> {
        let ListEntry::InnerList(input) = input else { return Err(not_a_list()) };
        let Some(ListEntry::Item(Item { bare_item: BareItem::ByteSequence(signature), .. })) = signature else {
            return Err(malformed(&format!("Signature has no {}=:Base64: as Signature-Input has", label.as_str())));
        };
        if !input.items.iter().all(|item| item.bare_item.as_string().is_some()) {
            return Err(malformed("Signature-Input must list its components as strings in double quotes"));
        }
        let alg = input.params.get("alg");
        if alg.is_some_and(|alg| alg.as_string().is_none_or(|alg| alg.as_str() != ALGORITHM)) {
            return Err(malformed("alg must be \"hmac-sha256\""));
        }
        let text = |name: &str| input.params.get(name).and_then(|value| value.as_string()).map(|text| text.as_str());
        let integer = |name: &str| input.params.get(name).and_then(|value| value.as_integer()).map(i64::from);
        let expires = integer("expires");
        if expires.is_none() && input.params.get("expires").is_some() {
            return Err(malformed("expires must be <seconds since 1970>"));
        }
        let nonce = text("nonce").filter(|nonce| !nonce.is_empty());
        let nonce = nonce.ok_or_else(|| malformed("Signature-Input needs nonce=\"...\", a new value each time"))?;
        if nonce.len() > MAX_NONCE_BYTES {
            return Err(malformed(&format!("the nonce is over {MAX_NONCE_BYTES} characters")));
        }
        Ok(Self {
            key_id: text("keyid").ok_or_else(|| malformed("Signature-Input needs keyid=\"<tenant id>\""))?.to_owned(),
            created: integer("created")
                .ok_or_else(|| malformed("Signature-Input needs created=<seconds since 1970>"))?,
            expires,
            nonce: nonce.to_owned(),
            signature: signature.clone(),
            input,
        })
    }

    /// Checks that it was made within the window around `now_secs`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`Defect::Stale`] or [`Defect::Expired`].
    pub fn check_time(&self, now_secs: u64) -> Result<(), Defect> {
        let now = i64::try_from(now_secs).unwrap_or(i64::MAX);
        if self.created.abs_diff(now) > WINDOW_SECS {
            return Err(Defect::Stale { created: self.created, now });
        }
        match self.expires {
            Some(expires) if expires < now => Err(Defect::Expired { expires, now }),
            _ => Ok(()),
        }
    }

    /// Checks that it covers every significant component of the request.
    ///
    /// # Errors
    ///
    /// [`Defect::Incomplete`], which names what is missing.
    pub fn check_coverage(&self, has_query: bool) -> Result<(), Defect> {
        let needed = ["@method", "@path", "content-digest"].into_iter().chain(has_query.then_some("@query"));
        let missing: Vec<String> = needed
            .filter(|name| !self.components().any(|item| item == *name))
            .map(|name| format!("\"{name}\""))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let covered: Vec<String> = self.components().map(|name| format!("\"{}\"", printable(name, 40))).collect();
        let covered = if covered.is_empty() { "nothing".to_owned() } else { covered.join(" ") };
        Err(Defect::Incomplete { covered, missing: missing.join(" ") })
    }

    /// The signature base (RFC 9421, section 2.5): the text over which the HMAC is computed.
    ///
    /// # Errors
    ///
    /// [`Defect::Malformed`] if a component is repeated, unknown, or missing in the request.
    pub fn base(&self, message: &Message<'_>) -> Result<String, Defect> {
        let mut base = String::new();
        let mut seen: Vec<&str> = vec![];
        for (item, name) in self.input.items.iter().zip(self.components()) {
            if seen.contains(&name) {
                return Err(malformed(&format!("Signature-Input names \"{}\" twice", printable(name, 40))));
            }
            seen.push(name);
            if !item.params.is_empty() {
                let name = printable(name, 40);
                return Err(malformed(&format!("\"{name}\" has parameters, which this gateway does not know")));
            }
            let value = component(name, message)?;
            base.push_str(&format!("\"{name}\": {value}\n"));
        }
        base.push_str("\"@signature-params\": ");
        base.push_str(&self.parameters());
        Ok(base)
    }

    fn components(&self) -> impl Iterator<Item = &str> {
        self.input.items.iter().filter_map(|item| item.bare_item.as_string()).map(|name| name.as_str())
    }

    fn parameters(&self) -> String {
        let mut list = ListSerializer::new();
        let mut inner = list.inner_list();
        inner.items(&self.input.items);
        inner.finish().parameters(self.input.params.iter().map(|(name, value)| (name.as_ref(), value)));
        list.finish().expect("there is one member")
    }
}

/// A body that has been hashed.
#[derive(Clone, Copy, Debug)]
pub struct Digested {
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// How many bytes it has.
    pub length: usize,
}

impl Digested {
    /// Hashes `body`.
    pub fn of(body: &[u8]) -> Self {
        Self { digest: Sha256::digest(body).into(), length: body.len() }
    }
}

/// Checks `Content-Digest` against `body`.
///
/// # Errors
///
/// [`Defect::Digest`] with the digest that was expected.
pub fn check_digest(header: Option<&str>, body: Digested) -> Result<(), Defect> {
    let Digested { digest, length } = body;
    let expected = written(&digest);
    let Some(header) = header else {
        return Err(Defect::Digest(format!("Content-Digest is missing: for these {length} bytes it is {expected}")));
    };
    let given = dictionary("Content-Digest", header).map_err(|defect| Defect::Digest(defect.to_string()))?;
    match given.get("sha-256") {
        Some(ListEntry::Item(Item { bare_item: BareItem::ByteSequence(bytes), .. }))
            if bytes.ct_eq(digest.as_slice()).into() =>
        {
            Ok(())
        }
        Some(_) => Err(Defect::Digest(format!(
            "Content-Digest is {}, but {length} bytes of body came whose digest is {expected}",
            printable(header, 100)
        ))),
        None => {
            Err(Defect::Digest(format!("Content-Digest has no sha-256: for these {length} bytes it is {expected}")))
        }
    }
}

/// The `Content-Digest` of `body`.
pub fn content_digest(body: &[u8]) -> String {
    written(&Sha256::digest(body))
}

fn written(digest: &[u8]) -> String {
    use base64::Engine as _;
    format!("sha-256=:{}:", base64::engine::general_purpose::STANDARD.encode(digest))
}

fn component(name: &str, message: &Message<'_>) -> Result<String, Defect> {
    let authority = || (message.field)("host").map(|host| default_port_removed(&host, message.scheme));
    let target = || message.query.map_or_else(|| message.path.to_owned(), |query| format!("{}?{query}", message.path));
    let value = match name {
        "@method" => Some(message.method.to_owned()),
        "@path" => Some(message.path.to_owned()),
        "@query" => Some(format!("?{}", message.query.unwrap_or_default())),
        "@scheme" => Some(message.scheme.to_owned()),
        "@authority" => authority(),
        "@request-target" => Some(target()),
        "@target-uri" => authority().map(|authority| format!("{}://{authority}{}", message.scheme, target())),
        _ if name.starts_with('@') => {
            return Err(malformed(&format!("this gateway does not know \"{}\"", printable(name, 40))));
        }
        _ if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            return Err(malformed(&format!("\"{}\" must be in lower case", printable(name, 40))));
        }
        _ => (message.field)(name),
    };
    value.ok_or_else(|| malformed(&format!("\"{}\" is signed, but the request has none", printable(name, 40))))
}

fn default_port_removed(host: &str, scheme: &str) -> String {
    let port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase()
}

fn dictionary(header: &str, value: &str) -> Result<Dictionary, Defect> {
    Parser::new(value)
        .parse()
        .map_err(|error| malformed(&format!("{header} is no structured field (RFC 9651) of the right form: {error}")))
}

fn not_a_list() -> Defect {
    malformed("Signature-Input must be label=(components);parameters")
}

fn malformed(what: &str) -> Defect {
    Defect::Malformed(what.to_owned())
}

#[cfg(test)]
#[path = "http_signature_tests.rs"]
mod tests;

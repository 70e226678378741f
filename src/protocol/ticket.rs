//! Connect URLs: sealed tickets, so that requesting a tunnel stores nothing.
//!
//! A ticket is the tunnel id followed by all other properties of the tunnel, encrypted and authenticated with a key derived from
//! `server.ticket_key`. The nonce is the tunnel id, 128 random bits that are never reused, together with the format version:
//! version 1 is a Wafer tunnel, version 2 a native one, version 3 one of either kind whose events go to a named connector.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::KeyInit;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::XNonce;
use chacha20poly1305::aead::Aead;
use hkdf::Hkdf;
use serde::Deserialize;
use serde::Serialize;
use sha2::Sha256;

use super::connector::ConnectorName;
use super::native::Audience;
use super::native::Name;
use super::native::Trace;
use super::native::request::Metadata;
use super::text::hex;
use crate::id::TunnelId;

const ID_BYTES: usize = 16;
const WAFER_DOMAIN: &[u8; 8] = b"ticketv1";
const NATIVE_DOMAIN: &[u8; 8] = b"ticketv2";
const NAMED_DOMAIN: &[u8; 8] = b"ticketv3";

/// A requested tunnel, with everything needed to open it.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Where its events are sent.
    pub receive_url: String,
    /// Fingerprint of the tenant's key that requested it.
    pub key_fingerprint: u32,
    /// When the ticket expires, in milliseconds since 1970.
    pub expires_unix_ms: u64,
    /// Options of a native tunnel; none for a Wafer tunnel.
    pub native: Option<Box<About>>,
    /// The connector that its events go to, if not to the receive URL.
    pub connector: Option<ConnectorName>,
}

/// Options of a native tunnel.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct About {
    /// Its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// Groups that it joins when it opens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Name>,
    /// Metadata for the business server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Trace of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// The session that it was asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Name>,
}

impl About {
    /// Its groups, then its user and its session.
    pub fn audiences(&self) -> impl Iterator<Item = Audience> {
        let groups = self.groups.iter().cloned().map(Audience::Group);
        let user = self.user.clone().map(Audience::User);
        groups.chain(user).chain(self.session.clone().map(Audience::Session))
    }
}

/// The text is not a ticket sealed with this key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a connect URL of this gateway")]
pub struct NotATicket;

/// Seals tickets and opens them again.
#[derive(Clone)]
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    ticket_key: Hkdf<Sha256>,
}

impl Sealer {
    /// Derives the sealing key from `ticket_key`.
    pub fn new(ticket_key: &[u8]) -> Self {
        Self::derive(Hkdf::new(None, ticket_key), &[b"wafergate connect ticket v1"])
    }

    /// Derives another key for one installation; others with the same `ticket_key` cannot open its tickets.
    #[must_use]
    pub fn of_installation(&self, id: &str) -> Self {
        Self::derive(self.ticket_key.clone(), &[b"wafergate connect ticket of installation ", id.as_bytes()])
    }

    /// Names `ticket_key` without a way back to it: nodes with the same one have the same name.
    pub fn fingerprint(&self) -> String {
        let mut name = [0; 8];
        self.ticket_key.expand(b"wafergate fingerprint of ticket_key", &mut name).expect("8 bytes are a valid length");
        hex(&name)
    }

    fn derive(ticket_key: Hkdf<Sha256>, purpose: &[&[u8]]) -> Self {
        let mut key = [0; 32];
        ticket_key.expand_multi_info(purpose, &mut key).expect("32 bytes are a valid length");
        Self { cipher: XChaCha20Poly1305::new(&key.into()), ticket_key }
    }

    /// Encodes the ticket as URL-safe text.
    pub fn seal(&self, ticket: &Ticket) -> String {
        let mut plain = Vec::with_capacity(16 + ticket.tenant.len() + ticket.receive_url.len());
        plain.extend(ticket.expires_unix_ms.to_be_bytes());
        plain.extend(ticket.key_fingerprint.to_be_bytes());
        write(&mut plain, &ticket.tenant);
        let domain = match (&ticket.connector, &ticket.native) {
            (None, None) => {
                plain.extend(ticket.receive_url.as_bytes());
                WAFER_DOMAIN
            }
            (None, Some(about)) => {
                write(&mut plain, &ticket.receive_url);
                write_about(&mut plain, about);
                NATIVE_DOMAIN
            }
            (Some(connector), about) => {
                write(&mut plain, &ticket.receive_url);
                write(&mut plain, connector.as_str());
                about.iter().for_each(|about| write_about(&mut plain, about));
                NAMED_DOMAIN
            }
        };
        let sealed = self.cipher.encrypt(&nonce(ticket.tunnel, domain), plain.as_slice()).expect("a ticket is short");
        URL_SAFE_NO_PAD.encode([&ticket.tunnel.to_bytes()[..], &sealed].concat())
    }

    /// Opens a ticket made by [`seal`](Self::seal). The caller checks its expiry.
    ///
    /// # Errors
    ///
    /// If a single bit differs.
    pub fn open(&self, text: &str) -> Result<Ticket, NotATicket> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotATicket)?;
        let (id, sealed) = bytes.split_first_chunk::<ID_BYTES>().ok_or(NotATicket)?;
        let tunnel = TunnelId::from_bytes(*id);
        let plain = |domain| self.cipher.decrypt(&nonce(tunnel, domain), sealed);
        let versions = [WAFER_DOMAIN, NATIVE_DOMAIN, NAMED_DOMAIN].into_iter();
        let opened = versions.filter_map(|domain| Some((domain, plain(domain).ok()?))).next();
        let (domain, plain) = opened.ok_or(NotATicket)?;
        read(tunnel, &plain, domain).ok_or(NotATicket)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

fn nonce(tunnel: TunnelId, domain: &[u8; 8]) -> XNonce {
    let mut nonce = XNonce::default();
    nonce[..ID_BYTES].copy_from_slice(&tunnel.to_bytes());
    nonce[ID_BYTES..].copy_from_slice(domain);
    nonce
}

fn write(plain: &mut Vec<u8>, text: &str) {
    plain.extend(u16::try_from(text.len()).expect("tenant ids and receive URLs are short").to_be_bytes());
    plain.extend(text.as_bytes());
}

fn write_about(plain: &mut Vec<u8>, about: &About) {
    plain.extend(serde_json::to_vec(about).expect("names and JSON always serialise"));
}

fn read(tunnel: TunnelId, plain: &[u8], domain: &[u8; 8]) -> Option<Ticket> {
    let (expires, rest) = plain.split_first_chunk()?;
    let (fingerprint, rest) = rest.split_first_chunk()?;
    let (tenant, rest) = read_text(rest)?;
    let (receive_url, rest) = if domain == WAFER_DOMAIN { (rest, &[][..]) } else { read_text(rest)? };
    let (connector, about) = if domain == NAMED_DOMAIN {
        let (name, about) = read_text(rest)?;
        (Some(str::from_utf8(name).ok()?.parse().ok()?), about)
    } else {
        (None, rest)
    };
    let is_native = domain == NATIVE_DOMAIN || !about.is_empty();
    let native = if is_native { Some(serde_json::from_slice(about).ok()?) } else { None };
    Some(Ticket {
        tunnel,
        tenant: String::from_utf8(tenant.to_vec()).ok()?,
        receive_url: String::from_utf8(receive_url.to_vec()).ok()?,
        key_fingerprint: u32::from_be_bytes(*fingerprint),
        expires_unix_ms: u64::from_be_bytes(*expires),
        native,
        connector,
    })
}

fn read_text(plain: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bytes, rest) = plain.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`ticket`] as sealed by the first version of this program.
    const VERSION_1: &str = "BwcHBwcHBwcHBwcHBwcHBxzZe0yxEz69ITU08xW5ptZyf2ahoEjP8m41iVtGx3bHFfqa_JG_jsCuAdao2SIuM2DqqT3f17dCEAINLe4jqmNL55sDIkzLSVrKVwxdjS-LaWononz5gN_syb_j";

    fn ticket() -> Ticket {
        Ticket {
            tunnel: TunnelId::from_bytes([7; 16]),
            tenant: "972536d1f67ab5d13fde0b9390e3cd5c".into(),
            receive_url: "http://127.0.1.11/tunnel?a=%2F".into(),
            key_fingerprint: 0xdead_beef,
            expires_unix_ms: 1_700_000_060_123,
            native: None,
            connector: None,
        }
    }

    fn native() -> Ticket {
        let name = |text| Name::new(text).expect("a name");
        let about = About {
            user: Some(name("ann")),
            groups: vec![name("a"), name("房间")],
            metadata: serde_json::from_str("{\"n\": 1e400}").ok(),
            trace: Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            session: Some(name("s0123")),
        };
        Ticket { native: Some(Box::new(about)), ..ticket() }
    }

    fn named(ticket: Ticket) -> Ticket {
        Ticket { connector: "ann-2".parse().ok(), ..ticket }
    }

    /// Compared as text, because tickets have no `==`.
    fn shown(ticket: Result<Ticket, NotATicket>) -> String {
        format!("{ticket:?}")
    }

    #[test]
    fn a_ticket_opens_to_what_was_sealed() {
        let sealer = Sealer::new(b"secret");

        assert_eq!(shown(sealer.open(&sealer.seal(&ticket()))), shown(Ok(ticket())));
        assert_eq!(shown(sealer.open(&sealer.seal(&native()))), shown(Ok(native())));
        assert_eq!(shown(sealer.open(&sealer.seal(&named(ticket())))), shown(Ok(named(ticket()))));
        assert_eq!(shown(sealer.open(&sealer.seal(&named(native())))), shown(Ok(named(native()))));
    }

    /// A connect URL sealed by an older version of this program.
    #[test]
    fn a_ticket_of_version_1_stays_good() {
        let sealer = Sealer::new(b"secret");

        let opened = sealer.open(VERSION_1);

        assert_eq!(sealer.seal(&ticket()), VERSION_1);
        assert_eq!(shown(opened), shown(Ok(ticket())));
    }

    #[test]
    fn a_ticket_with_any_character_changed_is_refused() {
        let sealer = Sealer::new(b"secret");
        let text = sealer.seal(&native());

        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("ASCII");
            assert!(sealer.open(&forged).is_err(), "changed at {at}");
        }
        for cut in 0..text.len() {
            assert!(sealer.open(&text[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn another_key_opens_nothing() {
        let text = Sealer::new(b"secret").seal(&ticket());

        assert!(Sealer::new(b"Secret").open(&text).is_err());
    }

    #[test]
    fn an_installation_opens_what_it_has_sealed() {
        let sealer = Sealer::new(b"secret");
        let (one, other) = (sealer.of_installation("1"), sealer.of_installation("2"));
        let text = one.seal(&ticket());

        assert_eq!(shown(one.open(&text)), shown(Ok(ticket())));
        assert_eq!(shown(Sealer::new(b"secret").of_installation("1").open(&text)), shown(Ok(ticket())));
        for stranger in [other, sealer, Sealer::new(b"Secret").of_installation("1")] {
            assert!(stranger.open(&text).is_err());
        }
    }

    /// The name goes into Redis: it must not change between releases, or nodes of two would not know each other.
    #[test]
    fn a_key_has_a_name_of_its_own_in_every_release() {
        let name = Sealer::new(b"secret").fingerprint();
        assert_eq!(name, Sealer::new(b"secret").of_installation("1").fingerprint());
        assert_eq!(name, "444977be80ac161e");
        assert_ne!(name, Sealer::new(b"Secret").fingerprint());
    }

    #[test]
    fn a_ticket_shows_neither_tenant_nor_receive_url() {
        let text = Sealer::new(b"secret").seal(&ticket());
        let bytes = URL_SAFE_NO_PAD.decode(text).expect("base64");

        assert!(!bytes.windows(4).any(|window| window == b"http" || window == b"9725"));
    }
}

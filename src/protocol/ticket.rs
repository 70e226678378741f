//! Connect URLs: sealed tickets, so that asking for a tunnel stores nothing.
//!
//! A ticket is the tunnel id followed by everything else about the tunnel, encrypted and authenticated with a key derived from
//! `server.ticket_key`. The tunnel id, 128 random bits that are never used twice, is the nonce.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::KeyInit;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::XNonce;
use chacha20poly1305::aead::Aead;
use hkdf::Hkdf;
use sha2::Sha256;

use crate::id::TunnelId;

const ID_BYTES: usize = 16;
const NONCE_DOMAIN: &[u8; 8] = b"ticketv1";

/// A tunnel that was requested: everything that is needed to open it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ticket {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Where its events go.
    pub receive_url: String,
    /// Which of the tenant's keys asked for it.
    pub key_fingerprint: u32,
    /// When the ticket expires, in milliseconds since 1970.
    pub expires_unix_ms: u64,
}

/// The text is no ticket that was sealed with this key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a connect URL of this gateway")]
pub struct NotATicket;

/// Seals tickets and opens them again.
#[derive(Clone)]
pub struct Sealer(XChaCha20Poly1305);

impl Sealer {
    /// Derives the sealing key from `ticket_key`.
    pub fn new(ticket_key: &[u8]) -> Self {
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(None, ticket_key)
            .expand(b"wafergate connect ticket v1", &mut key)
            .expect("32 bytes are a valid length");
        Self(XChaCha20Poly1305::new(&key.into()))
    }

    /// The ticket as text that may stand in a URL.
    pub fn seal(&self, ticket: &Ticket) -> String {
        let tenant_bytes = u16::try_from(ticket.tenant.len()).expect("tenant ids are short");
        let mut plain = Vec::with_capacity(14 + ticket.tenant.len() + ticket.receive_url.len());
        plain.extend(ticket.expires_unix_ms.to_be_bytes());
        plain.extend(ticket.key_fingerprint.to_be_bytes());
        plain.extend(tenant_bytes.to_be_bytes());
        plain.extend(ticket.tenant.as_bytes());
        plain.extend(ticket.receive_url.as_bytes());
        let sealed = self.0.encrypt(&nonce(ticket.tunnel), plain.as_slice()).expect("a ticket is short");
        URL_SAFE_NO_PAD.encode([&ticket.tunnel.to_bytes()[..], &sealed].concat())
    }

    /// Opens what [`seal`](Self::seal) made. Whether the ticket has expired is for the caller to say.
    ///
    /// # Errors
    ///
    /// If a single bit of it is not as it was sealed.
    pub fn open(&self, text: &str) -> Result<Ticket, NotATicket> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotATicket)?;
        let (id, sealed) = bytes.split_first_chunk::<ID_BYTES>().ok_or(NotATicket)?;
        let tunnel = TunnelId::from_bytes(*id);
        let plain = self.0.decrypt(&nonce(tunnel), sealed).map_err(|_| NotATicket)?;
        read(tunnel, &plain).ok_or(NotATicket)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

fn nonce(tunnel: TunnelId) -> XNonce {
    let mut nonce = XNonce::default();
    nonce[..ID_BYTES].copy_from_slice(&tunnel.to_bytes());
    nonce[ID_BYTES..].copy_from_slice(NONCE_DOMAIN);
    nonce
}

fn read(tunnel: TunnelId, plain: &[u8]) -> Option<Ticket> {
    let (expires, rest) = plain.split_first_chunk()?;
    let (fingerprint, rest) = rest.split_first_chunk()?;
    let (tenant_bytes, rest) = rest.split_first_chunk()?;
    let (tenant, receive_url) = rest.split_at_checked(usize::from(u16::from_be_bytes(*tenant_bytes)))?;
    Some(Ticket {
        tunnel,
        tenant: String::from_utf8(tenant.to_vec()).ok()?,
        receive_url: String::from_utf8(receive_url.to_vec()).ok()?,
        key_fingerprint: u32::from_be_bytes(*fingerprint),
        expires_unix_ms: u64::from_be_bytes(*expires),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            tunnel: TunnelId::from_bytes([7; 16]),
            tenant: "972536d1f67ab5d13fde0b9390e3cd5c".into(),
            receive_url: "http://127.0.1.11/tunnel?a=%2F".into(),
            key_fingerprint: 0xdead_beef,
            expires_unix_ms: 1_700_000_060_123,
        }
    }

    #[test]
    fn a_ticket_opens_to_what_was_sealed() {
        let sealer = Sealer::new(b"secret");

        assert_eq!(sealer.open(&sealer.seal(&ticket())), Ok(ticket()));
    }

    #[test]
    fn a_ticket_with_any_character_changed_is_refused() {
        let sealer = Sealer::new(b"secret");
        let text = sealer.seal(&ticket());

        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("ASCII");
            assert_eq!(sealer.open(&forged), Err(NotATicket), "changed at {at}");
        }
        for cut in 0..text.len() {
            assert_eq!(sealer.open(&text[..cut]), Err(NotATicket), "cut at {cut}");
        }
    }

    #[test]
    fn another_key_opens_nothing() {
        let text = Sealer::new(b"secret").seal(&ticket());

        assert_eq!(Sealer::new(b"Secret").open(&text), Err(NotATicket));
    }

    #[test]
    fn a_ticket_shows_neither_tenant_nor_receive_url() {
        let text = Sealer::new(b"secret").seal(&ticket());
        let bytes = URL_SAFE_NO_PAD.decode(text).expect("base64");

        assert!(!bytes.windows(4).any(|window| window == b"http" || window == b"9725"));
    }
}

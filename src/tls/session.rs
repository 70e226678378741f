//! Session tickets: the sealed state to resume a TLS session, stored by the client, so that nodes store nothing.
//!
//! Each day (UTC) has its own key, derived from one secret: every node and every later process with that secret can open the
//! tickets. A ticket is the day, a nonce and the sealed session.

use std::fmt;
use std::time::Duration;

use chacha20poly1305::KeyInit;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::XNonce;
use chacha20poly1305::aead::Aead;
use hkdf::Hkdf;
use sha2::Digest;
use sha2::Sha256;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The ticket lifetime sent to clients: a ticket can be opened until the end of the day after it was sealed.
pub const LIFETIME: Duration = DAY;

/// Length of a nonce, enough for random ones never to collide.
pub const NONCE_BYTES: usize = 24;

/// Longest ticket accepted. With the longest server name a session has about 350 bytes.
const MAX_TICKET_BYTES: usize = 1_024;

const DAY_BYTES: usize = size_of::<u32>();

/// Seals sessions and opens them again.
#[derive(Clone)]
pub struct Sessions {
    secret: Hkdf<Sha256>,
    identity: [u8; 32],
}

impl Sessions {
    /// Sessions of the server with these names.
    ///
    /// A client that resumes does not see a certificate. So a session is valid only if the certificate still has the names that
    /// it had when the session began; key, issuer and dates may change.
    pub fn new(secret: &[u8], mut names: Vec<String>) -> Self {
        names.sort_unstable();
        names.dedup();
        let mut identity = Sha256::new();
        for name in names {
            identity.update(name.len().to_be_bytes());
            identity.update(name);
        }
        Self { secret: Hkdf::new(None, secret), identity: identity.finalize().into() }
    }

    /// The ticket for `session`. A nonce must not be used twice.
    pub fn seal(&self, session: &[u8], nonce: [u8; NONCE_BYTES], unix_time: Duration) -> Vec<u8> {
        let day = day(unix_time);
        let sealed = self.cipher(day).encrypt(&XNonce::from(nonce), session).expect("a session is short");
        [&day.to_be_bytes()[..], &nonce, &sealed].concat()
    }

    /// The session in `ticket`, if it was sealed on this day or the day before, or on the next day by a node with a fast clock.
    pub fn open(&self, ticket: &[u8], unix_time: Duration) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET_BYTES {
            return None;
        }
        let (sealed_on, rest) = ticket.split_first_chunk::<DAY_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let sealed_on = u32::from_be_bytes(*sealed_on);
        if sealed_on.abs_diff(day(unix_time)) > 1 {
            return None;
        }
        self.cipher(sealed_on).decrypt(&XNonce::from(*nonce), sealed).ok()
    }

    fn cipher(&self, day: u32) -> XChaCha20Poly1305 {
        let mut key = [0; 32];
        self.secret
            .expand_multi_info(&[b"wafergate tls session v1", &self.identity, &day.to_be_bytes()], &mut key)
            .expect("32 bytes are a valid length");
        XChaCha20Poly1305::new(&key.into())
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}

fn day(unix_time: Duration) -> u32 {
    u32::try_from(unix_time.as_secs() / DAY.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: Duration = Duration::from_secs(20_000 * 86_400);
    const SECOND: Duration = Duration::from_secs(1);
    const NONCE: [u8; NONCE_BYTES] = [7; NONCE_BYTES];

    /// A ticket sealed by the first version of this program.
    const SEALED: &str =
        "00004e20070707070707070707070707070707070707070707070707e726fd17023a66d5d02bb2a6451bbd984bc5dbc339ba3c";

    fn sessions(secret: &str, names: &[&str]) -> Sessions {
        Sessions::new(secret.as_bytes(), names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_ticket_is_good_on_its_day_and_the_next_whatever_the_hour() {
        let sessions = sessions("secret", &["a.test"]);
        let first = sessions.seal(b"session", NONCE, MIDNIGHT);
        let last = sessions.seal(b"session", NONCE, MIDNIGHT + DAY - SECOND);

        for (ticket, now, is_good) in [
            (&first, MIDNIGHT, true),
            (&first, MIDNIGHT + LIFETIME, true),
            (&first, MIDNIGHT + 2 * DAY - SECOND, true),
            (&first, MIDNIGHT + 2 * DAY, false),
            (&first, MIDNIGHT + 400 * DAY, false),
            (&last, MIDNIGHT + DAY - SECOND + LIFETIME, true),
            (&last, MIDNIGHT + 2 * DAY, false),
        ] {
            assert_eq!(sessions.open(ticket, now).is_some(), is_good, "at {now:?}");
        }
    }

    #[test]
    fn a_node_whose_clock_is_behind_opens_what_is_of_tomorrow_there() {
        let sessions = sessions("secret", &["a.test"]);
        let ticket = sessions.seal(b"session", NONCE, MIDNIGHT);

        assert_eq!(sessions.open(&ticket, MIDNIGHT - SECOND).as_deref(), Some(&b"session"[..]));
        assert_eq!(sessions.open(&ticket, MIDNIGHT - DAY - SECOND), None);
    }

    #[test]
    fn another_secret_and_other_names_open_nothing() {
        let ticket = sessions("secret", &["a.test", "b.test"]).seal(b"session", NONCE, MIDNIGHT);

        for (secret, names, is_good) in [
            ("secret", &["b.test", "a.test"][..], true),
            ("secret", &["a.test", "b.test", "a.test"], true),
            ("Secret", &["a.test", "b.test"], false),
            ("secret", &["a.test"], false),
            ("secret", &["a.testb.test"], false),
            ("secret", &["a.test", "b.test", "c.test"], false),
            ("secret", &[], false),
        ] {
            assert_eq!(sessions(secret, names).open(&ticket, MIDNIGHT).is_some(), is_good, "{secret} {names:?}");
        }
    }

    #[test]
    fn a_ticket_with_any_bit_changed_or_cut_anywhere_opens_nothing() {
        let sessions = sessions("secret", &["a.test"]);
        let ticket = sessions.seal(b"session", NONCE, MIDNIGHT);

        for at in 0..ticket.len() {
            for bit in 0..8 {
                let mut forged = ticket.clone();
                forged[at] ^= 1 << bit;
                assert_eq!(sessions.open(&forged, MIDNIGHT), None, "bit {bit} of byte {at}");
            }
            assert_eq!(sessions.open(&ticket[..at], MIDNIGHT), None, "cut at {at}");
        }
        assert_eq!(sessions.open(&[ticket, vec![0; MAX_TICKET_BYTES]].concat(), MIDNIGHT), None);
        assert_eq!(sessions.open(&[], MIDNIGHT), None);
    }

    #[test]
    fn a_ticket_shows_nothing_of_the_session() {
        let ticket = sessions("secret", &["a.test"]).seal(b"master secret", NONCE, MIDNIGHT);

        assert!(!ticket.windows(6).any(|window| window == b"secret"));
    }

    /// Tickets sealed by another version of this program can be opened too.
    #[test]
    fn tickets_of_other_versions_stay_good() {
        let ticket = sessions("secret", &["a.test"]).seal(b"session", NONCE, MIDNIGHT);
        let hex: String = ticket.iter().map(|byte| format!("{byte:02x}")).collect();

        assert_eq!(hex, SEALED);
    }
}

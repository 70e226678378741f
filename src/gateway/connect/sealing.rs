//! Seals connect URLs for one installation; another one with the same `ticket_key` cannot open them.
//!
//! The last release sealed with the shared key. While its nodes are alive this node does too, and it accepts such URLs
//! until they expire; the next release removes this.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::engine::Installation;
use crate::protocol::ticket::NotATicket;
use crate::protocol::ticket::Sealer;
use crate::protocol::ticket::Ticket;

/// Why a text cannot be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sealed {
    /// Sealed by another installation, or altered.
    Elsewhere,
    /// The installation is not known yet.
    Perhaps,
}

/// The sealing keys of this installation.
pub(super) struct Sealing {
    shared: Sealer,
    last: ArcSwapOption<(Arc<str>, Sealer)>,
}

impl Sealing {
    /// Starts with the key derived from `ticket_key` only.
    pub(super) fn new(shared: Sealer) -> Self {
        Self { shared, last: ArcSwapOption::empty() }
    }

    /// Seals a ticket.
    pub(super) fn seal(&self, ticket: &Ticket, installation: &Installation) -> String {
        match installation {
            Installation::Known { ids, is_known_to_all: true, .. } => self.of(&ids[0]).seal(ticket),
            _ => self.shared.seal(ticket),
        }
    }

    /// Opens a ticket of this installation.
    pub(super) fn open(&self, text: &str, installation: &Installation) -> Result<Ticket, Sealed> {
        let shared = || self.shared.open(text);
        let opened = match installation {
            Installation::Alone => shared(),
            Installation::Unknown => return shared().map_err(|_| Sealed::Perhaps),
            Installation::Known { ids, may_be_unknown, .. } => {
                let own = ids.iter().map(|id| self.of(id).open(text)).find(Result::is_ok);
                own.unwrap_or_else(|| if *may_be_unknown { shared() } else { Err(NotATicket) })
            }
        };
        opened.map_err(|_| Sealed::Elsewhere)
    }

    fn of(&self, id: &Arc<str>) -> Sealer {
        if let Some(last) = &*self.last.load()
            && last.0 == *id
        {
            return last.1.clone();
        }
        let sealer = self.shared.of_installation(id);
        self.last.store(Some(Arc::new((Arc::clone(id), sealer.clone()))));
        sealer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TunnelId;

    fn known(ids: &[&str], is_known_to_all: bool, may_be_unknown: bool) -> Installation {
        Installation::Known { ids: ids.iter().map(|id| (*id).into()).collect(), is_known_to_all, may_be_unknown }
    }

    fn opens(text: &str, installation: &Installation) -> Result<(), Sealed> {
        Sealing::new(Sealer::new(b"secret")).open(text, installation).map(drop)
    }

    #[test]
    fn who_opens_what() {
        let sealing = Sealing::new(Sealer::new(b"secret"));
        let ticket = Ticket {
            tunnel: TunnelId::from_bytes([7; 16]),
            tenant: "t".into(),
            receive_url: "http://h/".into(),
            key_fingerprint: 1,
            expires_unix_ms: 1,
            native: None,
            connector: None,
        };
        let new = sealing.seal(&ticket, &known(&["1"], true, false));
        let old = sealing.seal(&ticket, &known(&["1"], false, true));
        assert!(Sealer::new(b"secret").open(&old).is_ok(), "a node of the last release opens it");

        for (text, installation, is_open) in [
            (&new, known(&["1"], true, false), Ok(())),
            (&new, known(&["1"], false, true), Ok(())),
            (&new, known(&["0", "1"], true, false), Ok(())),
            (&new, known(&["2"], true, true), Err(Sealed::Elsewhere)),
            (&new, Installation::Unknown, Err(Sealed::Perhaps)),
            (&new, Installation::Alone, Err(Sealed::Elsewhere)),
            (&old, known(&["1"], true, true), Ok(())),
            (&old, known(&["2"], true, false), Err(Sealed::Elsewhere)),
            (&old, Installation::Unknown, Ok(())),
            (&old, Installation::Alone, Ok(())),
        ] {
            assert_eq!(opens(text, &installation), is_open, "{installation:?}");
        }
    }
}

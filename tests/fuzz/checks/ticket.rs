//! Connect URLs: sealed ones open again, and nothing else does.

use wafergate::id::TunnelId;
use wafergate::protocol::ticket::Sealer;
use wafergate::protocol::ticket::Ticket;

/// Panics where a promise does not hold.
pub(crate) fn check(input: (&str, [u8; 16], u64, usize)) {
    let (text, id, number, position) = input;
    let sealer = Sealer::new(b"fuzzed");
    assert!(sealer.open(text).is_err(), "a ticket out of nothing");

    let cut = text.char_indices().map(|(at, _)| at).nth(position % 40).unwrap_or(text.len());
    let ticket = Ticket {
        tunnel: TunnelId::from_bytes(id),
        tenant: text[..cut].to_owned(),
        receive_url: text[cut..].to_owned(),
        key_fingerprint: number as u32,
        expires_unix_ms: number,
        native: None,
        connector: None,
    };
    if ticket.tenant.len() > usize::from(u16::MAX) {
        return;
    }
    let sealed = sealer.seal(&ticket);
    let opened = sealer.open(&sealed).expect("it was sealed here");
    assert_eq!(
        (opened.tunnel, &opened.tenant, &opened.receive_url),
        (ticket.tunnel, &ticket.tenant, &ticket.receive_url)
    );
    assert_eq!((opened.key_fingerprint, opened.expires_unix_ms), (ticket.key_fingerprint, ticket.expires_unix_ms));
    assert!(opened.native.is_none());

    let mut changed = sealed.into_bytes();
    let at = position % changed.len();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("ASCII");
    assert!(sealer.open(&changed).is_err(), "changed at {at}");
}

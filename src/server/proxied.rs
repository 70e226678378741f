//! Parses PROXY protocol headers, versions 1 and 2. Pure; bytes may arrive one at a time.
//!
//! The library decodes addresses; the end of a header and headers without addresses are handled here.

use std::net::SocketAddr;

use crc::CRC_32_ISCSI;
use crc::Crc;
use proxy_header::ParseConfig;
use proxy_header::ProxiedAddress;
use proxy_header::ProxyHeader;

/// Start of a version 1 header.
const V1: &[u8] = b"PROXY ";

/// Start of a version 2 header.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Longest version 1 header, including the line break.
const V1_BYTES: usize = 107;

/// Fixed part of a version 2 header: signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;

/// Longest version 2 header accepted: addresses and optional fields such as names and certificates.
const V2_BYTES: usize = V2_FIXED_BYTES + 4 * 1024;

/// Command of version 2: the proxy itself connects, for a health check.
const LOCAL: u8 = 0x20;

/// Command of version 2: the proxy connects for a client.
const PROXY: u8 = 0x21;

/// Length of the addresses in version 2, by the upper half of the family byte.
const V2_ADDRESS_BYTES: [(u8, usize); 3] = [(0x10, 12), (0x20, 36), (0x30, 216)];

/// Bytes before the value of an optional field in version 2: its type and length.
const FIELD_HEAD_BYTES: usize = 3;

/// Type of the field with a checksum over the whole header.
const CHECKSUM: u8 = 0x03;

/// The checksum of version 2.
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Beginning {
    /// Too few bytes: it may still become a header.
    Incomplete,
    /// A complete header.
    Header {
        /// Its length in bytes.
        length: usize,
        /// The source that the proxy connects for.
        source: Source,
    },
    /// It begins like a header but is invalid.
    Malformed,
    /// Something else.
    Other,
}

/// The source that a proxy connects for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// A client.
    Client {
        /// Its address.
        address: SocketAddr,
        /// Whether the client connected to the proxy over TLS, according to the proxy.
        is_tls: bool,
    },
    /// The proxy itself: a health check.
    Proxy,
    /// Unknown: the client has no IP address.
    Unknown,
}

impl Beginning {
    /// Reads the first bytes of a connection.
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(V1) {
            v1(bytes)
        } else if bytes.starts_with(V2) {
            v2(bytes)
        } else if V1.starts_with(bytes) || V2.starts_with(bytes) {
            Self::Incomplete
        } else {
            Self::Other
        }
    }

    /// Whether these bytes begin like a header. The HTTP parser skips leading line breaks.
    pub(super) fn is_like_a_header(bytes: &[u8]) -> bool {
        let (signature, rest) = (V2.trim_ascii_start(), bytes.trim_ascii_start());
        let compared = rest.len().min(signature.len());
        bytes.starts_with(V1) || compared > 0 && rest[..compared] == signature[..compared]
    }
}

fn v1(bytes: &[u8]) -> Beginning {
    let line = &bytes[..bytes.len().min(V1_BYTES)];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return if line.len() == V1_BYTES { Beginning::Malformed } else { Beginning::Incomplete };
    };
    let line = &line[..=end];
    if !line.ends_with(b"\r\n") {
        return Beginning::Malformed;
    }
    // Anything may follow this word.
    if line[V1.len()..].starts_with(b"UNKNOWN") {
        return Beginning::Header { length: line.len(), source: Source::Unknown };
    }
    decoded(line)
}

fn v2(bytes: &[u8]) -> Beginning {
    let Some(fixed) = bytes.first_chunk::<V2_FIXED_BYTES>() else {
        return Beginning::Incomplete;
    };
    let [.., command, _family, high, low] = *fixed;
    let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, LOCAL | PROXY) || length > V2_BYTES {
        return Beginning::Malformed;
    }
    let Some(header) = bytes.get(..length) else {
        return Beginning::Incomplete;
    };
    // Addresses of a LOCAL header are ignored.
    if command == LOCAL {
        return Beginning::Header { length, source: Source::Proxy };
    }
    if checksum(header).is_some_and(|is_right| !is_right) {
        return Beginning::Malformed;
    }
    decoded(header)
}

/// Whether the checksum of a version 2 header is right; `None` if it has none. A truncated field is ignored.
fn checksum(header: &[u8]) -> Option<bool> {
    let family = header[V2_FIXED_BYTES - 3] & 0xf0;
    let address_bytes = V2_ADDRESS_BYTES.iter().find(|(of, _)| *of == family).map_or(0, |(_, bytes)| *bytes);
    let mut at = V2_FIXED_BYTES + address_bytes;
    loop {
        let [kind, high, low] = *header.get(at..)?.first_chunk::<FIELD_HEAD_BYTES>()?;
        let value = at + FIELD_HEAD_BYTES..at + FIELD_HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]));
        let written = header.get(value.clone())?;
        if kind == CHECKSUM {
            let mut digest = CRC32C.digest();
            [&header[..value.start], &vec![0; value.len()], &header[value.end..]]
                .iter()
                .for_each(|part| digest.update(part));
            return Some(written == digest.finalize().to_be_bytes());
        }
        at = value.end;
    }
}

/// Decodes a complete header.
fn decoded(header: &[u8]) -> Beginning {
    let config = ParseConfig { include_tlvs: true, ..ParseConfig::default() };
    match ProxyHeader::parse(header, config) {
        Ok((decoded, length)) if length == header.len() => {
            let is_tls = decoded.ssl().is_some_and(|ssl| ssl.client_ssl());
            let client = |address: &ProxiedAddress| Source::Client { address: address.source, is_tls };
            Beginning::Header { length, source: decoded.proxied_address().map_or(Source::Unknown, client) }
        }
        _ => Beginning::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n";

    fn v2_header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("not that long").to_be_bytes();
        [V2, &[command, family], &length, payload].concat()
    }

    fn client(address: &str) -> Source {
        Source::Client { address: address.parse().expect("an address"), is_tls: false }
    }

    /// Reads a header followed by a request, whole and byte by byte.
    fn source(header: &[u8]) -> Source {
        for length in 0..header.len() {
            assert_eq!(Beginning::of(&header[..length]), Beginning::Incomplete, "{length} of {header:?}");
        }
        let whole = Beginning::of(header);
        assert_eq!(Beginning::of(&[header, REQUEST].concat()), whole, "what follows is not of it");
        let Beginning::Header { length, source } = whole else { panic!("{header:?} is {whole:?}") };
        assert_eq!(length, header.len());
        source
    }

    #[test]
    fn version_1_names_the_client() {
        assert_eq!(source(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n"), client("203.0.113.9:4711"));
        assert_eq!(source(b"PROXY TCP6 2001:db8::5 2001:db8::1 4711 443\r\n"), client("[2001:db8::5]:4711"));
        let longest = format!("PROXY TCP6 {0} {0} 65535 65535\r\n", "ffff:".repeat(7) + "ffff");
        assert!(matches!(source(longest.as_bytes()), Source::Client { .. }));
    }

    #[test]
    fn version_1_may_not_know_the_client() {
        assert_eq!(source(b"PROXY UNKNOWN\r\n"), Source::Unknown);
        let longest = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", "ffff:".repeat(7) + "ffff");
        assert_eq!(longest.len(), V1_BYTES);
        assert_eq!(source(longest.as_bytes()), Source::Unknown);
    }

    #[test]
    fn version_2_names_the_client() {
        let v4 = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 1, 187];
        let v6 = [&[0x20, 1, 0xd, 0xb8], &[0; 11][..], &[5], &[0; 16], &[0x12, 0x67, 1, 187]].concat();
        let fields = [4, 0, 3, 0, 0, 0, 0xee, 0, 2, 1, 1];

        assert_eq!(source(&v2_header(PROXY, 0x11, &v4)), client("203.0.113.9:4711"));
        assert_eq!(source(&v2_header(PROXY, 0x21, &v6)), client("[2001:db8::5]:4711"));
        assert_eq!(source(&v2_header(PROXY, 0x11, &[&v4[..], &fields].concat())), client("203.0.113.9:4711"));
        assert_eq!(source(&v2_header(PROXY, 0x11, &[&v4[..], &[1; 4_000]].concat())), client("203.0.113.9:4711"));
    }

    #[test]
    fn version_2_tells_of_tls_that_the_proxy_ends() {
        let addresses = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 1, 187];
        for (flags, expected) in [(1, true), (0, false)] {
            let ssl = [0x20, 0, 15, flags, 0, 0, 0, 0, 0x21, 0, 7, b'T', b'L', b'S', b'v', b'1', b'.', b'3'];

            let source = source(&v2_header(PROXY, 0x11, &[&addresses[..], &ssl].concat()));

            assert!(matches!(source, Source::Client { is_tls, .. } if is_tls == expected), "{source:?}");
        }
    }

    /// A header with these fields, the last of which is its checksum, computed with `seed` in place of zeros.
    fn checked(family: u8, addresses: &[u8], fields: &[u8]) -> Vec<u8> {
        let blank = [&[CHECKSUM, 0, 4][..], &[0; 4]].concat();
        let mut header = v2_header(PROXY, family, &[addresses, fields, &blank].concat());
        let sum = Crc::<u32>::new(&CRC_32_ISCSI).checksum(&header).to_be_bytes();
        let at = header.len() - sum.len();
        header[at..].copy_from_slice(&sum);
        header
    }

    #[test]
    fn a_checksum_of_version_2_has_to_be_right_when_it_is_there() {
        let v4 = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 1, 187];
        let v6 = [&[0x20, 1, 0xd, 0xb8], &[0; 11][..], &[5], &[0; 16], &[0x12, 0x67, 1, 187]].concat();
        for (family, addresses, fields, expected) in [
            (0x11, &v4[..], &[][..], client("203.0.113.9:4711")),
            (0x11, &v4, &[4, 0, 2, 7, 7, 2, 0, 0], client("203.0.113.9:4711")),
            (0x21, &v6, &[], client("[2001:db8::5]:4711")),
            (0x31, &[b'/'; 216], &[], Source::Unknown),
            (0x00, &[], &[], Source::Unknown),
        ] {
            let right = checked(family, addresses, fields);
            assert_eq!(source(&right), expected, "{family:#x}");

            let sum = right.len() - size_of::<u32>()..right.len();
            for at in (V2_FIXED_BYTES..V2_FIXED_BYTES + addresses.len()).chain(sum) {
                let mut wrong = right.clone();
                wrong[at] ^= 0x40;
                assert_eq!(Beginning::of(&wrong), Beginning::Malformed, "byte {at} of {family:#x}");
            }
        }
        let short = v2_header(PROXY, 0x11, &[&v4[..], &[CHECKSUM, 0, 3, 0, 0, 0]].concat());
        assert_eq!(Beginning::of(&short), Beginning::Malformed);
    }

    #[test]
    fn version_2_may_not_know_the_client() {
        assert_eq!(source(&v2_header(PROXY, 0x00, &[])), Source::Unknown);
        assert_eq!(source(&v2_header(PROXY, 0x00, &[1, 2, 3])), Source::Unknown);
        assert_eq!(source(&v2_header(PROXY, 0x31, &[b'/'; 216])), Source::Unknown, "a Unix socket");
    }

    #[test]
    fn a_health_check_is_the_proxys_own_whatever_addresses_it_names() {
        for (family, payload) in [(0x00, &[][..]), (0x11, &[]), (0x11, &[1; 12]), (0x21, &[3, 0, 4, 1, 2, 3, 4])] {
            assert_eq!(source(&v2_header(LOCAL, family, payload)), Source::Proxy, "{family} {payload:?}");
        }
    }

    #[test]
    fn what_only_begins_like_a_header_is_none() {
        for line in [
            &b"PROXY \r\n"[..],
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n",
            b"PROXY TCP4 203.0.113.999 192.0.2.1 4711 443\r\n",
            b"PROXY TCP4 2001:db8::5 2001:db8::1 4711 443\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 65536\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443 1\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\n",
            b"PROXY TCP9 203.0.113.9 192.0.2.1 4711 443\r\n",
            b"PROXY UNKNOWN\n",
            b"PROXY UNKNOWN\n\r\n",
            &[b"PROXY ", &[b'x'; 200][..]].concat(),
            &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
            &[b"PROXY UNKNOWN ", &[b'x'; 100][..], b"\r\n"].concat(),
            &v2_header(0x11, 0x11, &[0; 12]),
            &v2_header(0x22, 0x11, &[0; 12]),
            &v2_header(PROXY, 0x11, &[]),
            &v2_header(PROXY, 0x11, &[0; 11]),
            &v2_header(PROXY, 0x21, &[0; 35]),
            &v2_header(PROXY, 0x31, &[0; 215]),
            &v2_header(PROXY, 0x51, &[0; 12]),
            &v2_header(PROXY, 0x11, &[0; 5_000])[..20],
        ] {
            assert_eq!(Beginning::of(line), Beginning::Malformed, "{:?}", String::from_utf8_lossy(line));
        }
    }

    proptest! {
        /// Nothing panics, and more bytes never change a result once it is decided.
        #[test]
        fn what_is_decided_stays_so(
            begin in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 ", b"PROXY UNKNOWN", V2, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"]),
            rest in prop::collection::vec(any::<u8>(), 0..150),
        ) {
            let bytes = [begin, &rest].concat();
            let mut decided = Beginning::Incomplete;
            for length in 0..=bytes.len() {
                let beginning = Beginning::of(&bytes[..length]);
                prop_assert!(decided == Beginning::Incomplete || beginning == decided, "{:?}", &bytes[..length]);
                if let Beginning::Header { length: own, .. } = beginning {
                    prop_assert!(own <= length);
                }
                decided = beginning;
            }
        }
    }

    #[test]
    fn what_does_not_begin_like_one_is_something_else_at_once() {
        for bytes in [&b"G"[..], b"P0", b"POST /", b"PROXY\r\n", b"proxy TCP4", b"\x16\x03\x01", b"\r\n\r\n\r\n", b"\0"]
        {
            assert_eq!(Beginning::of(bytes), Beginning::Other, "{bytes:?}");
        }
        assert_eq!(Beginning::of(b""), Beginning::Incomplete);
        assert_eq!(Beginning::of(b"P"), Beginning::Incomplete, "or a POST");
    }
}

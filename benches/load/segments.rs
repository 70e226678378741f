//! Counts the data segments that a TCP connection has received, through socket diagnosis (`man 7 sock_diag`). It equals the
//! peer's writes if these are sent at once. Writes that wait for the congestion window leave together: of 16 at a time all are
//! counted, of 64 about 45.

use std::io::Read;
use std::net::SocketAddr;

use anyhow::Context;
use anyhow::bail;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;

/// `AF_NETLINK`, `NETLINK_SOCK_DIAG`, `SOCK_DIAG_BY_FAMILY`, `NLM_F_REQUEST`.
const NETLINK: i32 = 16;
const SOCK_DIAG: i32 = 4;
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;

/// `AF_INET`, `IPPROTO_TCP`, `INET_DIAG_INFO`.
const INET: u8 = 2;
const TCP: u8 = 6;
const INFO: u8 = 2;

/// Length of `nlmsghdr` and `inet_diag_msg`, which precede the attributes.
const HEADER_BYTES: usize = 16;
const ANSWER_BYTES: usize = 72;
/// Offset of `tcpi_data_segs_in` in `tcp_info`.
const DATA_SEGMENTS_IN: usize = 152;

/// Number of data segments that the local socket at `local` has received from `peer`. Both are IPv4.
pub(crate) fn received(local: SocketAddr, peer: SocketAddr) -> anyhow::Result<u32> {
    let mut socket = Socket::new(Domain::from(NETLINK), Type::DGRAM, Some(Protocol::from(SOCK_DIAG)))?;
    socket.send(&request(local, peer)?)?;
    let mut answer = [0; 4_096];
    let bytes = socket.read(&mut answer)?;
    segments(&answer[..bytes]).context("the system does not tell of this socket")
}

fn request(local: SocketAddr, peer: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let (SocketAddr::V4(local), SocketAddr::V4(peer)) = (local, peer) else { bail!("not an IPv4 connection") };
    let mut request = vec![INET, TCP, 1 << (INFO - 1), 0];
    // In any state.
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(peer.port().to_be_bytes());
    for address in [local, peer] {
        request.extend(address.ip().octets());
        request.extend([0; 12]);
    }
    // On any device, with any cookie.
    request.extend([0; 4]);
    request.extend([0xff; 8]);
    let length = u32::try_from(HEADER_BYTES + request.len())?;
    let mut whole = length.to_ne_bytes().to_vec();
    whole.extend(BY_FAMILY.to_ne_bytes());
    whole.extend(REQUEST.to_ne_bytes());
    whole.extend([0; 8]);
    whole.extend(request);
    Ok(whole)
}

/// Reads the count from the answer's `tcp_info`.
fn segments(answer: &[u8]) -> Option<u32> {
    if u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?) != BY_FAMILY {
        return None;
    }
    let mut rest = answer.get(HEADER_BYTES + ANSWER_BYTES..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        if kind == u16::from(INFO) {
            return Some(u32::from_ne_bytes(*rest.get(4..length)?.get(DATA_SEGMENTS_IN..)?.first_chunk()?));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

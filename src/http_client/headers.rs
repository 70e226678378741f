//! Request headers set by the caller.

use hyper::header::CONNECTION;
use hyper::header::CONTENT_LENGTH;
use hyper::header::HOST;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::header::TRANSFER_ENCODING;

/// A request header.
pub type Header = (HeaderName, HeaderValue);

/// Headers for routing and framing, which only this client sets.
const FRAMING: [HeaderName; 4] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION];

/// The headers of the caller without routing and framing.
pub(crate) fn sendable(headers: &[Header]) -> impl Iterator<Item = &Header> {
    headers.iter().filter(|(name, _)| !FRAMING.contains(name))
}

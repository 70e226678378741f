//! The lines of a request's head that the caller gives.

use hyper::header::CONNECTION;
use hyper::header::CONTENT_LENGTH;
use hyper::header::HOST;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::header::TRANSFER_ENCODING;

/// A line of a request's head.
pub type Header = (HeaderName, HeaderValue);

/// Lines that say where a request goes and where it ends. They are ours alone, whoever asks for others.
const FRAMING: [HeaderName; 4] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION];

/// Those of `headers` that go out as they are.
pub(crate) fn sendable(headers: &[Header]) -> impl Iterator<Item = &Header> {
    headers.iter().filter(|(name, _)| !FRAMING.contains(name))
}

//! Reads request bodies, bounded in size and time.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;
use tokio::time::timeout;

use crate::fair_semaphore::FairSemaphore;
use crate::gateway::LONG_BYTES;
use crate::gateway::shared_turns;
use crate::server::Source;
use crate::share::Pot;
use crate::share::Share;

/// Time limit for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Memory limit for all bodies being read or processed; one client gets at most half of what is left.
const BUDGET_BYTES: u64 = 256 * 1024 * 1024;
/// How much of an oversized body is read and discarded, so that its sender reads the response.
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
/// Time limit for that.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum BodyError {
    /// It is too long.
    #[error("the body is over {limit_bytes} bytes: send less at a time")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// It has a content encoding such as gzip.
    #[error("the body has a Content-Encoding, and none is read here: send it as it is, without gzip or the like")]
    Encoded,
    /// Too many bodies are being read.
    #[error("too many long bodies at a time from this address, or from all: try again")]
    Busy,
    /// It did not arrive in time.
    #[error("the body did not come within {} s", BODY_TIMEOUT.as_secs())]
    TooSlow,
    /// The connection ended in the middle of it.
    #[error("the body broke off")]
    Broken,
}

/// Bounds what request bodies take before authentication: memory, and the time to read them.
pub(super) struct Budget {
    bytes: Pot<Source>,
    turns: FairSemaphore<Source>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of_bytes(BUDGET_BYTES)
    }
}

impl Budget {
    fn of_bytes(bytes: u64) -> Self {
        Self { bytes: Pot::of(bytes), turns: shared_turns() }
    }

    /// What a request from `client` may take.
    pub(super) fn of(&self, client: IpAddr) -> Room {
        let source = client.into();
        Room { share: self.bytes.share(source), source, turns: self.turns.clone() }
    }
}

/// What one request takes from the [`Budget`].
#[derive(Debug)]
pub(super) struct Room {
    share: Share<Source>,
    source: Source,
    turns: FairSemaphore<Source>,
}

/// A body, which counts against the budget until it is dropped.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    room: Room,
}

/// An answer that counts against the budget until its client has taken it.
struct Held {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Body {
    /// Reads all of it; a long one on a blocking thread, in the turn of its address.
    pub(super) async fn read<T: Send + 'static>(&self, read: impl FnOnce(&[u8]) -> T + Send + 'static) -> T {
        if self.bytes.len() < LONG_BYTES {
            return read(&self.bytes);
        }
        let bytes = self.bytes.clone();
        self.room.turns.run_long(self.room.source, move || read(&bytes)).await
    }

    /// The answer, which keeps the room of the body: it is no longer than what the request has named, or a page.
    pub(super) fn answer(self, answer: impl Into<Bytes>) -> Bytes {
        let mut room = self.room;
        let bytes = answer.into();
        // What it may need beyond the body's room is little.
        let _ = room.share.grow_to(bytes.len() as u64);
        Bytes::from_owner(Held { bytes, _room: room })
    }
}

/// Reads a body of at most `limit_bytes`, that came with these headers.
pub(super) async fn read<B>(room: Room, headers: &HeaderMap, mut body: B, limit_bytes: usize) -> Result<Body, BodyError>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let is_too_large = body.size_hint().lower() > limit_bytes as u64;
    let result = if is_encoded(headers) {
        Err(BodyError::Encoded)
    } else if is_too_large {
        Err(BodyError::TooLarge { limit_bytes })
    } else {
        timeout(BODY_TIMEOUT, collect(room, &mut body, limit_bytes)).await.unwrap_or(Err(BodyError::TooSlow))
    };
    if matches!(result, Err(BodyError::TooLarge { .. } | BodyError::Encoded)) {
        // The amount read does not matter.
        let _ = timeout(DRAIN_TIMEOUT, drain(&mut body)).await;
    }
    result
}

/// Whether the body has a content encoding.
fn is_encoded(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(CONTENT_ENCODING).iter();
    encodings.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).any(|encoding| {
        let encoding = encoding.trim_ascii();
        !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity")
    })
}

async fn collect<B>(mut room: Room, body: &mut B, limit_bytes: usize) -> Result<Body, BodyError>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let total = first.len() + whole.len() + data.len();
        if total > limit_bytes {
            return Err(BodyError::TooLarge { limit_bytes });
        }
        if !room.share.grow_to(total as u64) {
            return Err(BodyError::Busy);
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    let bytes = if whole.is_empty() { first } else { whole.freeze() };
    Ok(Body { bytes, room })
}

async fn drain<B: hyper::body::Body<Data = Bytes> + Unpin>(body: &mut B) {
    let mut drained = 0;
    while let Some(Ok(frame)) = body.frame().await {
        drained += frame.data_ref().map_or(0, Buf::remaining);
        if drained > DRAIN_BYTES {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;

    use futures_util::StreamExt;
    use futures_util::stream;
    use http_body_util::Full;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::time::Instant;

    use super::*;

    const LIMIT: usize = 1024 * 1024;
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn piece(bytes: usize) -> io::Result<Frame<Bytes>> {
        Ok(Frame::data(vec![b'x'; bytes].into()))
    }

    fn whole(bytes: usize) -> Full<Bytes> {
        Full::new(vec![b'x'; bytes].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_given_up_in_time() {
        let budget = Budget::default();
        let start = Instant::now();

        let result = read(
            budget.of(HERE),
            &HeaderMap::new(),
            StreamBody::new(stream::iter([piece(10)]).chain(stream::pending())),
            LIMIT,
        )
        .await;

        assert_eq!(result.map(|_| ()), Err(BodyError::TooSlow));
        assert_eq!(start.elapsed(), BODY_TIMEOUT);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let budget = Budget::default();
        let pieces = [piece(10), Err(io::ErrorKind::ConnectionReset.into())];

        let result = read(budget.of(HERE), &HeaderMap::new(), StreamBody::new(stream::iter(pieces)), LIMIT).await;

        assert_eq!(result.map(|_| ()), Err(BodyError::Broken));
    }

    #[tokio::test]
    async fn no_client_takes_what_others_need() {
        let budget = Budget::of_bytes(100 * 1024);
        let other = "2001:db8::1".parse().expect("an address");
        let take =
            async |client, kib: usize| read(budget.of(client), &HeaderMap::new(), whole(kib * 1024), LIMIT).await;

        let held = [take(HERE, 40).await.expect("40 of 100 KiB"), take(HERE, 10).await.expect("half of it")];
        assert_eq!(take(HERE, 1).await.map(|_| ()).expect_err("half"), BodyError::Busy, "short ones count as well");
        let others = take(other, 25).await.expect("half of what is left");
        let neighbour = "2001:db8::2".parse().expect("an address");
        assert_eq!(take(neighbour, 1).await.map(|_| ()), Err(BodyError::Busy), "a client has a network of IPv6");
        assert!(take("2001:db8:0:1::1".parse().expect("an address"), 12).await.is_ok());

        drop((held, others));
        assert!(take(HERE, 50).await.is_ok(), "all of it is given back");
    }

    #[tokio::test]
    async fn an_answer_takes_the_room_of_its_request_until_its_client_has_taken_it() {
        let budget = Budget::of_bytes(100 * 1024);
        let take = async |kib: usize| read(budget.of(HERE), &HeaderMap::new(), whole(kib * 1024), LIMIT).await;
        let long = take(40).await.expect("there is room");

        let answer = long.answer(vec![b'x'; 42 * 1024]);

        assert_eq!(take(10).await.map(|_| ()), Err(BodyError::Busy), "nobody has read it");
        assert_eq!(answer.len(), 42 * 1024);
        drop(answer);
        assert!(take(50).await.is_ok(), "all of it is given back");
    }

    #[tokio::test]
    async fn what_a_stranger_sends_is_read_beside_the_tasks_that_serve_all_if_it_is_long() {
        let budget = Budget::default();
        let serving = std::thread::current().id();
        for (bytes, is_beside) in [(LONG_BYTES - 1, false), (LONG_BYTES, true)] {
            let body = read(budget.of(HERE), &HeaderMap::new(), whole(bytes), LIMIT).await.expect("a body");

            let (length, reader) = body.read(|bytes| (bytes.len(), std::thread::current().id())).await;

            assert_eq!((length, reader != serving), (bytes, is_beside));
        }
        assert!(budget.turns.is_idle());
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_refused_whatever_it_says_of_its_length() {
        let budget = Budget::default();
        let pieces = stream::iter([piece(LIMIT), piece(1)]);

        let told = read(budget.of(HERE), &HeaderMap::new(), whole(LIMIT + 1), LIMIT).await;
        let untold = read(budget.of(HERE), &HeaderMap::new(), StreamBody::new(pieces), LIMIT).await;

        for result in [told, untold] {
            assert_eq!(result.map(|_| ()), Err(BodyError::TooLarge { limit_bytes: LIMIT }));
        }
        assert_eq!(
            read(budget.of(HERE), &HeaderMap::new(), whole(LIMIT), LIMIT).await.map(|body| body.bytes.len()),
            Ok(LIMIT)
        );
    }

    #[tokio::test]
    async fn an_encoded_body_is_refused_and_one_that_says_identity_is_not() {
        let budget = Budget::default();
        for (encodings, is_refused) in [
            (&["gzip"][..], true),
            (&["identity, br"], true),
            (&["", "x"], true),
            (&["Identity"], false),
            (&["", "identity"], false),
        ] {
            let mut headers = HeaderMap::new();
            for encoding in encodings {
                headers.append(CONTENT_ENCODING, encoding.parse().expect("a value"));
            }

            let result = read(budget.of(HERE), &headers, whole(10), LIMIT).await.map(|_| ());

            assert_eq!(result, if is_refused { Err(BodyError::Encoded) } else { Ok(()) }, "{encodings:?}");
        }
    }
}

//! Reads request bodies, bounded in size and time.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;
use tokio::time::timeout;

use crate::fair_semaphore::FairPermit;
use crate::fair_semaphore::FairSemaphore;
use crate::fair_semaphore::LONG_BYTES;
use crate::server::Source;
use crate::share::Pot;
use crate::share::Share;

/// Time limit for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Memory limit for all requests being read or answered; one client gets at most half of what is left.
const BUDGET_BYTES: u64 = 256 * 1024 * 1024;
/// Counted for each request beside its body: its head, the buffers of its connection, and a short answer or a page.
const REQUEST_BYTES: u64 = 40 * 1024;
/// Memory limit for what long bodies are parsed into. Who finds no room waits for its turn.
const PARSED_BYTES: u64 = 128 * 1024 * 1024;
/// How much longer than its body a request may be when it is parsed: a list of the shortest ids is the worst.
const EXPANSION: u64 = 8;
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
    parsed: FairSemaphore<Source>,
    turns: FairSemaphore<Source>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of_bytes(BUDGET_BYTES)
    }
}

impl Budget {
    fn of_bytes(bytes: u64) -> Self {
        let (bytes, parsed) = (Pot::of(bytes), FairSemaphore::of(PARSED_BYTES));
        Self { bytes, parsed, turns: FairSemaphore::of_processors() }
    }

    /// What a request from `client` may take.
    pub(super) fn of(&self, client: IpAddr) -> Room {
        let source = client.into();
        let (share, parsed, turns) = (self.bytes.share(source), self.parsed.clone(), self.turns.clone());
        Room { share, source, parsed, turns }
    }
}

/// What one request takes from the [`Budget`].
#[derive(Debug)]
pub(super) struct Room {
    share: Share<Source>,
    source: Source,
    parsed: FairSemaphore<Source>,
    turns: FairSemaphore<Source>,
}

impl Room {
    /// Counts so many bytes of a body.
    fn grow_to(&mut self, body_bytes: usize) -> Result<(), BodyError> {
        if self.share.grow_to(REQUEST_BYTES + body_bytes as u64) { Ok(()) } else { Err(BodyError::Busy) }
    }
}

/// A body, which counts against the budget until it is dropped.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    room: Room,
    /// The room for what it is parsed into, if it is long.
    _parsed: Option<FairPermit<Source>>,
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
    /// The address that it came from.
    pub(super) fn source(&self) -> Source {
        self.room.source
    }

    /// Reads all of it; a long one on a blocking thread, in the turn of its address.
    pub(super) async fn read<T: Send + 'static>(&self, read: impl FnOnce(&[u8]) -> T + Send + 'static) -> T {
        if self.bytes.len() < LONG_BYTES {
            return read(&self.bytes);
        }
        let bytes = self.bytes.clone();
        self.room.turns.run_long(self.room.source, move || read(&bytes)).await
    }

    /// The answer, which keeps the room of the request: it is no longer than what that has named, or a page.
    pub(super) fn answer(self, answer: impl Into<Bytes>) -> Bytes {
        let mut room = self.room;
        let bytes = answer.into();
        if bytes.is_empty() {
            return bytes;
        }
        // What it may need beyond the request's room is little.
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
    with_room_to_parse(result?).await
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
    room.grow_to(0)?;
    let expected = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let mut bytes = Bytes::new();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let total = whole.len() + data.len();
        if total > limit_bytes {
            return Err(BodyError::TooLarge { limit_bytes });
        }
        if expected == Some(data.len()) {
            room.grow_to(total)?;
            bytes = data;
            continue;
        }
        if total > whole.capacity() {
            let capacity = (2 * whole.capacity()).min(expected.unwrap_or(limit_bytes)).max(total);
            room.grow_to(capacity)?;
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(&data);
    }
    let bytes = if whole.is_empty() { bytes } else { whole.into() };
    Ok(Body { bytes, room, _parsed: None })
}

/// Waits for the room for what a long body is parsed into.
async fn with_room_to_parse(body: Body) -> Result<Body, BodyError> {
    if body.bytes.len() < LONG_BYTES {
        return Ok(body);
    }
    let parsed = body.room.parsed.acquire(body.room.source, EXPANSION * body.bytes.len() as u64);
    let parsed = timeout(BODY_TIMEOUT, parsed).await.map_err(|_| BodyError::Busy)?;
    Ok(Body { _parsed: Some(parsed), ..body })
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

    const LIMIT: usize = 8 * 1024 * 1024;
    /// A request with an empty body, or a part of one with a long body.
    const UNIT: usize = REQUEST_BYTES as usize;
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn piece(bytes: usize) -> io::Result<Frame<Bytes>> {
        Ok(Frame::data(vec![b'x'; bytes].into()))
    }

    fn whole(bytes: usize) -> Full<Bytes> {
        Full::new(vec![b'x'; bytes].into())
    }

    /// The length of the body of a request that counts as so many units.
    fn bytes(units: usize) -> usize {
        (units - 1) * UNIT
    }

    #[tokio::test]
    async fn a_request_counts_with_all_that_it_takes_and_no_more_is_taken() {
        let taken = async |pieces: Vec<usize>| {
            let budget = Budget::default();
            let frames = StreamBody::new(stream::iter(pieces.iter().map(|bytes| piece(*bytes)).collect::<Vec<_>>()));
            let body = read(budget.of(HERE), &HeaderMap::new(), frames, LIMIT).await.expect("a body");
            assert_eq!(body.bytes.len(), pieces.iter().sum::<usize>());
            body.room.share.amount() - REQUEST_BYTES
        };

        assert_eq!(taken(vec![]).await, 0);
        assert_eq!(taken(vec![1]).await, 1);
        assert_eq!(taken(vec![10, 11]).await, 21);
        assert_eq!(taken(vec![10, 10, 10]).await, 40, "the buffer has grown to twice its size");
        assert_eq!(taken(vec![LIMIT / 2, 1, 1]).await, LIMIT as u64, "and never beyond the limit");
    }

    #[tokio::test(start_paused = true)]
    async fn long_bodies_wait_for_the_room_that_they_are_parsed_into() {
        let budget = Budget::default();
        let other = "192.0.2.1".parse().expect("an address");
        let take = async |client| read(budget.of(client), &HeaderMap::new(), whole(4 * 1024 * 1024), LIMIT).await;
        let parsed = [take(HERE).await.expect("the first"), take(HERE).await.expect("half of the room")];
        let start = Instant::now();

        assert_eq!(take(HERE).await.map(|_| ()), Err(BodyError::Busy));
        assert_eq!(start.elapsed(), BODY_TIMEOUT);
        assert!(take(other).await.is_ok(), "another has a share of its own");
        let answers = parsed.map(|body| body.answer("the memory is free when the answer is written"));
        assert!(take(HERE).await.is_ok());
        drop(answers);
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
        let budget = Budget::of_bytes(100 * UNIT as u64);
        let other = "2001:db8::1".parse().expect("an address");
        let take =
            async |client, units: usize| read(budget.of(client), &HeaderMap::new(), whole(bytes(units)), LIMIT).await;

        let held = [take(HERE, 40).await.expect("40 of 100"), take(HERE, 10).await.expect("half of it")];
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
        let budget = Budget::of_bytes(100 * UNIT as u64);
        let take = async |units: usize| read(budget.of(HERE), &HeaderMap::new(), whole(bytes(units)), LIMIT).await;
        let long = take(40).await.expect("there is room");

        let answer = long.answer(vec![b'x'; 42 * UNIT]);

        assert_eq!(take(10).await.map(|_| ()), Err(BodyError::Busy), "nobody has read it");
        assert_eq!(answer.len(), 42 * UNIT);
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

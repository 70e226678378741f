//! Reading request bodies: bounded in size and time.

use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

/// How long a body may take altogether.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// What all bodies together may take that are being read, beside the first bytes of each.
const BUDGET_KIB: usize = 256 * 1024;
/// How much of a body is free: ordinary requests never wait for others' long ones.
const FREE_BYTES: usize = 64 * 1024;
/// How much of an oversized body is read and thrown away, so that its sender gets to read the answer.
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no body.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum BodyError {
    /// It is too long.
    #[error("the body is over {limit_bytes} bytes: send less at a time")]
    TooLarge {
        /// How long it may be.
        limit_bytes: usize,
    },
    /// There are too many long ones at a time.
    #[error("too many long bodies at a time: try again")]
    Busy,
    /// It did not come in time.
    #[error("the body did not come within {} s", BODY_TIMEOUT.as_secs())]
    TooSlow,
    /// It broke off.
    #[error("the body broke off")]
    Broken,
}

/// Bounds the memory of all bodies that are being read.
pub(super) struct Budget(Semaphore);

impl Default for Budget {
    fn default() -> Self {
        Self(Semaphore::new(BUDGET_KIB))
    }
}

/// A body, which counts against the budget as long as it is there.
pub(super) struct Body<'a> {
    pub(super) bytes: Bytes,
    _share: SemaphorePermit<'a>,
}

/// Reads a body of at most `limit_bytes`.
pub(super) async fn read<B>(budget: &Budget, mut body: B, limit_bytes: usize) -> Result<Body<'_>, BodyError>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let is_too_large = body.size_hint().lower() > limit_bytes as u64;
    let result = if is_too_large {
        Err(BodyError::TooLarge { limit_bytes })
    } else {
        timeout(BODY_TIMEOUT, collect(budget, &mut body, limit_bytes)).await.unwrap_or(Err(BodyError::TooSlow))
    };
    if matches!(result, Err(BodyError::TooLarge { .. })) {
        // How much of it comes does not matter.
        let _ = timeout(DRAIN_TIMEOUT, drain(&mut body)).await;
    }
    result
}

async fn collect<'a, B>(budget: &'a Budget, body: &mut B, limit_bytes: usize) -> Result<Body<'a>, BodyError>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let mut share = budget.0.try_acquire_many(0).map_err(|_| BodyError::Busy)?;
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let total = first.len() + whole.len() + data.len();
        if total > limit_bytes {
            return Err(BodyError::TooLarge { limit_bytes });
        }
        let owed_kib = total.saturating_sub(FREE_BYTES).div_ceil(1_024) - share.num_permits();
        let owed_kib = u32::try_from(owed_kib).expect("bodies are shorter than 4 TiB");
        share.merge(budget.0.try_acquire_many(owed_kib).map_err(|_| BodyError::Busy)?);
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    let bytes = if whole.is_empty() { first } else { whole.freeze() };
    Ok(Body { bytes, _share: share })
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

    use futures_util::StreamExt;
    use futures_util::stream;
    use http_body_util::Full;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::time::Instant;

    use super::*;

    const LIMIT: usize = 1024 * 1024;

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

        let result = read(&budget, StreamBody::new(stream::iter([piece(10)]).chain(stream::pending())), LIMIT).await;

        assert_eq!(result.map(|_| ()), Err(BodyError::TooSlow));
        assert_eq!(start.elapsed(), BODY_TIMEOUT);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let budget = Budget::default();
        let pieces = [piece(10), Err(io::ErrorKind::ConnectionReset.into())];

        let result = read(&budget, StreamBody::new(stream::iter(pieces)), LIMIT).await;

        assert_eq!(result.map(|_| ()), Err(BodyError::Broken));
    }

    #[tokio::test]
    async fn long_bodies_share_a_budget_and_short_ones_need_none() {
        let budget = Budget(Semaphore::new(100));
        let length = async |bytes: usize| read(&budget, whole(bytes), LIMIT).await.map(|body| body.bytes.len());

        let held = read(&budget, whole(FREE_BYTES + 60 * 1024), LIMIT).await.expect("60 of 100 KiB");
        assert_eq!(length(FREE_BYTES + 40 * 1024).await, Ok(FREE_BYTES + 40 * 1024));
        assert_eq!(length(FREE_BYTES + 40 * 1024 + 1).await, Err(BodyError::Busy));
        assert_eq!(length(FREE_BYTES).await, Ok(FREE_BYTES));
        drop(held);
        assert_eq!(length(FREE_BYTES + 100 * 1024).await, Ok(FREE_BYTES + 100 * 1024));
        assert_eq!(length(FREE_BYTES + 100 * 1024 + 1).await, Err(BodyError::Busy), "nothing of it stays taken");
        assert_eq!(budget.0.available_permits(), 100);
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_refused_whatever_it_says_of_its_length() {
        let budget = Budget::default();
        let pieces = stream::iter([piece(LIMIT), piece(1)]);

        let told = read(&budget, whole(LIMIT + 1), LIMIT).await;
        let untold = read(&budget, StreamBody::new(pieces), LIMIT).await;

        for result in [told, untold] {
            assert_eq!(result.map(|_| ()), Err(BodyError::TooLarge { limit_bytes: LIMIT }));
        }
        assert_eq!(read(&budget, whole(LIMIT), LIMIT).await.map(|body| body.bytes.len()), Ok(LIMIT));
    }
}

//! The stream of one open page: a frame a second, made when the client can take it.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio::time::Interval;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// Most bytes of a frame.
pub(super) const MAX_FRAME_BYTES: usize = 4_096;
/// Between two frames.
const PACE: Duration = Duration::from_secs(1);

/// Makes the next frame; it gets the number of frames that were left out since the last one. `None` ends the stream.
type Make = Box<dyn FnMut(u64) -> Option<String> + Send>;

/// The frames, as server-sent events. While the client does not read, frames are left out and not queued.
pub(super) struct Live {
    make: Make,
    interval: Interval,
    last: Option<Instant>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl Live {
    /// A stream of what `make` makes, until `closing`.
    pub(super) fn new(
        make: impl FnMut(u64) -> Option<String> + Send + 'static,
        closing: WaitForCancellationFutureOwned,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let mut interval = interval(PACE);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self { make: Box::new(make), interval, last: None, closing: Box::pin(closing), _place: place }
    }
}

impl Stream for Live {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let live = &mut *self;
        if live.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let due = ready!(live.interval.poll_tick(cx));
        let passed = live.last.map_or(PACE, |last| due.saturating_duration_since(last));
        let skipped = passed.as_secs().saturating_sub(1);
        live.last = Some(due);
        let Some(frame) = (live.make)(skipped) else { return Poll::Ready(None) };
        Poll::Ready(Some(format!("data: {frame}\n\n").into()))
    }
}

/// `frame` as JSON of at most 4 KiB: `shorten` leaves something out, as often as it is asked to; false if nothing is left to leave out.
pub(super) fn fitted<T: Serialize>(mut frame: T, mut shorten: impl FnMut(&mut T) -> bool) -> String {
    loop {
        let text = serde_json::to_string(&frame).expect("text, numbers and lists always serialise");
        if text.len() <= MAX_FRAME_BYTES || !shorten(&mut frame) {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use tokio_util::sync::CancellationToken;

    use super::*;

    async fn next(live: &mut Live) -> Option<String> {
        let piece = poll_fn(|cx| Pin::new(&mut *live).poll_next(cx)).await?;
        Some(String::from_utf8(piece.to_vec()).expect("text"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_gets_no_queue() {
        let (closing, places) = (CancellationToken::new(), Arc::new(Semaphore::new(1)));
        let place = Arc::clone(&places).try_acquire_owned().expect("free");
        let mut live = Live::new(|skipped| Some(skipped.to_string()), closing.clone().cancelled_owned(), place);
        let start = Instant::now();

        assert_eq!(next(&mut live).await.as_deref(), Some("data: 0\n\n"));
        assert_eq!(next(&mut live).await.as_deref(), Some("data: 0\n\n"));
        assert_eq!(start.elapsed(), PACE);
        tokio::time::advance(10 * PACE).await;
        let late = [next(&mut live).await, next(&mut live).await].map(|frame| frame.expect("it goes on"));
        assert_eq!(late.concat().matches("data: 9").count(), 1, "{late:?}");

        closing.cancel();
        assert_eq!(next(&mut live).await, None);
        drop(live);
        assert_eq!(places.available_permits(), 1);
    }

    #[test]
    fn a_long_frame_is_shortened_until_it_fits() {
        let text = fitted(vec!["0123456789"; 1_000], |rows| rows.pop().is_some());

        assert!((MAX_FRAME_BYTES - 13..=MAX_FRAME_BYTES).contains(&text.len()), "{} bytes", text.len());
        assert_eq!(fitted("x".repeat(5_000), |_| false).len(), 5_002);
    }
}

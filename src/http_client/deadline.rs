//! Waiting until a deadline, in a process that may be stopped meanwhile.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::timeout;
use tokio::time::timeout_at;

/// A deadline that is noticed so much later has passed while the process was stopped, or had no time.
const LATE: Duration = Duration::from_millis(100);
/// How long it takes at most to see what has come meanwhile.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// What `work` results in; none if that takes longer than until `deadline`. It is pinned by the caller, since a future that is
/// passed by value takes its memory twice, and is copied.
///
/// After a stop timers run first: what came in time, and waits in the kernel, is not seen before that. So it is looked at once more, if
/// there `is_answer_due`: nothing else is begun then.
pub(super) async fn before<T>(
    deadline: Instant,
    is_answer_due: impl Fn() -> bool,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    if let Ok(done) = timeout_at(deadline, work.as_mut()).await {
        return Some(done);
    }
    if deadline.elapsed() < LATE || !is_answer_due() {
        return None;
    }
    timeout(LAST_LOOK, work).await.ok()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;
    use tokio::sync::oneshot;
    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_came_while_the_process_was_stopped_is_seen() {
        let (sender, answer) = oneshot::channel();
        let answer = pin!(answer);
        let mut waiting = pin!(before(Instant::now() + LIMIT, || true, answer));
        assert_eq!((&mut waiting).now_or_never(), None);

        advance(10 * LIMIT).await;
        assert_eq!((&mut waiting).now_or_never(), None, "timers run first");
        sender.send(()).expect("it is waited for");

        assert_eq!(waiting.await, Some(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_begun_behind_the_deadline() {
        let (sender, connected) = oneshot::channel();
        let mut waiting = pin!(async { before(Instant::now() + LIMIT, || false, pin!(connected)).await });
        assert_eq!((&mut waiting).now_or_never(), None);

        advance(10 * LIMIT).await;

        assert_eq!(waiting.await, None);
        sender.send(()).expect_err("it is not waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_not_waited_for() {
        for stopped in [Duration::ZERO, 10 * LIMIT] {
            let start = Instant::now();
            let pending = pin!(std::future::pending::<()>());
            let mut waiting = pin!(before(start + LIMIT, || true, pending));
            assert_eq!((&mut waiting).now_or_never(), None);
            advance(stopped).await;

            assert_eq!(waiting.await, None);

            assert!(start.elapsed() <= LIMIT.max(stopped + LAST_LOOK) + Duration::from_millis(1));
        }
    }
}

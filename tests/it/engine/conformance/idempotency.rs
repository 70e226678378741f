//! Calls with an `Idempotency-Key`, each run once.

use bytes::Bytes;
use wafergate::engine::BeginResult;
use wafergate::engine::IdempotencyStore;

use super::LIFE;
use super::name;
use super::random;

/// All checks of the port.
pub(super) async fn run(here: &dyn IdempotencyStore, there: &dyn IdempotencyStore) {
    a_repeated_call_gets_the_first_answer(here, there).await;
    an_abandoned_call_never_was(here, there).await;
    of_many_calls_at_once_one_is_the_first(here, there).await;
}

async fn a_repeated_call_gets_the_first_answer(here: &dyn IdempotencyStore, there: &dyn IdempotencyStore) {
    let (name, token, body, other) = (name(), random(), [1; 32], [2; 32]);
    let answer = Bytes::from_static(b"\0answer\xff");

    assert_eq!(here.begin(&name, token, body, LIFE, 0).await, Ok(BeginResult::First));
    assert_eq!(
        here.begin(&name, token, body, LIFE, 0).await,
        Ok(BeginResult::First),
        "the first answer may have been lost"
    );
    assert_eq!(there.begin(&name, random(), body, LIFE, 0).await, Ok(BeginResult::Running));
    assert_eq!(there.begin(&name, random(), other, LIFE, 0).await, Ok(BeginResult::Reused));
    there.finish(&name, random(), Bytes::from_static(b"a stranger's")).await.expect("passed over");
    there.abandon(&name, random()).await.expect("passed over");
    assert_eq!(here.begin(&name, random(), body, LIFE, 0).await, Ok(BeginResult::Running));

    here.finish(&name, token, answer.clone()).await.expect("kept");
    assert_eq!(there.begin(&name, random(), body, LIFE, 0).await, Ok(BeginResult::Done(answer.clone())));
    assert_eq!(here.begin(&name, random(), body, LIFE, 0).await, Ok(BeginResult::Done(answer)));
    assert_eq!(there.begin(&name, random(), other, LIFE, 0).await, Ok(BeginResult::Reused));
}

async fn an_abandoned_call_never_was(here: &dyn IdempotencyStore, there: &dyn IdempotencyStore) {
    let (name, token) = (name(), random());
    assert_eq!(here.begin(&name, token, [1; 32], LIFE, 0).await, Ok(BeginResult::First));
    here.abandon(&name, token).await.expect("done");

    assert_eq!(there.begin(&name, random(), [2; 32], LIFE, 0).await, Ok(BeginResult::First));
    assert_eq!(here.begin(&name, random(), [2; 32], LIFE, 0).await, Ok(BeginResult::Running));
}

async fn of_many_calls_at_once_one_is_the_first(here: &dyn IdempotencyStore, there: &dyn IdempotencyStore) {
    let name = name();
    let calls = (0..50).map(|turn| {
        let engine = if turn % 2 == 0 { here } else { there };
        engine.begin(&name, random(), [1; 32], LIFE, 0)
    });

    let begun = futures_util::future::join_all(calls).await;

    assert_eq!(begun.iter().filter(|begun| **begun == Ok(BeginResult::First)).count(), 1);
    assert_eq!(begun.iter().filter(|begun| **begun == Ok(BeginResult::Running)).count(), 49);
}

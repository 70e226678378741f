//! Which handshakes have places, and which keep them.

use futures_util::FutureExt;

use super::*;

const ONE: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

async fn enter(handshakes: &Arc<Handshakes>, from: &str) -> (Place, oneshot::Receiver<()>) {
    handshakes.enter(address(from), Instant::now()).await
}

/// Gives the place back as soon as requested and returns the time of that.
fn yielding((place, evicted): (Place, oneshot::Receiver<()>)) -> tokio::task::JoinHandle<Instant> {
    tokio::spawn(async move {
        evicted.await.expect("evicted");
        drop(place);
        Instant::now()
    })
}

#[tokio::test(start_paused = true)]
async fn a_far_client_keeps_its_place_while_others_wait() {
    let handshakes = Arc::new(Handshakes::new(1));
    let (far, mut evicted) = enter(&handshakes, ONE).await;
    far.awaits(Awaited::Answer, Instant::now());
    let mut waiting = pin!(enter(&handshakes, OTHER));

    assert!(tokio::time::timeout(SILENCE - Duration::from_millis(1), &mut waiting).await.is_err());
    assert!(evicted.try_recv().is_err(), "a round trip may take that long");
    drop(far);

    waiting.await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_silent_for_too_long_makes_room_when_others_wait() {
    let handshakes = Arc::new(Handshakes::new(2));
    let begin = Instant::now();
    let older = enter(&handshakes, ONE).await;
    older.0.awaits(Awaited::Answer, Instant::now());
    tokio::time::advance(Duration::from_secs(1)).await;
    let (newer, mut newer_evicted) = enter(&handshakes, ONE).await;
    newer.awaits(Awaited::Answer, Instant::now());
    let older = yielding(older);

    let _third = enter(&handshakes, OTHER).await;

    assert_eq!(older.await.expect("no panic") - begin, SILENCE);
    assert!(newer_evicted.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn half_a_flight_makes_room_soon_and_that_of_the_largest_source_first() {
    let handshakes = Arc::new(Handshakes::new(4));
    let (lone, mut lone_evicted) = enter(&handshakes, OTHER).await;
    lone.awaits(Awaited::Rest, Instant::now());
    let (first, mut first_evicted) = enter(&handshakes, ONE).await;
    first.awaits(Awaited::Rest, Instant::now());
    let newest = enter(&handshakes, ONE).await;
    newest.0.awaits(Awaited::Rest, Instant::now());
    let (_at_work, mut at_work_evicted) = enter(&handshakes, ONE).await;
    let begin = Instant::now();
    let newest = yielding(newest);

    let _fifth = enter(&handshakes, OTHER).await;

    assert_eq!(newest.await.expect("no panic") - begin, GAP, "the rest of it may have been lost once");
    for evicted in [&mut lone_evicted, &mut first_evicted, &mut at_work_evicted] {
        assert!(evicted.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_flight_that_comes_while_others_wait_makes_room_too() {
    let handshakes = Arc::new(Handshakes::new(1));
    let half = enter(&handshakes, ONE).await;
    let mut waiting = pin!(enter(&handshakes, OTHER));
    assert!(futures_util::poll!(&mut waiting).is_pending());

    half.0.awaits(Awaited::Rest, Instant::now());
    let half = yielding(half);

    waiting.await;
    half.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn places_are_given_in_the_order_of_arrival() {
    let handshakes = Arc::new(Handshakes::new(1));
    let first = enter(&handshakes, ONE).await;
    let order = Arc::new(Mutex::new(vec![]));
    let others = (0..10).map(|number| {
        let (handshakes, order) = (Arc::clone(&handshakes), Arc::clone(&order));
        tokio::spawn(async move {
            let _place = enter(&handshakes, ONE).await;
            order.lock().push(number);
        })
    });
    let others: Vec<_> = others.collect();
    tokio::task::yield_now().await;

    drop(first);
    for other in others {
        other.await.expect("no panic");
    }

    assert_eq!(*order.lock(), (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_flood_from_one_source_delays_another_by_one_place() {
    let handshakes = Arc::new(Handshakes::new(1));
    let first = enter(&handshakes, ONE).await;
    let order = Arc::new(Mutex::new(vec![]));
    let sources = std::iter::repeat_n(ONE, 100).chain([OTHER]);
    let others = sources.map(|from| {
        let (handshakes, order) = (Arc::clone(&handshakes), Arc::clone(&order));
        tokio::spawn(async move {
            let _place = enter(&handshakes, from).await;
            order.lock().push(from);
        })
    });
    let others: Vec<_> = others.collect();
    tokio::task::yield_now().await;

    drop(first);
    for other in others {
        other.await.expect("no panic");
    }

    assert_eq!(order.lock().iter().position(|from| *from == OTHER), Some(1));
}

#[tokio::test]
async fn a_flood_from_one_source_leaves_processors_to_another() {
    let handshakes = Arc::new(Handshakes::new(1_000));
    let (place, _evicted) = enter(&handshakes, OTHER).await;
    let mut flood = vec![];
    for _ in 0..100 {
        flood.push(enter(&handshakes, ONE).await);
    }
    let at_work = flood.iter().map(|(place, _)| Box::pin(handshakes.step_by_step(place, std::future::pending::<()>())));
    let mut at_work: Vec<_> = at_work.collect();
    assert!(at_work.iter_mut().all(|work| work.now_or_never().is_none()));

    let mut work = pin!(handshakes.step_by_step(&place, std::future::ready(())));

    assert_eq!((&mut work).now_or_never(), None, "all that is ready goes first");
    yield_now().await;
    assert_eq!(work.now_or_never(), Some(()));
}

/// A client may hang up while it waits, and right after its eviction.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_those_that_gave_up() {
    let handshakes = Arc::new(Handshakes::new(1));
    let (place, evicted) = enter(&handshakes, ONE).await;
    place.awaits(Awaited::Rest, Instant::now());
    tokio::time::advance(GAP).await;
    for _ in 0..3 {
        let mut waiting = Box::pin(enter(&handshakes, OTHER));
        assert!(futures_util::poll!(&mut waiting).is_pending());
    }
    evicted.await.expect("evicted, once");
    drop(place);

    let (last, _evicted) = enter(&handshakes, OTHER).await;
    drop(last);

    let places = handshakes.places.lock();
    assert_eq!((places.holders.len(), places.evicted, places.silent.len(), places.partial.len()), (0, 0, 0, 0));
    assert_eq!(places.stalled.newest_of_the_largest(), None);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_drips_wins_no_time() {
    let handshakes = Arc::new(Handshakes::new(2));
    let begin = Instant::now();
    let half = enter(&handshakes, ONE).await;
    half.0.awaits(Awaited::Rest, Instant::now());
    tokio::time::advance(GAP / 2).await;
    half.0.awaits(Awaited::Rest, Instant::now());
    let far = enter(&handshakes, ONE).await;
    far.0.awaits(Awaited::Answer, Instant::now());
    tokio::time::advance(GAP / 4).await;
    far.0.awaits(Awaited::Nothing, Instant::now());
    far.0.awaits(Awaited::Answer, Instant::now());
    let (half, far) = (yielding(half), yielding(far));

    let _third = enter(&handshakes, OTHER).await;
    let _fourth = enter(&handshakes, OTHER).await;

    assert_eq!(half.await.expect("no panic") - begin, GAP);
    assert_eq!(far.await.expect("no panic") - begin, GAP / 2 + SILENCE);
}

/// The client's answer is in the socket, but this side has no time for it.
#[tokio::test(start_paused = true)]
async fn what_waits_for_this_side_is_not_silent() {
    let handshakes = Arc::new(Handshakes::new(1));
    let (place, mut evicted) = enter(&handshakes, ONE).await;
    let acquire = || handshakes.processors.acquire(address(ONE).into(), 1).now_or_never();
    let _busy: Vec<_> = std::iter::from_fn(acquire).collect();
    place.awaits(Awaited::Answer, Instant::now());
    let mut work = pin!(handshakes.step_by_step(&place, std::future::ready(())));
    assert!(futures_util::poll!(&mut work).is_pending());

    let waiting = tokio::time::timeout(2 * SILENCE, enter(&handshakes, OTHER)).await;

    assert!(waiting.is_err() && evicted.try_recv().is_err());
}

#[tokio::test]
async fn a_step_waits_for_a_processor_and_lets_all_that_is_ready_go_first() {
    let handshakes = Arc::new(Handshakes { processors: FairSemaphore::of(ONE_AT_A_TIME), ..Handshakes::new(1) });
    let (place, _evicted) = enter(&handshakes, ONE).await;
    let busy = handshakes.processors.acquire(address(OTHER).into(), 1).now_or_never().expect("free");
    let steps = Mutex::new(0);
    let mut work = pin!(handshakes.step_by_step(&place, async {
        *steps.lock() += 1;
        yield_now().await;
        *steps.lock() += 1;
    }));
    assert!(futures_util::poll!(&mut work).is_pending());
    drop(busy);

    assert!(futures_util::poll!(&mut work).is_pending());
    assert_eq!((*steps.lock(), handshakes.processors.is_idle()), (0, false), "others are ready");
    yield_now().await;
    assert!(futures_util::poll!(&mut work).is_pending());
    assert_eq!((*steps.lock(), handshakes.processors.is_idle()), (1, true), "no longer than for the step");

    work.await;
    assert_eq!(*steps.lock(), 2);
}

//! Tests of the checker itself: it accepts a sound run, and finds every bug injected into one.

use std::time::Duration;

use super::load::Load;
use super::logs::Logs;
use super::logs::What;
use super::lying_server::Liar;
use super::lying_server::Lie;
use super::scenario::Stage;
use super::seed::Seed;
use super::verdict::Fault;
use super::verdict::Verdict;
use super::verdict::judge;
use crate::support::Outcome;

/// Runs a load whose webhooks pass a lying server.
async fn run(lie: Lie, seed: u64) -> Logs {
    let mut stage = Stage::with(&[]).await;
    let liar = Liar::new(stage.business.address(), lie).await;
    let url = format!("http://{}/weapp/tunnel", liar.address);
    stage.props.push(Box::new(liar));

    let talk = Load::default().run(&stage.wafer, &url, Seed(seed), &stage.roster).await;

    stage.finish(talk).await
}

/// The faults of a run, each once.
fn faults(verdict: &Verdict) -> Vec<Fault> {
    verdict.faults().into_keys().collect()
}

#[tokio::test]
async fn a_sound_run_is_found_sound_whatever_its_seed() {
    for seed in 1..=3 {
        let stage = Stage::with(&[]).await;
        let talk = Load::default().run(&stage.wafer, &stage.business.url(), Seed(seed), &stage.roster).await;
        let verdict = judge(&stage.finish(talk).await);

        verdict.assert_sound();
        assert_eq!((verdict.tunnels, verdict.up.sent), (6, 48), "{verdict:?}");
        assert!(verdict.up.delivered >= 40 && verdict.down.delivered >= 16, "{verdict:?}");
        assert_eq!((verdict.up.repeated, verdict.up.given_up), (0, 0), "{verdict:?}");
    }
}

#[tokio::test]
async fn bugs_on_the_wire_are_found() {
    for (lie, found) in [
        (Lie::None, vec![]),
        (Lie::LoseMessage, vec![Fault::Lost]),
        (Lie::SwapMessages, vec![Fault::Reordered]),
        (Lie::RepeatMessage, vec![Fault::Repeated]),
        (Lie::LoseClose, vec![Fault::NoClose]),
        (Lie::RepeatClose, vec![Fault::SecondClose]),
    ] {
        let verdict = judge(&run(lie, 1).await);
        assert_eq!(faults(&verdict), found, "{lie:?}: {:?}", verdict.findings);
    }
}

/// The logs of a sound run, in which the first tunnel has sent eight messages and received at least four.
async fn sound() -> Logs {
    let mut logs = run(Lie::None, 1).await;
    assert_eq!(judge(&logs).findings, []);
    let is_full = |client: &super::logs::ClientLog| client.certain == 8 && client.received.len() >= 4;
    let at = logs.clients.iter().position(is_full).expect("a tunnel that says enough");
    logs.clients.swap(0, at);
    logs
}

/// The places of one event's attempts in the log.
fn place(logs: &Logs, what: What) -> usize {
    let tunnel = &logs.clients[0].tunnel;
    logs.attempts.iter().position(|attempt| attempt.tunnel == *tunnel && attempt.what == what).expect("it is there")
}

#[tokio::test]
async fn bugs_in_the_logs_are_found() {
    let sound = sound().await;
    let later = |logs: &mut Logs, from: usize, to: usize| {
        let mut attempt = logs.attempts[from].clone();
        attempt.at = logs.attempts[to].at + Duration::from_micros(1);
        logs.attempts.insert(to + 1, attempt);
    };
    type Plant = Box<dyn Fn(&mut Logs)>;
    let two = What::Message(2);
    let plants: Vec<(&str, Plant, Fault)> = vec![
        ("a lost message", Box::new(move |logs| drop(logs.attempts.remove(place(logs, two)))), Fault::Lost),
        (
            "a swapped message",
            Box::new(move |logs| {
                let (from, to) = (place(logs, two), place(logs, What::Message(3)));
                logs.attempts.swap(from, to);
            }),
            Fault::Reordered,
        ),
        ("a repeated message", Box::new(move |logs| later(logs, place(logs, two), place(logs, two))), Fault::Repeated),
        (
            "another id",
            Box::new(move |logs| {
                let at = place(logs, two);
                logs.attempts[at].outcome = Outcome::Unknown;
                later(logs, at, at);
                logs.attempts[at + 1].outcome = Outcome::Accepted;
                logs.attempts[at + 1].id.push('x');
            }),
            Fault::Repeated,
        ),
        ("no close", Box::new(|logs| drop(logs.attempts.remove(place(logs, What::Close)))), Fault::NoClose),
        (
            "a second close",
            Box::new(move |logs| later(logs, place(logs, What::Close), place(logs, What::Close))),
            Fault::SecondClose,
        ),
        ("no connect", Box::new(|logs| drop(logs.attempts.remove(place(logs, What::Connect)))), Fault::NoConnect),
        (
            "a second connect",
            Box::new(move |logs| later(logs, place(logs, What::Connect), place(logs, What::Connect))),
            Fault::SecondConnect,
        ),
        (
            "a message behind close",
            Box::new(move |logs| {
                let last = What::Message(logs.clients[0].sent.len() as u64);
                let (from, to) = (place(logs, last), place(logs, What::Close));
                later(logs, from, to);
                logs.attempts.remove(from);
            }),
            Fault::OutOfPlace,
        ),
        (
            "an event dropped after its failure",
            Box::new(move |logs| {
                let at = place(logs, two);
                logs.attempts[at].outcome = Outcome::Retry(None);
            }),
            Fault::UnannouncedGap,
        ),
        (
            "Retry-After ignored",
            Box::new(move |logs| {
                let at = place(logs, two);
                logs.attempts[at].outcome = Outcome::Retry(Some(Duration::from_secs(1)));
                later(logs, at, at);
                logs.attempts[at + 1].outcome = Outcome::Accepted;
            }),
            Fault::TooSoon,
        ),
        (
            "an attempt after its time",
            Box::new(move |logs| {
                let at = place(logs, two);
                logs.attempts[at].at += Duration::from_secs(100);
                logs.attempts[at].settled = Some(logs.attempts[at].at);
            }),
            Fault::TooLate,
        ),
        (
            "given up too soon",
            Box::new(move |logs| {
                let tunnel = logs.clients[0].tunnel.clone();
                let at = logs.attempts.remove(place(logs, two)).at;
                let (kind, reason) = ("message".to_owned(), "no reason".to_owned());
                logs.given_up.push(super::logs::GivenUp { tunnel, kind, sequence: 3, reason, at });
                logs.counted.as_mut().expect("it was asked").given_up += 1;
            }),
            Fault::GivenUpTooSoon,
        ),
        ("a push lost", Box::new(|logs| assert_eq!(logs.clients[0].received.remove(1), 2)), Fault::Lost),
        ("a push swapped", Box::new(|logs| logs.clients[0].received.swap(1, 2)), Fault::Reordered),
        ("a push repeated", Box::new(|logs| logs.clients[0].received.insert(1, 1)), Fault::Repeated),
        ("a push nobody made", Box::new(|logs| logs.clients[0].received.push(99)), Fault::Invented),
        (
            "an open tunnel called invalid",
            Box::new(|logs| {
                let (opened, tunnel) = (logs.clients[0].opened, logs.clients[0].tunnel.clone());
                let push = super::logs::Push {
                    tunnel,
                    number: 99,
                    began: opened,
                    ended: opened,
                    is_invalid: true,
                    is_unknown: false,
                };
                logs.pushes.push(push);
            }),
            Fault::OpenCalledInvalid,
        ),
        (
            "an ended tunnel called open",
            Box::new(|logs| {
                let at = logs.attempts[place(logs, What::Close)].at + Duration::from_millis(1);
                let tunnel = logs.clients[0].tunnel.clone();
                logs.clients[0].received.push(99);
                logs.pushes.push(super::logs::Push {
                    tunnel,
                    number: 99,
                    began: at,
                    ended: at,
                    is_invalid: false,
                    is_unknown: false,
                });
            }),
            Fault::EndedCalledOpen,
        ),
        (
            "an event given up that no line tells of",
            Box::new(|logs| logs.counted.as_mut().expect("it was asked").given_up += 1),
            Fault::Miscounted,
        ),
        (
            "a descriptor left open",
            Box::new(|logs| logs.leaks.push(super::logs::Leak { what: "descriptors", before: 1, after: 2 })),
            Fault::Leaked,
        ),
    ];
    assert_eq!(plants.len(), 21);

    for (what, plant, fault) in plants {
        let mut logs = sound.clone();
        plant(&mut logs);
        let found: Vec<_> = judge(&logs).faults().into_keys().collect();
        assert_eq!(found, [fault], "{what}");
    }
}

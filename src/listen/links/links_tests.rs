//! A listener against a scripted gateway, on simulated time.
#![expect(clippy::disallowed_methods, reason = "a test may pick its start")]

use super::*;
use crate::protocol::connector::Answer;
use crate::protocol::connector::Cancel;
use crate::protocol::connector::FromConnector;
use crate::protocol::connector::Headers;
use crate::protocol::connector::with_body;

const SECOND: Duration = Duration::from_secs(1);

struct World {
    links: Links,
    now: Instant,
    wall: Duration,
}

impl World {
    fn new(give_up_after: Option<Duration>) -> Self {
        let settings = Settings {
            name: "ann".into(),
            instance: "00".into(),
            window: Window { events: 32, bytes: 1 },
            attempt: Duration::from_secs(600),
            agent: "test".into(),
            give_up_after,
        };
        let (now, wall) = (Instant::now(), Duration::from_secs(1_700_000_000));
        Self { links: Links::new(settings, now, wall), now, wall }
    }

    /// A listener whose first connection is ready.
    fn ready() -> Self {
        let mut world = Self::new(None);
        assert_eq!(world.tick(), [Action::Dial(1)]);
        world.welcome(1, "s1");
        world
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.links.poll()).collect()
    }

    fn tick(&mut self) -> Vec<Action> {
        self.links.tick(self.now, self.wall, 0.0);
        self.actions()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall += time;
    }

    /// Ticks each second while every ping is answered.
    fn live(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.pass(SECOND);
            for action in self.tick() {
                match action {
                    Action::Ping(link, number) => self.links.heard(link, Some(number), self.now, 0.0),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// The handshake of `link`, and its welcome. The hello that it said.
    fn welcome(&mut self, link: Link, session: &str) -> (Hello, Vec<Action>) {
        self.links.connected(link, self.now);
        let hello = match &self.actions()[..] {
            [Action::Send(on, head, _)] if *on == link => match FromConnector::decode(head.clone().into()) {
                Ok((FromConnector::Hello(hello), _)) => *hello,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let welcome = Welcome {
            v: 1,
            session: session.into(),
            node: "n".into(),
            nodes: 1,
            connectors: 1,
            window: Window { events: 32, bytes: 1 },
            heartbeat_ms: 20_000,
            now: 0,
            waiting: None,
            lost: None,
            ttl: None,
        };
        let actions = self.say(link, FromGateway::Welcome(Box::new(welcome)));
        (hello, actions)
    }

    fn say(&mut self, link: Link, message: FromGateway) -> Vec<Action> {
        self.links.message(link, message, Bytes::new(), self.now, 0.0);
        self.actions()
    }

    fn event(&mut self, link: Link, id: &str, attempt: u32) -> Vec<Action> {
        let event = event(id, attempt);
        self.say(link, FromGateway::Event(Box::new(event)))
    }

    fn lose(&mut self, link: Link, code: Option<u16>) -> Vec<Action> {
        self.links.lost(link, code, "lost", self.now, 0.0);
        self.actions()
    }

    fn answer(&mut self, id: &str, attempt: u32) -> Vec<Action> {
        self.links.done(answered(id, attempt), self.now);
        self.actions()
    }
}

fn event(id: &str, attempt: u32) -> Event {
    Event {
        id: id.into(),
        attempt,
        tunnel: "t".into(),
        event: "message".into(),
        sequence: Some(1),
        url: "http://h/".into(),
        path: "/".into(),
        headers: Headers::default(),
        timeout_ms: 1_000,
        expires: 0,
    }
}

fn answered(id: &str, attempt: u32) -> Done {
    Done::Answered(Answer::new(id, attempt, 200), Bytes::from_static(b"{}"))
}

fn sent(link: Link, id: &str, attempt: u32) -> Action {
    Action::Send(link, Answer::new(id, attempt, 200).head(), Bytes::from_static(b"{}"))
}

/// The links of messages that carry an answer.
fn answers(actions: &[Action]) -> Vec<(Link, String)> {
    let answer = |action: &Action| match action {
        Action::Send(link, head, body) => match FromConnector::decode(with_body(head.clone(), body).into()) {
            Ok((FromConnector::Answer(answer), _)) => Some((*link, answer.id)),
            _ => None,
        },
        _ => None,
    };
    actions.iter().filter_map(answer).collect()
}

#[test]
fn it_is_ready_on_the_welcome_and_not_before() {
    let mut world = World::new(None);
    assert_eq!(world.tick(), [Action::Dial(1)]);

    let (hello, actions) = world.welcome(1, "s1");

    assert_eq!((hello.session, hello.pending, hello.attempt_ms), (None, vec![], Some(600_000)));
    assert!(matches!(&actions[..], [Action::Report(Report::Ready(Some(_), None)), Action::Ping(1, 1)]), "{actions:?}");
    world.live(Duration::from_secs(3_600));
}

#[test]
fn trouble_is_said_once_for_each_reason_and_dialled_through_within_a_second() {
    let mut world = World::new(None);
    let (mut dials, mut said) = (0, vec![]);
    for second in 0..60 {
        let words = if second < 30 { "no route" } else { "connection refused" };
        for action in world.tick() {
            match action {
                Action::Dial(link) => {
                    dials += 1;
                    world.links.failed(link, Trouble::Network(words.into()), world.now, 0.0);
                }
                Action::Report(Report::Offline(words, _)) => said.push(words),
                other => panic!("{other:?}"),
            }
        }
        world.pass(SECOND);
    }
    said.extend(world.actions().into_iter().filter_map(|action| match action {
        Action::Report(Report::Offline(words, _)) => Some(words),
        _ => None,
    }));

    assert_eq!(said, ["no route", "connection refused"]);
    assert!(dials >= 55, "{dials}");
}

#[test]
fn an_answer_that_may_be_lost_is_sent_again_and_its_event_is_pending() {
    let mut world = World::ready();
    for id in ["a", "b", "c"] {
        assert!(matches!(world.event(1, id, 1)[..], [Action::Forward(..)]));
    }
    assert_eq!(world.answer("a", 1), [sent(1, "a", 1)]);
    world.links.heard(1, Some(2), world.now, 0.0);
    assert_eq!(world.answer("b", 1), [sent(1, "b", 1)]);

    let actions = world.lose(1, None);
    assert!(matches!(&actions[..], [Action::Report(Report::Offline(_, Duration::ZERO))]), "{actions:?}");
    assert_eq!(world.answer("c", 1), [], "it waits for the connection");
    assert_eq!(world.tick(), [Action::Dial(2)]);
    let (hello, actions) = world.welcome(2, "s2");

    assert_eq!((hello.session.as_deref(), &hello.pending[..]), (Some("s1"), &["b".to_owned(), "c".to_owned()][..]));
    assert_eq!(answers(&actions), [(2, "b".to_owned()), (2, "c".to_owned())], "a has arrived");
    assert!(matches!(actions[0], Action::Report(Report::Ready(Some(_), Some(_)))));
}

#[test]
fn a_new_attempt_replaces_the_one_that_is_in_flight_and_a_late_answer_is_dropped() {
    let mut world = World::ready();
    world.event(1, "a", 1);

    let actions = world.event(1, "a", 2);

    assert!(matches!(&actions[..], [Action::Abandon(id, 1, _), Action::Forward(..)] if id == "a"), "{actions:?}");
    assert_eq!(world.answer("a", 1), []);
    assert_eq!(world.answer("a", 2), [sent(1, "a", 2)]);
    world.event(1, "b", 1);
    let cancel = Cancel { id: "b".into(), attempt: 1, reason: "late".into() };
    let words = "the gateway has cancelled it: late".to_owned();
    assert_eq!(world.say(1, FromGateway::Cancel(cancel)), [Action::Abandon("b".into(), 1, words)]);
    assert_eq!(world.answer("b", 1), []);
}

#[test]
fn an_attempt_that_comes_again_while_it_runs_is_forwarded_once() {
    let mut world = World::ready();
    world.event(1, "a", 1);
    world.lose(1, None);
    world.tick();
    world.welcome(2, "s2");

    assert_eq!(world.event(2, "a", 1), [], "as a node that takes a tunnel over sends it");
    assert_eq!(world.answer("a", 1), [sent(2, "a", 1)]);
}

#[test]
fn connections_that_end_at_once_are_made_again_after_pauses() {
    let mut world = World::ready();
    world.lose(1, Some(1002));
    let mut dials = 0;
    for _ in 0..100 {
        for action in world.tick() {
            if let Action::Dial(link) = action {
                dials += 1;
                world.welcome(link, "s");
                world.lose(link, Some(1002));
            }
        }
        world.pass(Duration::from_millis(100));
    }
    assert!((10..=16).contains(&dials), "{dials} in 10 s");

    let mut world = World::ready();
    world.live(Duration::from_secs(10));
    world.lose(1, None);
    assert_eq!(world.tick(), [Action::Dial(2)], "one that has lived is missed at once");
}

#[test]
fn a_connection_that_falls_silent_is_dialled_beside_within_ten_seconds_and_replaced() {
    let mut world = World::ready();
    world.live(Duration::from_secs(20));
    let mut after = 0;
    let actions = loop {
        world.pass(SECOND);
        after += 1;
        let actions = world.tick();
        if actions.iter().any(|action| matches!(action, Action::Dial(_))) {
            break actions;
        }
    };
    assert!(after <= 10, "{after}");
    assert!(matches!(&actions[..], [Action::Report(Report::Offline(..)), Action::Dial(2)]), "{actions:?}");

    let (hello, actions) = world.welcome(2, "s2");

    assert_eq!(hello.session.as_deref(), Some("s1"));
    assert!(matches!(
        actions[..],
        [Action::Close(1, 1001), Action::Report(Report::Ready(Some(_), Some(_))), Action::Ping(2, _)]
    ));
    assert_eq!(world.lose(1, Some(4409)), [], "the old one is not missed");
    world.live(Duration::from_secs(60));
}

#[test]
fn a_connection_that_is_replaced_before_the_welcome_is_no_trouble() {
    let mut world = World::ready();
    while !world.tick().iter().any(|action| matches!(action, Action::Dial(_))) {
        world.pass(SECOND);
    }
    world.links.connected(2, world.now);
    world.actions();

    assert_eq!(world.lose(1, Some(4409)), []);
    assert!(!world.tick().iter().any(|action| matches!(action, Action::Dial(_))));
}

#[test]
fn a_connection_that_speaks_again_is_kept() {
    let mut world = World::ready();
    while !world.tick().iter().any(|action| matches!(action, Action::Dial(_))) {
        world.pass(SECOND);
    }
    world.links.heard(1, None, world.now, 0.0);
    let actions = world.tick();

    assert!(matches!(&actions[..], [.., Action::Drop(2), Action::Report(Report::Ready(None, Some(_)))]), "{actions:?}");
}

#[test]
fn a_machine_that_slept_dials_at_once() {
    let mut world = World::ready();
    world.live(Duration::from_secs(10));
    world.wall += Duration::from_secs(600);
    world.pass(SECOND);

    let actions = world.tick();

    assert!(
        matches!(&actions[..], [Action::Drop(1), Action::Report(Report::Offline(words, _)), Action::Dial(2)] if words.contains("asleep"))
    );
    assert_eq!(world.welcome(2, "s2").0.session.as_deref(), Some("s1"));
}

#[test]
fn what_came_while_the_process_was_stopped_is_not_forwarded() {
    let mut world = World::ready();
    world.pass(Duration::from_secs(600));

    let actions = world.event(1, "old", 1);

    assert!(matches!(&actions[..], [Action::Drop(1), Action::Report(Report::Offline(..))]), "{actions:?}");
    assert_eq!(world.tick(), [Action::Dial(2)]);
}

#[test]
fn a_node_that_leaves_is_replaced_before_its_events_are_answered() {
    let mut world = World::ready();
    world.event(1, "a", 1);

    let actions = world.say(1, FromGateway::Drain(Drain { within_ms: 10_000 }));
    assert!(matches!(actions[..], [Action::Send(1, ..), Action::Dial(2)]), "{actions:?}");
    assert_eq!(world.welcome(2, "s2").0.session, None);
    assert_eq!(world.answer("a", 1), [sent(1, "a", 1)], "where it came from");

    world.pass(Duration::from_secs(6));
    let pings = world.tick();
    assert!(pings.contains(&Action::Ping(1, 3)), "{pings:?}");
    world.pass(Duration::from_millis(1));
    world.links.heard(1, Some(3), world.now, 0.0);
    assert_eq!(world.actions(), [Action::Close(1, 1001)]);
}

#[test]
fn an_end_waits_for_what_is_in_flight_and_for_what_is_on_its_way() {
    let mut world = World::ready();
    world.event(1, "a", 1);

    world.links.interrupt(world.now);
    assert!(matches!(world.actions()[..], [Action::Send(1, ..), Action::Ping(1, 2)]));
    world.event(1, "b", 1);
    assert_eq!(world.answer("a", 1), [sent(1, "a", 1)]);
    world.links.heard(1, Some(2), world.now, 0.0);
    assert_eq!(world.actions(), []);
    assert_eq!(world.answer("b", 1), [sent(1, "b", 1), Action::Close(1, 1001), Action::End(Ended::Drained)]);
}

#[test]
fn an_end_without_a_connection_says_whether_the_gateway_waits_for_an_answer() {
    for (is_answered, ended) in [(true, Ended::Drained), (false, Ended::Stopped)] {
        let mut world = World::ready();
        world.event(1, "a", 1);
        if is_answered {
            world.answer("a", 1);
        }
        world.lose(1, None);
        world.links.interrupt(world.now);
        assert_eq!(world.actions(), [Action::End(ended.clone())]);

        let mut world = World::ready();
        world.event(1, "a", 1);
        world.links.interrupt(world.now);
        if is_answered {
            world.answer("a", 1);
        }
        world.actions();
        assert!(world.lose(1, None).contains(&Action::End(ended)));
    }
    let mut world = World::ready();
    world.event(1, "a", 1);
    world.lose(1, None);
    world.answer("a", 1);
    world.links.interrupt(world.now);
    assert_eq!(world.actions(), [Action::End(Ended::Stopped)], "no connection has taken the answer");
}

#[test]
fn an_end_while_a_node_leaves_waits_for_its_events_and_their_answers_leave() {
    let mut world = World::ready();
    world.event(1, "a", 1);
    world.say(1, FromGateway::Drain(Drain { within_ms: 10_000 }));

    world.links.interrupt(world.now);
    let actions = world.actions();
    let Some(Action::Ping(1, number)) = actions.last() else { panic!("{actions:?}") };
    world.links.heard(1, Some(*number), world.now, 0.0);
    world.links.connected(2, world.now);

    assert_eq!(world.actions(), [Action::Drop(2)], "events would come on it");
    assert_eq!(world.answer("a", 1), [sent(1, "a", 1), Action::Close(1, 1001), Action::End(Ended::Drained)]);
}

#[test]
fn work_that_is_done_behind_a_signal_is_no_second_signal() {
    let mut world = World::ready();
    world.event(1, "a", 1);
    world.links.interrupt(world.now);
    world.actions();

    world.links.finish(world.now);

    assert_eq!(world.actions(), []);
}

#[test]
fn a_second_signal_and_ten_seconds_end_it_too() {
    let mut world = World::ready();
    world.event(1, "a", 1);
    world.links.interrupt(world.now);
    world.actions();
    world.links.interrupt(world.now);
    assert_eq!(world.actions(), [Action::End(Ended::Stopped)]);

    let mut world = World::ready();
    world.event(1, "a", 1);
    world.links.interrupt(world.now);
    world.actions();
    world.pass(Duration::from_secs(10));
    assert!(world.tick().contains(&Action::End(Ended::Stopped)));
}

#[test]
fn only_a_person_or_a_refusal_ends_it() {
    for (code, is_end) in [(4401, true), (1008, true), (1001, false), (1002, false), (1013, false), (4409, false)] {
        let mut world = World::ready();
        let actions = world.lose(1, Some(code));
        assert_eq!(matches!(actions[..], [Action::End(Ended::Denied(_))]), is_end, "{code}: {actions:?}");
    }
    let mut world = World::new(None);
    world.tick();
    let denied = Trouble::Final(Ended::Denied("signature_wrong".into()));
    world.links.failed(1, denied, world.now, 0.0);
    assert_eq!(world.actions(), [Action::End(Ended::Denied("signature_wrong".into()))]);
}

#[test]
fn it_gives_up_only_when_it_was_away_for_long() {
    let mut world = World::new(Some(Duration::from_secs(5)));
    let mut ended = None;
    for _ in 0..7 {
        for action in world.tick() {
            match action {
                Action::Dial(link) => world.links.failed(link, Trouble::Network("no route".into()), world.now, 0.0),
                Action::End(end) => ended = Some(end),
                _ => {}
            }
        }
        world.pass(SECOND);
    }
    assert_eq!(ended, Some(Ended::GaveUp("no route".into())));
}

#[test]
fn a_gateway_without_a_welcome_is_dialled_again() {
    let mut world = World::new(None);
    world.tick();
    world.links.connected(1, world.now);
    world.actions();
    world.pass(Duration::from_secs(11));

    let actions = world.tick();

    assert!(
        matches!(&actions[..], [Action::Drop(1), Action::Report(Report::Offline(words, _)), Action::Dial(2)] if words.contains("no welcome")),
        "{actions:?}"
    );
}

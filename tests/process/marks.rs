//! A node that is stopped at each named point until other nodes act for its tunnels.
#![cfg(debug_assertions)]

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use wafergate::marks::Mark;
use wafergate::protocol::text::md5_hex;

use super::client::Client;
use super::client::ask;
use super::client::call;
use super::client::connect;
use super::client::exchange;
use super::cluster::Nodes;
use super::cluster::until;
use super::gateway::Gateway;
use super::gateway::KEY;
use super::gateway::SOON;

/// Two renewals of the leases, and then some: long enough for something to come that should not.
const QUIET: Duration = Duration::from_secs(3);

/// Two nodes, of which the second one stops by itself, with a tunnel at each.
struct Scene {
    nodes: Nodes,
    /// Of the node that goes on: its tunnel and client.
    bystander: (String, Client<TcpStream>),
    /// Of the node that stops.
    victim: (String, Client<TcpStream>),
}

impl Scene {
    /// The second node stops when it comes past `mark` for the so-and-so-many-th time.
    fn new(mark: Mark, time: usize) -> Self {
        let mut nodes = Nodes::start(1);
        nodes.join_with(&[("WAFERGATE_STOP_AT", &format!("{mark:?}:{time}"))]);
        let bystander = nodes.open(0, 0);
        let victim = nodes.open(0, 1);
        Self { nodes, bystander, victim }
    }

    fn node(&self) -> &Gateway {
        &self.nodes.nodes[1]
    }

    /// The result of a push to `tunnel` through the second node, once that continues.
    fn push(&self, tunnel: &str, content: &str) -> thread::JoinHandle<Value> {
        let packets = json!([{"tunnelIds": [tunnel], "type": "message", "content": content}]).to_string();
        let (url, authority) = (self.node().url.clone(), self.nodes.business.authority.clone());
        thread::spawn(move || call(&mut connect(&url), &authority, "/ws/push", &packets))
    }

    /// Waits until the second node has stopped and the first one has delivered the close events of its tunnels; then continues
    /// it.
    fn stops_and_is_told_of(&self) {
        self.stops();
        assert_eq!(self.nodes.business.story(SOON), Some((self.victim.0.clone(), "close".into())));
        self.node().signal("CONT");
    }

    fn stops(&self) {
        until("it stops", || self.node().is_stopped());
    }

    /// Nothing more is said to the business server, and the client is sent away with nothing else.
    fn stays_silent(mut self) {
        assert_eq!(self.nodes.business.story(QUIET), None, "others have told of its tunnels");
        let (opcode, payload) = self.victim.1.receive();
        let text = String::from_utf8_lossy(&payload);
        assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]), "{text}");
        // Anything sent to it meanwhile would arrive before this.
        assert_eq!(self.nodes.push(0, &[&self.bystander.0], "last")["code"], 0);
        assert_eq!(self.bystander.1.receive(), (1, b"message:last".to_vec()));
    }
}

/// An event is on its way when the node is stopped; `has_come` is whether it has come to the business server by then.
fn of_an_event(mark: Mark, time: usize, has_come: bool) {
    let mut scene = Scene::new(mark, time);
    // The response to `connect` has no actions.
    until("connect is answered", || scene.node().sum("wafergate_webhooks_total{event=\"connect\",result=\"ok\"}") == 1);
    let push = json!({"push": {"to": {"tunnels": [scene.bystander.0]}, "content": "late"}});
    scene.nodes.business.say(&json!({"code": 0, "actions": [push]}).to_string());
    scene.victim.1.send("message:late");
    scene.stops();
    if has_come {
        assert_eq!(scene.nodes.business.story(SOON), Some((scene.victim.0.clone(), "message".into())));
    }
    // Actions in the response to another node's `close` are run by that node.
    scene.nodes.business.say(r#"{"code":0}"#);
    scene.stops_and_is_told_of();
    scene.stays_silent();
}

/// A push to the node's own tunnel is about to be done.
fn of_a_push(mark: Mark) {
    let scene = Scene::new(mark, 1);
    let answer = scene.push(&scene.victim.0, "late");
    scene.stops_and_is_told_of();
    let answer = answer.join().expect("no panic");
    assert!(answer["code"] == 50302 || answer["data"]["invalidTunnelIds"] == json!([scene.victim.0]), "{answer}");
    scene.stays_silent();
}

/// A request to another node is about to be sent.
fn of_a_question() {
    let mut scene = Scene::new(Mark::Ask, 1);
    let answer = scene.push(&scene.bystander.0, "late");
    scene.stops();
    assert_eq!(scene.nodes.push(0, &[&scene.bystander.0], "meanwhile")["code"], 0);
    scene.stops_and_is_told_of();
    let answer = answer.join().expect("no panic");
    // It was repeated by then, or never sent.
    assert_eq!(scene.bystander.1.receive(), (1, b"message:meanwhile".to_vec()));
    if answer["code"] == 0 {
        assert_eq!(scene.bystander.1.receive(), (1, b"message:late".to_vec()));
    }
    scene.stays_silent();
}

/// A request has arrived and is about to be answered; repeating an unanswered one causes no duplicates.
fn of_another_nodes_question(mark: Mark, has_come: bool) {
    let mut scene = Scene::new(mark, 1);
    let answer = scene.nodes.push(0, &[&scene.victim.0], "asked");
    assert_eq!(answer["code"], 50302, "{answer}");
    scene.stops_and_is_told_of();
    if has_come {
        assert_eq!(scene.victim.1.receive(), (1, b"message:asked".to_vec()));
    }
    scene.stays_silent();
}

/// A tunnel has been described, and belongs to other nodes when the response is sent.
fn of_a_description() {
    let scene = Scene::new(Mark::Told, 1);
    let (url, tunnel) = (scene.node().url.clone(), scene.victim.0.clone());
    let tenant = md5_hex(&scene.nodes.business.authority);
    let request =
        format!("GET /v1/tunnels/{tunnel} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {tenant}:{KEY}\r\n\r\n");
    let answer = thread::spawn(move || exchange(&mut connect(&url), &request));
    scene.stops_and_is_told_of();
    let (head, body) = answer.join().expect("no panic");
    // No node has it, or that is not certain yet.
    assert!(["HTTP/1.1 404 ", "HTTP/1.1 503 "].iter().any(|status| head.starts_with(status)), "{head}{body}");
    scene.stays_silent();
}

/// A client is about to connect: its tunnel has already been closed when the node continues.
fn of_a_handshake() {
    let scene = Scene::new(Mark::Registered, 2);
    let (tunnel, path) = ask(&mut connect(&scene.nodes.nodes[0].url), &scene.nodes.business.authority);
    let stream = connect(&scene.node().url);
    let opening = thread::spawn(move || Client::try_open(stream, &path).map(drop));
    scene.stops();
    let mut closed =
        [scene.nodes.business.story(SOON), scene.nodes.business.story(SOON)].map(|event| event.expect("one"));
    closed.sort();
    let mut expected = [(tunnel, "close".to_owned()), (scene.victim.0.clone(), "close".to_owned())];
    expected.sort();
    assert_eq!(closed, expected);
    scene.node().signal("CONT");
    let refusal = opening.join().expect("no panic").expect_err("its tunnel has ended");
    assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
    scene.stays_silent();
}

/// The test for each `mark`. A new mark needs an entry here.
fn stopped_at(mark: Mark) {
    match mark {
        // The first event is `connect`.
        Mark::EventAdmitted | Mark::EventConnected | Mark::EventWritten => of_an_event(mark, 2, false),
        Mark::EventAnswered => of_an_event(mark, 2, true),
        Mark::Action => of_an_event(mark, 1, true),
        Mark::PushCollected | Mark::PushTurn => of_a_push(mark),
        Mark::Ask => of_a_question(),
        Mark::Asked => of_another_nodes_question(mark, false),
        Mark::Answer => of_another_nodes_question(mark, true),
        Mark::Told => of_a_description(),
        Mark::Registered => of_a_handshake(),
    }
}

/// One test for each mark, so that they run beside each other.
macro_rules! stopped {
    ($($name:ident: $mark:ident,)*) => {
        $(
            #[test]
            fn $name() {
                stopped_at(Mark::$mark);
            }
        )*

        #[test]
        fn each_mark_has_its_test() {
            assert_eq!([$(Mark::$mark),*], Mark::ALL);
        }
    };
}

stopped! {
    an_event_that_has_its_permits_is_not_sent_late: EventAdmitted,
    an_event_that_has_its_connection_is_not_sent_late: EventConnected,
    an_event_that_is_about_to_be_written_is_not_sent_late: EventWritten,
    what_an_answer_that_lay_in_the_socket_asks_for_is_not_done_late: EventAnswered,
    the_next_action_of_an_answer_is_not_done_late: Action,
    pushes_that_were_collected_are_not_done_late: PushCollected,
    the_next_turn_of_a_push_is_not_done_late: PushTurn,
    a_question_is_not_acted_on_late: Ask,
    a_question_that_has_come_is_not_answered_late: Asked,
    an_answer_to_a_question_is_not_given_late: Answer,
    a_tunnel_is_not_described_late: Told,
    a_client_is_not_let_in_late: Registered,
}

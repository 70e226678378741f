//! Scenarios of a session: what a client sends, and the actions that result.
#![expect(clippy::disallowed_methods, reason = "a test may pick its start")]

use std::time::Duration;

use super::*;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A client that feeds frames into a session and records the actions.
struct Client {
    session: Session,
    limits: SessionLimits,
    now: Instant,
    actions: Vec<Action>,
}

impl Client {
    fn new(profile: Profile) -> Self {
        let limits = SessionLimits { max_message_bytes: 1_000, message_rate: None };
        Self { session: Session::new(profile), limits, now: Instant::now(), actions: vec![] }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let actions = &mut self.actions;
        let mut input = bytes.to_vec();
        self.session.handle_input(&mut input, &self.limits, self.now, &mut |action| actions.push(action))
    }

    fn send(&mut self, first: u8, payload: &[u8]) -> Result<(), Fault> {
        self.write(&frame(first, payload))
    }

    fn text(&mut self, text: &str) -> Result<(), Fault> {
        self.send(TEXT, text.as_bytes())
    }

    fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    match u16::try_from(payload.len()).expect("short") {
        bytes @ 0..=125 => frame.push(0x80 | bytes as u8),
        bytes => {
            frame.push(0xfe);
            frame.extend(bytes.to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn deliver(text: &str) -> Action {
    Action::Deliver(Content::Text(text.into()))
}

#[test]
fn a_wafer_client_talks_pings_and_leaves() {
    let mut client = Client::new(Profile::Wafer);

    client.text("ping").expect("fine");
    client.text("message:{\"type\":\"a\"}").expect("fine");
    client.text("message").expect("fine");
    client.text("close").expect("fine");

    let pong = Action::Reply(frame::text("pong", ""));
    assert_eq!(
        client.actions(),
        [pong, deliver("{\"type\":\"a\"}"), deliver(""), Action::Goodbye(Goodbye::Proper(Some(1000)))]
    );
}

#[test]
fn what_wafer_does_not_know_is_ignored() {
    let mut client = Client::new(Profile::Wafer);

    for text in ["", "hello", "pong", "timeout:1", "connect"] {
        client.text(text).expect("ignored");
    }
    client.send(BINARY, b"message:x").expect("ignored");
    client.send(PONG, b"unasked").expect("ignored");

    assert_eq!(client.actions(), []);
}

#[test]
fn a_native_client_is_not_interpreted() {
    let mut client = Client::new(Profile::Native);

    client.text("ping").expect("fine");
    client.send(BINARY, b"\xff\x00").expect("fine");

    assert_eq!(client.actions(), [deliver("ping"), Action::Deliver(Content::Binary(b"\xff\x00"[..].into()))]);
}

#[test]
fn input_may_be_cut_anywhere() {
    let script =
        [frame(TEXT, b"message:one"), frame(PING, b"p"), frame(TEXT, &[b'x'; 300]), frame(TEXT, b"message:two")];
    let bytes = script.concat();
    for size in 1..bytes.len() {
        let mut client = Client::new(Profile::Wafer);
        for piece in bytes.chunks(size) {
            client.write(piece).expect("fine");
        }
        let expected = [deliver("one"), Action::Reply(frame::pong(b"p")), deliver("two")];
        assert_eq!(client.actions(), expected, "pieces of {size}");
        assert_eq!(client.session.carry.capacity(), 0, "nothing is kept between frames");
    }
}

#[test]
fn fragments_make_one_message_with_control_frames_in_between() {
    let mut client = Client::new(Profile::Wafer);

    client.send(0x01, "message:é".as_bytes().split_last().expect("not empty").1).expect("a character may be cut");
    client.send(PING, b"").expect("fine");
    client.send(0x00, b"\xa9").expect("fine");
    client.send(0x80, b"!").expect("fine");

    assert_eq!(client.actions(), [Action::Reply(frame::pong(b"")), deliver("é!")]);
}

#[test]
fn broken_fragments_are_protocol_errors() {
    let mut client = Client::new(Profile::Wafer);
    assert_eq!(client.send(0x80, b"no beginning"), Err(Fault::NothingToContinue));

    let mut client = Client::new(Profile::Wafer);
    client.send(0x01, b"begun").expect("fine");
    assert_eq!(client.text("message:again"), Err(Fault::UnfinishedMessage));
}

#[test]
fn bad_utf8_is_found_early() {
    let mut client = Client::new(Profile::Wafer);
    assert_eq!(client.send(TEXT, b"message:\xff"), Err(Fault::BadText));

    let mut client = Client::new(Profile::Wafer);
    assert_eq!(client.send(0x01, b"message:\xce\xba\xff"), Err(Fault::BadText));

    let mut client = Client::new(Profile::Wafer);
    client.send(0x01, b"message:\xce").expect("may still become a character");
    assert_eq!(client.send(0x80, b""), Err(Fault::BadText));
}

#[test]
fn messages_are_bounded_also_in_fragments() {
    let mut client = Client::new(Profile::Wafer);
    client.send(TEXT, &[b'x'; 1_000]).expect("at the limit");
    assert_eq!(client.send(TEXT, &[b'x'; 1_001]), Err(Fault::TooBig));

    let mut client = Client::new(Profile::Wafer);
    client.send(0x01, &[b'x'; 600]).expect("fine");
    assert_eq!(client.send(0x00, &[b'x'; 600]), Err(Fault::TooBig));
}

#[test]
fn a_close_frame_is_echoed_and_ends_the_input() {
    let mut client = Client::new(Profile::Wafer);

    client.write(&[frame(CLOSE, b"\x03\xe9bye"), frame(TEXT, b"message:late")].concat()).expect("fine");

    assert_eq!(client.actions(), [Action::Goodbye(Goodbye::Proper(Some(1001)))]);
}

#[test]
fn a_faulty_close_frame_is_a_goodbye_all_the_same_and_ends_the_input() {
    let long = [&[CLOSE, 0xfe, 0, 126, 1, 2, 3, 4][..], &[0; 126]].concat();
    let faulty = [
        (Fault::HalfCloseCode, frame(CLOSE, b"\x03")),
        (Fault::BadCloseCode, frame(CLOSE, &1005_u16.to_be_bytes())),
        (Fault::BadCloseText, frame(CLOSE, b"\x03\xe8\xe4\xbd")),
        (Fault::FragmentedControl, frame(0x08, b"\x03\xe8")),
        (Fault::LongControl, long),
        (Fault::Compressed, frame(0xc8, b"\x03\xe8")),
    ];
    for (fault, bytes) in faulty {
        let mut client = Client::new(Profile::Native);

        client.write(&[frame(TEXT, b"a"), bytes, frame(TEXT, b"late")].concat()).expect("a goodbye");

        assert_eq!(client.actions(), [deliver("a"), Action::Goodbye(Goodbye::Faulty(fault))], "{fault:?}");
    }
}

#[test]
fn frames_over_ten_times_the_message_rate_end_the_session_whatever_they_are() {
    let kinds = [
        ("pings", frame(PING, b"p"), frame(PING, b"p")),
        ("pongs", frame(PONG, b""), frame(PONG, b"")),
        ("ping packets", frame(TEXT, b"ping"), frame(TEXT, b"ping")),
        ("unknown packets", frame(TEXT, b""), frame(TEXT, b"")),
        ("binary frames", frame(BINARY, b"x"), frame(BINARY, b"x")),
        ("empty fragments", frame(0x01, b""), frame(0x00, b"")),
    ];
    for (what, first, again) in kinds {
        let mut client = Client::new(Profile::Wafer);
        client.limits.message_rate = Rate::per_second(2, Duration::from_secs(2));

        assert_eq!(client.write(&first), Ok(()), "{what}");
        assert_eq!(client.write(&again.repeat(39)), Ok(()), "{what} within the burst");
        assert_eq!(client.write(&again), Err(Fault::TooFast), "{what}");

        client.now += Duration::from_millis(50);
        assert_eq!(client.write(&again), Ok(()), "{what} refilled");
        client.limits.message_rate = None;
        assert_eq!(client.write(&again.repeat(100)), Ok(()), "{what} without a limit");
    }
}

#[test]
fn what_was_said_while_nobody_read_is_let_through_once() {
    let mut client = Client::new(Profile::Wafer);
    client.limits.message_rate = Rate::per_second(5, Duration::from_secs(2));
    let message = frame(TEXT, b"message:x");
    assert_eq!(client.write(&message.repeat(10)), Ok(()), "the burst");

    client.now += Duration::from_secs(8);
    client.session.was_not_read(Duration::from_secs(8));

    assert_eq!(client.write(&message.repeat(10 + 40)), Ok(()), "the burst, and what eight seconds allow");
    assert_eq!(client.write(&message), Err(Fault::TooFast));
}

#[test]
fn messages_over_the_rate_end_the_session_and_pings_do_not_count() {
    let mut client = Client::new(Profile::Wafer);
    client.limits.message_rate = Rate::per_second(2, Duration::from_secs(2));

    for _ in 0..4 {
        client.text("message:x").expect("within the burst");
        client.text("ping").expect("never limited");
    }
    assert_eq!(client.text("message:x"), Err(Fault::TooFast));

    client.now += Duration::from_millis(500);
    client.text("message:x").expect("refilled");
}

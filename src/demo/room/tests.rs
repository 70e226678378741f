//! Scenarios of the room on explicit time.

use serde_json::Value;
use serde_json::json;

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A room with these members, whose tunnel ids equal their names.
fn room_with(names: &[&str]) -> Room {
    let mut room = Room::default();
    for text in names {
        room.connect(text, Some(name(text)), 1_000);
    }
    room
}

/// Recipients, type and content of the packet.
fn read(packet: &Packet) -> (Vec<String>, String, Value) {
    let Packet::Message { to, content } = packet else { panic!("not a message: {packet:?}") };
    let mut content: Value = serde_json::from_str(content).unwrap();
    let to = to.iter().map(|tunnel| tunnel.to_string()).collect();
    (to, content["type"].as_str().unwrap().to_owned(), content["content"].take())
}

fn speak(word: &str) -> String {
    json!({ "type": "speak", "content": { "word": word } }).to_string()
}

#[test]
fn a_newcomer_is_welcomed_and_announced_to_all() {
    let mut room = room_with(&["青松"]);
    room.message("青松", &speak("有人吗"), 2_000);

    let packets = room.connect("t", Some(name("白桦")), 3_000);

    let (to, kind, welcome) = read(&packets[0]);
    assert_eq!((to, kind.as_str()), (vec!["t".to_owned()], "welcome"));
    assert_eq!(welcome["id"], 3_000);
    assert_eq!(welcome["total"], 2);
    assert_eq!(welcome["online"][0]["name"], "青松");
    assert_eq!(welcome["online"][1], json!({ "id": 3_000, "name": "白桦", "hue": name("白桦").hue() }));
    assert_eq!(welcome["lines"][0]["word"], "有人吗");
    let (to, kind, people) = read(&packets[1]);
    assert_eq!((to, kind.as_str()), (vec!["青松".to_owned(), "t".to_owned()], "people"));
    assert_eq!(people["total"], 2);
    assert_eq!(people["enter"]["name"], "白桦");
    assert_eq!(people["online"].as_array().unwrap().len(), 2);
    assert_eq!(packets.len(), 2);
}

#[test]
fn a_repeated_connect_is_welcomed_but_not_announced_again() {
    let mut room = room_with(&["青松"]);

    let packets = room.connect("青松", Some(name("青松")), 2_000);

    assert_eq!(packets.len(), 1);
    let (_, kind, welcome) = read(&packets[0]);
    assert_eq!((kind.as_str(), &welcome["total"]), ("welcome", &json!(1)));
}

#[test]
fn a_line_goes_to_all_and_names_its_speaker() {
    let mut room = room_with(&["青松", "白桦"]);

    let packets = room.message("白桦", &speak("  你好\n世界  "), 5_000);

    let (to, kind, line) = read(&packets[0]);
    assert_eq!((to.len(), kind.as_str()), (2, "speak"));
    let who = json!({ "name": "白桦", "hue": name("白桦").hue() });
    assert_eq!(line, json!({ "id": 1_001, "who": who, "word": "你好\n世界", "time_ms": 5_000 }));
}

#[test]
fn times_increase_even_when_the_clock_does_not() {
    let mut room = room_with(&["青松"]);

    let times: Vec<Value> = [5_000, 5_000, 4_000]
        .map(|time_ms| read(&room.message("青松", &speak("hi"), time_ms)[0]).2["time_ms"].clone())
        .into();

    assert_eq!(times, [5_000, 5_001, 5_002]);
}

#[test]
fn what_is_not_a_line_is_ignored() {
    let mut room = room_with(&["青松"]);

    for content in ["", "5", "null", "{}", "{\"type\":\"sing\"}", "{\"type\":\"speak\",\"content\":{\"word\":5}}"] {
        assert_eq!(room.message("青松", content, 2_000), [], "{content}");
    }
    assert_eq!(room.message("青松", &speak("  \n"), 2_000), []);
}

#[test]
fn a_line_that_is_too_long_is_refused_to_its_speaker_only() {
    let mut room = room_with(&["青松", "白桦"]);

    let longest = room.message("青松", &speak(&"木".repeat(2_000)), 2_000);
    let longer = room.message("青松", &speak(&"木".repeat(2_001)), 2_000);

    assert_eq!(read(&longest[0]).1, "speak");
    let (to, kind, notice) = read(&longer[0]);
    assert_eq!((to, kind.as_str()), (vec!["青松".to_owned()], "notice"));
    assert!(notice["error"].as_str().unwrap().contains("2000"));
}

#[test]
fn who_leaves_is_announced_to_the_others_once() {
    let mut room = room_with(&["青松", "白桦"]);

    let packets = room.close("白桦");

    let (to, kind, people) = read(&packets[0]);
    assert_eq!((to, kind.as_str()), (vec!["青松".to_owned()], "people"));
    assert_eq!((&people["total"], &people["leave"]["name"]), (&json!(1), &json!("白桦")));
    assert_eq!(people["online"][0]["name"], "青松");
    assert_eq!(room.lost(&["白桦".to_owned()]), []);
    assert_eq!(room.close("青松"), []);
}

#[test]
fn lost_tunnels_leave_together_and_nothing_is_sent_to_them() {
    let mut room = room_with(&["青松", "白桦", "银杏"]);

    let packets = room.lost(&["白桦".to_owned(), "青松".to_owned(), "stranger".to_owned()]);

    assert_eq!(packets.len(), 2);
    for packet in &packets {
        let (to, _, people) = read(packet);
        assert_eq!((to, &people["total"]), (vec!["银杏".to_owned()], &json!(1)));
    }
}

#[test]
fn tunnels_nobody_knows_are_closed() {
    let mut room = room_with(&["青松"]);
    let close = [Packet::Close("stranger".into())];

    assert_eq!(room.connect("stranger", None, 2_000), close);
    assert_eq!(room.message("stranger", &speak("hi"), 2_000), close);
    assert_eq!(room.close("stranger"), close);
}

#[test]
fn people_of_one_name_are_told_apart() {
    let mut room = room_with(&["Ming"]);

    for (tunnel, called, shown) in [("b", "Ming", "Ming 2"), ("c", "ming 2", "ming 2 2"), ("d", "M ing", "M ing 3")] {
        let welcome = read(&room.connect(tunnel, Some(name(called)), 1_000)[0]).2;
        let own = welcome["online"].as_array().unwrap().last().unwrap();
        assert_eq!(own["name"], shown);
    }
    room.close("b");
    let welcome = read(&room.connect("e", Some(name("Ming")), 1_000)[0]).2;
    assert_eq!(welcome["online"].as_array().unwrap().last().unwrap()["name"], "Ming 2", "free again");
}

#[test]
fn a_full_room_lets_nobody_in_until_somebody_leaves() {
    let mut room = room_with(&["青松"]);
    for n in 1..MAX_MEMBERS {
        assert_eq!(room.has_place(), Ok(()));
        room.connect(&format!("t-{n}"), Some(name("白桦")), 1_000);
    }

    assert_eq!(room.has_place(), Err(Full));
    let packets = room.connect("one too many", Some(name("银杏")), 1_000);
    let (to, kind, notice) = read(&packets[0]);
    assert_eq!((to, kind.as_str()), (vec!["one too many".to_owned()], "notice"));
    assert!(notice["error"].as_str().unwrap().contains("full"));
    assert_eq!(packets[1..], [Packet::Close("one too many".into())]);
    room.close("青松");
    assert_eq!(room.has_place(), Ok(()));
}

#[test]
fn only_a_small_room_repeats_who_is_there() {
    let names: Vec<String> = (0..=MAX_LISTED).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut room = room_with(&names[..MAX_LISTED]);

    let crowded = room.connect("n50", Some(name("n50")), 2_000);
    let again_small = room.close("n0");

    assert_eq!(read(&crowded[0]).2["online"].as_array().unwrap().len(), MAX_LISTED + 1);
    assert_eq!(read(&crowded[1]).2["online"], Value::Null);
    assert_eq!(read(&again_small[0]).2["online"].as_array().unwrap().len(), MAX_LISTED);
}

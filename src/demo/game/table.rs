//! Rock, paper, scissors: tables of two seats. Pure: events in, actions for the gateway out.

use std::collections::BTreeMap;
use std::collections::HashMap;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::demo::name::Name;

/// Most tables.
const MAX_TABLES: usize = 1_000;

/// All tables and their players.
#[derive(Debug, Default)]
pub(super) struct Tables {
    tables: BTreeMap<u64, Table>,
    /// The table of each player.
    players: HashMap<String, u64>,
    next: u64,
}

/// A table with one or two players.
#[derive(Debug, Default)]
struct Table {
    seats: [Option<Seat>; 2],
    last: Option<Round>,
}

/// A player at a table.
#[derive(Debug)]
struct Seat {
    player: String,
    name: Name,
    /// None while the player is away; the seat is kept.
    tunnel: Option<String>,
    hand: Option<Hand>,
    wins: u32,
}

/// What a hand shows.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Hand {
    /// 石头
    Rock,
    /// 布
    Paper,
    /// 剪刀
    Scissors,
}

/// A finished round.
#[derive(Clone, Copy, Debug, Serialize)]
struct Round {
    hands: [Hand; 2],
    /// The seat that has won; none in a draw.
    winner: Option<usize>,
}

/// What a page sends.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "content", rename_all = "lowercase")]
enum Heard {
    /// The player's hand in this round.
    Hand(Hand),
    /// The player wants another opponent.
    Next,
}

impl Hand {
    /// Whether it wins against `other`.
    pub(super) fn beats(self, other: Self) -> bool {
        use Hand::{Paper, Rock, Scissors};
        matches!((self, other), (Rock, Scissors) | (Scissors, Paper) | (Paper, Rock))
    }
}

impl Tables {
    /// A tunnel of `player` has opened: the player sits down, or comes back. Returns actions for that tunnel.
    pub(super) fn connect(&mut self, player: &str, tunnel: &str, name: Name) -> Vec<Value> {
        let known = self.players.get(player).copied().filter(|id| self.tables.contains_key(id));
        let Some(id) = known else {
            return self.sit_down(player, tunnel, name, None);
        };
        let mut actions = vec![];
        if let Some((_, seat)) = self.seat(id, player)
            && let Some(old) = seat.tunnel.replace(tunnel.to_owned())
            && old != tunnel
        {
            actions.push(json!({ "close": { "to": { "tunnels": [old] }, "reason": "opened elsewhere" } }));
        }
        actions.extend(self.welcome(id, player));
        actions
    }

    /// A message of `player` from this tunnel.
    pub(super) fn message(&mut self, player: &str, tunnel: &str, text: &str) -> Vec<Value> {
        let Some(id) = self.players.get(player).copied() else { return vec![] };
        match serde_json::from_str(text) {
            Ok(Heard::Hand(hand)) => self.show(id, player, hand),
            Ok(Heard::Next) => {
                let Some(seat) = self.stand_up(id, player) else { return vec![] };
                let mut actions = vec![json!({ "leave": group(id) })];
                actions.extend(self.tell(id));
                actions.extend(self.sit_down(player, tunnel, seat.name, Some(id)));
                actions
            }
            Err(_) => vec![json!({ "push": { "type": "problem", "content": "no such message" } })],
        }
    }

    /// A tunnel of `player` has closed. The seat is kept, unless the other one is empty or away too.
    pub(super) fn close(&mut self, player: &str, tunnel: &str) -> Vec<Value> {
        let Some(id) = self.players.get(player).copied() else { return vec![] };
        match self.seat(id, player) {
            Some((_, seat)) if seat.tunnel.as_deref() == Some(tunnel) => seat.tunnel = None,
            // The player has another tunnel by now.
            _ => return vec![],
        }
        let is_left =
            self.tables.get(&id).is_none_or(|table| table.seats.iter().flatten().all(|seat| seat.tunnel.is_none()));
        if !is_left {
            return self.tell(id).into_iter().collect();
        }
        self.tables.remove(&id);
        self.players.retain(|_, at| *at != id);
        vec![]
    }

    /// Takes the first table with one present player, but not the one that was `left`, or a new one.
    fn sit_down(&mut self, player: &str, tunnel: &str, name: Name, left: Option<u64>) -> Vec<Value> {
        let waits = |table: &Table| {
            let seated: Vec<_> = table.seats.iter().flatten().collect();
            matches!(seated[..], [seat] if seat.tunnel.is_some() && seat.player != player)
        };
        let waiting = self.tables.iter().find(|(id, table)| Some(**id) != left && waits(table)).map(|(id, _)| *id);
        let Some(id) = waiting.or_else(|| (self.tables.len() < MAX_TABLES).then_some(self.next)) else {
            return vec![json!({ "close": { "reason": "all tables are taken" } })];
        };
        self.next = self.next.max(id + 1);
        let table = self.tables.entry(id).or_default();
        table.last = None;
        table.seats.iter_mut().flatten().for_each(|seat| (seat.wins, seat.hand) = (0, None));
        let tunnel = Some(tunnel.to_owned());
        if let Some(free) = table.seats.iter_mut().find(|seat| seat.is_none()) {
            *free = Some(Seat { player: player.to_owned(), name, tunnel, hand: None, wins: 0 });
        }
        self.players.insert(player.to_owned(), id);
        self.welcome(id, player)
    }

    fn stand_up(&mut self, id: u64, player: &str) -> Option<Seat> {
        let (index, _) = self.seat(id, player)?;
        self.players.remove(player);
        let table = self.tables.get_mut(&id)?;
        let left = table.seats[index].take();
        if table.seats.iter().flatten().all(|seat| seat.tunnel.is_none()) {
            self.tables.remove(&id);
            self.players.retain(|_, at| *at != id);
        }
        left
    }

    /// Notes a hand; with the second one the round is over.
    fn show(&mut self, id: u64, player: &str, hand: Hand) -> Vec<Value> {
        let Some((_, seat)) = self.seat(id, player) else { return vec![] };
        seat.hand.get_or_insert(hand);
        if let Some(table) = self.tables.get_mut(&id)
            && let [Some(one), Some(other)] = &mut table.seats
            && let (Some(first), Some(second)) = (one.hand, other.hand)
        {
            let winner = match (first.beats(second), second.beats(first)) {
                (true, _) => Some(0),
                (_, true) => Some(1),
                _ => None,
            };
            (one.hand, other.hand) = (None, None);
            one.wins += u32::from(winner == Some(0));
            other.wins += u32::from(winner == Some(1));
            table.last = Some(Round { hands: [first, second], winner });
        }
        self.tell(id).into_iter().collect()
    }

    fn seat(&mut self, id: u64, player: &str) -> Option<(usize, &mut Seat)> {
        let seats = self.tables.get_mut(&id)?.seats.iter_mut().enumerate();
        seats.filter_map(|(index, seat)| Some((index, seat.as_mut()?))).find(|(_, seat)| seat.player == player)
    }

    /// The actions for a tunnel whose player has sat down or come back.
    fn welcome(&mut self, id: u64, player: &str) -> Vec<Value> {
        let Some((index, _)) = self.seat(id, player) else { return vec![] };
        let seat = json!({ "push": { "type": "seat", "content": index } });
        [json!({ "join": group(id) }), seat].into_iter().chain(self.tell(id)).collect()
    }

    /// Pushes the table to both players. A hand is shown only when both are there.
    fn tell(&self, id: u64) -> Option<Value> {
        let table = self.tables.get(&id)?;
        let seats = table.seats.each_ref().map(|seat| {
            let seat = seat.as_ref()?;
            let (is_here, is_ready) = (seat.tunnel.is_some(), seat.hand.is_some());
            Some(json!({ "name": seat.name, "wins": seat.wins, "isHere": is_here, "isReady": is_ready }))
        });
        let content = json!({ "seats": seats, "last": table.last });
        Some(json!({ "push": { "to": { "group": group(id) }, "type": "table", "content": content } }))
    }
}

/// The group of both tunnels at a table.
fn group(id: u64) -> String {
    format!("table-{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    /// The content of the last push of this type.
    fn pushed(actions: &[Value], kind: &str) -> Value {
        let mut pushes = actions.iter().map(|action| &action["push"]).filter(|push| push["type"] == kind);
        pushes.next_back().map(|push| push["content"].clone()).unwrap_or_default()
    }

    fn hand(hand: &str) -> String {
        json!({ "type": "hand", "content": hand }).to_string()
    }

    fn two() -> Tables {
        let mut tables = Tables::default();
        tables.connect("a", "t1", name("Ann"));
        tables.connect("b", "t2", name("Bob"));
        tables
    }

    #[test]
    fn each_hand_beats_one_other() {
        use Hand::{Paper, Rock, Scissors};
        for (one, other, wins) in [
            (Rock, Scissors, true),
            (Scissors, Paper, true),
            (Paper, Rock, true),
            (Rock, Paper, false),
            (Rock, Rock, false),
        ] {
            assert_eq!(one.beats(other), wins, "{one:?} {other:?}");
        }
    }

    #[test]
    fn two_meet_and_the_third_waits() {
        let mut tables = Tables::default();
        let first = tables.connect("a", "t1", name("Ann"));
        assert_eq!(first[0], json!({"join": "table-0"}));
        assert_eq!((pushed(&first, "seat"), pushed(&first, "table")["seats"][1].clone()), (json!(0), Value::Null));

        let second = tables.connect("b", "t2", name("Bob"));
        assert_eq!((second[0].clone(), pushed(&second, "seat")), (json!({"join": "table-0"}), json!(1)));
        assert_eq!(pushed(&second, "table")["seats"][0]["name"], "Ann");
        assert_eq!(tables.connect("c", "t3", name("Cid"))[0], json!({"join": "table-1"}));
    }

    #[test]
    fn a_hand_is_secret_until_both_are_shown() {
        let mut tables = two();

        let one = pushed(&tables.message("a", "t1", &hand("rock")), "table");
        assert_eq!((&one["seats"][0]["isReady"], &one["last"]), (&json!(true), &Value::Null));
        assert!(!one.to_string().contains("rock"), "{one}");
        tables.message("a", "t1", &hand("paper"));
        let both = pushed(&tables.message("b", "t2", &hand("scissors")), "table");

        assert_eq!(both["last"], json!({"hands": ["rock", "scissors"], "winner": 0}), "the first hand counts");
        assert_eq!((&both["seats"][0]["wins"], &both["seats"][0]["isReady"]), (&json!(1), &json!(false)));
        tables.message("a", "t1", &hand("rock"));
        let draw = pushed(&tables.message("b", "t2", &hand("rock")), "table");
        assert_eq!((&draw["last"]["winner"], &draw["seats"][0]["wins"]), (&Value::Null, &json!(1)));
    }

    #[test]
    fn a_player_that_comes_back_finds_seat_and_score() {
        let mut tables = two();
        tables.message("a", "t1", &hand("rock"));
        tables.message("b", "t2", &hand("scissors"));

        let away = pushed(&tables.close("a", "t1"), "table");
        assert_eq!(away["seats"][0]["isHere"], false);
        let back = tables.connect("a", "t4", name("Ann"));

        assert_eq!((pushed(&back, "seat"), pushed(&back, "table")["seats"][0]["wins"].clone()), (json!(0), json!(1)));
        let twice = tables.connect("a", "t5", name("Ann"));
        assert_eq!(twice[0]["close"]["to"], json!({"tunnels": ["t4"]}), "one tunnel plays");
        assert!(tables.close("a", "t4").is_empty(), "the newer one plays on");
    }

    #[test]
    fn another_opponent_is_found_and_empty_tables_go() {
        let mut tables = two();
        tables.connect("c", "t3", name("Cid"));

        let moved = tables.message("b", "t2", r#"{"type":"next"}"#);
        assert_eq!(moved[0], json!({"leave": "table-0"}));
        assert_eq!(pushed(&moved, "table")["seats"][0]["name"], "Cid");
        for (player, tunnel) in [("a", "t1"), ("b", "t2"), ("c", "t3")] {
            tables.close(player, tunnel);
        }
        assert!(tables.tables.is_empty() && tables.players.is_empty(), "{tables:?}");
    }

    #[test]
    fn nonsense_changes_nothing() {
        let mut tables = two();

        for text in ["", "{}", r#"{"type":"hand","content":"well"}"#, r#"{"type":"hand"}"#] {
            assert_eq!(tables.message("a", "t1", text)[0]["push"]["type"], "problem", "{text}");
        }
        assert!(tables.message("nobody", "t9", &hand("rock")).is_empty());
        assert!(tables.close("nobody", "t9").is_empty());
    }
}

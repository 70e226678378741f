//! The `data` of `/ws/push`: packets, each for many tunnels.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Unexpected;
use serde::de::Visitor;
use serde_json::value::RawValue;

use super::Refusal;
use crate::id::TunnelId;
use crate::protocol::text::Object;
use crate::protocol::text::Text;
use crate::protocol::text::json_defect;

/// Most ids in one request. The largest body holds fewer real ids, so this only rejects lists of short foreign ids, which take
/// much more memory than their text.
pub const MAX_TARGETS: usize = 131_072;

/// One id of a push, as its sender wrote it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Target {
    /// A valid tunnel id.
    Tunnel(TunnelId),
    /// Not a tunnel id of this gateway: kept verbatim to be reported as invalid.
    Foreign(String),
}

impl Target {
    /// The id `text`.
    pub fn new(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Foreign(text.to_owned()), Self::Tunnel)
    }

    /// The tunnel id, if valid.
    pub fn tunnel(&self) -> Option<TunnelId> {
        match self {
            Self::Tunnel(id) => Some(*id),
            Self::Foreign(_) => None,
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tunnel(id) => serializer.collect_str(id),
            Self::Foreign(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    /// Ids are read as raw JSON, because half a surrogate pair in one of them must not reject the others.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = <&RawValue>::deserialize(deserializer)?.get();
        let ours = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|id| id.parse().ok());
        if let Some(id) = ours {
            return Ok(Self::Tunnel(id));
        }
        match written.as_bytes()[0] {
            b'"' => serde_json::from_str(written).map(|Text(text)| Self::new(&text)).map_err(D::Error::custom),
            b'-' | b'0'..=b'9' => Ok(Self::Foreign(written.to_owned())),
            other => Err(D::Error::invalid_type(kind(other), &"a tunnel id, which is a string")),
        }
    }
}

/// The type of a JSON value that begins with `first`, for an error that does not show it.
fn kind(first: u8) -> Unexpected<'static> {
    match first {
        b'[' => Unexpected::Seq,
        b'{' => Unexpected::Map,
        b'n' => Unexpected::Unit,
        _ => Unexpected::Other("boolean"),
    }
}

/// The action of a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PushAction {
    /// Send this content, byte for byte.
    Message(String),
    /// Close the tunnels for good.
    Close,
}

/// One packet of a push.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PushPacket {
    /// Its tunnels, in the given order.
    pub targets: Vec<Target>,
    /// Its action.
    pub action: PushAction,
}

impl PushPacket {
    /// Parses the packets from the `data` of a verified envelope.
    ///
    /// # Errors
    ///
    /// [`Refusal::BadData`] with a sentence that says what is missing or of the wrong kind.
    pub fn parse_all(data: &str) -> Result<Vec<Self>, Refusal> {
        let packets: Vec<Object<RawPacket<'_>>> = serde_json::from_str(data).map_err(|error| malformed(&error))?;
        let mut room = MAX_TARGETS;
        packets.into_iter().map(|Object(packet)| packet.check(&mut room)).collect()
    }
}

fn malformed(error: &serde_json::Error) -> Refusal {
    let why = json_defect(error);
    Refusal::BadData(format!("data must be JSON text of an array of packets {{tunnelIds, type, content}}: {why}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPacket<'a> {
    #[serde(borrow)]
    tunnel_ids: &'a RawValue,
    #[serde(rename = "type")]
    kind: Text,
    #[serde(default)]
    content: Option<Text>,
}

impl RawPacket<'_> {
    /// Reads the ids, for as many of which as `room` there is room.
    fn check(self, room: &mut usize) -> Result<PushPacket, Refusal> {
        let ids = serde_json::Deserializer::from_str(self.tunnel_ids.get()).deserialize_any(TargetsVisitor { room });
        let targets = ids.map_err(|error| malformed(&error))?;
        let action = match (self.kind.0.as_str(), self.content) {
            ("message", Some(content)) => PushAction::Message(content.0),
            ("message", None) => {
                return Err(Refusal::BadData("a packet of type message needs content, which is a string".into()));
            }
            ("close", _) => PushAction::Close,
            _ => return Err(Refusal::BadData("a packet's type must be message or close".into())),
        };
        Ok(PushPacket { targets, action })
    }
}

/// Reads the ids of a packet: an array, or the object that PHP makes of an array with holes.
struct TargetsVisitor<'a> {
    room: &'a mut usize,
}

impl TargetsVisitor<'_> {
    fn add<E: Error>(&mut self, targets: &mut Vec<Target>, target: Target) -> Result<(), E> {
        *self.room = self.room.checked_sub(1).ok_or_else(|| E::custom(too_many()))?;
        targets.push(target);
        Ok(())
    }
}

impl<'de> Visitor<'de> for TargetsVisitor<'_> {
    type Value = Vec<Target>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of tunnel ids")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut ids: A) -> Result<Vec<Target>, A::Error> {
        let mut targets = Vec::new();
        while let Some(target) = ids.next_element()? {
            self.add(&mut targets, target)?;
        }
        Ok(targets)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Vec<Target>, A::Error> {
        let mut targets = Vec::new();
        while let Some((_, target)) = entries.next_entry::<Text, Target>()? {
            self.add(&mut targets, target)?;
        }
        Ok(targets)
    }
}

/// What a list of too many ids is refused with.
pub fn too_many() -> String {
    format!("more than {MAX_TARGETS} ids came, send fewer at a time")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(texts: &[&str]) -> Vec<Target> {
        texts.iter().map(|text| Target::Foreign((*text).to_owned())).collect()
    }

    #[test]
    fn content_is_taken_as_it_was_meant() {
        let data = r#"[{"tunnelIds":["a"],"type":"message","content":"{\"n\":1e400,\"s\":\"\\ud800\"}"}]"#;

        let packets = PushPacket::parse_all(data).expect("valid");

        assert_eq!(packets[0].action, PushAction::Message(r#"{"n":1e400,"s":"\ud800"}"#.into()));
    }

    #[test]
    fn ids_may_be_an_object_or_numbers_as_php_makes_them() {
        let data = r#"[{"type":"close","tunnelIds":{"0":"a","2":17},"content":null}]"#;

        let packets = PushPacket::parse_all(data).expect("valid");

        assert_eq!(packets, [PushPacket { targets: foreign(&["a", "17"]), action: PushAction::Close }]);
    }

    #[test]
    fn half_a_surrogate_pair_spoils_its_own_id_only() {
        let ours = TunnelId::from_bytes([9; 16]);
        let data =
            format!(r#"[{{"type":"close","tunnelIds":["{ours}","a\ud800","\u0074{}"]}}]"#, &ours.to_string()[1..]);

        let packets = PushPacket::parse_all(&data).expect("valid");

        let spoiled = Target::Foreign("a\u{fffd}".into());
        assert_eq!(packets[0].targets, [Target::Tunnel(ours), spoiled, Target::Tunnel(ours)]);
    }

    #[test]
    fn our_ids_are_told_from_others_and_print_verbatim() {
        let ours = TunnelId::from_bytes([9; 16]);
        let targets = [Target::new(&ours.to_string()), Target::new("T\u{4e2d}")];

        assert_eq!(targets[0], Target::Tunnel(ours));
        assert_eq!(serde_json::to_string(&targets).expect("serialises"), format!(r#"["{ours}","T中"]"#));
    }

    #[test]
    fn short_ids_do_not_take_more_than_long_ones() {
        let list = |ids: usize| format!(r#"{{"type":"close","tunnelIds":[{}1]}}"#, "1,".repeat(ids - 1));
        let data = |lists: &[usize]| format!("[{}]", lists.iter().map(|ids| list(*ids)).collect::<Vec<_>>().join(","));

        assert!(PushPacket::parse_all(&data(&[MAX_TARGETS])).is_ok());
        for lists in [&[MAX_TARGETS + 1][..], &[MAX_TARGETS / 2, MAX_TARGETS / 2, 1]] {
            let refusal = PushPacket::parse_all(&data(lists)).expect_err("too many").to_string();
            assert!(refusal.contains("more than 131072 ids"), "{refusal}");
        }
    }

    #[test]
    fn nothing_to_do_is_not_an_error() {
        assert_eq!(PushPacket::parse_all("[]"), Ok(vec![]));
        let empty = PushPacket::parse_all(r#"[{"tunnelIds":[],"type":"message","content":""}]"#).expect("valid");
        assert_eq!(empty[0].targets, []);
    }

    #[test]
    fn a_refusal_says_what_to_change() {
        for (data, hint) in [
            ("{}", "array of packets"),
            ("[1]", "array of packets"),
            (r#"[[["x"],"message","c"]]"#, "expected an object"),
            (r#"[{"tunnelIds":"a","type":"close"}]"#, "array of tunnel ids"),
            (r#"[{"tunnelIds":[null],"type":"close"}]"#, "a tunnel id, which is a string"),
            (r#"[{"tunnelIds":[["a"]],"type":"close"}]"#, "a tunnel id, which is a string"),
            (r#"[{"tunnelIds":[true],"type":"close"}]"#, "a tunnel id, which is a string"),
            (r#"[{"tunnelIds":[],"type":"shout"}]"#, "message or close"),
            (r#"[{"tunnelIds":[],"type":"message"}]"#, "needs content"),
            (r#"[{"tunnelIds":[],"type":"message","content":{}}]"#, "expected a string"),
            (r#"[{"type":"close"}]"#, "missing field `tunnelIds`"),
        ] {
            let refusal = PushPacket::parse_all(data).expect_err(data).to_string();
            assert!(refusal.contains(hint), "{data}: {refusal}");
        }
    }
}

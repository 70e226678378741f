//! Packets: text frames on a Wafer tunnel's socket.

use wafergate::protocol::packet::Packet;

/// Panics where a promise does not hold.
pub(crate) fn check(text: &str) {
    match Packet::decode(text) {
        Packet::Message(content) => {
            assert!(text == "message" && content.is_empty() || text == format!("message:{content}"));
        }
        Packet::Ping => assert!(text == "ping" || text.starts_with("ping:")),
        Packet::Close => assert!(text == "close" || text.starts_with("close:")),
        Packet::Unknown => {}
    }
}

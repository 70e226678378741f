//! Packets: text frames on a Wafer tunnel's socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wafergate::protocol::packet::Packet;

fuzz_target!(|text: &str| {
    match Packet::decode(text) {
        Packet::Message(content) => {
            assert!(text == "message" && content.is_empty() || text == format!("message:{content}"))
        }
        Packet::Ping => assert!(text == "ping" || text.starts_with("ping:")),
        Packet::Close => assert!(text == "close" || text.starts_with("close:")),
        Packet::Unknown => {}
    }
});

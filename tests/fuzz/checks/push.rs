//! The `data` of `/ws/push`.

use wafergate::protocol::wafer::PushPacket;
use wafergate::protocol::wafer::Target;
use wafergate::protocol::wafer::error_answer;

/// Panics where a promise does not hold.
pub(crate) fn check(data: &str) {
    match PushPacket::parse_all(data) {
        Ok(packets) => {
            for target in packets.iter().flat_map(|packet| &packet.targets) {
                if let Target::Tunnel(id) = target {
                    assert!(data.contains(&id.to_string()[1..]) || data.contains('\\'), "{id} comes from nowhere");
                }
            }
        }
        Err(refusal) => assert!(error_answer(&refusal).is_ascii()),
    }
}

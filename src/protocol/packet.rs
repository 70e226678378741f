//! Text frames on a Wafer tunnel's socket: `type` or `type:content`.

/// The packet that answers `ping`.
pub const PONG: &str = "pong";
/// The packet that tells the client not to reconnect.
pub const CLOSE: &str = "close";
/// Prefix of the content of a pushed message.
pub const MESSAGE_PREFIX: &str = "message:";

/// The packet with the ping interval; sent exactly once, right after the handshake.
pub fn timeout(heartbeat_secs: u64) -> String {
    format!("timeout:{heartbeat_secs}")
}

/// One packet sent by a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Packet<'a> {
    /// The client leaves for good.
    Close,
    /// Application payload, passed to the business server untouched.
    Message(&'a str),
    /// Keep-alive, answered here and never forwarded.
    Ping,
    /// Anything else: ignored, the client stays connected.
    Unknown,
}

impl<'a> Packet<'a> {
    /// Decodes one text frame, borrowing its content.
    ///
    /// Only the first colon separates; later ones belong to the content.
    ///
    /// ```
    /// use wafergate::protocol::packet::Packet;
    ///
    /// assert_eq!(Packet::decode("message:a:b"), Packet::Message("a:b"));
    /// assert_eq!(Packet::decode("message"), Packet::Message(""));
    /// assert_eq!(Packet::decode("shout:hi"), Packet::Unknown);
    /// ```
    pub fn decode(frame: &'a str) -> Self {
        let (kind, content) = frame.split_once(':').unwrap_or((frame, ""));
        match kind {
            "close" => Self::Close,
            "message" => Self::Message(content),
            "ping" => Self::Ping,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_keeps_colons_and_newlines() {
        assert_eq!(Packet::decode("message::a:\nb:"), Packet::Message(":a:\nb:"));
    }

    #[test]
    fn content_of_control_packets_is_ignored() {
        assert_eq!(Packet::decode("ping:now"), Packet::Ping);
        assert_eq!(Packet::decode("close:"), Packet::Close);
    }

    #[test]
    fn what_only_the_gateway_says_means_nothing_from_a_client() {
        for frame in ["", ":", "pong", "timeout:0", "connect", "Message:x", " message:x", "messages:x"] {
            assert_eq!(Packet::decode(frame), Packet::Unknown, "{frame:?}");
        }
    }
}

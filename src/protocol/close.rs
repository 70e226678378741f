//! Why a tunnel ended: one table for events, metrics, logs and close frames.

use crate::reason::Reason;

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CloseReason {
    /// The client said goodbye, with a `close` packet or a close frame.
    ClientClose,
    /// The client's connection broke or ended without a goodbye.
    ClientGone,
    /// The client was silent for twice the heartbeat.
    Heartbeat,
    /// The business server closed it.
    PushedClose,
    /// The client does not read what is pushed to it.
    SlowConsumer,
    /// The client broke the WebSocket protocol.
    ProtocolError,
    /// The client sent text that is not UTF-8.
    InvalidText,
    /// The client sent a message over the limit.
    TooBig,
    /// The client sent messages, or frames of any kind, faster than its limit.
    RateLimited,
    /// This node is being drained.
    Drain,
    /// A fault of the gateway itself.
    Internal,
    /// The node that held the tunnel died.
    NodeLost,
    /// The node that holds the tunnel was declared dead, and other nodes have sent the close event.
    CutOff,
    /// The session that it was opened with was ended.
    SessionRevoked,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::ClientClose,
        Self::ClientGone,
        Self::Heartbeat,
        Self::PushedClose,
        Self::SlowConsumer,
        Self::ProtocolError,
        Self::InvalidText,
        Self::TooBig,
        Self::RateLimited,
        Self::Drain,
        Self::Internal,
        Self::NodeLost,
        Self::CutOff,
        Self::SessionRevoked,
    ];

    /// The reason in words.
    pub fn reason(self) -> Reason {
        match self {
            Self::ClientClose => Reason::ClientClose,
            Self::ClientGone => Reason::ClientGone,
            Self::Heartbeat => Reason::Heartbeat,
            Self::PushedClose => Reason::PushedClose,
            Self::SlowConsumer => Reason::SlowConsumer,
            Self::ProtocolError | Self::InvalidText => Reason::ProtocolError,
            Self::TooBig => Reason::TooBig,
            Self::RateLimited => Reason::RateLimited,
            Self::Drain => Reason::Drain,
            Self::Internal => Reason::Internal,
            Self::NodeLost | Self::CutOff => Reason::NodeLost,
            Self::SessionRevoked => Reason::SessionRevoked,
        }
    }

    /// Its name in events, metrics and timelines.
    pub fn as_str(self) -> &'static str {
        self.reason().code()
    }

    /// What is known beside the reason; empty if that says it all.
    pub fn detail(self) -> &'static str {
        match self {
            Self::InvalidText | Self::CutOff => self.text(),
            _ => "",
        }
    }

    /// The code of the close frame (RFC 6455, section 7.4.1); none where no frame can be sent.
    pub fn code(self) -> Option<u16> {
        match self {
            Self::ClientClose | Self::PushedClose => Some(1000),
            Self::Heartbeat | Self::Drain | Self::CutOff => Some(1001),
            Self::ProtocolError => Some(1002),
            Self::InvalidText => Some(1007),
            Self::RateLimited | Self::SessionRevoked => Some(1008),
            Self::TooBig => Some(1009),
            Self::Internal => Some(1011),
            Self::SlowConsumer => Some(1013),
            Self::ClientGone | Self::NodeLost => None,
        }
    }

    /// The text of the close frame: short ASCII, readable in a client's log.
    pub fn text(self) -> &'static str {
        match self {
            Self::ClientClose => "",
            Self::ClientGone => "client gone",
            Self::Heartbeat => "silent for twice the heartbeat",
            Self::PushedClose => "closed by the business server",
            Self::SlowConsumer => "slow consumer",
            Self::ProtocolError => "protocol error",
            Self::InvalidText => "text is not UTF-8",
            Self::TooBig => "message too big",
            Self::RateLimited => "too many messages or frames",
            Self::Drain => "gateway is restarting",
            Self::Internal => "internal error",
            Self::NodeLost => "node lost",
            Self::CutOff => "gateway was cut off",
            Self::SessionRevoked => "session ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_word_code_and_text() {
        use CloseReason::*;
        let table = [
            (ClientClose, "client_close", Some(1000), ""),
            (ClientGone, "client_gone", None, "client gone"),
            (Heartbeat, "heartbeat", Some(1001), "silent for twice the heartbeat"),
            (PushedClose, "pushed_close", Some(1000), "closed by the business server"),
            (SlowConsumer, "slow_consumer", Some(1013), "slow consumer"),
            (ProtocolError, "protocol_error", Some(1002), "protocol error"),
            (InvalidText, "protocol_error", Some(1007), "text is not UTF-8"),
            (TooBig, "too_big", Some(1009), "message too big"),
            (RateLimited, "rate_limited", Some(1008), "too many messages or frames"),
            (Drain, "drain", Some(1001), "gateway is restarting"),
            (Internal, "internal", Some(1011), "internal error"),
            (NodeLost, "node_lost", None, "node lost"),
            (CutOff, "node_lost", Some(1001), "gateway was cut off"),
            (SessionRevoked, "session_revoked", Some(1008), "session ended"),
        ];

        assert_eq!(table.map(|(reason, ..)| reason), CloseReason::ALL);
        for (reason, word, code, text) in table {
            assert_eq!((reason.as_str(), reason.code(), reason.text()), (word, code, text), "{reason:?}");
        }
    }

    #[test]
    fn a_reason_fits_into_a_control_frame() {
        for reason in CloseReason::ALL {
            assert!(reason.text().is_ascii() && reason.text().len() + 2 <= 125, "{reason:?}");
        }
    }
}

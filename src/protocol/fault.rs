//! Violations of a client on its socket, with close-frame texts.

use super::close::CloseReason;

/// A fault in a frame, in a message, or in their rate.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// The first reserved bit is set, which means "compressed" (RFC 7692).
    Compressed,
    /// Another reserved bit is set.
    ReservedBit,
    /// The opcode is reserved.
    ReservedOpcode,
    /// The mask is missing, which a client's frame must have.
    Unmasked,
    /// A close, ping or pong is fragmented.
    FragmentedControl,
    /// A close, ping or pong carries more than 125 bytes.
    LongControl,
    /// The length is not in its shortest form.
    LongLength,
    /// The length has the highest bit set.
    HugeLength,
    /// A continuation frame without a message.
    NothingToContinue,
    /// A new message starts inside a fragmented one.
    UnfinishedMessage,
    /// A close frame has a payload of one byte.
    HalfCloseCode,
    /// A close frame carries a code that must not be sent.
    BadCloseCode,
    /// The reason in a close frame is not UTF-8.
    BadCloseText,
    /// A text message is not UTF-8.
    BadText,
    /// A message is over the limit.
    TooBig,
    /// Messages, or frames of any kind, come faster than the limit.
    TooFast,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 16] = [
        Self::Compressed,
        Self::ReservedBit,
        Self::ReservedOpcode,
        Self::Unmasked,
        Self::FragmentedControl,
        Self::LongControl,
        Self::LongLength,
        Self::HugeLength,
        Self::NothingToContinue,
        Self::UnfinishedMessage,
        Self::HalfCloseCode,
        Self::BadCloseCode,
        Self::BadCloseText,
        Self::BadText,
        Self::TooBig,
        Self::TooFast,
    ];

    /// The close reason for this fault.
    pub fn reason(self) -> CloseReason {
        match self {
            Self::BadCloseText | Self::BadText => CloseReason::InvalidText,
            Self::TooBig => CloseReason::TooBig,
            Self::TooFast => CloseReason::RateLimited,
            _ => CloseReason::ProtocolError,
        }
    }

    /// The text of the close frame and of the log: short ASCII.
    pub fn text(self) -> &'static str {
        match self {
            Self::Compressed => "compressed frame, no extension was agreed",
            Self::ReservedBit => "reserved bit in a frame, no extension was agreed",
            Self::ReservedOpcode => "frame with a reserved opcode",
            Self::Unmasked => "frame without a mask",
            Self::FragmentedControl => "close, ping or pong in several frames",
            Self::LongControl => "close, ping or pong with more than 125 bytes",
            Self::LongLength => "frame length not in its shortest form",
            Self::HugeLength => "frame length with the highest bit",
            Self::NothingToContinue => "continuation of nothing",
            Self::UnfinishedMessage => "message within an unfinished message",
            Self::HalfCloseCode => "close frame with half a code",
            Self::BadCloseCode => "close frame with a code that must not be sent",
            Self::BadCloseText => "reason in a close frame is not UTF-8",
            Self::BadText | Self::TooBig | Self::TooFast => self.reason().text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_fault_has_its_own_words_which_fit_into_a_control_frame() {
        let texts: HashSet<&str> = Fault::ALL.iter().map(|fault| fault.text()).collect();

        assert_eq!(texts.len(), Fault::ALL.len());
        for text in texts {
            assert!(text.is_ascii() && !text.is_empty() && text.len() + 2 <= 125, "{text}");
        }
    }

    #[test]
    fn every_fault_ends_with_a_code_that_says_so() {
        for fault in Fault::ALL {
            let wanted = match fault {
                Fault::BadCloseText | Fault::BadText => 1007,
                Fault::TooBig => 1009,
                Fault::TooFast => 1008,
                _ => 1002,
            };
            assert_eq!(fault.reason().code(), Some(wanted), "{fault:?}");
        }
    }
}
